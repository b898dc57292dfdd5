"""Where bytes and seconds went: the parts of each run's totals, at its last record."""

from collections.abc import Callable, Sequence

import numpy as np

from psopt.records import record
from psopt.runs.progress import size
from psopt.views.reporting.comparing import Group
from psopt.views.reporting.measures import seconds_text


@record
class Part:
    """One part of a total: the field of a record, its name, and the colour of its piece of a bar."""

    field: str
    title: str
    colour: str


ON_THE_BOOKS = (
    Part("payload_bytes_up", "payload up", "#0072b2"),
    Part("payload_bytes_down", "payload down", "#7fb8d9"),
    Part("control_bytes_up", "control up", "#b85a00"),
    Part("control_bytes_down", "control down", "#f0b27a"),
)
OFF_THE_BOOKS = (
    Part("evaluation_bytes_up", "evaluation up", "#6b7480"),
    Part("evaluation_bytes_down", "evaluation down", "#b4bac2"),
)
SECONDS = (
    Part("compute_s", "compute", "#009e73"),
    Part("wait_s", "wait", "#e0a800"),
    Part("serialise_s", "serialise", "#9a4f96"),
    Part("rest_s", "rest", "#9aa3ad"),
)


@record
class Piece:
    """A part of one group's total: the median over its seeds, None where it is not known, in units and in words."""

    part: Part
    value: float | None
    text: str


@record
class Budget:
    """A group's total and its pieces."""

    group: Group
    pieces: tuple[Piece, ...]

    @property
    def total(self) -> float:
        return sum(piece.value for piece in self.pieces if piece.value is not None)


def budgets_of(groups: Sequence[Group], parts: Sequence[Part], text: Callable[[float], str]) -> list[Budget]:
    """One a group that has recorded anything."""
    return [
        Budget(group, tuple(_piece(group, part, text) for part in parts))
        for group in groups
        if any(run.trace for run in group.members)
    ]


def _piece(group: Group, part: Part, text: Callable[[float], str]) -> Piece:
    last = [float(run.trace[part.field][-1]) for run in group.members if part.field in run.trace]
    if not last:
        return Piece(part, None, "unknown")
    value = float(np.median(last))
    return Piece(part, value, text(value))


def bytes_of(groups: Sequence[Group], parts: Sequence[Part]) -> list[Budget]:
    return budgets_of(groups, parts, size)


def seconds_of(groups: Sequence[Group]) -> list[Budget]:
    return budgets_of(groups, SECONDS, seconds_text)
