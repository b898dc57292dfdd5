"""The Local SGD paper's experiments, run again: errors, and speed-ups over a single worker.

The error is F - f* at the end, averaged over repetitions; a speed-up is the single worker's mean error over that of the
averaged iterate. (The authors plot medians over iterations instead, which about halves each value of `speedup`.)
"""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from psopt import problems
from psopt.config import RunConfig, parse
from psopt.data import Table
from psopt.errors import ConfigError
from psopt.problems.base import Share
from psopt.records import record
from psopt.runs.agreement import decided
from psopt.runs.experiment import run
from psopt.runs.folder import Run, load_run, write_json
from psopt.runs.local_experiments import SINGLE, Wanted, cells, config_of, folder_name, published
from psopt.runs.resume import plan_for

if TYPE_CHECKING:
    from psopt.transports.mpi import Link

DECIDE_S = 60.0


@record
class Found:
    """What repetitions gave that differ in nothing but chance.

    Attributes
    ----------
    errors : ndarray, shape (repetitions,), float64
    rounds, uploads, payload_bytes_up : int
        Of one run.
    wall_s : float
        Of all runs together.
    """

    errors: np.ndarray
    rounds: int
    uploads: int
    payload_bytes_up: int
    wall_s: float

    @property
    def error(self) -> float:
        return float(self.errors.mean())

    @property
    def standard_error(self) -> float | None:
        """Of the mean; None for one repetition."""
        n = self.errors.size
        return float(self.errors.std(ddof=1)) / math.sqrt(n) if n > 1 else None

    def with_more(self, other: "Found") -> "Found":
        """Both together."""
        errors, wall_s = np.concatenate([self.errors, other.errors]), self.wall_s + other.wall_s
        return Found(errors, self.rounds, self.uploads, self.payload_bytes_up, wall_s)


def reproduce(link: "Link", wanted: Wanted, out: Path) -> dict[str, Any]:
    """Runs all of ``wanted`` on the ranks of the link; returns (rank 0: also writes) ``table.json``.

    A run that ``out`` holds already, finished and of the same config, is not run again; one that was cut off goes on,
    and one that failed is moved aside and made again.
    """
    decided(link, DECIDE_S, lambda: _check_table(wanted, out))
    found: dict[tuple[str, int], Found] = {}
    table: dict[str, Any] = {}
    for cell in cells(wanted):
        config = parse(config_of(wanted, cell))
        folder = out / folder_name(wanted, cell)
        if (plan := plan_for(config, folder, link)) is not None:
            run(plan, link)
        if link.rank == 0:
            key, more = (cell.plan, cell.workers), _found(config, load_run(folder))
            found[key] = found[key].with_more(more) if key in found else more
            table = table_of(wanted, found)
            write_json(out / "table.json", table)
    return table


def _check_table(wanted: Wanted, out: Path) -> None:
    """Raises `ConfigError` when the folder holds the table of another experiment."""
    try:
        held = json.loads((out / "table.json").read_text())["rows"][0]["experiment"]
    except FileNotFoundError:
        return
    except (ValueError, LookupError, TypeError, AttributeError):
        held = None
    if held != wanted.experiment:
        raise ConfigError(f"--out {out} already holds another experiment's table.json: choose another folder")


def _found(config: RunConfig, done: Run) -> Found:
    uploads = done.summary["uploads"]  # `done.uploads` says whose each was
    return Found(_errors(config, done), done.rounds, uploads, done.payload_bytes_up, done.wall_s)


def _errors(config: RunConfig, done: Run) -> np.ndarray:
    """F - f* of each copy, shape (copies,), float64; of a9a the one gap."""
    if done.gap is not None:
        return np.array([done.gap])
    nothing = Table(np.empty((0, 0)), np.empty(0))
    problem = problems.build(config.problem.kind, nothing, Share(0, 1, 0), config.problem.dtype, config.problem.options)
    return problem.errors(done.theta)


def table_of(wanted: Wanted, found: Mapping[tuple[str, int], Found]) -> dict[str, Any]:
    """``table.json``, from what was found for each plan and N."""
    single = found.get(("growing" if wanted.experiment == "a9a" else SINGLE, 1))
    rows = [_row(wanted, plan, workers, own, single) for (plan, workers), own in found.items()]
    table: dict[str, Any] = {"schema": 1, "rows": rows}
    if wanted.experiment == "a9a":
        table["slope"] = _slope(rows)
    return table


def _row(wanted: Wanted, plan: str, workers: int, own: Found, single: Found | None) -> dict[str, Any]:
    speed_up, standard_error = _ratio(single, own)
    return {
        "experiment": wanted.experiment,
        "plan": plan,
        "workers": workers,
        "steps": wanted.steps,
        "rounds": own.rounds,
        "error": own.error,
        "standard_error": own.standard_error,
        "speed_up": speed_up,
        "speed_up_standard_error": standard_error,
        "repetitions": own.errors.size,
        "uploads": own.uploads,
        "payload_bytes_up": own.payload_bytes_up,
        "wall_s": own.wall_s,
    }


def _ratio(single: Found | None, own: Found) -> tuple[float | None, float | None]:
    """single's error over own's, and its standard error, to first order, as if both were independent."""
    if own is single:
        return 1.0, 0.0
    if single is None or own.error <= 0:
        return None, None
    ratio, parts = single.error / own.error, (single, own)
    if any(part.standard_error is None for part in parts):
        return ratio, None
    return ratio, ratio * math.hypot(*(part.standard_error / part.error for part in parts))


def _slope(rows: Sequence[Mapping[str, Any]]) -> float | None:
    """The least-squares slope of log error in log N; None where it takes another N, or an error is not above zero."""
    errors = np.array([row["error"] for row in rows])
    if len(errors) < 2 or errors.min() <= 0:
        return None
    slope, _ = np.polyfit(np.log([row["workers"] for row in rows]), np.log(errors), 1)
    return float(slope)


TITLES = {
    "quadratic": "A quadratic in three dimensions: averaging is free",
    "speedup": "A function with a kink in its slope: one averaging is not enough",
    "a9a": "a9a, logistic, lambda = 1, growing rounds",
}


def show(table: Mapping[str, Any]) -> None:
    """Paper and psopt side by side, on standard output."""
    from rich.table import Table as Shown

    from psopt.runs.progress import console, size

    rows = table["rows"]
    first = rows[0]
    shown = Shown(title=f"{TITLES[first['experiment']]}; T = {first['steps']}")
    columns = ("plan", "N", "averagings", "error", "+-", "paper", "speed-up", "+-", "paper", "payload up", "seconds")
    for name in columns:
        shown.add_column(name, justify="left" if name == "plan" else "right")
    for row, following in zip(rows, [*rows[1:], None], strict=True):
        error, speed_up = published(row["experiment"], row["steps"], row["plan"], row["workers"])
        shown.add_row(
            row["plan"],
            str(row["workers"]),
            str(row["rounds"]),
            _number(row["error"], ".3g"),
            _number(row["standard_error"], ".1g"),
            _number(error, ".3g"),
            _number(row["speed_up"], ".2f"),
            _number(row["speed_up_standard_error"], ".2f"),
            _number(speed_up, ".1f"),
            size(row["payload_bytes_up"]),
            f"{row['wall_s']:.1f}",
            end_section=following is None or following["workers"] != row["workers"],
        )
    console().print(shown)
    if table.get("slope") is not None:
        console().print(f"slope of log error in log N: {table['slope']:.2f}; -1 is a linear speed-up")


def _number(value: float | None, style: str) -> str:
    return "-" if value is None else format(value, style)
