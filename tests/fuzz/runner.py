"""Case after case, each made of its seed and number alone, and what came out of them as a table."""

import random
import resource
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fuzz import config_cases, data_cases
from fuzz.judge import Verdict, judged

MOST_BYTES = 6 << 30
"""Of address space: what asks for more fails here at once, instead of filling the machine."""

MAKERS = (
    config_cases.text_case,
    data_cases.bytes_case,
    config_cases.tree_case,
    data_cases.content_case,
    config_cases.text_case,
    data_cases.bytes_case,
    config_cases.tree_case,
    data_cases.content_case,
    config_cases.flag_case,
    data_cases.set_case,
)


class Report:
    """Counts a kind, and the first case of each distinct fault."""

    def __init__(self, seed: int) -> None:
        self.seed, self.count = seed, 0
        self.kinds: dict[str, dict[str, int]] = {}
        self.found: dict[str, list[int]] = {}
        self.texts: dict[str, str] = {}

    def add(self, number: int, verdict: Verdict) -> None:
        self.count += 1
        counts = self.kinds.setdefault(verdict.kind, {"accepted": 0, "refused": 0, "fault": 0})
        counts[verdict.outcome] += 1
        if verdict.outcome == "fault":
            self.found.setdefault(verdict.what, []).append(number)
            self.texts.setdefault(verdict.what, verdict.text)

    def table(self) -> str:
        rows = [("kind of mutation", "cases", "accepted", "refused", "faults")]
        for kind, counts in sorted(self.kinds.items()):
            rows.append((kind, *map(str, (sum(counts.values()), *counts.values()))))
        totals = [sum(counts[name] for counts in self.kinds.values()) for name in ("accepted", "refused", "fault")]
        rows.append(("all", *map(str, (sum(totals), *totals))))
        width = max(len(row[0]) for row in rows)
        return "\n".join(f"{name:{width}}" + "".join(f"{cell:>10}" for cell in cells) for name, *cells in rows)

    def faults(self, keep: Path) -> str:
        """Each distinct fault: how often, what it said last, and how to have it again."""
        lines = []
        for what, numbers in self.found.items():
            last = next((line for line in reversed(self.texts[what].splitlines()) if line.strip()), "")
            lines.append(f"FAULT {what} ({len(numbers)} cases)\n  {last[:300]}\n")
            again = f"python -m fuzz --seed {self.seed} --only {numbers[0]}"
            lines.append(f"  again: {again}; input: {keep / f'{self.seed}-{numbers[0]}'}\n")
        return "".join(lines)


def fuzz(seed: int, cases: int, keep: Path, report: Report) -> None:
    """Cases 0, 1, ... of the seed; the inputs of the first three of each fault are kept."""
    with _ground() as ground:
        for number in range(cases):
            here = ground / str(number)
            verdict = _judged(seed, number, here)
            report.add(number, verdict)
            if verdict.outcome == "fault" and len(report.found[verdict.what]) <= 3:
                _keep(here, keep / f"{seed}-{number}", verdict)
            shutil.rmtree(here)


def one(seed: int, number: int, keep: Path) -> Verdict:
    """One case; its input is kept whatever comes out."""
    with _ground() as ground:
        here = ground / str(number)
        verdict = _judged(seed, number, here)
        _keep(here, keep / f"{seed}-{number}", verdict)
        return verdict


@contextmanager
def _ground() -> Iterator[Path]:
    """A folder for the inputs, with the samples in it, and a bound on memory."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (MOST_BYTES, before[1]))
    try:
        with tempfile.TemporaryDirectory() as folder:
            config_cases.samples(Path(folder))
            yield Path(folder)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def _judged(seed: int, number: int, here: Path) -> Verdict:
    rng = random.Random(f"{seed}/{number}")
    here.mkdir()
    case = MAKERS[number % len(MAKERS)](rng, here)
    return judged(case, here.parent)


def _keep(here: Path, there: Path, verdict: Verdict) -> None:
    shutil.rmtree(there, ignore_errors=True)
    there.mkdir(parents=True)
    for path in here.rglob("*"):
        if path.is_file() and not path.is_symlink():
            (there / path.name).write_bytes(path.read_bytes())
    (there / "verdict.txt").write_text(f"{verdict.kind}\n{verdict.what}\n\n{verdict.text}\n", errors="backslashreplace")
