"""What the processes of one test session need that run tests side by side: turns, and kernels compiled but once."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from psopt.problems.kernels import warm


class Turns:
    """Tests share a room, which one that has to be alone gets for itself.

    Parameters
    ----------
    folder : Path
        Of the lock files. Locks are of open files: a process that dies gives its own back.
    """

    def __init__(self, folder: Path) -> None:
        self._door, self._room = (os.open(folder / name, os.O_CREAT | os.O_RDWR) for name in ("door", "room"))

    @contextmanager
    def __call__(self, alone: bool) -> Iterator[None]:
        fcntl.flock(self._door, fcntl.LOCK_EX)  # nobody overtakes one who waits to be alone
        try:
            fcntl.flock(self._room, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        finally:
            fcntl.flock(self._door, fcntl.LOCK_UN)
        try:
            yield
        finally:
            fcntl.flock(self._room, fcntl.LOCK_UN)


def compile_share(number: int) -> None:
    """Compiles the kernels of one type of theta, float64 for even numbers, or loads them from Numba's cache.

    Two types share no machine code. What only few tests call is left to them.
    """
    dtype = ("float64", "float32")[number % 2]
    for sparse in (False, True):
        for kind in ("logistic", "perceptron"):
            warm.warm_up(dtype, sparse, curvature=True, kind=kind)
    warm.warm_top_k(dtype, np.dtype(dtype))
    warm.warm_rounding(dtype)
    if number % 2:
        warm.warm_calls()
        warm.warm_packing()
