"""Who uploaded when: a picture of workers and rounds, beside each worker's smoothness L_m."""

import textwrap
from typing import TYPE_CHECKING, Any

import numpy as np

from psopt.errors import ConfigError
from psopt.records import record
from psopt.views.reading import Seen
from psopt.views.reporting.comparing import Group
from psopt.views.reporting.drawing import INK, QUIET, inline, new_figure, place, set_scale, style
from psopt.views.reporting.measures import count_text, is_wide, plain, short_count, tiny_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WIDTH = 430
COLUMNS, ROWS = 270, 120
"""Cells of a picture, at most: beyond, neighbouring rounds, or workers, share one."""

FAINTEST = 70
"""Shade, of 255, of a cell in which the least was uploaded: it must be seen beside an empty one."""

SPREAD = 50.0
"""Beyond this ratio of the L_m their axis is logarithmic, and they are points and not bars."""


@record
class Raster:
    """The picture of one run.

    Attributes
    ----------
    run : Seen
    order : ndarray, shape (M,)
        The workers from below: by L_m where it is known, else by number.
    smoothness : ndarray, shape (M,), or None
        In the order of the workers' numbers.
    why : str
        Why L_m is not known; empty where it is.
    shades : ndarray, shape (rows, columns), float64
        From 0 to 1: in which share of the rounds (and workers) of a cell there was an upload; the lowest row first.
    """

    run: Seen
    order: np.ndarray
    smoothness: np.ndarray | None
    why: str
    shades: np.ndarray

    @property
    def rounds(self) -> int:
        return int(self.run.uploads.shape[0])

    @property
    def per_cell(self) -> int:
        """Rounds of a cell, at most."""
        return -(-self.rounds // self.shades.shape[1])

    @property
    def per_row(self) -> int:
        """Workers of a row of cells, at most."""
        return -(-self.run.workers // self.shades.shape[0])


class Smoothness:
    """Looks L_m up, each run's own or that of one with the same data, or has it computed."""

    def __init__(self) -> None:
        self._known: dict[str, Any] = {}
        self._read: Any = None

    def of(self, run: Seen) -> tuple[np.ndarray | None, str]:
        """L_m, shape (M,), or None and why not."""
        told = (run.summary or {}).get("worker_smoothness")
        if _is_whole(told, run.workers):
            return np.array(told, dtype=np.float64), ""
        key = repr([run.config.get(name) for name in ("problem", "data", "workers", "seed")])
        if key not in self._known:
            self._known[key] = self._computed(run)
        return self._known[key]

    def _computed(self, run: Seen) -> tuple[np.ndarray | None, str]:
        from psopt.runs.shard_smoothness import shared_reader, worker_smoothness

        self._read = self._read or shared_reader()
        try:
            found = worker_smoothness(run.config, self._read)
        except ConfigError as error:
            return None, str(error)
        return (found, "") if np.isfinite(found).all() else (None, "it is not finite")


def _is_whole(told: Any, workers: int) -> bool:
    return (
        isinstance(told, list)
        and len(told) == workers
        and all(isinstance(value, int | float) and np.isfinite(value) for value in told)
    )


def raster_of(group: Group, smoothness: Smoothness) -> Raster | None:
    """The picture of the group's first run that has rounds; None where none has."""
    run = next((run for run in group.members if run.uploads.shape[0]), None)
    if run is None:
        return None
    known, why = smoothness.of(run)
    order = np.arange(run.workers) if known is None else np.argsort(known, kind="stable")
    return Raster(run, order, known, why, binned(run.uploads, order))


def binned(uploads: np.ndarray, order: np.ndarray) -> np.ndarray:
    """The share of rounds with an upload in each cell, shape (rows, columns), each at most `ROWS` and `COLUMNS`.

    ``uploads``, shape (rounds, M); the cells' sizes differ by at most one, and each has the share of its own.
    """
    rounds, workers = uploads.shape
    columns, rows = min(rounds, COLUMNS), min(workers, ROWS)
    edges = np.arange(columns + 1) * rounds // columns
    counts = np.add.reduceat(uploads, edges[:-1], axis=0, dtype=np.float64) / np.diff(edges)[:, None]
    limits = np.arange(rows + 1) * workers // rows
    return (np.add.reduceat(counts[:, order], limits[:-1], axis=1) / np.diff(limits)).T


def colours() -> np.ndarray:
    """From white to dark blue, shape (256, 3), uint8."""
    white, dark = np.array([255.0, 255.0, 255.0]), np.array([26.0, 84.0, 150.0])
    return (white + np.linspace(0, 1, 256)[:, None] * (dark - white)).round().astype(np.uint8)


def picture(shades: np.ndarray) -> np.ndarray:
    """The cells' colours, shape (rows, columns, 3), uint8; white is for none alone."""
    level = np.where(shades > 0, FAINTEST + (255 - FAINTEST) * shades, 0.0)
    return colours()[level.round().astype(np.uint8)]


def height_of(workers: int) -> float:
    """Of the picture alone, in units."""
    return float(np.clip(15 * workers, 45, 300))


def draw(axes: "Axes", side: "Axes", raster: Raster) -> None:
    """Draws the picture into ``axes``, and L_m beside it."""
    workers = raster.run.workers
    extent = (0.5, raster.rounds + 0.5, -0.5, workers - 0.5)
    cells = picture(raster.shades)
    axes.imshow(cells, extent=extent, origin="lower", aspect="auto", interpolation="none")
    axes.grid(False)
    set_scale(axes.xaxis, False, short_count, 5)
    step = int(np.ceil(12 * workers / height_of(workers)))
    at = np.arange(0, workers, step)
    axes.set_yticks(at, [str(raster.order[place]) for place in at])
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel("round", labelpad=2)
    axes.set_ylabel("worker", labelpad=4)
    _draw_side(side, raster)


def _draw_side(side: "Axes", raster: Raster) -> None:
    workers = raster.run.workers
    side.set_yticks([])
    side.set_ylim(-0.5, workers - 0.5)
    if raster.smoothness is None:
        side.set_xticks([])
        side.spines[:].set_visible(False)
        said = "\n".join(textwrap.wrap(f"L_m is not known: {raster.why}", 15))
        side.text(0.0, 1.0, said, transform=side.transAxes, va="top", fontsize=10, color=QUIET)
        return
    values, places = raster.smoothness[raster.order], np.arange(workers)
    log = is_wide(values.tolist(), SPREAD)
    if log:
        side.scatter(values, places, s=np.clip(900 / workers, 3, 22), color=INK, zorder=3, linewidths=0)
        side.set_xlim(values[values > 0].min() / 2, values.max() * 2)
    else:
        side.barh(places, values, height=0.62 if workers <= ROWS // 3 else 1.0, color=QUIET)
        side.set_xlim(0, max(values.max(), 1e-300) * 1.02)
    set_scale(side.xaxis, log, tiny_text if values.max() < 1 or log else lambda value: plain(value), 3)
    side.grid(False, axis="y")
    side.set_xlabel("L_m, log" if log else "L_m", labelpad=2)


def drawn(raster: Raster, label: str, key: str) -> str:
    """The picture as an SVG element."""
    high = height_of(raster.run.workers)
    with style():
        figure = new_figure(WIDTH, high + 42 + 8)
        left = 32 + 7 * len(str(raster.run.workers - 1))
        axes, side = place(figure, left, 42, 324 - left, high), place(figure, 346, 42, 68, high)
        draw(axes, side, raster)
        counts = raster.run.uploads.sum(axis=0)
        said = f"{label}: who uploaded in which of {raster.rounds} rounds; uploads of workers 0, 1, ...: "
        return inline(figure, key, said + ", ".join(count_text(float(count)) for count in counts[:40]))
