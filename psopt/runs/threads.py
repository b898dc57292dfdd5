"""How many threads each rank computes with: its fair share of the cores that it may run on; and that the libraries
below NumPy take one.

A core is shared by the ranks of its host that compute and may run on it; a rank's share is what it has of all its cores
together, and one thread at least. A rank without workers, as the server's, mostly waits and takes no share.
"""

import math
import os
import sys
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

from psopt.config import RunConfig
from psopt.launch import COMMAND, ONE_THREAD, affinity, cores
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
    whole = math.lcm(*users.values())
    return [
        max(1, sum(whole // users[host, core] for core in own) // whole) if computes else 1
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


def libraries_take_one() -> AbstractContextManager[Any]:
    """Within this, what computes below NumPy does so with one thread.

    Where psopt is the program that runs, the environment said so before any of it was loaded, unless it is the user's
    that says otherwise: to look for it once more takes a rank a hundredth of a second.
    """
    if COMMAND in sys.modules and all(os.environ.get(name) == told for name, told in ONE_THREAD.items()):
        return nullcontext()
    from threadpoolctl import threadpool_limits

    return threadpool_limits(1)


def parts_of(problem: Problem | None) -> int:
    """Of how many parts the problem's passes over its shard are, hence for how many threads there is work."""
    return problem.parts if callable(getattr(problem, "employ", None)) else 1


def employ(crew: Crew, problems: Iterable[Problem]) -> None:
    """Starts as many of the threads as the problems of a rank have work for, and hands them over."""
    several = [problem for problem in problems if parts_of(problem) > 1]
    crew.engage(max(map(parts_of, several), default=1))
    for problem in several:
        problem.employ(crew)
