"""Keep-alives: nobody who waits for the server is to think that it is gone."""

import time
from collections.abc import Iterable
from typing import Any

import numpy as np

from psopt.core.frames import Frame
from psopt.core.ledger import Ledger
from psopt.core.messages import HEADER_NBYTES, KeepAlive, Kind
from psopt.transports.base import hosted_by
from psopt.transports.mpi import MPI, Link


class Touch:
    """When rank 0 last sent something to each rank.

    Parameters
    ----------
    link : Link
    workers : int
        M.
    idle_s : float
        Seconds of silence that a rank bears.
    ledger : Ledger

    Attributes
    ----------
    sending : list of MPI requests
        Keep-alives that may be under way.
    """

    def __init__(self, link: Link, workers: int, idle_s: float, ledger: Ledger) -> None:
        self.sending: list[Any] = []
        self._comm, self._workers, self._idle_s, self._ledger = link.comm, workers, idle_s, ledger
        self._due = time.perf_counter()  # until then nobody needs one
        self._contacted = [self._due] * link.size
        self._frame = Frame(np.empty(HEADER_NBYTES, dtype=np.uint8))

    def with_first(self, ranks: int) -> None:
        """Ranks 0 to ``ranks`` - 1 are sent something now."""
        self._contacted[:ranks] = [time.perf_counter()] * ranks

    def with_some(self, ranks: Iterable[int]) -> None:
        """These ranks are sent something now."""
        now = time.perf_counter()
        for rank in ranks:
            self._contacted[rank] = now

    def keep(self, k: int) -> None:
        """A header to each rank that has heard nothing for a third of what it bears; in round k."""
        now, contacted = time.perf_counter(), self._contacted
        if now < self._due:
            return
        self._due = now + self._idle_s / 12
        silent_since = now - self._idle_s / 3
        if min(contacted[1:]) > silent_since:
            return
        self.sending = [request for request in self.sending if not request.Test()]
        if self.sending:
            return
        message = KeepAlive(k)
        view = [self._frame.buffer[: self._frame.write(message)], MPI.BYTE]
        for rank, last in enumerate(contacted):
            if rank and last <= silent_since:
                contacted[rank] = now
                self._ledger.down(message, hosted_by(rank, self._workers, len(contacted))[:1])
                self._ledger.wire.down(HEADER_NBYTES)
                self.sending.append(self._comm.Isend(view, rank, Kind.KEEP_ALIVE))
