"""How far the runs have come against what it cost them: a line a group, and a band over its seeds."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from psopt.records import record
from psopt.views.reporting.comparing import Group
from psopt.views.reporting.drawing import TICKS, inline, look, new_figure, place, set_scale, style
from psopt.views.reporting.measures import ACCURACY, GAP, Cost, Measure, has, is_wide, points_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WIDTH, HEIGHT = 430, 272
BINS, GRID_POINTS = 240, 240
FEW = 4 * BINS
"""Points up to which a line is drawn as it is; beyond, each bin's first, last, least and greatest are."""

LOG_X = 8.0
"""Where the runs' ends lie further apart than this, a linear axis would hide the shorter ones."""

LOG_Y = 20.0
CEILING = 1e3
"""How far above where runs began one may get before it leaves the picture, so that it does not flatten the others."""


@record
class Line:
    """What is drawn of one group; ``low`` and ``high`` of several seeds alone."""

    number: int
    x: np.ndarray
    y: np.ndarray
    low: np.ndarray | None = None
    high: np.ndarray | None = None


@record
class Panel:
    """A measure against a cost, ready to be drawn.

    ``hidden`` counts the values at or below zero that a logarithmic axis cannot show. ``top`` is where the picture ends
    above because a run got far beyond; None where none did.
    """

    measure: Measure
    cost: Cost
    lines: tuple[Line, ...]
    log_x: bool
    log_y: bool
    hidden: int
    top: float | None = None

    @property
    def title(self) -> str:
        return self.measure.title + (", log scale" if self.log_y else "")

    @property
    def caption(self) -> str:
        """What stands above the picture."""
        beyond = "" if self.top is None else f"; what is above {self.measure.text(self.top)} is cut off"
        return f"{self.title}, against {self.cost.title}{beyond}"


def panel_of(groups: Sequence[Group], measure: Measure, cost: Cost) -> Panel:
    """What to draw of all groups that have the measure."""
    courses = {
        number: [points_of(run.trace, measure, cost) for run in group.members if has(run.trace, measure)]
        for number, group in enumerate(groups)
    }
    courses = {number: own for number, own in courses.items() if own}
    every = [course for own in courses.values() for course in own]
    log_x = is_wide([float(x[-1]) for x, _ in every], LOG_X)
    values = np.concatenate([y for _, y in every])
    log_y = measure is GAP or (measure is not ACCURACY and values.min() > 0 and is_wide(values.tolist(), LOG_Y))
    hidden = int((values <= 0).sum()) if log_y else 0
    begun = max(abs(float(y[0])) for _, y in every)
    top = float(f"1e{math.ceil(math.log10(CEILING * begun))}") if begun > 0 else math.inf
    top = top if measure.falls and values.max() > top else None
    if top is not None:  # just outside the frame
        courses = {number: [(x, np.minimum(y, 10 * top)) for x, y in own] for number, own in courses.items()}
    shown = {number: [_positive(x, y, log_x, log_y) for x, y in own] for number, own in courses.items()}
    lines = []
    for number, own in shown.items():
        own = [course for course in own if course[0].size]
        if len(own) == 1:
            lines.append(Line(number, *thinned(*own[0], log_x)))
        elif own:
            lines.append(_band(number, own, log_x, log_y))
    return Panel(measure, cost, tuple(lines), log_x, log_y, hidden, top)


def _positive(x: np.ndarray, y: np.ndarray, log_x: bool, log_y: bool) -> tuple[np.ndarray, np.ndarray]:
    """Without the points that logarithmic axes have no place for."""
    kept = np.ones(x.size, dtype=bool)
    if log_x:
        kept &= x > 0
    if log_y:
        kept &= y > 0
    return x[kept], y[kept]


def thinned(x: np.ndarray, y: np.ndarray, log_x: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """At most `FEW` points of a line with x ascending, in which no peak is lost.

    In each of `BINS` equal parts of the axis the first, the last, the least and the greatest stay.
    """
    if x.size <= FEW:
        return x, y
    along = np.log(x) if log_x else x
    width = along[-1] - along[0]
    bins = np.minimum((along - along[0]) / width * BINS, BINS - 1).astype(np.int64) if width > 0 else np.zeros(x.size)
    by_value = np.lexsort((y, bins))
    edges = np.flatnonzero(np.diff(bins)) + 1
    first, last = np.concatenate([[0], edges]), np.concatenate([edges, [x.size]]) - 1
    kept = np.unique(np.concatenate([first, last, by_value[first], by_value[last]]))
    return x[kept], y[kept]


def _band(number: int, courses: Sequence[tuple[np.ndarray, np.ndarray]], log_x: bool, log_y: bool) -> Line:
    """Median, least and greatest over seeds, each of which counts with its last record, as after its end."""
    start, end = max(x[0] for x, _ in courses), max(x[-1] for x, _ in courses)
    own = np.unique(np.concatenate([x for x, _ in courses]))
    own = own[own >= start]
    if own.size > GRID_POINTS:
        own = np.geomspace(start, end, GRID_POINTS) if log_x else np.linspace(start, end, GRID_POINTS)
    values = np.array([_between(x, y, own, log_x, log_y) for x, y in courses])
    return Line(number, own, np.median(values, axis=0), values.min(axis=0), values.max(axis=0))


def _between(x: np.ndarray, y: np.ndarray, at: np.ndarray, log_x: bool, log_y: bool) -> np.ndarray:
    """The line of one seed at other places, as straight as it would be drawn; after its end its last value."""
    last = np.append(np.diff(x) > 0, True)
    x, y = x[last], y[last]
    if log_x:
        x, at = np.log(x), np.log(at)
    found = np.interp(at, x, np.log(y) if log_y else y)
    return np.exp(found) if log_y else found


def draw(axes: "Axes", panel: Panel) -> None:
    """Draws the panel into axes. Each line is narrower than the one before, so that none hides another."""
    for rank, line in enumerate(panel.lines):
        own = look(line.number)
        under = 1 - rank / max(1, len(panel.lines) - 1)
        if line.low is not None:
            axes.fill_between(line.x, line.low, line.high, color=own.colour, alpha=0.18, linewidth=0)
        axes.plot(line.x, line.y, zorder=3, linewidth=1.4 + 1.2 * under, **own.line())
        if panel.top is not None and line.y[-1] > panel.top:
            continue
        axes.plot(
            line.x[-1:],
            line.y[-1:],
            color=own.colour,
            marker=own.marker,
            markersize=6 + 3 * under,
            markeredgewidth=0,
            zorder=4,
            clip_on=False,
        )
    if not panel.log_x:
        axes.set_xlim(left=0)
    set_scale(axes.xaxis, panel.log_x, TICKS[panel.cost.key])
    set_scale(axes.yaxis, panel.log_y, panel.measure.text, 7)
    if panel.top is not None:  # now: on another scale the lower end would be another
        axes.set_ylim(top=panel.top)
    axes.set_xlabel(panel.cost.title + (", log scale" if panel.log_x else ""))


def drawn(panel: Panel, groups: Sequence[Group], key: str) -> str:
    """The panel as an SVG element."""
    with style():
        figure = new_figure(WIDTH, HEIGHT)
        draw(place(figure, 62, 42, WIDTH - 62 - 16, HEIGHT - 42 - 10), panel)
        names = ", ".join(groups[line.number].label for line in panel.lines)
        return inline(figure, key, f"{panel.caption}: {names}")
