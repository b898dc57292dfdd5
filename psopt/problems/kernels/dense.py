"""Dense kernels: value and gradient of sum_i loss(x_i.theta, y_i) in one pass over X.

With q = n // 8 the rows i, q + i, ..., 7q + i are worked on together, as `streams` does it. A tile of such rows is
still in a cache when it is used the second time, for the gradient. The last n - 8q rows go one at a time. The order of
every sum depends on the shape alone.

Labels come in the order of the sweep, as `sweep_order` gives it, so that a tile's labels lie side by side.
"""

# links.py cd66843bcde0
# streams.py 81c42ef4dc37

import numpy as np
from numba import njit

from psopt.problems.kernels.links import FAST, settle
from psopt.problems.kernels.streams import STREAMS, axpys, margins, row_axpy, row_margin

_TILE_NBYTES = 65536
_LONG_NBYTES = 3072  # rows of this length and more make tiles of their own, for which memory can be asked ahead
_LONGEST_NBYTES = 16384  # eight rows, and half of the next, fit the second-level cache


def sweep_order(labels: np.ndarray) -> np.ndarray:
    """Labels, shape (n,), as a new float64 array in the order of the sweep: entry 8 i + k is row k q + i."""
    q = len(labels) // STREAMS
    ordered = np.array(labels, dtype=np.float64)
    ordered[: STREAMS * q] = ordered[: STREAMS * q].reshape(STREAMS, q).T.ravel()
    return ordered


def scratch(features: np.ndarray) -> np.ndarray:
    """Room for the margins of one tile of ``features``, shape (8 rows,), float64."""
    row_nbytes = max(1, features.shape[1] * features.itemsize)
    return np.empty(STREAMS * (1 if row_nbytes >= _LONG_NBYTES else _TILE_NBYTES // (STREAMS * row_nbytes)))


@njit(cache=True, nogil=True, error_model="numpy", fastmath=FAST)
def _fetches(X, rows):
    """Whether memory is asked for ahead, where a tile is so many rows of each stream."""
    return rows == 1 and X.shape[1] * X.itemsize <= _LONGEST_NBYTES


@njit(cache=True, nogil=True, error_model="numpy", fastmath=FAST)
def dense_value(link, X, labels, theta, z):
    """sum_i loss(x_i.theta, y_i), float64, in one pass.

    Parameters
    ----------
    link : SQUARES or LOGISTIC
    X : ndarray, shape (n, d), C-contiguous
    labels : ndarray, shape (n,), float64, from `sweep_order`
    theta : ndarray, shape (d,)
    z : ndarray, float64, from `scratch`; overwritten
    """
    n = X.shape[0]
    q = n // 8
    rows = z.size // 8
    fetching = _fetches(X, rows)
    total = 0.0
    for start in range(0, q, rows):
        stop = min(start + rows, q)
        margins(X, theta, q, start, stop, z, fetching)
        total += settle(link, z, labels, 8 * start, 8 * (stop - start))
    for i in range(8 * q, n):
        z[0] = row_margin(X[i], theta)
        total += settle(link, z, labels, i, 1)
    return total


@njit(cache=True, nogil=True, error_model="numpy", fastmath=FAST)
def dense_gradient(link, X, labels, theta, out, z):
    """The value as `dense_value` gives it, and out <- sum_i loss'(x_i.theta, y_i) x_i, shape (d,), in one pass."""
    n = X.shape[0]
    q = n // 8
    rows = z.size // 8
    fetching = _fetches(X, rows)
    total = 0.0
    out[:] = 0
    for start in range(0, q, rows):
        stop = min(start + rows, q)
        margins(X, theta, q, start, stop, z, fetching)
        total += settle(link, z, labels, 8 * start, 8 * (stop - start))
        axpys(X, q, start, stop, z, out, fetching)
    for i in range(8 * q, n):
        x = X[i]
        z[0] = row_margin(x, theta)
        total += settle(link, z, labels, i, 1)
        row_axpy(x, z[0], out)
    return total
