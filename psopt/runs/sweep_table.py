"""The table of a sweep: a row a point, as JSON, as CSV and on standard output."""

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from psopt.errors import ConfigError
from psopt.runs.folder import Held, read_summary, write_json, write_text
from psopt.runs.grid import Axis, Point, settings, shown
from psopt.runs.progress import console, count, size

SCHEMA = 1
FIELDS: dict[str, tuple[str, Callable[[Any], str]]] = {
    "rounds": ("rounds", count),
    "local_steps": ("steps", count),
    "uploads": ("uploads", count),
    "payload_bytes_up": ("up", size),
    "payload_bytes_down": ("down", size),
    "objective": ("objective", "{:.7g}".format),
    "gap": ("gap", "{:.1e}".format),
    "test_loss": ("test loss", "{:.4g}".format),
    "test_accuracy": ("accuracy", "{:.2%}".format),
    "wall_s": ("seconds", "{:.1f}".format),
    "stop_reason": ("stopped by", str),
    "theta_sha256": ("", str),
}
"""The fields of a summary that make a row, with the heading and the form they are printed in; none: not printed."""

LONGEST_WHOLE = 16
"""Characters of an axis's value that are printed on one line."""

ERROR_OF = "_se"  # ends the names of standard errors, which not every summary has


def rows_of(points: Sequence[Point], failed: Mapping[int, str]) -> list[dict[str, Any]]:
    """A row a point of what the folders hold; ``failed`` tells of points that failed before they had a folder."""
    found = [point.held() for point in points]
    summaries = [_summary(point, held) for point, held in zip(points, found, strict=True)]
    errors = dict.fromkeys(name for summary in summaries for name in summary if name.endswith(ERROR_OF))
    return [
        {
            "point": point.number,
            **point.values,
            "status": failed.get(point.number) or _status(held, summary),
            **{name: summary.get(name) for name in (*FIELDS, *errors)},
            "folder": point.folder.name,
        }
        for point, held, summary in zip(points, found, summaries, strict=True)
    ]


def _summary(point: Point, held: Held) -> dict[str, Any]:
    own = held not in (Held.NOTHING, Held.ANOTHER)
    return read_summary(point.folder) if own and (point.folder / "summary.json").is_file() else {}


def _status(held: Held, summary: Mapping[str, Any]) -> str:
    return summary["status"] if held is Held.FAILED else held.value


def make_folder(out: Path) -> None:
    """Makes the folder of the sweep, where there is none."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"--out {out} cannot be made: {error.strerror}") from None


def write(out: Path, axes: Sequence[Axis], rows: Sequence[Mapping[str, Any]]) -> None:
    """``table.json`` and ``table.csv``, each whole or not at all."""
    keys = {axis.key for axis in axes}
    content = io.StringIO()
    lines = csv.writer(content, lineterminator="\n")
    lines.writerow(rows[0])
    lines.writerows([_cell(value, name in keys) for name, value in row.items()] for row in rows)
    described = [{"key": axis.key, "values": list(axis.values)} for axis in axes]
    try:
        write_json(out / "table.json", {"schema": SCHEMA, "axes": described, "rows": list(rows)})
        write_text(out / "table.csv", content.getvalue())
    except OSError as error:
        raise ConfigError(f"--out {out}: the table cannot be written: {error.strerror}") from None


def _cell(value: Any, of_axis: bool) -> str:
    """Nothing for a field that is missing, but not for an axis's ``null``."""
    return "" if value is None and not of_axis else shown(value)


def show(out: Path, axes: Sequence[Axis], rows: Sequence[Mapping[str, Any]]) -> None:
    """The table on standard output, without the columns that are empty in all rows, and without reasons of failure."""
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    table = Table(title=escape(str(out)), box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    columns: list[list[str]] = []

    def add(heading: str, cells: list[str], right: bool = True, wrap: bool = False) -> None:
        least = min(LONGEST_WHOLE, max(map(len, cells))) if wrap else None
        justify = "right" if right else "left"
        table.add_column(escape(heading), justify=justify, overflow="fold", no_wrap=not wrap, min_width=least)
        columns.append([escape(cell) for cell in cells])

    add("point", [str(row["point"]) for row in rows])
    for axis in axes:
        values = [row[axis.key] for row in rows]
        numbers = all(isinstance(value, int | float) for value in values)
        alone = [other.path[-1] for other in axes].count(axis.path[-1]) == 1
        add(axis.path[-1] if alone else axis.key, [shown(value) for value in values], right=numbers, wrap=not numbers)
    add("status", [row["status"].partition(":")[0] for row in rows], right=False)
    gaps = any(row["gap"] is not None for row in rows)
    for name, (heading, form) in FIELDS.items():
        found = [row[name] for row in rows]
        if name == "objective" and gaps:
            continue  # it says less, and takes as much room
        if heading and any(value is not None for value in found) and not (name == "stop_reason" and len({*found}) == 1):
            add(heading, [_printed(row, name, form) for row in rows])
    for cells in zip(*columns, strict=True):
        table.add_row(*cells)
    console().print(table)


def _printed(row: Mapping[str, Any], name: str, form: Callable[[Any], str]) -> str:
    """The value, and its standard error where it has one that is not zero."""
    value, error = row[name], row.get(name + ERROR_OF)
    if value is None:
        return "-"
    return f"{form(value)} +- {form(error) if name == 'test_accuracy' else f'{error:.1e}'}" if error else form(value)


def show_points(points: Sequence[Point], held: Mapping[int, Held]) -> None:
    """A line a point on standard output: number, settings, folder, whether it is done."""
    words = {
        Held.NOTHING: "to run",
        Held.FINISHED: "done",
        Held.FAILED: "failed, to run again",
        Held.UNFINISHED: "unfinished, to run again",
    }
    width = max(len(settings(point.values)) for point in points)
    for point in points:
        number = f"{point.number:>{len(str(point.of - 1))}}"
        print(f"{number}  {settings(point.values):{width}}  {point.folder}  {words[held[point.number]]}")
