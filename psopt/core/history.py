"""How theta moved lately: the last D squared step lengths, and the iterates a selection still needs."""

from collections import deque

import numpy as np

from psopt.problems import kernels


class History:
    """The last ``window`` values of ||theta^{k+1} - theta^k||^2, newest first."""

    SAVED = ("_squared_steps",)

    def __init__(self, window: int) -> None:
        self._squared_steps: deque[float] = deque(maxlen=window)

    def advance(self, squared_step: float) -> None:
        self._squared_steps.appendleft(squared_step)

    def squared_steps(self) -> list[float]:
        """At most D values, float64, d = 1 first."""
        return list(self._squared_steps)


class Anchors:
    """The iterates at which workers were last contacted, kept once each by round, not once a worker.

    Before its first contact a worker's anchor is theta^1.
    """

    SAVED = ("_iterates", "_round")

    def __init__(self, workers: int, theta: np.ndarray) -> None:
        self._round = [0] * workers
        self._iterates = {0: theta.copy()}

    def contact(self, workers: np.ndarray | None, k: int, theta: np.ndarray) -> None:
        """Workers (None: everyone) are sent theta in round k."""
        chosen = range(len(self._round)) if workers is None else workers
        for m in chosen:
            self._round[m] = k
        if len(chosen):
            self._iterates[k] = theta.copy()
            needed = set(self._round)
            self._iterates = {at: iterate for at, iterate in self._iterates.items() if at in needed}

    def drifts(self, theta: np.ndarray) -> list[float]:
        """||anchor_m - theta||^2 for every m, shape (M,)."""
        by_round = {at: kernels.vector.squared_distance(iterate, theta) for at, iterate in self._iterates.items()}
        return [by_round[at] for at in self._round]

    def __len__(self) -> int:
        """How many distinct iterates are held."""
        return len(self._iterates)
