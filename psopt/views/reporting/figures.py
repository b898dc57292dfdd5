"""The pictures alone, in one file: the curves against one cost, and below them who uploaded when."""

import math
from collections.abc import Sequence

from psopt.errors import ConfigError
from psopt.views.reporting import curves, raster
from psopt.views.reporting.comparing import Group
from psopt.views.reporting.drawing import legend, new_figure, place, png_of, style, svg_of
from psopt.views.reporting.measures import Cost, Measure
from psopt.views.reporting.raster import Smoothness, raster_of

WIDTH, CURVES, MARGIN = 900, 380, 20
LINE = 16
"""Of the legend, in units."""

ABOVE, BELOW, BETWEEN = 26, 44, 14
MOST_RASTERS = 24


def check_ready() -> None:
    """Raises `ConfigError` where matplotlib is missing."""
    with style():
        pass


def figure(groups: Sequence[Group], measures: Sequence[Measure], cost: Cost, form: str) -> bytes:
    """A PNG or SVG file. Raises `ConfigError` where there is nothing to draw."""
    smoothness = Smoothness()
    rasters = [(group, raster_of(group, smoothness)) for group in groups[:MOST_RASTERS]]
    rasters = [(group, own) for group, own in rasters if own is not None]
    left_out = len(groups) - MOST_RASTERS
    panel = curves.panel_of(groups, measures[0], cost) if measures else None
    if panel is None and not rasters:
        raise ConfigError("there is nothing to draw: no run has a record of how far it has come")
    columns = max(1, min(5, int(830 / (60 + 6.3 * max(len(group.shown) for group in groups)))))
    key = LINE * math.ceil(len(groups) / columns) if panel else 0
    heights = [raster.height_of(own.run.workers) + ABOVE + BELOW + BETWEEN for _, own in rasters]
    rows = [max(heights[i : i + 2]) for i in range(0, len(heights), 2)]
    top = (CURVES + key) if panel else 0
    total = MARGIN + top + sum(rows) + MARGIN
    with style():
        made = new_figure(WIDTH, total)
        if panel:
            high = CURVES - 90
            axes = place(made, 70, total - MARGIN - 24 - high, WIDTH - 70 - 30, high)
            curves.draw(axes, panel)
            axes.set_title(panel.title, loc="left", fontsize=11)
            legend(axes, [group.shown for group in groups], columns, 52 / high)
        at = total - MARGIN - top
        for number, (group, own) in enumerate(rasters):
            left = MARGIN + (number % 2) * (WIDTH / 2 - MARGIN / 2)
            high = raster.height_of(own.run.workers)
            axes = place(made, left + 40, at - ABOVE - high, 270, high)
            side = place(made, left + 332, at - ABOVE - high, 80, high)
            raster.draw(axes, side, own)
            axes.set_title(group.label + group.number_of(own.run), loc="left", fontsize=11)
            if number % 2:
                at -= rows[number // 2]
        if left_out > 0:
            made.text(MARGIN / WIDTH, MARGIN / 2 / total, f"{left_out} more runs have no picture here", fontsize=10)
        return png_of(made) if form == "png" else svg_of(made).encode()
