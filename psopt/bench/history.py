"""The ratios of earlier days: a file with a line a record, and what has fallen since.

A line is a JSON object: ``date``, ``commit`` (of the folder one is in, empty where it is no checkout), ``machine`` (CPU
and versions) and ``ratios``, by row and baseline: how many times faster psopt was, at least, in `PASSES` measurements.
Times are not kept, because machines differ.

A baseline changes its speed, too: NumPy's selection of 10^7 numbers took 76 ms on one day and 220 on another. A row has
therefore become slower only where it has against all that it is compared with.
"""

import datetime
import itertools
import json
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from threadpoolctl import threadpool_limits

from psopt.bench import kernels, machine, startup
from psopt.bench.result import Case, Row, show
from psopt.errors import ConfigError

QUICK_RANKS = 4
PASSES = 3


def quick() -> Iterator[Case]:
    """What is measured for a record and for a check."""
    return itertools.chain(kernels.cases(), startup.cases(QUICK_RANKS, cold=False))


def check(path: Path, seconds: float, tolerance: float) -> int:
    """Measures, prints the table and a sentence for each row that is slower by more than ``tolerance``; the exit code.

    A case with such a row is measured once more, and the better of both counts.
    """
    before = latest(path, machine.cpu())
    found: dict[str, float] = {}

    def measured() -> Iterator[Row]:
        for case in quick():
            rows = case(seconds)
            yield from rows
            here = ratios(rows)
            if fallen(before["ratios"], here, tolerance):
                again = case(seconds)
                yield from again
                here = {key: max(ratio, here.get(key, ratio)) for key, ratio in ratios(again).items()}
            found.update(here)

    with threadpool_limits(1):
        show(measured())
    where = f"{before['date']} on {before['machine']['cpu']}"
    missing = sorted(before["ratios"].keys() - found.keys())
    if missing:
        print(f"psopt: recorded {where} and not measured now: {', '.join(missing)}")
    sentences = fallen(before["ratios"], found, tolerance)
    for sentence in sentences:
        print(f"psopt: {sentence}; recorded {where}")
    if not sentences:
        print(f"psopt: no row is slower by more than {tolerance:.0%} than recorded {where}")
    return 1 if sentences else 0


def record(path: Path, seconds: float) -> None:
    """Measures, prints the table, and adds a line to the file."""
    entries(path)
    try:
        path.open("a").close()
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written: {error.strerror}") from None
    with threadpool_limits(1):
        rows = show(row for _ in range(PASSES) for case in quick() for row in case(seconds))
    add(path, rows)
    print(f"psopt: added {len(ratios(rows))} ratios to {path}")


def add(path: Path, rows: Iterable[Row]) -> None:
    """Adds a line with the ratios of ``rows``; of a row that is there several times the lowest."""
    line = {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "commit": _commit(),
        "machine": {"cpu": machine.cpu(), "versions": machine.versions()},
        "ratios": {key: float(f"{ratio:.4g}") for key, ratio in ratios(rows).items()},
    }
    with path.open("a") as file:
        file.write(json.dumps(line) + "\n")


def latest(path: Path, cpu: str) -> dict[str, Any]:
    """The last record of that CPU, or else the last of all; raises `ConfigError` where there is none."""
    found = entries(path)
    if not found:
        raise ConfigError(f"{path}: there is no record yet; `psopt bench record {path}` makes one")
    own = [entry for entry in found if entry["machine"]["cpu"] == cpu]
    return (own or found)[-1]


def entries(path: Path) -> list[dict[str, Any]]:
    """All records of a file; raises `ConfigError` where it is none of records."""
    try:
        lines = path.read_text().splitlines()
    except FileNotFoundError:
        lines = []
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read as a history of benchmarks: {error}") from None
    return [_entry(path, number, line) for number, line in enumerate(lines, 1)]


def ratios(rows: Iterable[Row]) -> dict[str, float]:
    """By row and baseline, how many times faster psopt is, at least."""
    found: dict[str, float] = {}
    for row in rows:
        for who, ratio in row.ratios.items():
            key = f"{row.key}, {who}"
            found[key] = min(ratio, found.get(key, ratio))
    return found


def fallen(before: Mapping[str, float], now: Mapping[str, float], tolerance: float) -> list[str]:
    """A sentence for each row whose ratios are all lower than they were by more than ``tolerance``, a share of them."""
    sides: dict[str, list[str]] = {}
    for key in before.keys() & now.keys():
        row, _, who = key.rpartition(", ")
        sides.setdefault(row, []).append(who)
    sentences = []
    for row, names in sorted(sides.items()):
        pairs = {who: (before[f"{row}, {who}"], now[f"{row}, {who}"]) for who in sorted(names)}
        if all(new < (1.0 - tolerance) * old for old, new in pairs.values()):
            told = "; ".join(f"{who} {old:.2f} then, {new:.2f} now" for who, (old, new) in pairs.items())
            sentences.append(f"{row} is slower, in times as fast as: {told}")
    return sentences


def _entry(path: Path, number: int, line: str) -> dict[str, Any]:
    try:
        entry = json.loads(line)
        if isinstance(entry["machine"]["cpu"], str) and isinstance(entry["date"], str):
            return {**entry, "ratios": {str(key): float(ratio) for key, ratio in entry["ratios"].items()}}
    except (ValueError, KeyError, TypeError, AttributeError):
        pass
    raise ConfigError(f"{path}, line {number}: this is no record of `psopt bench record`")


def _commit() -> str:
    try:
        asked = ["git", "rev-parse", "--short", "HEAD"]
        return subprocess.run(asked, capture_output=True, text=True, check=False).stdout.strip()
    except OSError:
        return ""
