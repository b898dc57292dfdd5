"""How a message for everyone reaches all ranks: the shape of a tree of ranks, and what it costs.

A message of n bytes goes in segments of S bytes: each rank passes a segment on to its a children as soon as it has it,
so that all levels of the tree are busy at once. In the time that a cable takes for a byte, the last rank has all after

    a n + h (B + a S)

where h is the height of the tree, and B, the bandwidth-delay product, is what a cable carries while a message is under
way. A star (a = ranks - 1, h = 1) is soonest for short messages, a chain (a = 1) for long ones, a tree between them.
Every rank works a out for itself from the size of the message, which stands in its header, so that short and long
messages of one run go by different trees.
"""

import itertools
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Le

from psopt.errors import ConfigError

SEGMENT = 8192
"""Short enough that MPI sends it unasked, and that eleven hosts in a chain have all of 100 kB soon after the first."""

BANDWIDTH_DELAY = 32768
"""25 kB at 10 Mbit/s and 20 ms or 200 Mbit/s and 1 ms, 62 kB at 100 Mbit/s and 5 ms: slow networks are much alike."""

MOST_SEGMENTS = 512

STAR_MOST = 65536
"""A star of so many ranks or fewer is looked at."""


@dataclass(frozen=True)
class Spreading:
    """How a message for everyone goes from the server to all ranks of an MPI job; changes no result.

    Attributes
    ----------
    kind : 'auto', 'collective', 'star', 'tree' or 'chain'
        `collective`: by MPI's own broadcast. `star`: from the server to each rank. `tree`: from rank to rank, in
        segments, which go on while more come. `chain`: a tree of arity 1. `auto`: a star where all ranks are known to
        share a host and theta is sent, else `collective`.
    arity : int, optional
        How many ranks each rank of a `tree` passes a message on to. Default: the best for each message's size.
    segment : int
        Bytes of a segment, for `tree` and `chain`.
    bandwidth_delay : int
        The bytes that a cable of the network carries in the time a message takes from host to host: by this the arity
        is chosen.
    """

    kind: Literal["auto", "collective", "star", "tree", "chain"] = "auto"
    arity: Annotated[int, Ge(1), Le(1024)] | None = None
    segment: Annotated[int, Ge(256), Le(1048576)] = SEGMENT
    bandwidth_delay: Annotated[int, Gt(0), Le(2**40)] = BANDWIDTH_DELAY

    def __post_init__(self) -> None:
        if self.kind != "tree" and (self.arity is not None or self.bandwidth_delay != BANDWIDTH_DELAY):
            raise ConfigError(f"`arity` and `bandwidth_delay` are for `tree`, and the kind is `{self.kind}`")
        if self.kind not in ("tree", "chain") and self.segment != SEGMENT:
            raise ConfigError(f"`segment` is for `tree` and `chain`, and the kind is `{self.kind}`")
        if self.arity is not None and self.bandwidth_delay != BANDWIDTH_DELAY:
            raise ConfigError("`bandwidth_delay` chooses the arity, which is given: set one of the two")

    def relays(self, lazy_downlink: bool) -> bool:
        """Whether ranks pass messages on; a star does only for messages of any length, and with itself alone."""
        return self.kind in ("tree", "chain") or (self.kind == "star" and lazy_downlink)

    def cuts(self, nbytes: int) -> list[tuple[int, int]]:
        """Where each segment of a message begins and ends; of very long ones, all but the first are longer."""
        length = max(self.segment, -(-nbytes // MOST_SEGMENTS))
        starts = [0, *range(self.segment, nbytes, length)]
        return list(itertools.pairwise([*starts, nbytes]))

    def arity_for(self, nbytes: int, ranks: int) -> int:
        """The children that each rank has for a message of so many bytes."""
        most = max(1, ranks - 1)
        if self.kind == "chain":
            return 1
        if self.kind == "star":
            return most
        return min(self.arity, most) if self.arity else best_arity(nbytes, ranks, self.segment, self.bandwidth_delay)


BY_ITSELF = Spreading()


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
