"""Where runs are: the folders that hold one, among those that somebody names, in one order for all who look."""

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from psopt.errors import ConfigError
from psopt.runs.folder import FILES

DEEPEST = 3
"""How many folders below the one that is named runs are looked for."""

JOBS = ".slurm"
"""What ends the names of folders in which `psopt submit` keeps scripts, and copies of configs."""

_PASSED_OVER = re.compile(r"\.|checkpoints$|replica-\d+$|.*\.(failed|cut-off)-\d+$")
"""Hidden folders, parts of a run, and what `psopt.runs.folder.is_done` moved aside, to be made again."""


def find_runs(named: Sequence[Path]) -> list[Path]:
    """The run folders that are meant: a run's own, or, of a sweep, a table or any other folder, those in it.

    A folder that is met twice counts once. Raises `ConfigError` where there is no such folder, or no run in it.
    """
    found: dict[Path, Path] = {}
    for folder in named:
        if not folder.exists():
            raise ConfigError(f"{folder}: there is no such folder")
        if not folder.is_dir():
            raise ConfigError(f"{folder} is a file; expected the folder of a run, or of several")
        inside = [path for path in folders_in(folder) if holds_run(path)]
        if not inside:
            raise ConfigError(
                f"{folder} holds no run: no folder with a config.yaml, here or up to {DEEPEST} folders further down"
            )
        for run in inside:
            found.setdefault(run.resolve(), run)
    return list(found.values())


def holds_run(folder: Path) -> bool:
    """Whether the folder is that of one run, finished or not. Raises `ConfigError` where that cannot be told."""
    try:
        return folder.suffix != JOBS and any((folder / name).exists() for name in FILES)
    except OSError as error:
        raise _closed(folder, error) from None


def folders_in(folder: Path, depth: int = DEEPEST) -> Iterator[Path]:
    """The folder and those below, as far as runs are looked for: not inside a run, nor in what was moved aside.

    As a table in a folder orders them, else by name, ``run-10`` after ``run-9``; a folder that vanishes is none. No run
    is left out without a word: raises `ConfigError` where one lies deeper, and where a folder cannot be looked into.
    """
    yield folder
    if folder.suffix == JOBS or holds_run(folder):
        return
    try:
        inner = [path for path in folder.iterdir() if not _PASSED_OVER.match(path.name) and path.is_dir()]
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        raise _closed(folder, error) from None
    if depth == 0:
        for path in filter(holds_run, inner):
            raise ConfigError(f"{path} is a run more than {DEEPEST} folders down: name a folder that is nearer to it")
        return
    order = _table_order(folder)
    for path in sorted(inner, key=lambda path: (order.get(path.name, len(order)), _natural(path.name))):
        yield from folders_in(path, depth - 1)


def _closed(folder: Path, error: OSError) -> ConfigError:
    return ConfigError(f"{folder} cannot be looked into: {error.strerror}")


def _natural(name: str) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", name)]


def table_rows(folder: Path) -> list[dict[str, Any]]:
    """The rows of the folder's ``table.json``; none where there is none that can be read."""
    try:
        rows = json.loads((folder / "table.json").read_text())["rows"]
    except (OSError, ValueError, KeyError, TypeError):
        return []
    return [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []


def _table_order(folder: Path) -> dict[str, int]:
    """By name, where a table names its folders, the row that does so first."""
    order: dict[str, int] = {}
    for number, row in enumerate(table_rows(folder)):
        for value in (row.get("folder"), row.get("method")):
            if isinstance(value, str):
                order.setdefault(value, number)
    return order
