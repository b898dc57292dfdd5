"""docs/adding_a_part.md: its examples are whole, short, keep their promises, run, and come out as the page says.

Commands run in this process, but for the one over MPI. `test_docs.py` runs them all as a person would.
"""

import itertools
import json
import re
import shlex
import sys
from pathlib import Path

import pytest
from mpi_jobs import psopt as psopt_over

import psopt
from psopt.cli import cli

PAGE = (Path(psopt.__file__).parent / "docs" / "adding_a_part.md").read_text()
FILES = dict(re.findall(r"^`(\w+\.\w+)`:\n\n```\w+\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL))
COMMANDS = [shlex.split(line) for line in re.findall(r"^    \$ psopt (.*)$", PAGE, re.MULTILINE)]
CONFIGS = sorted(name for name in FILES if name.endswith(".yaml"))
MOST_LINES = 50


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with the page's files, which are imported from there and forgotten afterwards."""
    folder, before = tmp_path_factory.mktemp("adding"), sys.path.copy()
    for name, text in FILES.items():
        (folder / name).write_text(text)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        yield folder
    sys.path[:] = before
    for name in FILES:
        sys.modules.pop(Path(name).stem, None)


@pytest.fixture(scope="module")
def done(place):
    """Each command's exit code and the folder that it wrote."""
    here = [words for words in COMMANDS if words[0] not in ("run", "explain")]
    return {" ".join(words): cli.main(words, standalone_mode=False) for words in here}


def summary(place, name):
    return json.loads((place / "runs" / name / "summary.json").read_text())


def test_the_page_has_the_four_examples():
    assert CONFIGS == ["huber.yaml", "patient.yaml", "peak.yaml", "sign.yaml"]
    assert sorted(FILES) == sorted([*CONFIGS, *(name.replace(".yaml", ".py") for name in CONFIGS)])
    for name in CONFIGS:
        assert sum(words[:2] == ["check", name] for words in COMMANDS) == 1
        assert sum(words[:2] == ["simulate", name] for words in COMMANDS) >= 2
    assert sum(words[0] == "run" for words in COMMANDS) == 1


@pytest.mark.parametrize("name", CONFIGS)
def test_an_example_is_one_short_file_of_its_own(name):
    text = FILES[name.replace(".yaml", ".py")]
    assert len(text.splitlines()) < MOST_LINES
    others = {Path(other).stem for other in FILES} - {Path(name).stem}
    assert not others & set(re.findall(r"^(?:import|from) (\w+)", text, re.MULTILINE))
    assert f"{Path(name).stem}:" in FILES[name]


def test_every_command_succeeds(done):
    assert len(done) > 10
    assert set(done.values()) == {0}


@pytest.mark.parametrize("name", CONFIGS)
def test_an_example_is_valid_as_it_stands(name, place, capsys):
    assert cli.main(["validate", name], standalone_mode=False) == 0
    assert f"{name}: valid" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("run", "rounds", "uploads", "said"),
    [
        ("peak", 495, 553, "553 uploads in 495 rounds"),
        ("peak-1", 405, 320, "with xi = 1 320 uploads in 405 rounds"),
        ("peak-5", 516, 828, "takes 828 uploads in 516 rounds"),
        ("sign", 1402, 12618, "1402 rounds"),
        ("sign-gd", 423, 3807, "against 423"),
        ("huber", 3029, 366, "366 uploads in 3029 rounds"),
        ("huber-gd", 3194, 28746, "needs 28746 in 3194"),
        ("patient", 1000, 987, "0.015 with 987 uploads"),
        ("lasg", 1000, 1335, "0.084 with 1335"),
    ],
)
def test_the_numbers_of_the_page(run, rounds, uploads, said, place, done):
    assert said in " ".join(PAGE.split())
    found = summary(place, run)
    # another processor may round a product otherwise
    assert found["rounds"] == pytest.approx(rounds, rel=0.02)
    assert found["uploads"] == pytest.approx(uploads, rel=0.02)


def test_the_other_numbers_of_the_page(place, done):
    assert summary(place, "patient")["gap"] == pytest.approx(0.015, abs=1e-3)
    assert summary(place, "lasg")["gap"] == pytest.approx(0.084, abs=1e-3)
    sign, gd = summary(place, "sign"), summary(place, "sign-gd")
    assert "A payload is 13 bytes instead of 272" in PAGE
    assert (sign["payload_bytes_up"] / sign["uploads"], gd["payload_bytes_up"] / gd["uploads"]) == (13, 272)
    assert "sends 164 kB up to a gap of 1e-6, gradient descent 1036 kB" in PAGE
    assert sign["payload_bytes_up"] == pytest.approx(164e3, rel=0.02)
    assert gd["payload_bytes_up"] == pytest.approx(1036e3, rel=0.02)
    assert max(sign["gap"], gd["gap"]) <= 1e-6


def test_the_wrapped_one_is_never_silent_for_long(place, done):
    assert "stays silent for more than 6 rounds in a" in PAGE
    uploads = psopt.load_run(place / "runs" / "peak-5").uploads
    silent = [len(list(g)) for row in uploads.T for said, g in itertools.groupby(row) if not said]
    assert 2 <= max(silent) <= 6
    alone = psopt.load_run(place / "runs" / "peak").uploads
    assert max(len(list(g)) for row in alone.T for said, g in itertools.groupby(row) if not said) > 6


def test_explain_knows_the_sides_of_the_rule(place, done, capsys):
    words = next(words for words in COMMANDS if words[0] == "explain")
    assert cli.main(words, standalone_mode=False) == 0
    told = capsys.readouterr().out
    assert "trigger `peak:Peak`: Upload when d max_j" in told
    assert "left <= right" in told


@pytest.mark.mpi
def test_over_mpi_the_bits_are_those_of_one_process(place, done):
    words = next(words for words in COMMANDS if words[0] == "run")
    assert words[2:4] == ["--ranks", "3"]
    config, *options, out = words[1:]
    ended = psopt_over("run", place / config, *options, place / out, PYTHONPATH=str(place))
    assert ended.code == 0, ended.err
    over = summary(place, "peak-mpi")
    assert over["ranks"] == 3
    assert over["theta_sha256"] == summary(place, "peak")["theta_sha256"]


def test_what_check_says_of_an_impure_one(place, capsys):
    """The page's example of a broken promise, made of its own trigger."""
    shown = re.search(r"```text\n(.*?)```", PAGE, re.DOTALL)[1]
    counting = FILES["peak.py"].replace("return None", "return [0]", 1)
    counting = counting.replace("        peak = float", "        state[0] += 1\n        peak = float")
    (place / "counting.py").write_text(counting)
    (place / "counting.yaml").write_text(FILES["peak.yaml"].replace("peak:Peak", "counting:Peak"))
    assert cli.main(["check", "counting.yaml"], standalone_mode=False) == 1
    sys.modules.pop("counting")
    assert shown.replace("peak:Peak", "counting:Peak") in capsys.readouterr().out
