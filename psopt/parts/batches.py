"""A worker's stream of batches, one after the other or many at once: the rows are the same."""

from typing import Any

import numpy as np

from psopt.problems.base import Problem

AHEAD = 256
"""With ``replace`` so many rows are drawn at least at a time; it changes none of them."""


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

    SAVED = ("_after", "_block", "_next", "_rng")
    __slots__ = ("_after", "_block", "_next", "_replace", "_rng", "_size", "problem", "rows")

    def __init__(self, problem: Problem, rng: np.random.Generator, size: int, replace: bool) -> None:
        self.problem, self._rng, self._size, self._replace = problem, rng, size, replace
        self.rows = self._block = np.empty(0, np.int64)  # an epoch, or rows drawn ahead
        self._next, self._after = 0, rng.bit_generator.state  # what the generator is when the block is used up

    def draw(self) -> np.ndarray:
        """The rows of the next batch."""
        self.rows = self._take(1)
        return self.rows

    def draw_many(self, count: int) -> tuple[np.ndarray, np.ndarray]:
        """The rows of the next ``count`` batches, one after the other, and where each begins and ends, shape
        (count + 1,), int64.
        """
        size = self._size
        rows = self._take(count)
        if rows.size == count * size:
            return rows, np.arange(0, rows.size + 1, size)
        taken, lengths = [], []
        while True:
            batches = -(-rows.size // size)
            taken.append(rows)
            lengths += [size] * (batches - 1) + [rows.size - (batches - 1) * size]
            count -= batches
            if not count:
                return np.concatenate(taken), np.concatenate([[0], np.cumsum(lengths)])
            rows = self._take(count)

    def _take(self, count: int) -> np.ndarray:
        """The rows of up to ``count`` batches, of one epoch or of one block; all of them whole with ``replace``."""
        wanted = count * self._size
        if self._next >= self._block.size:
            self._refill(wanted)
        rows = self._block[self._next : self._next + wanted]
        self._next += wanted
        return rows

    def _refill(self, wanted: int) -> None:
        if self._replace:
            batches = max(wanted, AHEAD) // self._size
            self._block = self._rng.integers(self.problem.samples, size=max(1, batches) * self._size)
        else:
            self._block = self._rng.permutation(self.problem.samples)
        self._next, self._after = 0, self._rng.bit_generator.state

    def mark(self) -> Any:
        """The present place in the stream."""
        return self._block, self._next, self._after

    def again(self, mark: Any) -> "Batches":
        """A stream of its own that goes on from ``mark``; this one stays where it is."""
        block, place, after = mark
        generator = type(self._rng.bit_generator)()
        generator.state = after
        stream = Batches(self.problem, np.random.Generator(generator), self._size, self._replace)
        stream._block, stream._next = block, place
        return stream
