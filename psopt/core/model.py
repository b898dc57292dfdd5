"""What a round changes: theta, what is held of each worker, and the update's own state.

The server has one. With ``downlink: changes`` every rank has one too, told what the workers said, or the aggregate that
it came to, and the same code on the same numbers keeps them equal, bit for bit.
"""

from collections.abc import Sequence
from functools import partial

import numpy as np

from psopt.algorithm import Algorithm
from psopt.core.room import NO_ROOM, Room


def goes_with(part: object, quick: str, plain: str) -> bool:
    """Whether a part's ``quick`` way was written for its ``plain`` one: a class that has replaced the latter alone, or
    never had the former, means what its plain way does.
    """
    own = next((kind for kind in type(part).__mro__ if plain in vars(kind)), object)
    return quick in vars(own)


def lands_in_rows(algorithm: Algorithm) -> bool:
    """Whether uploads may arrive where they are held, in place of the codec's and the aggregator's `absorb`."""
    codec, aggregator = algorithm.codec, algorithm.aggregator
    moves = all(goes_with(aggregator, quick, "absorb") for quick in ("move", "land"))
    return goes_with(codec, "verbatim", "absorb") and codec.verbatim and moves


class Model:
    """theta, shape (dim,), copied, and the state of aggregator and update, in the ``room`` that a transport offers, as
    far as the row allows; ``samples`` is n_m of every worker.

    Each round, ``open`` begins, and ``absorb(m, payload)`` takes what worker m said; the payload may be overwritten
    afterwards, unless it is the worker's own row in the room.
    """

    SAVED = ("_aggregate", "_moments", "theta")

    def __init__(self, algorithm: Algorithm, theta: np.ndarray, samples: Sequence[int], room: Room = NO_ROOM) -> None:
        self.theta = np.empty_like(theta) if room.theta is None else room.theta
        self.theta[:] = theta
        self._algorithm = algorithm
        dim, dtype, fill = theta.size, theta.dtype, algorithm.start.fill
        self._aggregator, self._update = algorithm.aggregator, algorithm.update
        self._aggregate = self._aggregator.init(dim, dtype, fill, algorithm.codec, samples)
        self._lands = room.rows is not None and lands_in_rows(algorithm)
        if self._lands:
            self._aggregator.move(self._aggregate, room.rows)
        self._moments = self._update.init(dim, dtype)
        self._stepped = algorithm.workers_step
        owes, steps = goes_with(self._aggregator, "owed", "total"), goes_with(self._update, "step_along_rows", "step")
        self._owed = partial(self._aggregator.owed, self._aggregate) if owes and steps else None
        self.open = partial(self._aggregator.open, self._aggregate)
        self.absorb = partial(self._aggregator.absorb, self._aggregate)

    def land(self, uploaded: np.ndarray, vectors: Sequence[np.ndarray]) -> None:
        """``absorb(m, vectors[m])`` for every worker with ``uploaded[m]``, shape (M,), bool; where there is a room for
        rows, these are the vectors.
        """
        if self._lands:
            self._aggregator.land(self._aggregate, uploaded)
        else:
            for m in np.flatnonzero(uploaded).tolist():
                self.absorb(m, vectors[m])

    def step(self, step_size: float) -> float:
        """Moves theta and returns ||theta^{k+1} - theta^k||^2; the step size counts here unless workers applied it."""
        if self._stepped:
            step_size = 1.0
        if self._owed:
            owed = self._owed()
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
