"""The pages: every command runs, prints what is shown, every error quoted exists; `psopt docs` and `psopt schema`."""

import ast
import configparser
import functools
import itertools
import json
import os
import pty
import re
import select
import subprocess
import sys
import textwrap

import doc_cases
import doc_commands
import doc_data
import pytest
from doc_commands import DOCS, PAGES, ROOT
from doc_stage import CREATES, Stage, furnish
from ruamel.yaml import YAML

from psopt.cli import pages
from psopt.config import json_schema, parse
from psopt.config.fields import keys_of, options_of
from psopt.config.model import RunConfig
from psopt.config.reference import reference
from psopt.errors import ConfigError
from psopt.parts import FAMILIES
from psopt.problems import PROBLEMS
from psopt.recipes import RECIPES
from psopt.transports.base import failure_header

COMMANDS = doc_commands.distinct(PAGES)
CASES = {command: doc_cases.CASES.get(command, doc_cases.Case("as written")) for command in COMMANDS}
RUN = {command: case.run.replace("{}", command) for command, case in CASES.items()}


def _here(command):
    """With a site's paths replaced by those of the stage."""
    for path, name in doc_cases.SITE.items():
        command = command.replace(path, f"site/{name}")
    return command


PREPARE = {command: _here(run) for command, run in RUN.items()}


@pytest.fixture(scope="module")
def stage(tmp_path_factory):
    folder = tmp_path_factory.mktemp("docs")
    furnish(folder, ROOT)
    (folder / "site").mkdir()
    doc_data.mnist(folder / "site" / "mnist")
    doc_data.a9a(folder / "site" / "a9a")
    for page in PAGES:
        for name, text in doc_commands.read(page).files.items():
            (folder / name).write_text(text)
    made = Stage(folder, list(COMMANDS))
    yield made
    made.close()


def _cases():
    for command, case in CASES.items():
        if case.run:
            marks = [pytest.mark.long] if case.long else []
            if case.open_mpi:
                marks.append(pytest.mark.open_mpi)
            if (
                command == "make run"
                or command.split()[:2] in (["psopt", "run"], ["psopt", "reproduce"])
                or command.startswith("mpiexec")
            ):
                marks.append(pytest.mark.mpi)
            yield pytest.param(command, marks=marks, id=f"{COMMANDS[command][0].place} {command[:60]}")


@pytest.mark.parametrize("command", list(_cases()))
def test_every_command_runs_and_prints_what_the_page_shows(command, stage):
    case = CASES[command]
    ended = stage.ended(command, PREPARE[command], case.timeout_s, PREPARE)
    assert ended.code == case.code, f"{PREPARE[command]}\n{ended.printed}"
    assert case.says in ended.printed, ended.printed
    for shown in COMMANDS[command]:
        lacking = doc_commands.missing(shown, ended.printed)
        assert not lacking, f"{shown.place} shows {lacking}, but there was\n{ended.printed}"


def test_the_reader_knows_commands_outputs_and_files(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(
        "`a.yaml`:\n\n```yaml\nx: 1\n```\n\n```sh\npsopt run a.yaml   # why\n\n# a comment\nmake \\\n  test\n```\n"
        "```console exact\n$ psopt list\nrecipes:\n  gd  5 s\n$ false\n```\n\n    $ psopt doctor\n    theta = 1\n"
        "```\nno command\npip install x\n```\n* item\n\n  ```sh\n  psopt docs\n  ```\n"
    )
    found = doc_commands.read(page)
    assert found.files == {"a.yaml": "x: 1\n"}
    assert [shown.text for shown in found.commands] == [
        *["psopt run a.yaml", "make test", "psopt list", "false", "psopt doctor", "pip install x", "psopt docs"]
    ]
    listed = found.commands[2]
    assert (listed.line, listed.output, listed.how) == (15, ("recipes:", "  gd  5 s"), "exact")
    page.write_text("```console\noutput\n```\n")
    with pytest.raises(AssertionError, match="output without a command"):
        doc_commands.read(page)


@pytest.mark.parametrize(
    ("how", "shown", "printed", "met"),
    [
        ("close", "uploads  368 of 3996", "  uploads   368 of 3996  ", True),
        ("close", "uploads  368 of 3996", "uploads 400 of 3996", True),
        ("close", "uploads  368 of 3996", "uploads 500 of 3996", False),
        ("close", "uploads  368 of 3996", "downloads 368 of 3996", False),
        ("exact", "uploads  368 of 3996", "uploads 369 of 3996", False),
        ("exact", "ready after 3.1 s in runs/x-20261122-041117", "ready after 9 s in runs/x-20271231-000000", True),
        ("close", "gap 9.8e-09", "gap 9.8e-08", False),
        ("close", "worker 3 (rank ...) is lost", "psopt: worker 3 (rank 2 on here) is lost: why", True),
        ("close", "worker 3 (rank ...) is lost", "psopt: worker 4 (rank 2 on here) is lost: why", False),
        ("close", "...", "anything", True),
        ("varies", "this", "that", True),
    ],
)
def test_outputs_are_compared(how, shown, printed, met):
    lacking = doc_commands.missing(
        doc_commands.Shown(ROOT, 1, "psopt list", (shown,), how), f"before\n{printed}\nafter\n"
    )
    assert (not lacking) is met


def test_the_pages_are_read_in_full():
    assert {page.name for page in DOCS.glob("*.md")} <= {page.name for page in PAGES}
    assert len(COMMANDS) > 70
    assert sum(len(shown.output) for places in COMMANDS.values() for shown in places) > 60
    assert [name for page in PAGES for name in doc_commands.read(page).files].count("mine.yaml") == 2


def test_no_case_is_stale():
    assert not doc_cases.CASES.keys() - COMMANDS.keys()


def test_what_plays_a_scene_is_there():
    for command, case in CASES.items():
        assert case.run or case.tests, f"{command}: neither run nor played by a test"
        for name in case.tests:
            file, _, test = name.partition("::")
            assert test in _tests_of(file), f"{command}: there is no {name}"


@functools.cache
def _tests_of(file):
    tree = ast.parse((ROOT / "tests" / file).read_text())
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


GOES_ON = {"--resume", "--count", "--point", "--collect", "--dry-run", "report", "export"}
"""What is said to a folder that another command makes, or has made."""


def test_a_folder_or_file_stands_for_one_command():
    made = {}
    for command in COMMANDS:
        for name in {name for pair in CREATES.findall(command) for name in pair if name}:
            if not {"--resume", "--count", "--point", "--collect", "--dry-run", "report", "export"} & set(
                command.split()
            ):
                assert made.setdefault(name, command) == command, f"{name} is made by {command}, and by {made[name]}"
    given = {}
    for page in PAGES:
        for name, text in doc_commands.read(page).files.items():
            assert given.setdefault(name, text) == text, f"{page.name} shows another {name}"


def test_make_run_is_this_command():
    alone = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    told = subprocess.run(["make", "-n", "run"], cwd=ROOT, capture_output=True, text=True, check=True, env=alone).stdout
    assert told.splitlines()[-1].endswith(f"bin/{RUN['make run']}")


def test_extras_exist():
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    extras = set(setup["options.extras_require"])
    asked = {
        name for page in PAGES for found in re.findall(r"\[([a-z,]+)\]'", page.read_text()) for name in found.split(",")
    }
    assert {"openmpi", "report"} <= asked <= extras


# Commands in the text -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_within_sentences_exist(page):
    from psopt.cli import cli

    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    for found in re.findall(r"`(psopt [a-z][^`]*)`", text):
        words = found.replace("\n", " ").split()[1:]
        command, rest = cli.commands.get(words[0]), words[1:]
        assert command, f"{page.name}: {found}"
        if hasattr(command, "commands") and rest:
            command = command.commands.get(rest[0])
            assert command, f"{page.name}: {found}"
        known = {name for option in command.params for name in (*option.opts, *option.secondary_opts)} | {"--help"}
        for word in rest:
            if word.startswith("--"):
                assert word.partition("=")[0] in known, f"{page.name}: {found}"
        if words[0] == "docs" and rest and rest[0].islower():
            assert pages.page_of(rest[0])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text()):
        assert (page.parent / target).exists(), f"{page.name}: {target}"
    for target, anchor in re.findall(r"\]\(([^):#]*\.md)#([^)]+)\)", page.read_text()):
        headings = re.findall(r"^#+ (.+)$", (page.parent / target).read_text(), re.MULTILINE)
        slugs = {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
        assert anchor in slugs, f"{page.name}: {target}#{anchor}"


def test_configs_and_files_that_are_named_exist():
    for page in PAGES:
        for name in re.findall(r"`((?:configs|tests|psopt|slurm)/[\w./]+\.\w+)`", page.read_text()):
            assert (ROOT / name).exists(), f"{page.name}: {name}"


YAML_BLOCK = re.compile(r"^( *)```yaml\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)


def _yaml_blocks():
    for page in PAGES:
        named = set(doc_commands.read(page).files.values())
        for number, match in enumerate(YAML_BLOCK.finditer(page.read_text())):
            text = textwrap.dedent(match[2])
            if text not in named and YAML(typ="safe").load(text) is not None:
                yield pytest.param(text, id=f"{page.stem}-{number}")


@pytest.mark.parametrize("text", list(_yaml_blocks()))
def test_pieces_of_configs_are_valid(text):
    """Together with the least that a config needs; parts of an algorithm stand within it."""
    keys = YAML(typ="safe").load(text)
    least = {"workers": 9, "problem": "logistic", "data": "lag-logistic"}
    parse({**least, **keys} if keys.keys() <= keys_of(RunConfig).keys() else {**least, "algorithm": keys})


# Troubleshooting ------------------------------------------------------------------------------------------------------

OTHERS = "'s words)"
NAMES = {"point-003.cut-off-1, point-003.failed-1": "names of folders, see test_sweep.py"}
FILLED_IN = re.compile(
    r"\.\.\.|`[^`]*`|'[^']*'|(?<![\w-])[\d.]+(?![\w-])|No space left on device|\bnan\b|mnist|train-images-idx3-ubyte"
)


def _words(text):
    """Words alone: no punctuation, so that a quotation may end where it likes."""
    return re.sub(r"[^\w\s\0#-]|(?<!\w)-|-(?!\w)", " ", text).split()


@functools.cache
def _source():
    """All that psopt can say: its string literals, the parts of one sentence joined, what is filled in as one mark."""
    said = []
    for path in (ROOT / "psopt").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str | bytes):
                said.append(node.value if isinstance(node.value, str) else node.value.decode("latin-1"))
            elif isinstance(node, ast.JoinedStr):
                said.append("".join(part.value if isinstance(part, ast.Constant) else " \0 " for part in node.values))
    return " \1 ".join(" ".join(_words(text)) for text in said) + " "


def _quoted():
    """The errors that the page quotes: bold words that begin a paragraph; symptoms end with a full stop."""
    text = (DOCS / "troubleshooting.md").read_text()
    for match in re.finditer(r"^\*\*(.+?)\*\*(.{0,40})", text, re.MULTILINE | re.DOTALL):
        if OTHERS not in match[2] and not match[1].endswith(".") and match[1] not in NAMES:
            yield " ".join(match[1].split())


@pytest.mark.parametrize("quoted", list(_quoted()))
def test_an_error_that_is_quoted_exists(quoted):
    """Nearly all of its words stand in the source in runs of two or three; what is filled in breaks a run."""
    if quoted.startswith("### "):
        assert quoted == failure_header(3, 9, 1, "...", 19)
        return
    words, lacking = 0, []
    for piece in FILLED_IN.split(quoted):
        run = _words(piece)
        size = min(len(run), 3)
        if size < 2:
            continue
        found = set()
        for at in range(len(run) - size + 1):
            if " ".join(run[at : at + size]) + " " in _source():
                found |= set(range(at, at + size))
        words, lacking = words + len(run), lacking + [word for at, word in enumerate(run) if at not in found]
    assert words >= 2, "too little is quoted to be found"
    assert len(lacking) <= 0.3 * words, f"not in the source: {lacking}"


# psopt docs, psopt schema ---------------------------------------------------------------------------------------------


def psopt(*words):
    return subprocess.run(
        [sys.executable, "-m", "psopt", *words], capture_output=True, text=True, check=False, timeout=60
    )


def test_pages_are_found_by_topic_section_and_key():
    assert pages.topics().keys() == {page.stem for page in DOCS.glob("*.md")}
    assert all(title and not title.startswith("#") for title in pages.topics().values())
    for topic in pages.topics():
        assert pages.page_of(topic) == pages.path_of(topic).read_text()
    lag = pages.page_of("lag-wk")
    assert lag.startswith("## lag-wk: the workers decide\n")
    assert "## lag-ps" not in lag
    assert pages.page_of("algorithms#LAG-WK") == lag == pages.page_of("lag-wk-the-workers-decide")
    assert pages.page_of("fedavgm") == pages.page_of("fedavg") != lag
    assert pages.page_of("stop.gap").startswith("* `stop.gap` (a number above 0): ")
    assert pages.page_of("stop").startswith("## stop\n")
    assert "### problem: softmax" in pages.page_of("config#problem")
    assert [pages.page_of(name)[:3] for name in RECIPES] == ["## "] * len(RECIPES)


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_recipe_has_its_section_in_one_form(recipe):
    text = pages.page_of(f"algorithms#{recipe}")
    at = [text.find(mark) for mark in ("\n* **Constants.** ", "\n* **Use ", "\n* **Not** ")]
    assert at == sorted(at)
    assert at[0] > 0
    source = pages.page_of(
        "algorithms#full-gradients" if "Full gradients" in _chapter(recipe) else f"algorithms#{recipe}"
    )
    assert re.search(r"^(\* \*\*Source\.\*\*|Source of these five:) ", source, re.MULTILINE)


def _chapter(recipe):
    text = pages.page_of("algorithms")
    return re.findall(r"^# .*$", text[: text.index(pages.page_of(f"algorithms#{recipe}"))], re.MULTILINE)[-1]


def test_what_is_fenced_is_no_heading():
    sections = dict(pages._sections("# A\n```sh\n# no heading\n```\nx\n## B: c\ny\n# D\nz\n"))
    assert sections == {
        "A": "# A\n```sh\n# no heading\n```\nx\n## B: c\ny\n",
        "B: c": "## B: c\ny\n",
        "B": "## B: c\ny\n",
        "D": "# D\nz\n",
    }


@pytest.mark.parametrize(
    ("topic", "sentence"),
    [
        ("algoritms", "there is no page or section 'algoritms'; did you mean `algorithms`?"),
        ("lagwk", "there is no page or section 'lagwk'; did you mean `lag-wk`?"),
        ("algoritms#lag-wk", "there is no page 'algoritms'; did you mean `algorithms`?"),
        ("algorithms#lag-kw", "page 'algorithms' has no section 'lag-kw'; did you mean `lag-wk`?"),
        ("algorithms#xyzzy", "page 'algorithms' has no section 'xyzzy'; `psopt docs algorithms` shows it"),
        ("xyzzy", "there is no page or section 'xyzzy'; `psopt docs` lists the pages"),
    ],
)
def test_an_unknown_topic_names_the_nearest(topic, sentence):
    with pytest.raises(ConfigError) as told:
        pages.page_of(topic)
    assert str(told.value) == sentence


def test_a_page_is_markdown_in_a_pipe_and_a_mistake_is_exit_code_2():
    assert psopt("docs", "faults").stdout == (DOCS / "faults.md").read_text()
    wrong = psopt("docs", "nosuch")
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert wrong.stderr.count("\n") == 1
    assert psopt("docs", "--path", "faults").stdout.strip() == str(DOCS / "faults.md")


@pytest.mark.parametrize("words", [("docs", "config"), ("schema",)])
def test_who_reads_may_stop(words):
    command = [sys.executable, "-m", "psopt", *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as shower:
        shower.stdout.read(10)
        shower.stdout.close()
        said = shower.stderr.read()
    assert (shower.returncode, said) == (0, b"")


def test_a_page_is_typeset_in_a_terminal(tmp_path):
    """In a terminal of 80 columns, through a pager, here `cat`."""
    terminal, other = pty.openpty()
    command = [sys.executable, "-m", "psopt", "docs", "lag-wk"]
    surroundings = {**os.environ, "PAGER": "cat", "COLUMNS": "80", "TERM": "xterm"}
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=other, stderr=other, env=surroundings) as shower:
        os.close(other)
        shown = b""
        while select.select([terminal], [], [], 30)[0]:
            try:
                piece = os.read(terminal, 4096)
            except OSError:  # the other end is closed
                break
            shown += piece
        shower.wait(30)
    os.close(terminal)
    assert shower.returncode == 0
    text = shown.decode()
    assert "\x1b[" in text
    assert "## lag-wk" not in text
    assert "lag-wk: the workers decide" in text
    plain = re.sub(r"\x1b\[[\d;?]*[a-zA-Z]", "", text)
    assert max(map(len, plain.splitlines())) <= 80


def test_the_reference_is_what_the_source_says():
    assert (DOCS / "config.md").read_text() == reference(), "make it again: python -m psopt.config.reference"


def test_the_reference_has_every_key():
    text = reference()
    for name, key in keys_of(RunConfig).items():
        if name == "recipe":
            continue
        assert f"* `{name}` (" in text
        if key.section and name not in ("problem", "algorithm"):
            for inner in keys_of(key.section):
                assert f"* `{name}.{inner}` (" in text
    for kind in PROBLEMS:
        section = pages.page_of(f"config#problem: {kind}")
        for name in options_of(kind):
            assert f"* `problem.{name}` (" in section
    for kinds in FAMILIES.values():
        for kind, cls in kinds.items():
            assert f"* **`{kind}`**: " in text
            for name in keys_of(cls):
                assert f"  * `{name}` (" in text
    broken = [
        line
        for line in text.splitlines()
        if re.match(r"\s+(?:[-+*>#]|\d+[.)]) ", line) and not line.lstrip().startswith("* ")
    ]
    assert not broken  # a wrapped line that begins as a list item would be one


def _keys_without_words(schema, place=""):
    for name, value in schema.get("properties", {}).items():
        if "description" not in value and "const" not in value:
            yield f"{place}.{name}"
        yield from _keys_without_words(value, f"{place}.{name}")
    for name in ("anyOf", "items"):
        for inner in itertools.chain([schema[name]] if isinstance(schema.get(name), dict) else schema.get(name, [])):
            yield from _keys_without_words(inner, place)


def test_every_key_has_a_description_in_the_schema():
    schema = json_schema()
    assert list(_keys_without_words(schema)) == []
    for family, forms in schema["$defs"].items():
        assert list(_keys_without_words(forms, family)) == []
    assert "``" not in json.dumps(schema)


def test_psopt_schema_prints_it():
    told = psopt("schema")
    assert (told.returncode, json.loads(told.stdout)) == (0, json.loads(json.dumps(json_schema())))
