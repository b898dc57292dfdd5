"""Messages for everyone, passed on from rank to rank in segments: `psopt.transports.spreading` has the shape.

The first segment holds the header, by which a rank knows how long the message is, hence how many segments follow, from
whom, and to whom they go. A segment leaves for all children before the next one is looked for, and none is longer than
what MPI sends unasked. A rank gets to work when it has all segments and they have left it: what it has handed to MPI
would not move on while it computes.

The tree, or mesh, is one of the ranks that host workers. Each of these answers a message before the server sends the
next one, so that no message meets another one on its way, though short and long ones go by different trees. A rank
without workers hears `Stop` alone, and keep-alives.
"""

from collections import deque
from collections.abc import Sequence
from typing import Any

import numpy as np

from psopt.core.frames import Frame
from psopt.core.messages import HEADER_NBYTES, Message
from psopt.errors import DeadlinePassed
from psopt.transports.base import SERVER
from psopt.transports.mpi import MPI, Link, check_size
from psopt.transports.spreading import Spreading
from psopt.transports.waiting import Patience

FIRST, REST = 1, 2
"""Tags, on a communicator of their own."""


def hosting(workers: int, ranks: int) -> int:
    """Ranks in the tree: the server's, and those that host one of so many workers."""
    return 1 + min(workers, ranks - 1)


class Source:
    """The server's end.

    Parameters
    ----------
    link : Link
    workers : int
        M.
    spreading : Spreading

    Attributes
    ----------
    ranks : int
        In the tree, the server's among them; these come first.
    """

    def __init__(self, link: Link, workers: int, spreading: Spreading) -> None:
        self.ranks = hosting(workers, link.size)
        self._comm, self._size, self._spreading = link.second(), link.size, spreading

    def send(self, message: np.ndarray, last: bool) -> list[Any]:
        """The requests of sending those bytes, which must stay as they are until all are complete.

        ``last``: to the ranks without workers, too.
        """
        way = self._spreading.way(message.size, self.ranks)
        order = [(rank, cut) for number, cut in enumerate(way.cuts) for rank in way.to(SERVER, number)]
        if way.one_by_one:
            order.sort()
        if last:
            order += [(rank, cut) for rank in range(self.ranks, self._size) for cut in way.cuts]
        return [_sent(self._comm, message, cut, rank) for rank, cut in order]

    def Free(self) -> None:
        """As a standing request has it; nothing stands here."""


class Relay:
    """A worker rank's place among those that pass messages on.

    Parameters
    ----------
    link : Link
    workers : int
        M.
    spreading : Spreading
    idle_s : float
        How long a segment is waited for.

    Attributes
    ----------
    first : MPI request
        The standing receive of a message's first segment.
    """

    def __init__(self, link: Link, workers: int, spreading: Spreading, idle_s: float) -> None:
        self._link, self._comm, self._spreading, self._idle_s = link, link.second(), spreading, idle_s
        self._ranks = hosting(workers, link.size)
        self._head = Frame(np.empty(max(spreading.segment, HEADER_NBYTES), dtype=np.uint8))
        self._whole = Frame(np.empty(0, dtype=np.uint8))
        self.first = self._comm.Recv_init([self._head.buffer, MPI.BYTE], MPI.ANY_SOURCE, FIRST)

    def take(self) -> Message:
        """The message whose first segment has come, once it is whole and passed on; valid until the next one.

        Raises `DeadlinePassed` when nothing moves for ``idle_s``.
        """
        size = check_size(self._head.announced())
        way = self._spreading.way(size, self._ranks)
        frame = self._head
        if len(way.cuts) > 1:
            frame = self._whole = self._whole.holding(size)
            stop = way.cuts[0][1]
            frame.buffer[:stop] = self._head.buffer[:stop]
        rank, comm, buffer = self._link.rank, self._comm, frame.buffer
        sending = deque(_sent(comm, buffer, way.cuts[0], child) for child in way.to(rank, 0))
        awaited: dict[int, deque[tuple[int, Any]]] = {}
        for number, cut in enumerate(way.cuts[1:], start=1):
            source = way.source(rank, number)
            receive = comm.Irecv([buffer[slice(*cut)], MPI.BYTE], source, REST)
            awaited.setdefault(source, deque()).append((number, receive))
        missing, queues = len(way.cuts) - 1, sorted(awaited.items())  # what rank 0 sends waits for this rank alone
        patience = Patience(self._idle_s)
        while missing or sending:
            left = missing + len(sending)
            for _, queue in queues:
                while queue and queue[0][1].Test():
                    number, _ = queue.popleft()
                    missing -= 1
                    sending += [_sent(comm, buffer, way.cuts[number], other) for other in way.to(rank, number)]
            while sending and sending[0].Test():
                sending.popleft()
            if missing + len(sending) != left:
                patience = Patience(self._idle_s)
            elif not patience.pause():
                self._give_up([source for source, queue in queues if queue])
        return frame.read(size)

    def _give_up(self, sources: Sequence[int]) -> None:
        what = "a message did not leave for all whom this rank passes it on to"
        if sources:
            what = f"a message began and did not go on, by way of rank {', '.join(map(str, sources))}"
        link = self._link
        raise DeadlinePassed(f"rank {link.rank} on {link.host}: {what}, within {self._idle_s:g} s (timeouts.idle_s)")


def _sent(comm: Any, message: np.ndarray, cut: tuple[int, int], rank: int) -> Any:
    return comm.Isend([message[slice(*cut)], MPI.BYTE], rank, REST if cut[0] else FIRST)
