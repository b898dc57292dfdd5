"""What the pages tell a person to type: every command with its place, the output shown below it, and files named there.

Read are fenced blocks: `sh` holds commands, `console` commands after `$ ` and their output, a block without a language
whatever its lines look like; and indented lines that begin as a command does. A block below a line that ends with
"`NAME`:" is the content of that file.
"""

import re
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "psopt" / "docs"
FIRST = ("quickstart", "running", "data", "report", "explain", "predict", "python", "algorithms", "faults", "cluster")
PAGES = [
    ROOT / "README.md",
    *sorted(DOCS.glob("*.md"), key=lambda page: FIRST.index(page.stem) if page.stem in FIRST else len(FIRST)),
    ROOT / "slurm" / "README.md",
    ROOT / "CONTRIBUTING.md",
]
"""In the order in which a person would read them: what one page leaves, a later one may use."""

PROGRAM = r"(psopt|mpiexec|srun|sbatch|make|pip|python[\d.]*|\.venv/bin/\S+|\.ci/run|\. \.venv/bin/activate)"
BEGINS = re.compile(rf"(\$ |(\w+=\S+ )*{PROGRAM}( |$))")
FENCE = re.compile(r"^( *)```(.*)$")
NAMED = re.compile(r"`([\w./-]+\.(?:yaml|py|csv))`:$")
OWN = re.compile(r"\.venv/bin/psopt ")
COMMENT = re.compile(r"\s+# .*$")


@dataclass(frozen=True)
class Shown:
    """A command at one place, and the lines of output below it.

    Attributes
    ----------
    how : 'close', 'exact' or 'varies'
        How an output has to be met: numbers to 15 %, exactly, or not at all. Seconds and dates may always differ.
    """

    page: Path
    line: int
    text: str
    output: tuple[str, ...] = ()
    how: str = "close"

    @property
    def place(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


@dataclass
class Read:
    """What a page holds."""

    commands: list[Shown] = field(default_factory=list)
    files: dict[str, str] = field(default_factory=dict)


def read(page: Path) -> Read:
    """The commands and files of one page."""
    found, lines, number = Read(), page.read_text(encoding="utf-8").splitlines(), 0
    while number < len(lines):
        fence = FENCE.match(lines[number])
        if fence is None:
            if lines[number].startswith("    ") and BEGINS.match(lines[number].strip()):
                number = _command(found, page, lines, number, "close")
            else:
                number += 1
            continue
        begin, number = number + 1, number + 1
        while not re.match(rf"^{fence[1]}```\s*$", lines[number]):
            number += 1
        block = [line.removeprefix(fence[1]) for line in lines[begin:number]]
        language, _, how = fence[2].strip().partition(" ")
        above = next((line for line in reversed(lines[: begin - 1]) if line.strip()), "")
        named = NAMED.search(above)
        if named and language in ("yaml", "python", ""):
            found.files[named[1]] = "\n".join(block) + "\n"
        elif language in ("sh", "console", ""):
            _block(found, page, block, begin, language, how or "close")
        number += 1
    return found


def _block(found: Read, page: Path, block: list[str], begin: int, language: str, how: str) -> None:
    at = 0
    while at < len(block):
        line = block[at]
        if language == "console" and not line.startswith("$ "):
            assert found.commands, f"{page}:{begin + at + 1}: output without a command"
            last = found.commands[-1]
            found.commands[-1] = Shown(last.page, last.line, last.text, (*last.output, line), how)
            at += 1
        elif not line.strip() or line.startswith("#") or (not language and not BEGINS.match(line)):
            at += 1
        else:
            at = _command(found, page, block, at, how, begin)


def _command(found: Read, page: Path, lines: list[str], at: int, how: str, begin: int = 0) -> int:
    """Adds the command that begins in line ``at``, whose lines but the last end with a backslash."""
    first, text = at, lines[at].strip().removeprefix("$ ")
    while text.endswith("\\"):
        at += 1
        text = text[:-1].rstrip() + " " + lines[at].strip()
    found.commands.append(Shown(page, begin + first + 1, COMMENT.sub("", text), (), how))
    return at + 1


def distinct(pages: list[Path]) -> dict[str, list[Shown]]:
    """Each command once, with all places where it stands, in reading order; `.venv/bin/psopt` is `psopt`."""
    found: dict[str, list[Shown]] = {}
    for page in pages:
        for shown in read(page).commands:
            found.setdefault(shown.text.removeprefix(".venv/bin/") if OWN.match(shown.text) else shown.text, []).append(
                shown
            )
    return found


# Output --------------------------------------------------------------------------------------------------------------

NUMBER = re.compile(r"(?<![\w.])-?\d+(?:\.\d+)?(?:e[+-]?\d+)?")
CLOCK = re.compile(r"\b\d+(?:\.\d+)? s\b|\d{8}-\d{6}|(?<=server on )\d+(?= ranks)")  # and the cores of a machine
TOLERANCE = 0.15


def missing(shown: Shown, printed: str) -> list[str]:
    """The lines of the output that were not printed."""
    if shown.how == "varies":
        return []
    table = " sweep " in shown.text or " reproduce " in shown.text  # whose last column is seconds
    real = [_plain(line, table) for line in printed.splitlines()]
    wanted = [_plain(line, table) for line in shown.output if line.strip() not in ("", "...")]
    return [line for line in wanted if not any(_meets(line, other, shown.how) for other in real)]


def _plain(line: str, table: bool) -> str:
    """One space between words, no rules of boxes, nothing that is of one moment or machine."""
    line = " ".join(re.sub("[│┃━┏┓┡┩┳╇└┘┴─]", " ", CLOCK.sub("T", line)).split())
    return re.sub(r"\d+\.\d+$", "T", line) if table else line


def _meets(wanted: str, real: str, how: str) -> bool:
    if "..." in wanted:
        return re.search(".*".join(map(re.escape, wanted.split("..."))), real) is not None
    if how == "exact":
        return wanted == real
    if NUMBER.sub("#", wanted) != NUMBER.sub("#", real):
        return False
    pairs = zip(NUMBER.findall(wanted), NUMBER.findall(real), strict=True)
    return all(abs(float(one) - float(other)) <= TOLERANCE * abs(float(one)) for one, other in pairs)
