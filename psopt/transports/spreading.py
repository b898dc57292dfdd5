"""How a message for everyone reaches all ranks: the shape of a tree of ranks, and what it costs.

A message of n bytes goes in segments of S bytes: each rank passes a segment on to its a children as soon as it has it,
so that all levels of the tree are busy at once. In the time that a cable takes for a byte, the last rank has all after

    a n + h (B + a S)

where h is the height of the tree, and B, the bandwidth-delay product, is what a cable carries while a message is under
way. A star (a = ranks - 1, h = 1) is soonest for short messages, a chain (a = 1) for long ones, a tree between them.
Every rank works a out for itself from the size of the message, which stands in its header, so that short and long
messages of one run go by different trees.

In a tree half of the ranks and more pass nothing on. In a mesh all do: each segment goes from the server to one rank,
to another one each time, which passes it on to all others. Every cable then carries the message once in either
direction, and a segment is passed on once, so that the last rank has all after

    (ranks - 1) H + n + 2 B + (ranks - 2) S

where H is the header, which comes to each rank from the server, so that none has to wait for word of what it has got.
"""

import itertools
from collections.abc import Sequence
from functools import cache
from typing import Annotated, Literal, NamedTuple

from psopt.bounds import Ge, Gt, Le
from psopt.core.messages import HEADER_NBYTES
from psopt.errors import ConfigError
from psopt.records import record

SEGMENT = 8192
"""Short enough that MPI sends it unasked, and that eleven hosts in a chain have all of 100 kB soon after the first."""

BANDWIDTH_DELAY = 32768
"""25 kB at 10 Mbit/s and 20 ms or 200 Mbit/s and 1 ms, 62 kB at 100 Mbit/s and 5 ms: slow networks are much alike."""

MOST_SEGMENTS = 512

MESH_LEAST = 1400
"""Bytes that fill a frame of Ethernet, with what TCP and MPI put before them."""

MESH_SHARE = 8
"""So many segments of a message that is long enough does each rank of a mesh pass on."""

RELAYED = "tree", "chain", "mesh"

STAR_MOST = 65536
"""A star of so many ranks or fewer is looked at."""


@record
class Spreading:
    """How a message for everyone goes from the server to all ranks of an MPI job; changes no result.

    Attributes
    ----------
    kind : 'auto', 'collective', 'star', 'tree', 'chain' or 'mesh'
        `collective`: by MPI's own broadcast. `star`: from the server to each rank. `tree`: from rank to rank, in
        segments, which go on while more come. `chain`: a tree of arity 1. `mesh`: each segment to another rank, which
        passes it on to all others; short messages by a star. `auto`: a star where all ranks are known to share a host
        and theta is sent, or, if it takes 32 kB and more, lies in memory that all of them see; else `collective`.
    arity : int, optional
        How many ranks each rank of a `tree` passes a message on to. Default: the best for each message's size.
    segment : int
        Bytes of a segment, for `tree` and `chain`, and the most for `mesh`.
    bandwidth_delay : int
        The bytes that a cable of the network carries in the time a message takes from host to host: by this the arity
        of a `tree` is chosen, and which messages are short for a `mesh`.
    """

    kind: Literal["auto", "collective", "star", "tree", "chain", "mesh"] = "auto"
    arity: Annotated[int, Ge(1), Le(1024)] | None = None
    segment: Annotated[int, Ge(256), Le(1048576)] = SEGMENT
    bandwidth_delay: Annotated[int, Gt(0), Le(2**40)] = BANDWIDTH_DELAY

    def __post_init__(self) -> None:
        if self.kind != "tree" and self.arity is not None:
            raise ConfigError(f"`arity` is for `tree`, and the kind is `{self.kind}`")
        if self.kind not in ("tree", "mesh") and self.bandwidth_delay != BANDWIDTH_DELAY:
            raise ConfigError(f"`bandwidth_delay` is for `tree` and `mesh`, and the kind is `{self.kind}`")
        if self.kind not in RELAYED and self.segment != SEGMENT:
            raise ConfigError(f"`segment` is for `tree`, `chain` and `mesh`, and the kind is `{self.kind}`")
        if self.arity is not None and self.bandwidth_delay != BANDWIDTH_DELAY:
            raise ConfigError("`bandwidth_delay` chooses the arity, which is given: set one of the two")

    def relays(self, lazy_downlink: bool) -> bool:
        """Whether ranks pass messages on; a star does only for messages of any length, and with itself alone."""
        return self.kind in RELAYED or (self.kind == "star" and lazy_downlink)

    def way(self, nbytes: int, ranks: int) -> "Way":
        """How a message of so many bytes reaches so many ranks."""
        if self.kind == "mesh" and ranks > 1:
            segment = min(self.segment, max(MESH_LEAST, nbytes // (MESH_SHARE * (ranks - 1))))
            by_star = cost(nbytes, ranks, ranks - 1, self.segment, self.bandwidth_delay)
            if mesh_cost(nbytes, ranks, segment, self.bandwidth_delay) < by_star:
                return Way(ranks, 0, cuts(nbytes, segment, HEADER_NBYTES))
        return Way(ranks, self._arity(nbytes, ranks), cuts(nbytes, self.segment, self.segment))

    def _arity(self, nbytes: int, ranks: int) -> int:
        """The children that each rank has in the tree for a message of so many bytes."""
        most = max(1, ranks - 1)
        if self.kind == "chain":
            return 1
        if self.kind in ("star", "mesh"):
            return most
        return min(self.arity, most) if self.arity else best_arity(nbytes, ranks, self.segment, self.bandwidth_delay)


BY_ITSELF = Spreading()


class Way(NamedTuple):
    """How one message goes.

    Attributes
    ----------
    ranks : int
        Those that it goes to, rank 0 among them, which has it.
    arity : int
        Children of each in the tree; 0: there is none, for it goes by a mesh.
    cuts : list of (int, int)
        Where each segment begins and ends.
    """

    ranks: int
    arity: int
    cuts: list[tuple[int, int]]

    @property
    def one_by_one(self) -> bool:
        """Whether rank 0 sends all of it to everyone, and nobody passes anything on."""
        return self.arity >= self.ranks - 1

    def to(self, rank: int, number: int) -> Sequence[int]:
        """Whom a rank passes a segment on to, in order."""
        if self.arity:
            return children(rank, self.ranks, self.arity)
        if number == 0:
            return range(1, self.ranks) if rank == 0 else ()
        first = self._first(number)
        if rank == 0:
            return (first,)
        return [other for other in range(1, self.ranks) if other != rank] if rank == first else ()

    def source(self, rank: int, number: int) -> int:
        """Whom a rank other than 0 has a segment from."""
        if self.arity:
            return parent(rank, self.arity)
        first = self._first(number)
        return 0 if number == 0 or rank == first else first

    def _first(self, number: int) -> int:
        """Whom rank 0 of a mesh sends a segment to, other than the header."""
        return 1 + (number - 1) % (self.ranks - 1)


def cuts(nbytes: int, segment: int, first: int) -> list[tuple[int, int]]:
    """Where each segment of a message begins and ends, the first being so long; of very long messages, the others are
    longer than asked for.
    """
    length = max(segment, -(-nbytes // MOST_SEGMENTS))
    starts = [0, *range(first, nbytes, length)]
    return list(itertools.pairwise([*starts, nbytes]))


def children(rank: int, ranks: int, arity: int) -> range:
    """Whom a rank passes a message of rank 0 on to, in order."""
    first = rank * arity + 1
    return range(min(first, ranks), min(first + arity, ranks))


def parent(rank: int, arity: int) -> int:
    """Whom a rank other than 0 has it from."""
    return (rank - 1) // arity


def height(ranks: int, arity: int) -> int:
    """How often a message is passed on until the last rank has it."""
    levels, rank = 0, ranks - 1
    while rank:
        rank, levels = parent(rank, arity), levels + 1
    return levels


def cost(nbytes: int, ranks: int, arity: int, segment: int, bandwidth_delay: int) -> int:
    """When the last rank has all, in bytes that a cable could have carried till then."""
    return arity * nbytes + height(ranks, arity) * (bandwidth_delay + arity * min(segment, nbytes))


def mesh_cost(nbytes: int, ranks: int, segment: int, bandwidth_delay: int) -> int:
    """The same of a mesh."""
    return (ranks - 1) * HEADER_NBYTES + nbytes + 2 * bandwidth_delay + (ranks - 2) * min(segment, nbytes)


@cache
def _arities(ranks: int) -> tuple[int, ...]:
    """The least arity of each height: another one is no better."""
    least: dict[int, int] = {}
    for arity in range(1, min(ranks, STAR_MOST)):
        least.setdefault(height(ranks, arity), arity)
    return tuple(least.values())


def best_arity(nbytes: int, ranks: int, segment: int = SEGMENT, bandwidth_delay: int = BANDWIDTH_DELAY) -> int:
    """The arity of least cost; of several the smallest."""
    return min(_arities(ranks) or (1,), key=lambda arity: cost(nbytes, ranks, arity, segment, bandwidth_delay))
