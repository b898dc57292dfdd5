"""The ratios of earlier days: a file with a line a record, and what has fallen since.

A line is a JSON object: ``date``, ``commit`` (of the folder one is in, empty where it is no checkout), ``machine`` (CPU
and versions) and ``ratios``, by row and baseline: how many times faster psopt was. Times are not kept, because machines
differ.
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


def quick() -> Iterator[Case]:
    """What is measured for a record and for a check."""
    return itertools.chain(kernels.cases(), startup.cases(QUICK_RANKS, cold=False))


def check(path: Path, seconds: float, tolerance: float) -> int:
    """Measures, prints the table and a sentence for each ratio that fell by more than ``tolerance``; the exit code.

    A case with such a ratio is measured once more, and the better of both counts.
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
        print(f"psopt: no ratio has fallen by more than {tolerance:.0%} since {where}")
    return 1 if sentences else 0


def record(path: Path, seconds: float) -> None:
    """Measures, prints the table, and adds a line to the file."""
    entries(path)
    try:
        path.open("a").close()
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written: {error.strerror}") from None
    with threadpool_limits(1):
        rows = show(row for case in quick() for row in case(seconds))
    add(path, rows)
    print(f"psopt: added {len(ratios(rows))} ratios to {path}")


def add(path: Path, rows: Iterable[Row]) -> None:
    """Adds a line with the ratios of ``rows``."""
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
    """By row and baseline, how many times faster psopt is."""
    return {f"{row.key}, {who}": ratio for row in rows for who, ratio in row.ratios.items()}


def fallen(before: Mapping[str, float], now: Mapping[str, float], tolerance: float) -> list[str]:
    """A sentence for each ratio that is lower than it was by more than ``tolerance``, a share of it."""
    return [
        f"{key}: psopt was {old:.2f} times as fast, and is {now[key]:.2f} times as fast"
        for key, old in before.items()
        if key in now and now[key] < (1.0 - tolerance) * old
    ]


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
