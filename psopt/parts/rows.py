"""One vector a worker, in one block of memory."""

from collections.abc import Sequence

import numpy as np

from psopt.parts.mapped import mapped


class Rows:
    """What is held of each worker: a vector each, behind ``first`` elements that are none of it.

    A transport may have made the block, so that uploads arrive where they are held.

    Attributes
    ----------
    block : ndarray, shape (M, at least first + dim), C-contiguous
    first : int
    vectors : sequence of M ndarrays, shape (dim,)
        Views of the block.
    """

    __slots__ = ("block", "first", "vectors")

    def __init__(self, block: np.ndarray, first: int, vectors: Sequence[np.ndarray]) -> None:
        self.block, self.first, self.vectors = block, first, list(vectors)

    @classmethod
    def plain(cls, workers: int, dim: int, dtype: np.dtype, fill: float, mapped_in: str | None = None) -> "Rows":
        """Nothing but the vectors, in memory, where zeros take none before they are written to, or in a file."""
        shape = workers, dim
        block = np.zeros(shape, dtype) if mapped_in is None else mapped(shape, dtype, mapped_in)
        if fill:
            block.fill(fill)
        return cls(block, 0, block)
