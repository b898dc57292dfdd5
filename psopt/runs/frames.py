"""Runs as tables: for pandas, for CSV files, and the few lines that a notebook shows.

Columns are made once, as arrays, so that a `DataFrame` and a CSV file hold the same; only `framed` needs pandas.
"""

import csv
import html
import json
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import numpy as np

from psopt.errors import ConfigError
from psopt.records import record
from psopt.runs.finding import find_runs
from psopt.runs.folder import Run, load_run
from psopt.runs.trace import elapsed_s

if TYPE_CHECKING:
    from pandas import DataFrame

LINES_AT_ONCE = 10_000
MOST_NAMED = 6
LABELS = ("run", "recipe", "seed", "workers")
"""What every table of runs begins with."""


def trace_columns(run: Run) -> dict[str, np.ndarray]:
    """The trace, and what follows from it.

    ``payload_bytes`` is up and down together, ``upload_share`` the uploads so far among all that could have been (NaN
    before round 1), ``elapsed_s`` the seconds since round 1 began.
    """
    trace = run.trace
    if not trace:
        return {}
    asked = trace["round"] * float(run.summary["workers"])
    asked[asked == 0] = np.nan
    return {
        **trace,
        "payload_bytes": trace["payload_bytes_up"] + trace["payload_bytes_down"],
        "upload_share": trace["uploads"] / asked,
        "elapsed_s": elapsed_s(trace),
    }


def uploads_columns(run: Run) -> dict[str, np.ndarray]:
    """A row a round and worker: ``round`` from 1, ``worker`` from 0, ``uploaded``, with ``repeat`` a share."""
    rounds, workers = run.uploads.shape
    return {
        "round": np.repeat(np.arange(1, rounds + 1), workers),
        "worker": np.tile(np.arange(workers), rounds),
        "uploaded": run.uploads.ravel(),
    }


COLUMNS = {"trace": trace_columns, "uploads": uploads_columns}
"""What can be made a table of."""


def framed(columns: Mapping[str, Any], index: str | None = None) -> "DataFrame":
    """The columns as a `DataFrame`. Raises `ConfigError` where there is no pandas."""
    try:
        import pandas
    except ImportError:
        raise ConfigError(
            "a frame needs pandas, which is not installed: pip install 'psopt[notebook]' (`psopt export` writes CSV "
            "without it)"
        ) from None
    made = pandas.DataFrame(dict(columns))
    return made if index is None or index not in made else made.set_index(index)


def outcome(run: Run) -> list[tuple[str, str]]:
    """How a run went, in a few pairs of words."""
    summary = run.summary
    status, reason = summary.get("status", "?"), summary.get("stop_reason")
    found = [("status", f"{status} ({reason})" if reason else status)]
    if "rounds" not in summary:
        return found
    asked = summary["rounds"] * summary["workers"]
    uploads = f"{summary['uploads']:.10g} of {asked:.10g}" + f" ({summary['uploads'] / asked:.1%})" * bool(asked)
    found += [("workers", str(summary["workers"])), ("rounds", f"{summary['rounds']:.10g}"), ("uploads", uploads)]
    for name, form in (("gap", ".2e"), ("objective", ".8g"), ("test_accuracy", ".2%")):
        if summary.get(name) is not None:
            found.append((name.replace("_", " "), f"{summary[name]:{form}}"))
    return [*found, ("seconds", f"{summary['wall_s']:.3g}")]


def title(run: Run) -> str:
    """What a run is called: by its recipe, its name and its folder."""
    name, recipe = run.summary.get("name", "run"), run.summary.get("recipe")
    of = f" {name!r}" if recipe and name not in (recipe, "run") else ""
    return f"{recipe or name}{of}" + (f" in {run.folder}" if run.folder else "")


def as_line(run: Run) -> str:
    """A run on one line."""
    return f"<Run {title(run)}: {', '.join(f'{name} {value}' for name, value in outcome(run))}>"


def as_html(run: Run) -> str:
    """A run as the small table that a notebook shows."""
    rows = (f"<tr><th>{html.escape(name)}</th><td>{html.escape(value)}</td></tr>" for name, value in outcome(run))
    return f"<table><caption>{html.escape(title(run))}</caption>{''.join(rows)}</table>"


@record
class Runs:
    """Several runs; a sequence of `Run`, and tables of all of them.

    Attributes
    ----------
    runs : tuple of Run
    labels : tuple of dict
        By run what tells it from the others: ``run``, the folder's name (its path, where two folders have one name),
        ``recipe``, ``seed``, ``workers``, and the axes of the sweep that it belongs to.
    """

    runs: tuple[Run, ...]
    labels: tuple[dict[str, Any], ...]

    def __repr__(self) -> str:
        names = ", ".join(str(label["run"]) for label in self.labels[:MOST_NAMED])
        more = ", ..." * (len(self.labels) > MOST_NAMED)
        return f"<{len(self.labels)} runs: {names}{more}>"

    def __len__(self) -> int:
        return len(self.runs)

    def __iter__(self) -> Iterator[Run]:
        return iter(self.runs)

    def __getitem__(self, which: int | str) -> Run:
        """By number, or by what column ``run`` says."""
        if isinstance(which, str):
            named = {label["run"]: run for label, run in zip(self.labels, self.runs, strict=True)}
            if which not in named:
                raise KeyError(f"there is no run {which!r}; there are {', '.join(named)}")
            return named[which]
        return self.runs[which]

    def frame(self) -> "DataFrame":
        """The traces of all runs, one below the other: the labels, ``round``, and the columns of `Run.frame`."""
        return framed(self._joined("trace"))

    def uploads_frame(self) -> "DataFrame":
        """As `Run.uploads_frame`, of all runs, with the labels."""
        return framed(self._joined("uploads"))

    def summaries(self) -> "DataFrame":
        """A row a run: the labels, and the fields of its summary that are single values."""
        rows = [
            {**{name: value for name, value in run.summary.items() if not isinstance(value, list | dict)}, **label}
            for label, run in zip(self.labels, self.runs, strict=True)
        ]
        names = dict.fromkeys(
            [name for label in self.labels for name in label] + [name for row in rows for name in row]
        )
        return framed({name: [row.get(name) for row in rows] for name in names}, "run")

    def write_csv(self, what: str, file: TextIO) -> None:
        """`frame` ("trace") or `uploads_frame` ("uploads") as CSV: nothing for NaN, 0 and 1 for who uploaded."""
        made = [COLUMNS[what](run) for run in self.runs]
        names = _names(self.labels, made)
        lines = csv.writer(file, lineterminator="\n")
        lines.writerow(names)
        for label, columns in zip(self.labels, made, strict=True):
            rows = len(columns["round"]) if columns else 0
            for start in range(0, rows, LINES_AT_ONCE):
                part = {name: _cells(values[start : start + LINES_AT_ONCE]) for name, values in columns.items()}
                here = len(part["round"])
                same = {name: [_cell(value)] * here for name, value in label.items()}
                empty = [""] * here
                lines.writerows(zip(*({**part, **same}.get(name, empty) for name in names), strict=True))

    def _joined(self, what: str) -> dict[str, Any]:
        made = [COLUMNS[what](run) for run in self.runs]
        joined: dict[str, Any] = {}
        for name in _names(self.labels, made):
            parts = []
            for label, columns in zip(self.labels, made, strict=True):
                rows = len(columns["round"]) if columns else 0
                if name in label:
                    parts.append(np.array([_flat(label[name])] * rows, dtype=object))
                else:
                    parts.append(columns.get(name, np.full(rows, np.nan)))
            joined[name] = _plain(np.concatenate(parts))
        return joined


def _names(labels: Sequence[Mapping[str, Any]], made: Sequence[Mapping[str, Any]]) -> list[str]:
    """The columns of all runs, the labels first."""
    return list(dict.fromkeys(name for columns in (*labels, *made) for name in columns))


def _plain(values: np.ndarray) -> Any:
    """Objects that are all numbers as numbers."""
    return np.array(values.tolist()) if values.dtype == object and _are_numbers(values) else values


def _are_numbers(values: np.ndarray) -> bool:
    return all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)


def _flat(value: Any) -> Any:
    """A label that is no single value, as a part of an algorithm is, as JSON."""
    return json.dumps(value) if isinstance(value, list | dict) else value


def _cells(values: np.ndarray) -> list[Any]:
    if values.dtype == bool:
        values = values.astype(int)
    return ["" if value != value else value for value in values.tolist()]


def _cell(value: Any) -> Any:
    return "" if value is None else _flat(value)


def load_runs(*folders: str | Path) -> Runs:
    """Reads run folders, and folders of them, as sweeps and `psopt reproduce` make, up to three folders down.

    A run in a folder of runs that has not ended is left out, with a warning. Raises `ConfigError` when a folder that
    is one run cannot be read, as `load_run` does, when a folder holds no run, and when there is no finished run at all.
    """
    if not folders:
        raise ConfigError("load_runs needs a folder at least: one run's, or one of runs")
    found: dict[Path, tuple[Run, dict[str, Any]]] = {}
    tables: dict[Path, dict[str, dict[str, Any]]] = {}
    for given in map(Path, folders):
        left_out = []
        for folder in find_runs([given]):
            place = folder.resolve()
            if place in found:
                continue
            if folder == given:
                found[place] = (load_run(folder), {})
                continue
            if folder.parent not in tables:
                tables[folder.parent] = _axes(folder.parent)
            try:
                found[place] = (load_run(folder), tables[folder.parent].get(folder.name, {}))
            except ConfigError as error:
                left_out.append(str(error))
        if left_out:
            warnings.warn(f"left out: {'; '.join(left_out)}", stacklevel=2)
    if not found:
        raise ConfigError(f"{', '.join(map(str, folders))}: there is no finished run in it")
    names = [run.folder.name for run, _ in found.values()]
    alone = len({*names}) == len(names)
    labels = [
        {
            "run": run.folder.name if alone else str(run.folder),
            **{name: run.summary.get(name) for name in LABELS[1:]},
            **axes,
        }
        for run, axes in found.values()
    ]
    return Runs(tuple(run for run, _ in found.values()), tuple(labels))


def _axes(folder: Path) -> dict[str, dict[str, Any]]:
    """By run the values of a sweep's axes; nothing where there is no table of a sweep."""
    try:
        table = json.loads((folder / "table.json").read_text())
        keys = [axis["key"] for axis in table.get("axes", [])]
        return {row["folder"]: {key: row[key] for key in keys} for row in table["rows"]} if keys else {}
    except FileNotFoundError:
        return {}
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise ConfigError(f"{folder / 'table.json'} is no table of psopt's: {error}") from None
