"""Several sides of one comparison, measured in turns, so that a busy machine spoils all alike."""

import importlib.util
import time
from collections.abc import Callable, Mapping
from statistics import median
from typing import Any

LEAST_TURNS = 9
SLOW_S = 1.0
"""A side that takes longer gets fewer turns: three at least."""
FEWEST_TURNS = 3


def take_turns(
    sides: Mapping[str, Callable[[], object]],
    seconds: float,
    before: Callable[[], object] | None = None,
    clock: Callable[[], float] = time.thread_time,
) -> dict[str, float]:
    """Median seconds of a call of each side.

    Parameters
    ----------
    sides : mapping of name to callable
        Each is called once to warm up, which is not measured, and then once a turn; who comes first alternates.
    seconds : float
        About how long all turns take together; there are at least nine, or three where a turn takes a second and more.
    before : callable, optional
        Called before each turn, outside of the clock: what makes the turn's data.
    clock : callable
        What is read before and after a call. The default counts the seconds in which this thread had a core: for sides
        of one thread the wall's seconds, less those in which others had it. Give `time.perf_counter` for what waits.
    """
    times: dict[str, list[float]] = {name: [] for name in sides}
    order = list(sides.items())
    if before:
        before()
    start = time.perf_counter()
    for _, side in order:
        side()
    least = LEAST_TURNS if time.perf_counter() - start < SLOW_S else FEWEST_TURNS
    end = time.perf_counter() + seconds
    turns = 0
    while turns < least or time.perf_counter() < end:
        if before:
            before()
        for name, side in order:
            start = clock()
            side()
            times[name].append(clock() - start)
        order.reverse()
        turns += 1
    return {name: median(taken) for name, taken in times.items()}


def installed(package: str) -> bool:
    """Whether it could be imported; it is not."""
    return importlib.util.find_spec(package) is not None


def torch_or_none() -> Any:
    """PyTorch on one thread, if it is installed."""
    if not installed("torch"):
        return None
    import torch

    torch.set_num_threads(1)
    return torch


def scipy_or_none() -> Any:
    """SciPy's sparse matrices, if SciPy is installed."""
    if not installed("scipy"):
        return None
    import scipy.sparse

    return scipy.sparse
