"""One vector a worker, in one block of memory."""

from collections.abc import Sequence

import numpy as np


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
    def plain(cls, workers: int, dim: int, dtype: np.dtype, fill: float) -> "Rows":
        """Nothing but the vectors; zeros take no memory before they are written to."""
        block = np.full((workers, dim), fill, dtype) if fill else np.zeros((workers, dim), dtype)
        return cls(block, 0, block)
