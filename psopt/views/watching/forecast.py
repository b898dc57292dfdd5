"""How fast a run gets on, and how long it still takes, from the records of its trace."""

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from psopt.runs.trace import elapsed_s

LATELY_S = 5.0
"""The stretch over which rounds per second are counted."""

LEAST_POINTS = 4
LEAST_FALL = 0.1
"""Points, and how far the logarithm of the gap must have fallen over them, for a forecast."""

STALLED_S, STALLED_TIMES = 30.0, 10.0
"""A run is suspected to have stalled after so long without a record, and so many times the usual wait for one."""


def rate(records: Sequence[Mapping[str, Any]], field: str = "round") -> float | None:
    """What a field has grown by per second, over the last seconds of the run; None where that cannot be told."""
    if len(records) < 2:
        return None
    last, since = records[-1], None
    now = elapsed_s(last)
    for record in reversed(records):
        since = record
        if now - elapsed_s(record) >= LATELY_S:
            break
    took = now - elapsed_s(since)
    return (last[field] - since[field]) / took if took > 0 else None


def usual_wait_s(records: Sequence[Mapping[str, Any]]) -> float:
    """Seconds from one record to the next, lately."""
    recent = [elapsed_s(record) for record in list(records)[-LEAST_POINTS * 3 :]]
    return max((later - earlier for earlier, later in pairwise(recent)), default=0.0)


def seconds_left(records: Sequence[Mapping[str, Any]], stop: Mapping[str, Any]) -> float | None:
    """Seconds from the last record until the first target of ``stop`` is met; None where nothing tells.

    Counts go on as lately. The gap is taken to fall geometrically, as over the second half of the time.
    """
    if not records:
        return None
    last = records[-1]
    counted = {"max_rounds": "round", "max_steps": "local_steps", "max_uploads": "uploads"}
    guesses = []
    for target, field in counted.items():
        speed = rate(records, field) if stop.get(target) is not None and field in last else None
        if speed:
            guesses.append((stop[target] - last[field]) / speed)
    if stop.get("max_seconds") is not None:
        guesses.append(stop["max_seconds"] - elapsed_s(last))
    if stop.get("gap") is not None:
        guesses.append(_until_gap(records, stop["gap"]))
    known = [guess for guess in guesses if guess is not None]
    return max(0.0, min(known)) if known else None


def _until_gap(records: Sequence[Mapping[str, Any]], target: float) -> float | None:
    """By a straight line through the logarithms of the gap."""
    now = elapsed_s(records[-1])
    first = elapsed_s(records[0])
    found = [(elapsed_s(record), record["gap"]) for record in records if (record.get("gap") or 0) > 0]
    points = [(at, math.log(gap)) for at, gap in found if at >= (first + now) / 2]
    if len(points) < LEAST_POINTS or target <= 0:
        return None
    at, logs = (np.array(values) for values in zip(*points, strict=True))
    spread = float(((at - at.mean()) ** 2).sum())
    if spread == 0:
        return None
    slope = float(((at - at.mean()) * (logs - logs.mean())).sum()) / spread
    if slope * (at[-1] - at[0]) > -LEAST_FALL:
        return None
    fitted = float(logs.mean() + slope * (now - at.mean()))
    return (fitted - math.log(target)) / -slope


def measured(records: Sequence[Mapping[str, Any]]) -> tuple[str, list[float]]:
    """What is worth looking at, as words, and its course: of the gap the logarithm, else of test accuracy or F."""
    if not records:
        return "", []
    last = records[-1]
    for field, words in (("gap", "gap {:.2e}"), ("test_accuracy", "accuracy {:.2%}"), ("objective", "F {:.6g}")):
        if last.get(field) is not None:
            values = [record[field] for record in records if record.get(field) is not None]
            if field == "gap":
                values = [math.log10(value) for value in values if value > 0]
            return words.format(last[field]), values
    return "", []


def spark(values: Sequence[float], width: int, bars: str) -> str:
    """A small picture of a course: the mean of each of ``width`` stretches as one of the ``bars``, lowest first."""
    found = [value for value in values if math.isfinite(value)]
    if len(found) < 2:
        return ""
    parts = [part.mean() for part in np.array_split(np.array(found), min(width, len(found)))]
    low, high = min(parts), max(parts)
    if high == low:
        return bars[0] * len(parts)
    return "".join(bars[min(len(bars) - 1, int((part - low) / (high - low) * len(bars)))] for part in parts)
