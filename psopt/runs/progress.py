"""What a person sees while a run goes on, and when it ends.

A terminal gets one line that is written over, anything else a plain line now and then. `mpiexec` stands between rank 0
and the terminal, so `psopt run` tells rank 0 the terminal's width in ``PSOPT_TERMINAL``.
"""

import math
import os
import sys
import time
from collections.abc import Sequence
from typing import Any, TextIO

import numpy as np

from psopt.config import RunConfig
from psopt.launch import told_ranks
from psopt.runs.trace import Record

TERMINAL_WIDTH = "PSOPT_TERMINAL"
LIVE_EVERY_S = 0.1
PLAIN_EVERY_S = 5.0


def terminal_width(stream: TextIO) -> int:
    """Columns of the terminal that reads this process's ``stream`` in the end; 0 when none does."""
    told = os.environ.get(TERMINAL_WIDTH, "")
    if told.isdigit():
        return int(told)
    if not stream.isatty() or told_ranks() is not None:
        return 0
    return os.get_terminal_size(stream.fileno()).columns


class Progress:
    """The line, on standard error.

    Parameters
    ----------
    workers : int
    gap, max_rounds, max_seconds : float, int, float, optional
        The targets, for the time that is left.
    quiet : bool
        Show nothing.
    """

    def __init__(
        self,
        workers: int,
        gap: float | None = None,
        max_rounds: int | None = None,
        max_seconds: float | None = None,
        quiet: bool = False,
    ) -> None:
        self._workers = workers
        self._gap, self._max_rounds, self._max_seconds = gap, max_rounds, max_seconds
        self._stream = sys.stderr
        self._width = terminal_width(self._stream)
        self._quiet = quiet
        self._began = time.monotonic()
        self._next = self._began + (LIVE_EVERY_S if self._width else PLAIN_EVERY_S)
        self._first: tuple[float, float] | None = None
        self._shown = False

    @classmethod
    def of(cls, config: RunConfig, quiet: bool) -> "Progress":
        """The line of a run with that config."""
        stop = config.stop
        return cls(config.workers, stop.gap, stop.max_rounds, stop.max_seconds, quiet)

    def say(self, sentence: str) -> None:
        """One lasting line."""
        if not self._quiet:
            self.warn(sentence)

    def warn(self, sentence: str) -> None:
        """One lasting line that is not to be missed, even where the progress line is not wanted."""
        self._clear()
        print(sentence, file=self._stream, flush=True)

    def judge(self, objectives: Sequence[float], dtype: np.dtype) -> bool:
        """Warns of an objective that ended above where it began; returns whether it did."""
        first, last = objectives[0], objectives[-1]
        rose = last > first + 64 * float(np.finfo(dtype).eps) * abs(first)
        if rose:
            self.warn(
                f"psopt: WARNING: the objective ended at {last:.6g}, above {first:.6g} where it began: the step size, "
                "or the weight `xi` of a lazy rule, is too large"
            )
        return rose

    def update(self, record: Record) -> None:
        """Shows a record, if it is time to."""
        now = time.monotonic()
        if self._first is None and record.gap and record.gap > 0:
            self._first = (now, math.log(record.gap))
        if self._is_due(now):
            self._show(self._line(record, now))

    def tally(self, done: int, total: int, what: str) -> None:
        """Shows how many of ``total`` things are done, if it is time to."""
        now = time.monotonic()
        if self._is_due(now):
            left = (now - self._began) * (total - done) / done
            self._show(f"{done} of {total} {what}  ETA {clock(left)}")

    def _is_due(self, now: float) -> bool:
        due = not self._quiet and now >= self._next
        if due:
            self._next = now + (LIVE_EVERY_S if self._width else PLAIN_EVERY_S)
        return due

    def _show(self, line: str) -> None:
        if self._width:
            self._stream.write("\r" + line[: self._width - 1].ljust(self._width - 1))
            self._shown = True
        else:
            self._stream.write(line + "\n")
        self._stream.flush()

    def close(self) -> None:
        self._clear()

    def _clear(self) -> None:
        if self._shown:
            self._stream.write("\r" + " " * (self._width - 1) + "\r")
            self._stream.flush()
            self._shown = False

    def _line(self, record: Record, now: float) -> str:
        elapsed = max(now - self._began, 1e-9)
        share = record.uploads / max(1, record.round * self._workers)
        measures = []
        if record.gap is not None:
            measures.append(f"gap {record.gap:.3e}")
        elif record.objective is not None:
            measures.append(f"objective {record.objective:.6g}")
        if record.test_accuracy is not None:
            measures.append(f"test accuracy {record.test_accuracy:.2%}")
        measure = "  ".join(measures)
        left = self._left(record, now, elapsed)
        return (
            f"round {record.round}  {measure}  uploads {record.uploads} ({share:.0%} of all)  "
            f"{record.round / elapsed:.0f} rounds/s" + (f"  ETA {clock(left)}" if left is not None else "")
        )

    def _left(self, record: Record, now: float, elapsed: float) -> float | None:
        """Seconds until the first target: rounds and time as they run, the gap by its mean logarithmic rate."""
        guesses = []
        if self._max_rounds and record.round:
            guesses.append((self._max_rounds - record.round) * elapsed / record.round)
        if self._max_seconds:
            guesses.append(self._max_seconds - elapsed)
        if self._gap and self._first and record.gap and record.gap > 0:
            since, start = self._first
            fallen = start - math.log(record.gap)
            if fallen > 0.5:
                guesses.append((math.log(record.gap) - math.log(self._gap)) * (now - since) / fallen)
        return max(0.0, min(guesses)) if guesses else None


def clock(seconds: float) -> str:
    """12 s, 3:05 or 1:02:03."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def closing_table(summary: dict[str, Any], folder: str | None) -> None:
    """The outcome, on standard output."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, show_header=False, title_justify="left")
    table.add_column(style="bold")
    table.add_column()
    asked = max(1, summary["rounds"] * summary["workers"])
    fewer = f": {asked / max(1, summary['uploads']):.1f} x fewer than everyone every round"
    repeat, accuracy = summary["repeat"], _measured(summary, "test_accuracy", ".2%")
    rows = [
        ("status", f"{summary['status']} ({summary['stop_reason']})" if summary["stop_reason"] else summary["status"]),
        *([("replicas", f"{repeat}: means, and standard errors of them")] if repeat > 1 else []),
        ("rounds", count(summary["rounds"])),
        *([("local steps", count(summary["local_steps"]))] if summary["local_steps"] != summary["rounds"] else []),
        ("objective", _measured(summary, "objective", ".12g")),
        ("gap to f*", _measured(summary, "gap", ".3e")),
        *_of_the_lost(summary),
        *([("test accuracy", accuracy)] if accuracy != "-" else []),
        (
            "uploads",
            f"{count(summary['uploads'])} of {count(asked)} ({summary['uploads'] / asked:.1%})"
            + (fewer if summary["stop_reason"] == "gap" else ""),
        ),
        ("downloads", count(summary["downloads"])),
        ("payload up / down", f"{size(summary['payload_bytes_up'])} / {size(summary['payload_bytes_down'])}"),
        ("control up / down", f"{size(summary['control_bytes_up'])} / {size(summary['control_bytes_down'])}"),
        ("evaluation, off the books", size(summary["evaluation_bytes"])),
        ("gradient evaluations", count(summary["gradient_evaluations"])),
        ("time", f"{summary['wall_s']:.2f} s, and {summary['compile_s']:.2f} s to compile or load kernels"),
    ]
    if summary.get("startup_s") is not None:
        rows.append(("start-up", f"{summary['startup_s']:.1f} s until the first round"))
    if folder:
        rows.append(("folder", folder))
    for row in rows:
        table.add_row(*row)
    console().print(table)


def _of_the_lost(summary: dict[str, Any]) -> list[tuple[str, str]]:
    """Who was lost, and the objective and the gap with their parts; nothing where nobody was."""
    if not summary.get("lost"):
        return []
    who = ", ".join(f"worker {one['worker']} (round {one['round']})" for one in summary["lost"])
    rows = [("lost", who), ("objective with the lost", _measured(summary, "objective_full", ".12g"))]
    return [*rows, ("gap with the lost", _measured(summary, "gap_full", ".3e"))]


def count(value: float) -> str:
    """A count; of a mean, one decimal."""
    return f"{value:.1f}" if isinstance(value, float) else str(value)


def _measured(summary: dict[str, Any], name: str, form: str) -> str:
    value, error = summary[name], summary.get(f"{name}_se")
    if value is None:
        return "-"
    return f"{value:{form}}" + (f" +- {error:.2{form[-1]}}" if error is not None else "")


def console() -> Any:
    """For tables on standard output: plain text unless a terminal reads it in the end."""
    from rich.console import Console

    class Guarded(Console):
        """Leaves a reader that has seen enough to the guard of the command line."""

        def on_broken_pipe(self) -> None:
            raise

    width = terminal_width(sys.stdout)
    return Guarded(width=width or 120, highlight=False, force_terminal=bool(width), color_system=None)


def size(nbytes: int) -> str:
    """Bytes in the largest fitting unit of a power of 1000."""
    value, unit = float(nbytes), "B"
    for larger in ("kB", "MB", "GB", "TB"):
        if value < 999.95:  # or it would be written 1000
            break
        value, unit = value / 1000, larger
    return f"{value:.4g} {unit}"
