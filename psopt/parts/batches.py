"""A worker's stream of batches, one after the other or many at once: the rows are the same."""

from typing import Any

import numpy as np

from psopt.problems.base import Problem


class Batches:
    """Row numbers of the shard, int64, a batch at a time.

    Without ``replace`` each epoch goes through the shard in an order drawn anew; its last batch may be smaller, and of
    a shard with fewer rows than ``size`` each batch is all of it.

    Attributes
    ----------
    problem : Problem
    rows : ndarray, shape (at most size,)
        The batch that was drawn last by `draw`.
    """

    __slots__ = ("_next", "_order", "_replace", "_rng", "_size", "problem", "rows")

    def __init__(self, problem: Problem, rng: np.random.Generator, size: int, replace: bool) -> None:
        self.problem, self._rng, self._size, self._replace = problem, rng, size, replace
        self.rows = self._order = np.empty(0, np.int64)
        self._next = 0

    def draw(self) -> np.ndarray:
        """The rows of the next batch."""
        if self._replace:
            self.rows = self._rng.integers(self.problem.samples, size=self._size)
        else:
            self.rows = self._take(1)
        return self.rows

    def draw_many(self, count: int) -> tuple[np.ndarray, np.ndarray]:
        """The rows of the next ``count`` batches, one after the other, and where each begins and ends, shape
        (count + 1,), int64.
        """
        size = self._size
        if self._replace:
            rows = self._rng.integers(self.problem.samples, size=count * size)
            return rows, np.arange(0, rows.size + 1, size)
        taken, lengths = [], []
        while count:
            rows = self._take(count)
            batches = -(-rows.size // size)
            taken.append(rows)
            lengths += [size] * (batches - 1) + [rows.size - (batches - 1) * size]
            count -= batches
        return np.concatenate(taken), np.concatenate([[0], np.cumsum(lengths)])

    def _take(self, count: int) -> np.ndarray:
        """The rows of up to ``count`` batches of one epoch."""
        if self._next >= self._order.size:
            self._order, self._next = self._rng.permutation(self.problem.samples), 0
        rows = self._order[self._next : self._next + count * self._size]
        self._next += count * self._size
        return rows

    def mark(self) -> Any:
        """The present place in the stream."""
        return self._rng.bit_generator.state, self._order, self._next

    def again(self, mark: Any) -> "Batches":
        """A stream of its own that goes on from ``mark``; this one stays where it is."""
        state, order, place = mark
        generator = type(self._rng.bit_generator)()
        generator.state = state
        stream = Batches(self.problem, np.random.Generator(generator), self._size, self._replace)
        stream._order, stream._next = order, place
        return stream
