"""Messages for everyone, passed on from rank to rank in segments: `psopt.transports.spreading` has the shape.

The first segment holds the header, by which a rank knows how long the message is, hence how many segments follow, from
whom, and to whom they go. A segment leaves for all children before the next one is looked for, and none is longer than
what MPI sends unasked. A rank gets to work when it has all segments and they have left it: what it has handed to MPI
would not move on while it computes.

The tree is one of the ranks that host workers. Each of these answers a message before the server sends the next one, so
that no message meets another one on its way, though short and long ones go by different trees. A rank without workers
hears `Stop` alone, and keep-alives.
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
from psopt.transports.spreading import Spreading, children, parent
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
        arity = self._spreading.arity_for(message.size, self.ranks)
        to, cuts = children(SERVER, self.ranks, arity), self._spreading.cuts(message.size)
        if len(to) == self.ranks - 1:  # nobody passes anything on: one after the other
            order = [(rank, cut) for rank in to for cut in cuts]
        else:
            order = [(rank, cut) for cut in cuts for rank in to]
        if last:
            order += [(rank, cut) for rank in range(self.ranks, self._size) for cut in cuts]
        return [_sent(self._comm, message, cut, rank) for rank, cut in order]

    def Free(self) -> None:
        """As a standing request has it; nothing stands here."""


class Relay:
    """A worker rank's place in the tree.

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
        cuts = self._spreading.cuts(size)
        frame = self._head
        if len(cuts) > 1:
            frame = self._whole = self._whole.holding(size)
            frame.buffer[: cuts[0][1]] = self._head.buffer[: cuts[0][1]]
        arity = self._spreading.arity_for(size, self._ranks)
        rank, comm, buffer = self._link.rank, self._comm, frame.buffer
        to = children(rank, self._ranks, arity)
        sending = deque(_sent(comm, buffer, cuts[0], child) for child in to)
        source = parent(rank, arity)
        awaited = deque((cut, comm.Irecv([buffer[slice(*cut)], MPI.BYTE], source, REST)) for cut in cuts[1:])
        patience = Patience(self._idle_s)
        while awaited or sending:
            left = len(awaited) + len(sending)
            while awaited and awaited[0][1].Test():
                cut, _ = awaited.popleft()
                sending += [_sent(comm, buffer, cut, child) for child in to]
            while sending and sending[0].Test():
                sending.popleft()
            if len(awaited) + len(sending) != left:
                patience = Patience(self._idle_s)
            elif not patience.pause():
                self._give_up(source if awaited else None, to)
        return frame.read(size)

    def _give_up(self, source: int | None, to: Sequence[int]) -> None:
        what = "a message did not leave for ranks " + ", ".join(map(str, to))
        if source is not None:
            what = f"a message began and did not go on, by way of rank {source}"
        link = self._link
        raise DeadlinePassed(f"rank {link.rank} on {link.host}: {what}, within {self._idle_s:g} s (timeouts.idle_s)")


def _sent(comm: Any, message: np.ndarray, cut: tuple[int, int], rank: int) -> Any:
    return comm.Isend([message[slice(*cut)], MPI.BYTE], rank, REST if cut[0] else FIRST)
