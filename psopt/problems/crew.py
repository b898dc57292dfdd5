"""The threads of a rank: parts of a sum over rows, each formed apart, added in fixed order.

Into how many parts a sum is cut is the caller's, who goes by the shape of the rows alone (`psopt.problems.cuts`). So
the same bits come out for any number of threads, one of them included: a thread only takes the next part that nobody
has taken, and forms it in room of that part's own.

Kernels let go of Python's lock while they work (`nogil`), hence plain threads; Numba's parallel loops would compile
longer and choose the order of sums themselves.
"""

import signal
import threading
from collections.abc import Callable, Iterable, Sequence
from itertools import count
from queue import SimpleQueue
from typing import TypeVar

import numpy as np

from psopt.lines import LINE_NBYTES

T = TypeVar("T")
Evaluate = Callable[[int, int, np.ndarray | None], T]
"""What part number i is, found with scratch number j, and what it writes into the array."""

_OWN_FAULTS = {signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGABRT, signal.SIGTRAP}
"""A crash is told by whoever it happens to, where somebody has asked for that (`faulthandler`)."""


class Crew:
    """As many threads as a rank may use, the calling one among them.

    The others are started by `engage` and sleep until there is something to do. One caller at a time.

    Parameters
    ----------
    threads : int
        1 or more.
    """

    def __init__(self, threads: int = 1) -> None:
        self.threads = threads
        self._calls: SimpleQueue[_Task | None] = SimpleQueue()
        self._helpers: list[threading.Thread] = []
        self._room = np.empty(0, np.uint8)

    @property
    def working(self) -> int:
        """How many threads there are to work with now."""
        return 1 + len(self._helpers)

    def engage(self, parts: int) -> None:
        """Starts what threads can be of use where no sum has more parts than that."""
        for number in range(self.working, min(self.threads, parts)):
            helper = threading.Thread(target=_help, args=(self._calls, number), name=f"psopt-{number}", daemon=True)
            helper.start()
            self._helpers.append(helper)

    def close(self) -> None:
        """Ends the threads; what they were at is done first."""
        for _ in self._helpers:
            self._calls.put(None)
        for helper in self._helpers:
            helper.join()
        self._helpers.clear()

    def __enter__(self) -> "Crew":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def add_up(self, parts: int, evaluate: Evaluate[T], out: np.ndarray | None = None) -> list[T]:
        """What ``evaluate(part, scratch, into)`` returns for each part, in order.

        Parameters
        ----------
        parts : int
            1 or more.
        evaluate : callable
            Told the number of the part; a number, below `working`, that no other part under way has, by which it may
            choose its scratch; and, where there is ``out``, an array like it to be written over.
        out : ndarray, shape (d,), optional
            Becomes the sum of what the parts wrote: the first one, plus the second, plus the third, ...

        Raises what the first part raises of those that raise.
        """
        if self._helpers and parts > 1:
            rooms = [out, *self._rooms(parts - 1, out)]
            task = _Task(parts, lambda part, scratch: evaluate(part, scratch, rooms[part]))
            for _ in range(min(parts, self.working) - 1):
                self._calls.put(task)
            try:
                task.work(0)
                found = task.outcome()
            except BaseException as error:  # an interrupt, say: what nobody has begun is left undone
                task.fail(-1, error)
                raise
            for room in rooms[1:]:
                _add(out, room)
            return found
        found = [evaluate(0, 0, out)]
        (room,) = self._rooms(1, out) if parts > 1 else [None]
        for part in range(1, parts):
            found.append(evaluate(part, 0, room))
            _add(out, room)
        return found

    def _rooms(self, number: int, like: np.ndarray | None) -> Sequence[np.ndarray | None]:
        """So many arrays like that one, none of which shares a line of the cache with another."""
        if like is None:
            return [None] * number
        pitch = _pitch(like.nbytes)
        if self._room.nbytes < number * pitch:
            self._room = np.empty(number * pitch, np.uint8)
        rows = self._room[: number * pitch].reshape(number, pitch)[:, : like.nbytes]
        return [row.view(like.dtype) for row in rows]


def total(values: Iterable[float]) -> float:
    """The sum from left to right; Python's `sum` adds up otherwise in other versions."""
    first, *rest = values
    for value in rest:
        first += value
    return first


def room_nbytes(parts: int, threads: int, vector_nbytes: int) -> int:
    """What `Crew.add_up` holds beside its result, for vectors of so many bytes."""
    return (parts - 1 if threads > 1 else min(parts - 1, 1)) * _pitch(vector_nbytes)


def _pitch(nbytes: int) -> int:
    return (-(-nbytes // LINE_NBYTES) + 1) * LINE_NBYTES


def _add(out: np.ndarray | None, room: np.ndarray | None) -> None:
    if out is not None:
        with np.errstate(over="ignore", invalid="ignore"):  # a NaN that comes out says it all
            np.add(out, room, out=out)


class _Task:
    """One sum: parts are taken in order, by whoever is free."""

    def __init__(self, parts: int, do: Callable[[int, int], object]) -> None:
        self._parts, self._do = parts, do
        self._found: list[object] = [None] * parts
        self._errors: list[tuple[int, BaseException]] = []
        # A counter's `next` is one step of the interpreter: no two threads are given the same number.
        self._taken, self._done = count(), count(1)
        self._over = threading.Lock()
        self._over.acquire()

    def work(self, scratch: int) -> None:
        """Does parts until none is left to be taken."""
        while (part := next(self._taken)) < self._parts:
            try:
                if all(at > part for at, _ in self._errors):
                    self._found[part] = self._do(part, scratch)
            except BaseException as error:  # noqa: BLE001  (`outcome` raises it, in the thread that asked)
                self.fail(part, error)
            if next(self._done) == self._parts:
                self._over.release()

    def fail(self, part: int, error: BaseException) -> None:
        """Notes what a part raised: those behind it are not begun any more."""
        self._errors.append((part, error))

    def outcome(self) -> list:
        """What came of all parts; waits for those that others still work at, and for no thread that has not woken."""
        with self._over:
            pass
        if self._errors:
            raise min(self._errors, key=lambda each: each[0])[1]
        return self._found


def _help(calls: "SimpleQueue[_Task | None]", scratch: int) -> None:
    """A helping thread's life. Signals from outside are for the thread that waits for messages and heeds them."""
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals() - _OWN_FAULTS)
    while (task := calls.get()) is not None:
        task.work(scratch)
        del task  # or it would keep the arrays of a sum that is over
