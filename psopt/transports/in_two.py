"""Messages of any length for everyone by MPI's own broadcast: the header by one that stands, then what it announces, if
anything, by another. Both ends have the form of those in `psopt.transports.relay`.
"""

from typing import Any

import numpy as np

from psopt.core.frames import Frame
from psopt.core.messages import HEADER_NBYTES, Message
from psopt.errors import DeadlinePassed
from psopt.transports.base import SERVER
from psopt.transports.mpi import MPI, Link
from psopt.transports.waiting import done_within


class InTwo:
    """The server's end; ``ranks`` are all of the job."""

    def __init__(self, link: Link) -> None:
        self.ranks = link.size
        self._comm, self._head = link.comm, np.empty(HEADER_NBYTES, dtype=np.uint8)
        self._standing = link.standing_broadcast(self._head)
        self.Free = self._standing.Free

    def send(self, message: np.ndarray, last: bool) -> list[Any]:
        """The requests of sending those bytes, which must stay as they are until all are complete."""
        self._head[:] = message[:HEADER_NBYTES]
        self._standing.Start()
        if message.size == HEADER_NBYTES:
            return [self._standing]
        return [self._standing, self._comm.Ibcast([message[HEADER_NBYTES:], MPI.BYTE], SERVER)]


class TakenInTwo:
    """A worker rank's end: ``first`` is what stands for the header, to be waited for."""

    def __init__(self, link: Link, idle_s: float) -> None:
        self._comm, self._idle_s = link.comm, idle_s
        self._head, self._whole = (Frame(np.empty(HEADER_NBYTES, dtype=np.uint8)) for _ in range(2))
        self.first = link.standing_broadcast(self._head.buffer)

    def take(self) -> Message:
        """The message whose header has come; valid until the next one."""
        size = self._head.announced()
        if size == HEADER_NBYTES:
            return self._head.read()
        self._whole = self._whole.holding(size)
        buffer = self._whole.buffer
        buffer[:HEADER_NBYTES] = self._head.buffer
        request = self._comm.Ibcast([buffer[HEADER_NBYTES:size], MPI.BYTE], SERVER)
        if not done_within(self._idle_s, request.Test):
            raise DeadlinePassed(f"a message was announced and did not follow within {self._idle_s:g} s")
        return self._whole.read(size)
