"""Gradients with noise of their own, and many steps along them in one call: a quadratic and a kink.

The samples ``rows`` are numbers that `noise` makes normals of; a batch has the mean of its samples' normals. Arithmetic
is float64 whatever theta's dtype. Scratch ``z``, float64, shape (2 pairs,), holds the first normal of each pair, then
the second ones.
"""

# links.py cd66843bcde0
# noise.py 970a66248fcd
# steps.py 0fa249932d84

import numpy as np
from numba import njit

from psopt.problems.kernels.links import FAST
from psopt.problems.kernels.noise import sum_normals
from psopt.problems.kernels.steps import move


@njit(cache=True, nogil=True, error_model="numpy", fastmath=FAST)
def quadratic_gradient(theta, rows, curvature, multiplicative, additive, weight, z, out):
    """weight * the mean over ``rows`` of sum_j c_j/2 x_j^2 (1 + a z1_j) + b x_j z2_j, and its gradient into ``out``.

    Parameters
    ----------
    theta : ndarray, shape (d,)
        x.
    rows : ndarray, shape (B,), int64
        Of no rows it is the expectation.
    curvature : ndarray, shape (d,), float64
        c.
    multiplicative, additive, weight : float
        a, b, and what the function is multiplied by.
    z : ndarray, shape (2 d,), float64; overwritten
        z1_j and z2_j are pair j.
    out : ndarray, shape (d,)
    """
    first, second = z[: theta.size], z[theta.size :]
    sum_normals(rows, first, second)
    samples = max(rows.size, 1)
    a, b = multiplicative / samples, additive / samples
    real = out.dtype.type
    value = 0.0
    for j in range(theta.size):
        x = np.float64(theta[j])
        slope = curvature[j] * x * (1.0 + a * first[j])
        push = b * second[j]
        out[j] = real(weight * (slope + push))
        value += x * (0.5 * slope + push)
    return weight * value


@njit(cache=True, nogil=True, error_model="numpy", fastmath=FAST)
def kink_gradient(theta, rows, noise, weight, z, out):
    """weight * the mean over ``rows`` of sum_j phi(x_j) + b x_j z_j, and its gradient into ``out``.

    phi(x) is x^2 from 0 on and x^2/2 below; b is ``noise``. theta, ``rows``, ``weight`` and ``out`` are those of
    `quadratic_gradient`; z has d elements, or d + 1 if d is odd, of which z_j is element j.
    """
    pairs = z.size // 2
    sum_normals(rows, z[:pairs], z[pairs:])
    b = noise / max(rows.size, 1)
    real = out.dtype.type
    value = 0.0
    for j in range(theta.size):
        x = np.float64(theta[j])
        slope = x + (x if x >= 0.0 else 0.0)
        push = b * z[j]
        out[j] = real(weight * (slope + push))
        value += x * (0.5 * slope + push)
    return weight * value


@njit(cache=True, nogil=True, error_model="numpy", fastmath=FAST)
def quadratic_steps(
    kind,
    coefficients,
    moments,
    count,
    theta,
    rows,
    ends,
    step_sizes,
    curvature,
    multiplicative,
    additive,
    weight,
    z,
    gradient,
):
    """Steps of a `Rule`, given by its four fields; step s is along the gradient of the samples rows[ends[s]:ends[s+1]].

    Parameters
    ----------
    theta : ndarray, shape (d,)
        In place.
    ends : ndarray, shape (steps + 1,), int64
    step_sizes : ndarray, shape (steps,), float64
    gradient : ndarray, shape (d,), theta's dtype; overwritten
    The others are those of `quadratic_gradient`.
    """
    for s in range(step_sizes.size):
        batch = rows[ends[s] : ends[s + 1]]
        quadratic_gradient(theta, batch, curvature, multiplicative, additive, weight, z, gradient)
        move(kind, coefficients, moments, count, theta, gradient, step_sizes[s])


@njit(cache=True, nogil=True, error_model="numpy", fastmath=FAST)
def kink_steps(kind, coefficients, moments, count, theta, rows, ends, step_sizes, noise, weight, z, gradient):
    """The same for `kink_gradient`."""
    for s in range(step_sizes.size):
        kink_gradient(theta, rows[ends[s] : ends[s + 1]], noise, weight, z, gradient)
        move(kind, coefficients, moments, count, theta, gradient, step_sizes[s])
