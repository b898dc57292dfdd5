"""What a measurement is, the table of it on standard output, and ``bench.json``."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import field
from pathlib import Path
from typing import Any

from psopt.records import record
from psopt.runs.folder import write_json

SCHEMA = 2
HEAD = ("", "shape", "dtype", "psopt us", "baseline", "us", "ratio", "others", "of read")


@record
class Row:
    """One comparison: medians of turns that were taken in the same run.

    Attributes
    ----------
    name : str
        What is measured; with shape and dtype it names the row.
    shape : tuple of int
    dtype : str
        Empty where it says nothing.
    median_s : float
        Seconds of one call of psopt's side.
    baseline : str
        Whom psopt is compared with.
    baseline_s : float or None
        The seconds of it; None where it is not installed.
    others : mapping of str to float
        Seconds of those who are measured beside, by name.
    read_s : float or None
        Seconds of reading the data once, as fast as can be: the lower bound of `median_s`.
    figures : mapping of str to float
        What else was found.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    median_s: float
    baseline: str
    baseline_s: float | None
    others: Mapping[str, float] = field(default_factory=dict)
    read_s: float | None = None
    figures: Mapping[str, float] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """What the row is called in the history."""
        return " ".join(filter(None, (self.name, "x".join(map(str, self.shape)), self.dtype)))

    @property
    def ratio(self) -> float | None:
        """How many times faster than the baseline."""
        return None if self.baseline_s is None else self.baseline_s / self.median_s

    @property
    def ratios(self) -> dict[str, float]:
        """How many times faster than each of the other sides."""
        all_of_them = {self.baseline: self.baseline_s, **self.others}
        return {who: s / self.median_s for who, s in all_of_them.items() if s is not None}

    @property
    def read_share(self) -> float | None:
        """The share of the measured read bandwidth."""
        return None if self.read_s is None else self.read_s / self.median_s

    def entry(self) -> dict[str, Any]:
        """The row as ``bench.json`` has it."""
        return {
            "name": self.name,
            "shape": list(self.shape),
            "dtype": self.dtype,
            "median_s": self.median_s,
            "baseline": self.baseline,
            "baseline_s": self.baseline_s,
            "ratio": self.ratio,
            "others": {who: {"median_s": s, "ratio": s / self.median_s} for who, s in self.others.items()},
            "read_share": self.read_share,
            **self.figures,
        }


Case = Callable[[float], Sequence[Row]]
"""One measurement: given the seconds that its turns may take, the rows that come of it. It makes its own data."""


def show(rows: Iterable[Row]) -> list[Row]:
    """Prints a head, and each row as soon as it is there; returns them all."""
    _line(HEAD)
    found = []
    for row in rows:
        others = ", ".join(f"{who} {s / row.median_s:.2f}" for who, s in row.others.items()) or "-"
        figures = ", ".join(f"{what} {value:.3g}" for what, value in row.figures.items())
        share = "" if row.read_share is None else f"{row.read_share:.2f}"
        theirs = ("-", "-") if row.baseline_s is None else (f"{row.baseline_s * 1e6:.1f}", f"{row.ratio:.2f}")
        shape = "x".join(map(str, row.shape))
        ours = f"{row.median_s * 1e6:.1f}"
        _line((row.name, shape, row.dtype, ours, row.baseline, *theirs, others, share, figures))
        found.append(row)
    return found


def write(out: Path | None, rows: Iterable[Row], machine: Mapping[str, Any]) -> None:
    """Writes ``bench.json`` into the folder ``out``, which is made where there is none; nothing without ``out``."""
    if out:
        out.mkdir(parents=True, exist_ok=True)
        held = {"schema": SCHEMA, "machine": dict(machine), "rows": [row.entry() for row in rows]}
        write_json(out / "bench.json", held)


def _line(cells: tuple[str, ...]) -> None:
    name, shape, dtype, ours, baseline, theirs, ratio, others, share, *rest = cells
    line = (
        f"{name:50} {shape:>15} {dtype:8} {ours:>10} {baseline:>17} {theirs:>10} {ratio:>6} {others:>24} {share:>7}"
        f"  {' '.join(rest)}"
    )
    print(line.rstrip(), flush=True)
