"""How a run stands, from outside: its folder, who is writing it, and its job in Slurm's queue. Nothing is written."""

import contextlib
import datetime
import json
import os
import socket
import time
from enum import Enum
from pathlib import Path
from typing import Any

from psopt.config.sentences import short
from psopt.errors import ConfigError
from psopt.records import record
from psopt.runs.occupancy import RUNNING, occupant
from psopt.runs.trace import LINES, MASKS, elapsed_s, packed_width
from psopt.views.reading import config_in, is_number
from psopt.views.watching import forecast
from psopt.views.watching.following import Follower
from psopt.views.watching.queue import Entry, Queue, Submitted

PAYLOAD = ("payload_bytes_up", "payload_bytes_down")
IN_SUMMARY = ("rounds", "uploads", "wall_s", *PAYLOAD)
"""Fields of a summary that are counted with."""

UNLOCKED_S = 30.0
"""How long after its last change a folder counts as written to where locks may not tell."""


class State(Enum):
    """How far a run has come; the value is how it is called."""

    WAITING = "waiting"
    STARTING = "starting"
    RUNNING = "running"
    ENDED = "ended"
    FAILED = "failed"
    STOPPED = "stopped"
    CUT_OFF = "cut off"
    GONE = "gone"

    @property
    def over(self) -> bool:
        return self not in (State.WAITING, State.STARTING, State.RUNNING)


@record
class Standing:
    """One look at a run; None, or empty, is what is not known.

    Attributes
    ----------
    name : str
    recipe : str
    state : State
    note : str
        Why it waits, ended or failed.
    progress : str
        The round, of how many; with ``repeat`` the replicas.
    measure : str
    course : tuple of float
        Of what ``measure`` tells, over the last stretch.
    uploads : int
    share : float
        Of the uploads that could have been.
    nbytes : int
        Payload up and down.
    rate : float
        Rounds per second.
    elapsed_s, left_s, silent_s : float
        Since round 1 began; until the first target; since the last record.
    """

    name: str
    recipe: str = ""
    state: State = State.WAITING
    note: str = ""
    progress: str = ""
    measure: str = ""
    course: tuple[float, ...] = ()
    uploads: float | None = None
    share: float | None = None
    nbytes: float | None = None
    rate: float | None = None
    elapsed_s: float | None = None
    left_s: float | None = None
    silent_s: float | None = None


class Watched:
    """A run that is looked at again and again.

    Parameters
    ----------
    folder : Path
    name : str
    job : Submitted, optional
    task : int, optional
        Of an array.
    """

    def __init__(self, folder: Path, name: str, job: Submitted | None = None, task: int | None = None) -> None:
        self.folder, self.name, self.job, self.task = folder, name, job, task
        self._trace = Follower(folder / LINES)
        self._config: dict[str, Any] = {}
        self._config_at: float | None = None
        self._damage = ""
        self._seen = False
        self._end: tuple[int, Standing] | None = None

    def look(self, queue: Queue) -> Standing:
        """How it stands now; a run that has come to its end is read once, until somebody goes on with it."""
        ended = self._ended_at()
        if self._end is None or ended is None or self._end[0] != ended:
            standing = self._look(queue)
            self._end = (ended, standing) if ended and standing.state is State.ENDED else None
            return standing
        return self._end[1]

    def _ended_at(self) -> int | None:
        """When the summary was written; None where there is none, or where somebody is at work."""
        try:
            written = (self.folder / "summary.json").stat().st_mtime_ns
            return None if (self.folder / RUNNING).exists() else written
        except OSError:
            return None

    def _look(self, queue: Queue) -> Standing:
        entry = queue.of(self.job.number, self.task) if self.job else None
        writer = _writer(self.folder)
        summary = _json(self.folder / "summary.json")
        self._read_config()
        self._trace.look()
        damage = [self._damage]
        if wrong := [name for name in IN_SUMMARY if not is_number(summary.get(name, 0))]:
            summary = {name: value for name, value in summary.items() if name not in wrong}
            damage.append(f"summary.json has no number `{wrong[0]}`")
        known = self._config_at is not None or bool(summary)
        self._seen |= known or writer
        state, note = self._state(writer, summary, known, entry, queue)
        if state is State.CUT_OFF and _writer(self.folder):  # it began to write only just now
            state, note = State.STARTING, ""
        if state is not State.STARTING:  # when it may be half written
            note = "; ".join(filter(None, [note, *damage]))
        return self._standing(state, note, summary if state.over else {})

    def _state(
        self, writer: bool, summary: dict[str, Any], known: bool, entry: Entry | None, queue: Queue
    ) -> tuple[State, str]:
        if writer:
            return (State.RUNNING if self._trace.records or self._replicas() else State.STARTING), ""
        status = str(summary.get("status", ""))
        if status == "ok":
            return State.ENDED, str(summary.get("stop_reason"))
        if status.startswith("failed"):
            return State.FAILED, status.partition(": ")[2] or status
        if entry and not entry.over:
            if entry.waits:
                return State.WAITING, str(entry) + ", to go on" * known
            return State.STARTING, f"job {self.job.number} is {entry}"
        if status:
            return State.STOPPED, str(summary.get("stop_reason") or status)
        job = f"Slurm says {entry}" if entry else ""
        if known:
            return State.CUT_OFF, job or "its process is gone"
        if entry or (self.job and queue.answers):
            return State.FAILED, f"job {self.job.number} has left no run ({job or 'Slurm knows it no longer'})"
        if self.job:
            return State.WAITING, f"job {self.job.number}; squeue does not answer"
        if self._seen:
            return State.GONE, "its folder was removed"
        return State.WAITING, "no run in it yet" if self.folder.is_dir() else "no such folder yet"

    def _standing(self, state: State, note: str, summary: dict[str, Any]) -> Standing:
        records, config, now = list(self._trace.records), self._config, time.time()
        last = records[-1] if records else {}
        stop, workers, repeat = config.get("stop", {}), config.get("workers", 0), config.get("repeat", 1)
        recipe = summary.get("recipe") or config.get("algorithm", {}).get("recipe")
        numbers = {**last, **summary}
        k = max(numbers.get("rounds", last.get("round", 0)), 0 if summary else self._rounds(workers))
        uploads = numbers.get("uploads")
        measure, course = forecast.measured(records)
        limit = f" of {stop['max_rounds']}" if stop.get("max_rounds") and not state.over else ""
        fields: dict[str, Any] = {
            "progress": f"{k:.10g}{limit}" if numbers else "",
            "measure": measure,
            "course": tuple(course),
            "uploads": uploads,
            "share": uploads / (k * workers) if uploads is not None and k and workers else None,
            "nbytes": sum(numbers.get(name, 0) for name in PAYLOAD) if uploads is not None else None,
            "elapsed_s": summary.get("wall_s", elapsed_s(last) if last else None),
        }
        if state is State.RUNNING and repeat > 1:
            fields.update(self._of_replicas(repeat, now))
        elif state is State.RUNNING and last:
            silent = max(0.0, now - (self._written_at() or now))
            wait = forecast.usual_wait_s(records)
            stalled = silent > max(forecast.STALLED_S, forecast.STALLED_TIMES * wait)
            left = None if stalled else forecast.seconds_left(records, stop)
            fields.update(
                silent_s=silent,
                elapsed_s=elapsed_s(last) + silent,
                left_s=None if left is None else max(0.0, left - silent),
                rate=0.0 if stalled else forecast.rate(records),
            )
            note = "; ".join(filter(None, ["stalled?" * stalled, note]))
        return Standing(self.name, str(recipe or ""), state, note, **fields)

    def _of_replicas(self, repeat: int, now: float) -> dict[str, Any]:
        done, started = self._replicas(), _json(self.folder / "manifest.json").get("started")
        try:
            elapsed = max(0.0, now - datetime.datetime.fromisoformat(started).timestamp())
        except (TypeError, ValueError):
            elapsed = None
        left = elapsed * (repeat - done) / done if done and elapsed is not None else None
        return {"progress": f"{done} of {repeat} replicas", "elapsed_s": elapsed, "left_s": left}

    def _replicas(self) -> int:
        return sum(1 for _ in self.folder.glob("replica-*/summary.json"))

    def _rounds(self, workers: int) -> int:
        """Rounds by the size of what is written in each, where records are rare."""
        try:
            return (self.folder / MASKS).stat().st_size // packed_width(workers) if workers else 0
        except OSError:
            return 0

    def _written_at(self) -> float | None:
        times = [self._trace.written_at]
        with contextlib.suppress(OSError):
            times.append((self.folder / MASKS).stat().st_mtime)
        return max((at for at in times if at is not None), default=None)

    def _read_config(self) -> None:
        """Anew where it has changed; what is half written, or damaged, is read again at a later look."""
        path = self.folder / "config.yaml"
        try:
            changed = path.stat().st_mtime
            if changed != self._config_at:
                self._config, self._damage, self._config_at = {}, "", -1.0
                self._config = config_in(self.folder)
                self._config_at = changed
        except OSError:
            self._config, self._damage, self._config_at = {}, "", None
        except ConfigError as error:
            said = str(error).partition("\n")[0]
            self._damage = short(said.removeprefix(f"{self.folder} ").replace(f"{self.folder}/", ""), 200)


def _writer(folder: Path) -> bool:
    """Whether a process is writing to the folder, as far as can be told from here."""
    try:
        if occupant(folder) is not None:
            return True
        # Nobody has the lock; but on another user's folder, or a file system without locks, that says nothing.
        said = json.loads((folder / RUNNING).read_text())
        if said["host"] == socket.gethostname():
            os.kill(int(said["pid"]), 0)
            if not os.access(folder / RUNNING, os.W_OK):
                return True
        newest = max((path.stat().st_mtime for path in folder.iterdir()), default=0.0)
        return time.time() - newest < UNLOCKED_S
    except PermissionError:
        return True  # the process lives, and is another user's
    except (OSError, ValueError, LookupError, TypeError):
        return False


def _json(path: Path) -> dict[str, Any]:
    """A JSON file's mapping; nothing where there is none, for now or for ever."""
    try:
        found = json.loads(path.read_text()) if path.is_file() else {}
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
