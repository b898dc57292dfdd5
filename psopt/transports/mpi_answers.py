"""Where the server receives the answers to one kind of question, and how it learns which have come."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from psopt.core.frames import Frame, first_word, frames_of
from psopt.core.messages import NO_VECTOR, Kind, Landed, made
from psopt.problems import kernels
from psopt.transports.mpi import MPI
from psopt.transports.standing import Handles, address_of, check

NEVER = -1
"""No header begins with it."""
SKIP = first_word(Kind.SKIP, NO_VECTOR.dtype)
NOTHING_IS_PLAIN = NEVER, 0, NEVER


class Answers:
    """Slots for one answer of each worker, and the standing receives into them.

    Parameters
    ----------
    comm : communicator
    homes : sequence of int
        The rank of each worker.
    tags : sequence of int
        Of each worker's answers. Where they are the same, two workers of one rank may fill each other's slot: the
        message says whose it is.
    room : int
        Bytes of a slot, behind the header.
    mapped_in : str, optional
        The folder of a file that the slots are in, instead of memory.
    sends : sequence of standing MPI requests, optional
        What `start` may start together with the receives of everyone's answers.
    held : block and slots, optional
        In memory that is there already.

    Attributes
    ----------
    block : ndarray, shape (M, any), uint8
        The slots in a row; ``slots`` has them one by one.
    missing : int
        How many of the answers had not come at the last `look`.
    sent : int
        Not 0 when the sends that `start` started were done as the last answer had come.
    """

    def __init__(
        self,
        comm: Any,
        homes: Sequence[int],
        tags: Sequence[int],
        room: int,
        mapped_in: str | None = None,
        sends: Sequence[Any] = (),
        held: tuple[np.ndarray, list[Frame]] | None = None,
    ) -> None:
        workers = len(homes)
        self.room, self._homes = room, homes
        self.block, self.slots = held or frames_of(workers, room, mapped_in)
        places = zip(self.slots, homes, tags, strict=True)
        self._receives = [comm.Recv_init([slot.buffer, MPI.BYTE], home, tag) for slot, home, tag in places]
        self._vectors: Sequence[np.ndarray] | None = None
        self._words = NEVER, 0, SKIP
        self._plainly, self._round = False, 0
        calls = kernels.calls
        self._handles = Handles([*self._receives, *sends])
        said = np.zeros((workers, 3), np.int64)
        said[:, calls.HOME] = homes
        self._states, self._gradients = said[:, calls.STATE], said[:, calls.GRADIENTS]
        self._found = np.zeros(1 + calls.AT_ONCE + 1, np.int32)
        self._course, self._worked = np.zeros(1 + calls.SENT, np.int64), np.zeros(1 + max(homes))
        self._course[calls.UPLOAD : calls.FIRST] = NOTHING_IS_PLAIN
        self._uploaded, self._skipped, self._left = np.zeros(workers, bool), np.zeros(workers, bool), np.zeros(workers)
        self._statuses = np.zeros(max(calls.AT_ONCE, len(sends)) * MPI._sizeof(MPI.Status), np.uint8)
        known = {
            calls.START_ALL: address_of("MPI_Startall"),
            calls.TEST_SOME: address_of("MPI_Testsome"),
            calls.TEST_ALL: address_of("MPI_Testall"),
            calls.GIVE_WAY: address_of("sched_yield"),
            calls.HANDLES: self._handles.address,
            calls.HANDLE_NBYTES: self._handles.itemsize,
            calls.WORKERS: workers,
            calls.SENDS: len(sends),
            calls.FOUND: self._found.ctypes.data,
            calls.STATUSES: self._statuses.ctypes.data,
            calls.COURSE: self._course.ctypes.data,
            calls.SAID: said.ctypes.data,
            calls.WORDS: self.block.ctypes.data,
            calls.WIDTH: self.block.view(np.int64).shape[1],
            calls.UPLOADED: self._uploaded.ctypes.data,
            calls.SKIPPED: self._skipped.ctypes.data,
            calls.LEFT: self._left.ctypes.data,
            calls.RANKS: self._worked.size,
            calls.WORKED: self._worked.ctypes.data,
        }
        self._places = np.array([known[at] for at in range(calls.PLACES)], np.int64)
        self._calls = calls
        self.missing = self.sent = 0
        self._outcome = slice(calls.UPLOADS, calls.SENT)
        self._has_unread = 0

    def land(self, vectors: Sequence[np.ndarray], lent: bool) -> None:
        """Uploads like these, each its slot's own, need not be read. ``lent``: workers see them, and send headers."""
        self._vectors = vectors
        self._words = first_word(Kind.UPLOAD, vectors[0].dtype, lent), vectors[0].size, SKIP
        for slot, vector in zip(self.slots if lent else (), vectors, strict=lent):
            slot.lend(vector)

    def start(self, asked: Sequence[int] | None, k: int, plainly: bool, with_sends: bool = False) -> None:
        """The answers of these workers (None: of everyone) for round k may come.

        With ``plainly`` there will be no word of plain ones but `landed`, at the end: skips, and uploads that `land`.
        """
        calls = self._calls
        if plainly is not self._plainly:
            self._plainly = plainly
            self._course[calls.UPLOAD : calls.FIRST] = self._words if plainly else NOTHING_IS_PLAIN
        if asked is None:
            self.missing = len(self.slots)
        else:
            self.missing = len(asked)
            self._states.fill(calls.IDLE)
            self._states[asked] = calls.AWAITED
            self._handles.start(asked)
        check(calls.start(self._places, k, asked is None, with_sends))
        self._round, self._has_unread, self.sent = k, 0, 0

    def look(self, looks: int) -> int:
        """Whether some have come, not 0, after at most so many looks that found nothing."""
        calls = self._calls
        outcome = calls.collect(self._places, looks)
        check(outcome)
        self.missing, self.sent = outcome // calls.STILL, outcome & calls.HAS_SENT
        self._has_unread = outcome & calls.HAS_UNREAD
        return outcome & calls.CAME

    def silent(self) -> list[int]:
        """The workers whose answer is missing."""
        awaited = np.flatnonzero(self._states == self._calls.AWAITED).tolist()
        return [m for m in awaited if not self._receives[m].Test()]

    def unread(self) -> list[Frame]:
        """Those of the last `look` that have to be read; they count as read now."""
        if not self._has_unread:
            return []
        course, calls = self._course, self._calls
        self._has_unread = 0
        course[calls.UNREAD] = 0
        first, states = course.item(calls.FIRST), self._states
        came = [first + i for i in self._found[1 : 1 + self._found.item(0)].tolist()]
        return [self.slots[m] for m in came if states.item(m) == calls.READ]

    def worked(self, m: int, seconds: float) -> None:
        """An answer that had to be read says how long worker m took."""
        self._worked[self._homes[m]] += seconds

    def most_worked(self) -> float:
        """The sum over all questions of the seconds of the rank whose workers took longest."""
        before, *present = self._worked.tolist()
        return before + max(present)

    def landed(self) -> Landed | None:
        """What there was of plain answers, once none is missing; valid until the next `start`."""
        uploads, skips, least, most = self._course[self._outcome].tolist()
        if not uploads + skips:
            return None
        each = least if least == most else None
        masks = self._uploaded, self._skipped
        return made(Landed, (self._round, uploads, skips, *masks, each, self._gradients, self._left, self._vectors))

    def free(self) -> None:
        for request in self._receives:
            request.Free()
