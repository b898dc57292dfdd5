"""What a round changes: theta, what is held of each worker, and the update's own state.

The server has one. With ``downlink: changes`` every rank has one too, told what the workers said and not what came of
it, and the same code on the same numbers keeps them equal, bit for bit.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from psopt.algorithm import Algorithm
from psopt.core.room import NO_ROOM, Room


class Model:
    """theta, shape (dim,), copied, and the state of aggregator and update, in the ``room`` that a transport offers, as
    far as the row allows; ``samples`` is n_m of every worker.

    Each round, ``open`` begins, and ``absorb(m, payload)`` takes what worker m said; the payload may be overwritten
    afterwards.
    """

    SAVED = ("_aggregate", "_moments", "theta")

    def __init__(self, algorithm: Algorithm, theta: np.ndarray, samples: Sequence[int], room: Room = NO_ROOM) -> None:
        self.theta = np.empty_like(theta) if room.theta is None else room.theta
        self.theta[:] = theta
        self._algorithm = algorithm
        dim, dtype, fill = theta.size, theta.dtype, algorithm.start.fill
        self._aggregator, self._update = algorithm.aggregator, algorithm.update
        # What a user's own parts do not tell, they do not do.
        verbatim, move = getattr(algorithm.codec, "verbatim", False), getattr(self._aggregator, "move", None)
        moves, first = room.rows is not None and verbatim and move is not None, self._aggregator
        if moves and getattr(first, "mapped_in", None) is not None:
            first = replace(first, mapped_in=None)  # those rows are mapped already; zeros in memory take none
        self._aggregate = first.init(dim, dtype, fill, algorithm.codec, samples)
        if moves:
            move(self._aggregate, room.rows)
        self._moments = self._update.init(dim, dtype)
        self._stepped = algorithm.workers_step
        self._fused = hasattr(self._aggregator, "owed") and hasattr(self._update, "step_along_rows")
        self.open = partial(self._aggregator.open, self._aggregate)
        self.absorb = partial(self._aggregator.absorb, self._aggregate)

    def step(self, step_size: float) -> float:
        """Moves theta and returns ||theta^{k+1} - theta^k||^2; the step size counts here unless workers applied it."""
        if self._stepped:
            step_size = 1.0
        if self._fused:
            owed = self._aggregator.owed(self._aggregate)
            if owed:
                return self._update.step_along_rows(self._moments, self.theta, *owed, step_size)
        return self._update.step(self._moments, self.theta, self.aggregate(), step_size)

    def aggregate(self) -> np.ndarray:
        """What the next step is taken along, shape (dim,)."""
        return self._aggregator.total(self._aggregate)

    def drop(self, m: int) -> None:
        """Forgets what worker m last said: it leaves the aggregate."""
        self._aggregator.drop(self._aggregate, m)

    def stale(self, m: int) -> np.ndarray:
        """What worker m last said, shape (dim,)."""
        return self._aggregator.stale(self._aggregate, m)
