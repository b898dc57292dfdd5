"""CSR kernels for shards whose stored values are all 1 and whose columns are long: both passes column by column.

What is held is which rows name each column, a block of rows at a time. A column adds its element of theta to the
margins of its rows, and later takes the sum of their weights into the gradient: margins of a block lie in the
first-level cache, a column names no row twice, so that no addition waits for the one before, and columns are long where
rows are short and of many lengths, whose ends a processor cannot foresee.

The columns of a block are the rows of its transpose: its margins are what `csr.block_scatter` adds up, and its gradient
is what `csr.block_margins` finds.
"""

# csr.py 92e475cacad6
# links.py cd66843bcde0

import numpy as np
from numba import njit

from psopt.problems.kernels.csr import STEP, block_margins, block_scatter
from psopt.problems.kernels.links import settle

_BLOCK = 3072  # rows, whose margins take three quarters of the first-level cache
_LEAST = 8  # stored values of a column in a block, on average: with fewer, columns cost more than rows


def scratch() -> np.ndarray:
    """Room for the margins of one block of rows, float64."""
    return np.empty(_BLOCK)


def by_column(indices: np.ndarray, indptr: np.ndarray, d: int) -> tuple[np.ndarray, np.ndarray]:
    """The stored values of the rows that ``indptr`` points to, block by block, and in a block column by column.

    Returns
    -------
    starts : ndarray, of the dtype of ``indptr``, shape (blocks * d + 1,)
        Where each column of each block begins in ``rows``; empty where columns are too short to be worth it.
    rows : ndarray, uint16, shape (nnz,)
        Counted from the first of the block.
    """
    pointers = indptr.astype(np.int64)
    firsts = range(0, len(pointers) - 1, _BLOCK)
    if pointers[-1] - pointers[0] < max(1, _LEAST * d * len(firsts)):
        return np.empty(0, indptr.dtype), np.empty(0, np.uint16)
    lengths, found = np.diff(pointers), []
    counts = np.zeros(d * len(firsts) + 1, np.int64)
    narrow = np.uint16 if d <= 2**16 else np.uint32  # numbers of 16 bits are sorted in a fifth of the time
    for number, first in enumerate(firsts):
        stop = min(first + _BLOCK, len(lengths))
        own = indices[pointers[first] : pointers[stop]].astype(narrow)
        counts[1 + number * d : 1 + (number + 1) * d] = np.bincount(own, minlength=d)
        names = np.repeat(np.arange(stop - first, dtype=np.uint16), lengths[first:stop])
        found.append(names[np.argsort(own, kind="stable")])
    return np.cumsum(counts).astype(indptr.dtype), np.concatenate(found)


@njit(cache=True, nogil=True, error_model="numpy", fastmath=STEP)
def columns_gradient(link, starts, rows, labels, theta, out, z):
    """sum_i loss(x_i.theta, y_i), float64, and out <- sum_i loss'(x_i.theta, y_i) x_i.

    Parameters
    ----------
    link : SQUARES or LOGISTIC
    starts, rows : ndarray
        From `by_column`.
    labels : ndarray, shape (n,), float64
    theta : ndarray, shape (d,)
    out : ndarray, shape (d,), or (0,) to leave the gradient out
    z : ndarray, float64, from `scratch`; overwritten
    """
    d = np.uint64(theta.size)
    found, in_order = np.empty(out.size), np.empty(0, np.uint32)
    total, at = 0.0, np.uint64(0)
    out[:] = 0
    for first in range(0, labels.size, z.size):
        own = z[: min(z.size, labels.size - first)]
        own[:] = 0
        block_scatter(z[:0], rows, starts, in_order, at, at + d, theta, own)
        total += settle(link, own, labels, first, own.size)
        if out.size:
            block_margins(z[:0], rows, starts, in_order, own, at, at + d, found)
            for j in range(out.size):
                out[j] += out.dtype.type(found[j])
        at += d
    return total
