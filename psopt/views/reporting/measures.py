"""What is drawn against what: objective or accuracy against what it cost; and numbers written for people."""

import math
from collections.abc import Callable, Sequence

import numpy as np

from psopt.records import record
from psopt.runs.progress import size
from psopt.runs.trace import elapsed_s
from psopt.views.reporting.comparing import Group

Columns = dict[str, np.ndarray]


@record
class Measure:
    """How far a run has come: a field of its records.

    ``falls``: less is better. ``text`` writes a value.
    """

    field: str
    title: str
    falls: bool
    text: Callable[[float], str]

    def reached(self, values: np.ndarray, target: float) -> np.ndarray:
        """Whether each value is as good as the target, bool; NaN is not."""
        return values <= target if self.falls else values >= target


@record
class Cost:
    """What it has taken so far, of the records of a run: shape (records,)."""

    key: str
    title: str
    of: Callable[[Columns], np.ndarray]
    text: Callable[[float], str]


def plain(value: float) -> str:
    """Three digits, or all of a whole number below 1000."""
    return f"{value:.0f}" if value >= 99.95 or value == round(value) else f"{value:.3g}"


def count_text(value: float) -> str:
    """A count, its thousands apart; of a median between two, one decimal."""
    return f"{value:,.0f}" if value == round(value) else f"{value:,.1f}"


def short_count(value: float) -> str:
    """A count for an axis: 500, 10k, 2M."""
    for factor, unit in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if abs(value) >= factor:
            return f"{value / (1e3 if unit == 'k' else factor):.4g}{unit}"
    return f"{value:.4g}"


def seconds_text(value: float) -> str:
    if 0 < value < 0.0995:
        return f"{1e3 * value:.3g} ms"
    return f"{value:.3g} s" if value < 999.5 else f"{value:,.0f} s"


def tiny_text(value: float) -> str:
    """A gap: 0.25, 1e-8, 3.4e-5."""
    if value == 0 or 0.01 <= abs(value) < 1000:
        return f"{value:.4g}"
    mantissa, exponent = f"{value:.1e}".split("e")
    return f"{mantissa.removesuffix('.0')}e{int(exponent)}"


def share_text(value: float) -> str:
    return f"{100 * value:.4g} %"


def number_text(value: float) -> str:
    return f"{value:.6g}"


GAP = Measure("gap", "gap to f*", True, tiny_text)
ACCURACY = Measure("test_accuracy", "test accuracy", False, share_text)
OBJECTIVE = Measure("objective", "objective", True, number_text)
TEST_LOSS = Measure("test_loss", "test loss", True, number_text)
MEASURES = (GAP, ACCURACY, OBJECTIVE, TEST_LOSS)
"""The first that some run has is what a report is about."""

COSTS = {
    cost.key: cost
    for cost in (
        Cost("rounds", "rounds", lambda trace: trace["round"], count_text),
        Cost("uploads", "uploads", lambda trace: trace["uploads"], count_text),
        Cost(
            "bytes",
            "payload bytes, up + down",
            lambda trace: trace["payload_bytes_up"] + trace["payload_bytes_down"],
            size,
        ),
        Cost("seconds", "wall seconds", elapsed_s, seconds_text),
    )
}


def has(trace: Columns, measure: Measure) -> bool:
    """Whether a run looked at the measure at all."""
    return measure.field in trace and bool(np.isfinite(trace[measure.field].astype(np.float64)).any())


def measures_of(groups: Sequence[Group]) -> list[Measure]:
    """The measures that some run has, what the report is about first; the objective only where no run knows its gap."""
    found = [measure for measure in MEASURES if any(has(run.trace, measure) for g in groups for run in g.members)]
    blind = [run for g in groups for run in g.members if run.trace and not has(run.trace, GAP)]
    needless = GAP in found and not any(has(run.trace, OBJECTIVE) for run in blind)
    return [measure for measure in found if not (measure is OBJECTIVE and needless)]


def points_of(trace: Columns, measure: Measure, cost: Cost) -> tuple[np.ndarray, np.ndarray]:
    """Cost and measure of each record that has the measure, both float64."""
    values = trace[measure.field].astype(np.float64)
    known = np.isfinite(values)
    return cost.of(trace).astype(np.float64)[known], values[known]


def is_wide(values: Sequence[float], factor: float) -> bool:
    """Whether positive numbers differ by more than the factor."""
    positive = [value for value in values if value > 0 and math.isfinite(value)]
    return len(positive) > 1 and max(positive) > factor * min(positive)
