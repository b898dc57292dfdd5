"""Chosen rows of a shard: copied side by side, or straight to the loss and gradient of a linear model.

``rows`` are int64 indices into the shard, in any order, repeated or not; a caller asks `all_inside` first. The order of
every sum depends on the shapes and on ``rows`` alone.
"""

# links.py cd66843bcde0
# streams.py 81c42ef4dc37
# csr.py 92e475cacad6

import numpy as np
from numba import njit

from psopt.problems.kernels.csr import block_margins, block_scatter
from psopt.problems.kernels.links import FAST, settle
from psopt.problems.kernels.streams import axpys, margins, row_axpy, row_margin


@njit(cache=True, nogil=True, error_model="numpy", fastmath=FAST)
def all_inside(rows, n):
    """Whether 0 <= i < n for every i of rows, shape (B,)."""
    outside = 0
    for b in range(rows.size):
        outside += rows[b] < 0 or rows[b] >= n
    return outside == 0


@njit(cache=True, nogil=True, error_model="numpy", fastmath=FAST)
def take_dense(X, rows, out):
    """out[b] <- x_{rows[b]}, for X of shape (n, d), out (B, d)."""
    for b in range(rows.size):
        x, place = X[rows[b]], out[b]
        for j in range(place.size):
            place[j] = x[j]


@njit(cache=True, nogil=True, error_model="numpy", fastmath=FAST)
def take_csr(data, indices, indptr, rows, out):
    """out[b] <- x_{rows[b]} with its zeros written out, shape (B, d); the matrix as `csr_value` takes it."""
    one = np.uint64(1)
    ones = data.size == 0
    out[:] = 0
    for b in range(rows.size):
        i, place = np.uint64(rows[b]), out[b]
        p, end = np.uint64(indptr[i]), np.uint64(indptr[i + one])
        while p < end:
            place[indices[p]] = 1 if ones else data[p]
            p += one


@njit(cache=True, nogil=True, error_model="numpy", fastmath=FAST)
def dense_rows_gradient(link, X, labels, rows, theta, out, panel, own, z):
    """sum over ``rows`` of loss(x_i.theta, y_i), float64, and its gradient into ``out``, shape (d,).

    Parameters
    ----------
    link : SQUARES or LOGISTIC
    X : ndarray, shape (n, d), C-contiguous
    labels : ndarray, shape (n,), float64, in the order of X
    rows : ndarray, shape (B,), int64
    theta : ndarray, shape (d,)
    panel : ndarray, shape (tile, d), the dtype of X; overwritten, as are ``own`` and ``z``
    own, z : ndarray, shape (tile,), float64
    """
    tile = z.size
    total = 0.0
    out[:] = 0
    for start in range(0, rows.size, tile):
        count = min(tile, rows.size - start)
        q = count // 8
        for b in range(count):
            i = rows[start + b]
            x, place = X[i], panel[b]
            for j in range(place.size):
                place[j] = x[j]
            # dense's order: the rows b, q + b, ..., 7q + b are worked on together
            own[8 * (b % q) + b // q if b < 8 * q else b] = labels[i]
        margins(panel, theta, q, 0, q, z, False)
        for b in range(8 * q, count):
            z[b] = row_margin(panel[b], theta)
        total += settle(link, z, own, 0, count)
        axpys(panel, q, 0, q, z, out, False)
        for b in range(8 * q, count):
            row_axpy(panel[b], z[b], out)
    return total


@njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract"})
def csr_rows_gradient(link, data, indices, indptr, labels, rows, theta, out, own, z):
    """The same for the CSR matrix and the labels that `csr_gradient` takes; ``own`` is scratch like z."""
    block = z.size
    total = 0.0
    out[:] = 0
    for start in range(0, rows.size, block):
        count = min(block, rows.size - start)
        for b in range(count):
            i = np.uint64(rows[start + b])
            own[b] = labels[i]
            block_margins(data, indices, indptr, indices[:0], theta, i, i + np.uint64(1), z[b:])
        total += settle(link, z, own, 0, count)
        for b in range(count):
            i = np.uint64(rows[start + b])
            block_scatter(data, indices, indptr, indices[:0], i, i + np.uint64(1), z[b:], out)
    return total
