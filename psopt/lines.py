"""Memory that begins with a line of the processor's cache."""

import math

import numpy as np

LINE_NBYTES = 64
"""Of a line; where lines are longer, some things begin within one."""
VECTOR_NBYTES = 32
"""Of the vectors that a processor reads at once; one that lies across two lines takes as long as two."""


def zeros(shape: int | tuple[int, ...], dtype: np.dtype | str) -> np.ndarray:
    """Zeros, C-contiguous, of which the first begins a line."""
    dtype = np.dtype(dtype)
    nbytes = math.prod(shape if isinstance(shape, tuple) else (shape,)) * dtype.itemsize
    room = np.zeros(nbytes + LINE_NBYTES, np.uint8)
    start = -room.ctypes.data % LINE_NBYTES
    return room[start : start + nbytes].view(dtype).reshape(shape)


def straight(rows: np.ndarray) -> np.ndarray:
    """The rows, shape (n, d), C-contiguous, in memory where none of their vectors lies across two lines.

    They stay where they are if they lie so already, or if their length is no multiple of a vector's and it cannot be.
    """
    if rows.shape[1] * rows.itemsize % VECTOR_NBYTES or rows.ctypes.data % VECTOR_NBYTES == 0 or not rows.size:
        return rows
    found = zeros(rows.shape, rows.dtype)
    found[:] = rows
    return found
