"""``psopt watch``: how runs are getting on, live in a terminal, or a line at a time where there is none."""

import json
import os
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from psopt.errors import ConfigError
from psopt.runs.finding import JOBS, folders_in, holds_run
from psopt.runs.progress import clock, size
from psopt.views.watching.forecast import spark
from psopt.views.watching.queue import Queue, submitted
from psopt.views.watching.standing import Standing, State, Watched

INTERRUPTED = 130
PLAIN_EVERY_S = 10.0
MORE_WITHIN_S = 30.0
"""How long a folder of runs may take to begin its next one: only then it is over."""

PLAIN_WIDTH, NARROW = 400, 110
SPARK_WIDTH = 12
HEADINGS = {
    "recipe": "recipe",
    "progress": "round",
    "measure": "",
    "course": "",
    "uploads": "uploads",
    "bytes": "payload",
    "rate": "rounds/s",
    "elapsed": "elapsed",
    "left": "to go",
    "silent": "last record",
}
LEFT = ("recipe", "measure", "course")
NAME_OF_POINT = "point-{:0{}d}"
STYLES = {
    State.WAITING: "yellow",
    State.STARTING: "cyan",
    State.RUNNING: "bold green",
    State.ENDED: "green",
    State.FAILED: "bold red",
    State.STOPPED: "magenta",
    State.CUT_OFF: "bold red",
    State.GONE: "magenta",
}


def watch(folders: Sequence[Path], interval_s: float, once: bool) -> int:
    """Looks every ``interval_s`` until all runs are over. Returns 0 if all came to their end, 1 if not, 130 on Ctrl-C;
    with ``once`` 1 if one failed or was cut off so far.
    """
    for folder in folders:
        if folder.exists() and not folder.is_dir():
            raise ConfigError(f"{folder} is a file; expected a run folder, or a folder of runs")
    view = View(folders)
    if once:
        standings = view.look()
        console = _console()
        console.print(_table(standings, console.width, None))
        return 1 if any(one.state in (State.FAILED, State.CUT_OFF) for one in standings) else 0
    try:
        return _live(view, interval_s) if sys.stdout.isatty() else _plain(view, interval_s)
    except KeyboardInterrupt:
        return INTERRUPTED


class View:
    """The runs in some folders, those included that begin, or come, while it is looked at."""

    def __init__(self, folders: Sequence[Path]) -> None:
        self.folders = folders
        self.queue = Queue()
        self._runs: dict[Path, Watched] = {}
        self._over_since: float | None = None

    def look(self) -> list[Standing]:
        """How each run stands, in the order of the folders."""
        for folder in self.folders:
            for path in _runs_of(folder):
                self._runs.setdefault(path, Watched(path, str(path)))
        for run in self._runs.values():  # a job may be submitted, or submitted again, at any time
            run.job, run.task = _job_of(run.folder)
        placeholders = {path for path in self._runs if any(path in other.parents for other in self._runs)}
        for path in placeholders:  # what looked like a run that has not begun is a folder of runs
            del self._runs[path]
        self.queue.ask(run.job.number for run in self._runs.values() if run.job)
        return [run.look(self.queue) for run in self._runs.values()]

    def over(self, standings: Sequence[Standing]) -> bool:
        """Whether all runs are over, and no further one is to be expected."""
        if not all(one.state.over for one in standings):
            self._over_since = None
            return False
        now = time.monotonic()
        self._over_since = self._over_since or now
        return now - self._over_since >= MORE_WITHIN_S or not any(map(self._expects_more, self.folders))

    def _expects_more(self, folder: Path) -> bool:
        """Whether a folder may get further runs: if it is one of runs, no array, and no sweep with a table of these."""
        if holds_run(folder) or not folder.is_dir() or submitted(folder):
            return False
        try:
            table = folder / "table.json"
            done = "axes" in json.loads(table.read_text())
            newest = max(path.stat().st_mtime for path in folder.glob("*/summary.json"))
            return not (done and table.stat().st_mtime >= newest)
        except (OSError, ValueError):
            return True


def _runs_of(folder: Path) -> list[Path]:
    """The runs in a folder, and those that are to come; one that may come is the folder's."""
    found: dict[Path, None] = {}
    for path in folders_in(folder):
        submitted_for = path.with_suffix("") if path.suffix == JOBS else path
        points = _points_of(submitted_for)
        if points or path.suffix == JOBS or holds_run(path):
            found.update(dict.fromkeys(points or [submitted_for]))
    return list(found) or [folder]


def _points_of(folder: Path) -> list[Path]:
    """The runs of an array that was submitted for the folder, begun or not."""
    job = submitted(folder)
    if job is None or job.points is None:
        return []
    width = max(3, len(str(job.points - 1)))
    return [folder / NAME_OF_POINT.format(number, width) for number in range(job.points)]


def _job_of(folder: Path) -> tuple[Any, int | None]:
    """The job of a run, and which task of it."""
    alone = submitted(folder)
    if alone is not None and alone.points is None:
        return alone, None
    array, number = submitted(folder.parent), folder.name.removeprefix("point-")
    if array is not None and array.points is not None and number != folder.name and number.isdigit():
        return array, int(number)
    return None, None


def _live(view: View, interval_s: float) -> int:
    from rich.live import Live

    console, nobody = _console(), threading.Event()
    with Live(console=console, auto_refresh=False, vertical_overflow="ellipsis") as live:
        while True:
            standings = view.look()
            done = view.over(standings)
            room = None if done else console.height - 4
            live.update(_table(standings, console.width, room), refresh=True)
            if done:
                return _code(standings)
            nobody.wait(interval_s)


def _plain(view: View, interval_s: float) -> int:
    """A line where a run's state changes, and now and then while it is running."""
    said: dict[str, tuple[Any, float, str]] = {}
    nobody = threading.Event()
    while True:
        standings, now = view.look(), time.monotonic()
        for one in standings:
            key = (one.state, one.note)
            before = said.get(one.name)
            due = before and now - before[1] >= max(PLAIN_EVERY_S, interval_s) and before[2] != one.progress
            if before is None or before[0] != key or due:
                said[one.name] = (key, now, one.progress)
                print(f"{time.strftime('%H:%M:%S')} {_line(one)}", flush=True)
        if view.over(standings):
            return _code(standings)
        nobody.wait(interval_s)


def _code(standings: Sequence[Standing]) -> int:
    return 0 if all(one.state is State.ENDED for one in standings) else 1


def _line(one: Standing) -> str:
    state = one.state.value + (f": {one.note}" if one.note else "")
    cells = _cells(one)
    words = {"progress": "round {}", "uploads": "uploads {}", "rate": "{} rounds/s", "bytes": "{} payload"}
    words |= {"elapsed": "after {}", "left": "{} to go", "measure": "{}"}
    if "replicas" in one.progress:
        words["progress"] = "{}"
    told = [form.format(cells[name]) for name, form in words.items() if cells[name]]
    return f"{one.name}: {state}" + (f"; {', '.join(told)}" if told else "")


def _cells(one: Standing) -> dict[str, str]:
    def shown(value: float | None, form: Any) -> str:
        return "" if value is None else form(value)

    share = shown(one.share, " ({:.1%})".format)
    return {
        "progress": one.progress,
        "measure": one.measure,
        "uploads": shown(one.uploads, "{:.10g}".format) + share,
        "bytes": shown(one.nbytes, size),
        "rate": shown(one.rate, "{:.3g}".format if (one.rate or 0) < 100 else "{:.0f}".format),
        "elapsed": shown(one.elapsed_s, clock),
        "left": shown(one.left_s, clock),
        "silent": shown(one.silent_s, clock),
    }


def _table(standings: Sequence[Standing], width: int, room: int | None) -> Any:
    """The runs as a table, of so many lines at most: those that came to their end give way to others."""
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    shown = list(standings)
    if room is not None and len(shown) > max(1, room):
        others = [one for one in shown if one.state is not State.ENDED]
        shown = (others + [one for one in shown if one.state is State.ENDED])[: max(1, room)]
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True, caption=_caption(standings, len(shown)))
    table.caption_justify = "left"
    table.add_column("run", overflow="fold", min_width=8)
    table.add_column("state", overflow="fold", min_width=8)
    cells = [
        {**_cells(one), "recipe": escape(one.recipe), "course": spark(one.course, SPARK_WIDTH, _bars())}
        for one in shown
    ]
    dropped = ("recipe", "course", "bytes", "silent") if width < NARROW else ()
    names = [name for name in HEADINGS if name not in dropped and any(row[name] for row in cells)]
    for name in names:
        table.add_column(HEADINGS[name], justify="left" if name in LEFT else "right", no_wrap=True)
    for one, row in zip(shown, cells, strict=True):
        style = STYLES[one.state]
        state = f"[{style}]{one.state.value}[/]" + (f": {escape(one.note)}" if one.note else "")
        table.add_row(escape(one.name), state, *(row[name] for name in names))
    return table


def _caption(standings: Sequence[Standing], shown: int) -> str | None:
    """How many runs are how far, where there are several."""
    if len(standings) < 2:
        return None
    states = [one.state for one in standings]
    told = ", ".join(f"{states.count(state)} {state.value}" for state in State if state in states)
    return told + (f"; {len(states) - shown} more rows would not fit" if shown < len(states) else "")


def _bars() -> str:
    bars = "▁▂▃▄▅▆▇█"
    try:
        bars.encode(sys.stdout.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return "_.-=+*%#"
    return bars


def _console() -> Any:
    from rich.console import Console

    told = os.environ.get("COLUMNS", "")
    width = None if sys.stdout.isatty() else int(told) if told.isdigit() and int(told) else PLAIN_WIDTH
    return Console(width=width, highlight=False)
