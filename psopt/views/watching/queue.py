"""Jobs that `psopt submit` made: which one a run folder belongs to, and what Slurm says of it.

Slurm is asked seldom, with one call for all jobs, because its controller serves a whole cluster.
"""

import json
import subprocess
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from psopt.records import record
from psopt.slurm import OVER
from psopt.views.reading import is_number

JOB = "submitted.json"
"""What `psopt submit` leaves in FOLDER.slurm: the job's number, and of an array how many points it has."""

ASK_EVERY_S = 10.0
ANSWER_WITHIN_S = 20.0


@record
class Submitted:
    """A job: its number, and the points of an array, None of a single run."""

    number: str
    points: int | None = None


def submitted(folder: Path) -> Submitted | None:
    """The job that was last submitted for a folder; None where none was."""
    try:
        said = json.loads((folder.with_name(f"{folder.name}.slurm") / JOB).read_text())
        points = said["points"]
        return Submitted(str(said["job"]), points) if points is None or is_number(points, int) else None
    except (OSError, ValueError, LookupError, TypeError):
        return None


@record
class Entry:
    """What Slurm says of a job, or of a task of an array.

    Attributes
    ----------
    state : str
        ``PENDING``, ``RUNNING``, ``COMPLETED``, ...
    reason : str
        Why it waits; empty if it does not.
    partition : str
    start : str
        When it is expected to start; empty where Slurm does not know.
    priority : int
    place, of : int or None
        Of one that waits: its place among all that wait in its partition, by priority.
    """

    state: str
    reason: str = ""
    partition: str = ""
    start: str = ""
    priority: int = 0
    place: int | None = None
    of: int | None = None

    @property
    def waits(self) -> bool:
        return self.state == "PENDING"

    @property
    def over(self) -> bool:
        return self.state.partition(" ")[0] in OVER

    def __str__(self) -> str:
        if not self.waits:
            return self.state.lower()
        place = f"place {self.place} of {self.of} in {self.partition}" if self.place else f"in {self.partition}"
        start = f", expected {self.start[5:16].replace('T', ' ')}" if self.start else ""
        return f"{place}{start}" + (f" ({self.reason})" if self.reason else "")


@dataclass
class Queue:
    """Slurm's word on some jobs, no older than `ASK_EVERY_S`.

    Attributes
    ----------
    answers : bool
        Whether squeue answered when it was last asked.
    """

    answers: bool = True
    _entries: dict[tuple[str, str], Entry] = field(default_factory=dict)
    _next: float = 0.0

    def ask(self, numbers: Iterable[str]) -> None:
        """Asks for these jobs, if it is time to."""
        numbers, now = sorted(set(numbers)), time.monotonic()
        if not numbers or now < self._next:
            return
        self._next = now + ASK_EVERY_S
        told = _said(
            "squeue", "--noheader", "--array", "--states=all", f"--jobs={','.join(numbers)}",
            "--format=%F|%K|%T|%r|%P|%Q|%S",
        )  # fmt: skip
        self.answers = told is not None
        self._entries = {}
        for job, task, state, reason, partition, priority, start in _fields(told or [], 7):
            known = "" if start in ("N/A", "") else start
            why = "" if reason == "None" else reason
            weight = int(priority) if priority.isdigit() else 0
            self._entries[job, task if task.isdigit() else ""] = Entry(state, why, partition, known, weight)
        found = {job for job, _ in self._entries}
        if told is not None and (lost := [number for number in numbers if number not in found]):
            self._ask_for_old(lost)
        self._place()

    def of(self, number: str, task: int | None = None) -> Entry | None:
        """What Slurm says of a job, or of a task of it; None where it says nothing."""
        return self._entries.get((number, "" if task is None else str(task)))

    def _ask_for_old(self, numbers: Sequence[str]) -> None:
        """squeue forgets in minutes; sacct does not, where there is accounting."""
        told = _said(
            "sacct", "--noheader", "--parsable2", "--allocations", f"--jobs={','.join(numbers)}", "--format=JobID,State"
        )
        for identity, state in _fields(told or [], 2):
            job, _, task = identity.partition("_")
            self._entries[job, task if task.isdigit() else ""] = Entry(state)

    def _place(self) -> None:
        """Gives each that waits its place."""
        for partition in {entry.partition for entry in self._entries.values() if entry.waits}:
            told = _said("squeue", "--noheader", "--states=PENDING", f"--partition={partition}", "--format=%F|%Q")
            line = sorted({(-int(rank), int(job)) for job, rank in _fields(told or [], 2) if (job + rank).isdigit()})
            for (job, task), entry in self._entries.items():
                if entry.waits and entry.partition == partition and (mine := (-entry.priority, int(job))) in line:
                    fields = {**vars(entry), "place": line.index(mine) + 1, "of": len(line)}
                    self._entries[job, task] = Entry(**fields)


def _said(*command: str) -> list[str] | None:
    """The lines that a Slurm command prints; None when there is no such command, or it fails, or takes too long."""
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=ANSWER_WITHIN_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    if done.returncode and "Invalid job id" in done.stderr:  # it has forgotten the only one that was asked for
        return []
    return None if done.returncode else done.stdout.splitlines()


def _fields(lines: Iterable[str], count: int) -> list[list[str]]:
    found = [[part.strip() for part in line.split("|")] for line in lines]
    return [parts for parts in found if len(parts) == count]
