"""How pictures look, and how they get into a page: colours for all eyes, quiet axes, figures as inline SVG."""

import io
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

from psopt.errors import ConfigError
from psopt.runs.progress import size
from psopt.views.reporting.measures import short_count, tiny_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

NEEDS_EXTRA = "psopt report needs matplotlib and jinja2: pip install 'psopt[report]'"
UNITS = 72
"""Units of a figure an inch: a size is told in the units of the SVG, which text sizes share."""

INK, QUIET, GRID = "#1b1f24", "#59626d", "#dfe3e8"
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#9a4f96", "#000000", "#b8860b", "#3fa7d6")
"""Told apart by all kinds of eyes (after Okabe and Ito, the light ones darkened), in this order."""

MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
DASHES = ((), (6, 2), (2, 1.5), (8, 2, 2, 2))


class Look(NamedTuple):
    """How one group is drawn everywhere: three marks, each of which tells most groups apart by itself."""

    colour: str
    marker: str
    dashes: tuple[float, ...]

    def line(self) -> dict:
        """Matplotlib's keywords."""
        return {"color": self.colour, "dashes": self.dashes} if self.dashes else {"color": self.colour}


def look(number: int) -> Look:
    """The look of the group with that number."""
    turn = number // len(COLOURS)
    return Look(
        COLOURS[number % len(COLOURS)],
        MARKERS[(number % len(COLOURS) + 3 * turn) % len(MARKERS)],
        DASHES[turn % len(DASHES)],
    )


@contextmanager
def style() -> Iterator[None]:
    """Around all drawing. Raises `ConfigError` where matplotlib is missing."""
    try:
        import matplotlib
    except ImportError:
        raise ConfigError(NEEDS_EXTRA) from None
    with matplotlib.rc_context(
        {
            "figure.dpi": UNITS,
            "font.family": ["sans-serif"],
            "font.sans-serif": ["DejaVu Sans"],
            "font.size": 11,
            "axes.edgecolor": QUIET,
            "axes.labelcolor": INK,
            "axes.labelsize": 11,
            "axes.linewidth": 0.8,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.grid": True,
            "axes.axisbelow": True,
            "grid.color": GRID,
            "grid.linewidth": 0.7,
            "xtick.color": QUIET,
            "ytick.color": QUIET,
            "xtick.labelcolor": INK,
            "ytick.labelcolor": INK,
            "xtick.labelsize": 10,
            "ytick.labelsize": 10,
            "text.color": INK,
            "text.parse_math": False,  # a dollar sign in a label is one
            "lines.linewidth": 1.6,
            "path.simplify": True,
            "path.simplify_threshold": 0.25,
            "svg.fonttype": "none",
            "svg.hashsalt": "psopt",
            "savefig.dpi": 200,
        }
    ):
        yield


def new_figure(width: float, height: float) -> "Figure":
    """An empty figure of that many units."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width / UNITS, height / UNITS), dpi=UNITS)


def place(figure: "Figure", left: float, bottom: float, width: float, height: float) -> "Axes":
    """Axes at a place in units from the lower left corner of the figure."""
    across, up = figure.get_size_inches() * UNITS
    return figure.add_axes((left / across, bottom / up, width / across, height / up))


def set_scale(axis: "Axis", log: bool, text: Callable[[float], str], most: int = 6) -> None:
    """A linear or logarithmic x or y axis (``axes.xaxis``), with few ticks written by ``text``."""
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter, NullLocator

    which = axis.axis_name
    if log:
        getattr(axis.axes, f"set_{which}scale")("log")
        low, high = sorted(getattr(axis.axes, f"get_{which}lim")())
        narrow = high < 30 * low
        axis.set_major_locator(LogLocator(numticks=most, subs=(1.0, 2.0, 5.0) if narrow else (1.0,)))
        axis.set_minor_locator(NullLocator())
        axis.set_minor_formatter(NullFormatter())
    else:
        axis.set_major_locator(MaxNLocator(nbins=most - 1, steps=[1, 2, 2.5, 5, 10]))
    axis.set_major_formatter(FuncFormatter(lambda value, _: text(value)))


TICKS: dict[str, Callable[[float], str]] = {
    "rounds": short_count,
    "uploads": short_count,
    "bytes": size,
    "seconds": tiny_text,
}


def svg_of(figure: "Figure") -> str:
    """The figure as a whole SVG file."""
    file = io.StringIO()
    figure.savefig(file, format="svg", metadata={"Date": None, "Creator": MARK})
    return file.getvalue()


def png_of(figure: "Figure") -> bytes:
    """The figure as a PNG file."""
    file = io.BytesIO()
    figure.savefig(file, format="png", metadata={"Software": MARK})
    return file.getvalue()


MARK = "psopt report"
"""What a file of ours has in it, to be known by when it is written again."""

_ROUNDED = re.compile(r' (d|x|y|transform|width|height)="([^"]*)"')
_DIGITS = re.compile(r"(\d\.\d\d)\d+")
_ID = re.compile(r' id="([^"]*)"')
_REFERENCE = re.compile(r'(url\(#|href="#)([^")]*)')


def inline(figure: "Figure", key: str, label: str) -> str:
    """The figure as an SVG element for a page: without a size of its own, and with ids that no other figure has.

    ``label`` says what is to be seen, for those who hear the page.
    """
    text = svg_of(figure)
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->", "", text, flags=re.DOTALL)
    used = {name for _, name in _REFERENCE.findall(text)}
    text = _ID.sub(lambda found: f' id="{key}-{found[1]}"' if found[1] in used else "", text)
    text = _REFERENCE.sub(lambda found: f"{found[1]}{key}-{found[2]}", text)
    text = _ROUNDED.sub(lambda found: f' {found[1]}="{_DIGITS.sub(lambda own: own[1], found[2])}"', text)
    head, _, rest = text.partition(">")
    box = re.search(r'viewBox="[^"]*"', head)[0]
    return f'<svg {box} role="img" aria-label="{_escaped(label)}">{_tight(rest)}'


def _tight(text: str) -> str:
    return re.sub(r"\s*\n\s*", "\n", text)


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace('"', "&quot;")


def swatch(own: Look) -> str:
    """A little picture of a line, for legends and tables, as an SVG element."""
    dashes = f' stroke-dasharray="{" ".join(f"{1.6 * d:g}" for d in own.dashes)}"' if own.dashes else ""
    return (
        '<svg class="swatch" viewBox="0 0 30 12" aria-hidden="true">'
        f'<path d="M1 6H29" stroke="{own.colour}" stroke-width="2"{dashes} fill="none"/>'
        f'<path d="{_SHAPES[own.marker]}" fill="{own.colour}"/></svg>'
    )


_SHAPES = {
    "o": "M11 6a4 4 0 1 0 8 0a4 4 0 1 0 -8 0Z",
    "s": "M11.5 2.5h7v7h-7Z",
    "^": "M15 1.5L19.5 10H10.5Z",
    "D": "M15 1L20 6L15 11L10 6Z",
    "v": "M15 10.5L10.5 2H19.5Z",
    "P": "M13.3 2h3.4v2.3h2.3v3.4h-2.3v2.3h-3.4v-2.3h-2.3v-3.4h2.3Z",
    "X": "M12 2l3 2.4l3 -2.4l1.5 1.5l-2.4 2.5l2.4 2.5l-1.5 1.5l-3 -2.4l-3 2.4l-1.5 -1.5l2.4 -2.5l-2.4 -2.5Z",
    "*": "M15 .8l1.4 3.5l3.8 .2l-2.9 2.4l1 3.7l-3.3 -2l-3.3 2l1 -3.7l-2.9 -2.4l3.8 -.2Z",
}


def legend(axes: "Axes", labels: Sequence[str], columns: int, below: float) -> None:
    """So far under the axes, in their heights, for figures that stand alone."""
    from matplotlib.lines import Line2D

    looks = [look(number) for number in range(len(labels))]
    handles = [Line2D([], [], marker=own.marker, markersize=5, **own.line()) for own in looks]
    axes.legend(
        handles,
        labels,
        loc="upper left",
        bbox_to_anchor=(0.0, -below),
        ncols=columns,
        frameon=False,
        fontsize=10,
        handlelength=3,
        borderaxespad=0,
    )
