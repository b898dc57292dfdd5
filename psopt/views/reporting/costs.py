"""What each run paid until it was as good as a target, and how that compares with a baseline."""

import math
from collections.abc import Sequence

import numpy as np

from psopt.config.sentences import nearest
from psopt.errors import ConfigError
from psopt.records import record
from psopt.views.reporting.comparing import Group
from psopt.views.reporting.measures import ACCURACY, COSTS, GAP, Measure, has, points_of

BASELINES = ("gd", "sgd")
"""The recipes that the others are measured by, where the report has one of them."""

ACCURACIES = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.97, 0.98, 0.99, 0.995, 0.999)
MOST_TARGETS = 4


@record
class Paid:
    """What a group paid until a target: each cost is the median over its seeds, infinite where most did not get there.

    ``reached`` of ``of`` seeds did.
    """

    group: Group
    costs: dict[str, float]
    reached: int
    of: int

    @property
    def arrived(self) -> bool:
        return all(math.isfinite(value) for value in self.costs.values())


def paid(group: Group, measure: Measure, target: float) -> Paid:
    """The costs at the first record that is as good as the target."""
    found: dict[str, list[float]] = {key: [] for key in COSTS}
    reached = 0
    for run in group.members:
        place = _first(run.trace, measure, target)
        reached += place is not None
        for key, cost in COSTS.items():
            found[key].append(math.inf if place is None else float(cost.of(run.trace)[place]))
    return Paid(group, {key: _median(values) for key, values in found.items()}, reached, len(group.members))


def _median(values: Sequence[float]) -> float:
    """Infinite where one of the middle ones is."""
    ordered = sorted(values)
    low, high = ordered[(len(ordered) - 1) // 2], ordered[len(ordered) // 2]
    return low if low == high else (low + high) / 2


def _first(trace: dict[str, np.ndarray], measure: Measure, target: float) -> int | None:
    if not has(trace, measure):
        return None
    with np.errstate(invalid="ignore"):
        places = np.flatnonzero(measure.reached(trace[measure.field], target))
    return int(places[0]) if places.size else None


def ratio(baseline: Paid, own: Paid, key: str) -> float | None:
    """How many times less than the baseline this cost; None where either did not arrive, or the cost is zero."""
    above, below = baseline.costs[key], own.costs[key]
    if not (math.isfinite(above) and math.isfinite(below)) or above <= 0 or below <= 0:
        return None
    return above / below


def baseline_of(groups: Sequence[Group], wanted: str | None) -> Group:
    """The group that is asked for by label, recipe or folder name; else plain gradient descent's, else the first.

    Raises `ConfigError` where no group, or more than one, is called so.
    """
    if wanted is None:
        plain = (group for recipe in BASELINES for group in groups if group.first.recipe == recipe)
        return next(plain, groups[0])
    for names in (
        [[group.label] for group in groups],
        [[group.first.recipe or ""] for group in groups],
        [[run.folder.name for run in group.runs] for group in groups],
    ):
        fitting = [group for group, own in zip(groups, names, strict=True) if wanted in own]
        if len(fitting) == 1:
            return fitting[0]
        if fitting:
            labels = ", ".join(f"`{group.label}`" for group in fitting)
            raise ConfigError(f"--baseline {wanted} could be several runs: choose one of {labels}")
    raise ConfigError(f"--baseline {wanted}: no run is called so; {nearest(wanted, [g.label for g in groups])}")


def read_targets(given: Sequence[str], measure: Measure) -> list[float]:
    """What ``--target`` says, best last. Raises `ConfigError` for what is no target of the measure."""
    accuracy = measure is ACCURACY
    expected = "an accuracy above 0 and up to 1, as in 0.98 or 98%" if accuracy else "a number, as in 1e-6"
    found = []
    for text in given:
        percent = accuracy and text.strip().endswith("%")
        try:
            value = float(text.strip().rstrip("%")) / 100 if percent else float(text)
        except ValueError:
            value = math.nan
        positive = measure is GAP or accuracy
        if not math.isfinite(value) or (positive and value <= 0) or (accuracy and value > 1):
            raise ConfigError(f"--target {text}: the runs are compared by their {measure.title}; expected {expected}")
        found.append(value)
    return sorted(set(found), reverse=measure.falls)


def targets_of(groups: Sequence[Group], measure: Measure) -> list[float]:
    """Targets that say something, at most four, the best last: round numbers that most seeds of some group reach, and
    not all runs start from.
    """
    runs = [run for group in groups for run in group.members if has(run.trace, measure)]
    if not runs:
        return []
    best, starts = [], []
    for group in groups:
        values = [points_of(run.trace, measure, COSTS["rounds"])[1] for run in group.members if has(run.trace, measure)]
        if values:
            best.append(float(np.median([own.min() if measure.falls else own.max() for own in values])))
            starts += [float(own[0]) for own in values]
    if measure is ACCURACY:
        known = sorted({*ACCURACIES, *_own(runs, "test_accuracy")})
        return [target for target in known if min(starts) < target <= max(best)][-MOST_TARGETS:]
    if measure is GAP:
        own = _own(runs, "gap")
        for exponents in (range(-8, 0, 2), range(-16, 13, 2), range(-16, 13)):
            known = {float(f"1e{e}") for e in exponents} | own
            met = [target for target in sorted(known, reverse=True) if min(best) <= target < max(starts)]
            if len(met) > 1 or (met and exponents.step == 1):
                return met[-MOST_TARGETS:]
    return _levels(max(starts), min(best), max(best))


def _own(runs: Sequence, key: str) -> set[float]:
    """What the runs themselves were to reach."""
    return {float(value) for run in runs if isinstance(value := run.at("stop", key), int | float)}


def _levels(start: float, least: float, most: float) -> list[float]:
    """Half, nine tenths and 99 % of the way from the start to the best, and what all reach; rounded up."""
    way = [start - share * (start - least) for share in (0.5, 0.9, 0.99)] + [most]
    levels = sorted({_rounded_up(level) for level in way if least <= level < start}, reverse=True)
    return [level for level in levels if level < start][-MOST_TARGETS:]


def _rounded_up(value: float) -> float:
    if value == 0:
        return 0.0
    unit = 10.0 ** (math.floor(math.log10(abs(value))) - 3)
    return float(f"{math.ceil(value / unit) * unit:.6g}")
