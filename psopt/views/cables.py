"""Bytes on a star of cables: each direction of a host's cable takes what comes in the order in which it comes.

Time moves from event to event. A piece of a message waits its turn on the sender's cable, then, frame by frame and a
latency later, on the receiver's.
"""

import heapq
import itertools
from collections import defaultdict
from collections.abc import Callable
from typing import NamedTuple


class Passed(NamedTuple):
    """When a piece was through, in seconds: its last byte left the sender's cable, its first frame, and its last byte,
    the receiver's.
    """

    sent: float
    first: float
    last: float


class Cables:
    """A clock, the events to come, and until when each cable is taken.

    Parameters
    ----------
    bytes_per_s : float
        Of every cable, in either direction.
    latency_s : float
        From the end of one cable to the begin of the other.
    now : float
        Seconds.
    """

    def __init__(self, bytes_per_s: float, latency_s: float, now: float = 0.0) -> None:
        self.now = now
        self._bytes_per_s, self._latency_s = bytes_per_s, latency_s
        self._out_free: defaultdict[int, float] = defaultdict(float)
        self._in_free: defaultdict[int, float] = defaultdict(float)
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._number = itertools.count()

    def at(self, time: float, call: Callable[[], None]) -> None:
        """``call()`` at that time, or now if it is over."""
        heapq.heappush(self._events, (max(time, self.now), next(self._number), call))

    def run(self) -> None:
        """Until nothing is to come."""
        while self._events:
            self.now, _, call = heapq.heappop(self._events)
            call()

    def send(self, source: int, target: int, nbytes: int, frame_nbytes: int, then: Callable[[Passed], None]) -> None:
        """A piece of so many bytes, in frames of at most so many, comes to its sender's cable now.

        ``then`` is told as soon as it is known: when the first frame reaches the receiver's cable.
        """
        takes_s, frame_s = nbytes / self._bytes_per_s, min(nbytes, frame_nbytes) / self._bytes_per_s
        begin = max(self.now, self._out_free[source])
        sent = self._out_free[source] = begin + takes_s

        def reached() -> None:
            taken = max(self.now, self._in_free[target])
            last = self._in_free[target] = taken + takes_s
            then(Passed(sent, taken + frame_s, last))

        self.at(begin + frame_s + self._latency_s, reached)
