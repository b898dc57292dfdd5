"""How many threads each rank computes with: its fair share of the cores that it may run on.

A core is shared by the ranks of its host that compute and may run on it; a rank's share is what it has of all its cores
together, and one thread at least. A rank without workers, as the server's, mostly waits and takes no share.
"""

from collections.abc import Iterable, Sequence
from fractions import Fraction
from typing import TYPE_CHECKING

from psopt.config import RunConfig
from psopt.launch import affinity, cores
from psopt.problems.base import Problem
from psopt.problems.crew import Crew

if TYPE_CHECKING:
    from psopt.transports.mpi import Link

Place = tuple[str, Sequence[int], bool]
"""A rank's host, the cores that it may run on, and whether it computes."""


def shares(places: Sequence[Place]) -> list[int]:
    """How many threads each rank is to have, in rank order."""
    users: dict[tuple[str, int], int] = {}
    for host, own, computes in places:
        for core in own if computes else ():
            users[host, core] = users.get((host, core), 0) + 1
    return [
        max(1, int(sum(Fraction(1, users[host, core]) for core in own))) if computes else 1
        for host, own, computes in places
    ]


def in_process(config: RunConfig, at_once: int = 1) -> int:
    """How many threads a run in this process may use, where so many share its cores."""
    return max(1, cores() // at_once) if config.threads == "auto" else config.threads


def on_rank(config: RunConfig, link: "Link", computes: bool) -> int:
    """The same for this rank of a job; all ranks call it together."""
    return _wanted(config, link.gather([link.host, affinity(), computes], config.timeouts.start_s))[link.rank]


def foreseen(config: RunConfig, computing: Sequence[bool]) -> list[int]:
    """The same for each rank of a job that is not begun, on this machine; ``computing``: whether it has workers."""
    return _wanted(config, [("here", affinity(), computes) for computes in computing])


def _wanted(config: RunConfig, places: Sequence[Place]) -> list[int]:
    if config.threads == "auto":
        return shares(places)
    return [config.threads if computes else 1 for _, _, computes in places]


def parts_of(problem: Problem | None) -> int:
    """Of how many parts the problem's passes over its shard are, hence for how many threads there is work."""
    return problem.parts if callable(getattr(problem, "employ", None)) else 1


def employ(crew: Crew, problems: Iterable[Problem]) -> None:
    """Starts as many of the threads as the problems of a rank have work for, and hands them over."""
    several = [problem for problem in problems if parts_of(problem) > 1]
    crew.engage(max(map(parts_of, several), default=1))
    for problem in several:
        problem.employ(crew)
