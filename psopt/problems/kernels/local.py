"""Many local steps of a linear model in one call: a worker's own SGD between two rounds, at a few hundred ns a step.

Step s moves theta by a `steps.Rule` with step size step_sizes[s], along

    g = weight / B * sum of loss'(x_i.theta, y_i) x_i + l2 theta

over the B samples i in rows[ends[s]:ends[s + 1]]. Gradients of batches are those of `rows`; what has a path of its own
is plain descent, where g need not be written down. Nothing is checked: a caller asks `rows.all_inside` first, and looks
at theta afterwards, in which a NaN or an infinity stays.
"""

# csr.py 92e475cacad6
# streams.py 81c42ef4dc37
# links.py cd66843bcde0
# rows.py 5b901b9f5cc3
# steps.py 0fa249932d84
# vector.py ee57d9191f88

import numpy as np
from numba import njit

from psopt.problems.kernels.csr import block_margins, block_scatter
from psopt.problems.kernels.links import FAST, LOGISTIC, exp_negative
from psopt.problems.kernels.rows import csr_rows_gradient, dense_rows_gradient
from psopt.problems.kernels.steps import DESCENT, move
from psopt.problems.kernels.streams import row_margin
from psopt.problems.kernels.vector import regularise

_SMALL, _LARGE = 1e-6, 1e6  # how far theta's factor may go from 1 before it is multiplied in


@njit(cache=True, nogil=True, error_model="numpy", fastmath=FAST)
def slope(link, z, y):
    """loss'(z, y), float64, for one row: `links.settle` is made for many, and for the losses as well."""
    if link == LOGISTIC:
        m = y * z
        e = exp_negative(-abs(m))
        return -y * (e if m >= 0.0 else 1.0) / (1.0 + e)
    return z - y


@njit(cache=True, nogil=True, error_model="numpy", fastmath=FAST)
def shift(theta, shrink, by, x, following):
    """theta <- shrink theta + by x, and of the new theta following.theta, in one pass; all shape (d,)."""
    real = theta.dtype.type
    p, q, s = real(shrink), real(by), real(0)
    for j in range(theta.size):
        t = p * theta[j] + q * x[j]
        theta[j] = t
        s += t * following[j]
    return s


@njit(cache=True, nogil=True, error_model="numpy", fastmath=FAST)
def dense_single_steps(link, X, labels, theta, rows, step_sizes, weight, l2):
    """Descent with batches of one row; a step's pass over theta forms the next step's margin as well."""
    last = rows.size - 1
    z = row_margin(X[rows[0]], theta)
    for s in range(rows.size):
        i, following = rows[s], rows[min(s + 1, last)]
        by = -step_sizes[s] * weight * slope(link, np.float64(z), labels[i])
        z = shift(theta, 1.0 - step_sizes[s] * l2, by, X[i], X[following])


@njit(cache=True, nogil=True, error_model="numpy", fastmath=FAST)
def dense_local_steps(
    link, X, labels, kind, coefficients, moments, count, theta, rows, ends, step_sizes, weight, l2, g, panel, own, z
):
    """Local steps with dense features.

    Parameters
    ----------
    link : SQUARES or LOGISTIC
    X : ndarray, shape (n, d), C-contiguous
    labels : ndarray, shape (n,), float64, in the order of X
    kind, coefficients, moments, count
        The fields of a `steps.Rule`; the last two are written into.
    theta : ndarray, shape (d,); written into
    rows : ndarray, shape (total,), int64
    ends : ndarray, shape (steps + 1,), int64, from 0 to total
    step_sizes : ndarray, shape (steps,), float64
    weight, l2 : float
        What multiplies the mean over a batch, and theta.
    g : ndarray, shape (d,), the dtype of theta; overwritten, as are ``panel``, ``own`` and ``z``
    panel, own, z
        As `dense_rows_gradient` takes them.
    """
    if kind == DESCENT and rows.size == step_sizes.size:
        count[0] += rows.size
        dense_single_steps(link, X, labels, theta, rows, step_sizes, weight, l2)
        return
    for s in range(step_sizes.size):
        batch = rows[ends[s] : ends[s + 1]]
        dense_rows_gradient(link, X, labels, batch, theta, g, panel, own, z)
        regularise(theta, weight / batch.size, l2, g)
        move(kind, coefficients, moments, count, theta, g, step_sizes[s])


@njit(cache=True, nogil=True, error_model="numpy", fastmath=FAST)
def scale(theta, factor):
    """theta <- factor theta."""
    if factor != 1.0:
        by = theta.dtype.type(factor)
        for j in range(theta.size):
            theta[j] *= by


@njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract"})
def csr_local_steps(
    link,
    data,
    indices,
    indptr,
    labels,
    kind,
    coefficients,
    moments,
    count,
    theta,
    rows,
    ends,
    step_sizes,
    weight,
    l2,
    g,
    own,
    z,
):
    """The same for the CSR matrix that `csr_gradient` takes, labels in its order; ``own`` and ``z`` are scratch.

    Descent keeps theta as factor * v, with v in theta's place, so that a step costs what its rows hold and not d.
    """
    one = np.uint64(1)
    factor = 1.0
    for s in range(step_sizes.size):
        batch = rows[ends[s] : ends[s + 1]]
        if kind == DESCENT and batch.size <= z.size:
            count[0] += 1
            for b in range(batch.size):
                i = np.uint64(batch[b])
                block_margins(data, indices, indptr, indices[:0], theta, i, i + one, z[b:])
            before = factor
            factor *= 1.0 - step_sizes[s] * l2
            if not _SMALL <= abs(factor) <= _LARGE:
                scale(theta, factor)
                factor = 1.0
            by = -step_sizes[s] * weight / (batch.size * factor)
            for b in range(batch.size):
                i = np.uint64(batch[b])
                z[b] = by * slope(link, before * z[b], labels[i])
            for b in range(batch.size):
                i = np.uint64(batch[b])
                block_scatter(data, indices, indptr, indices[:0], i, i + one, z[b:], theta)
        else:
            scale(theta, factor)
            factor = 1.0
            csr_rows_gradient(link, data, indices, indptr, labels, batch, theta, g, own, z)
            regularise(theta, weight / batch.size, l2, g)
            move(kind, coefficients, moments, count, theta, g, step_sizes[s])
    scale(theta, factor)
