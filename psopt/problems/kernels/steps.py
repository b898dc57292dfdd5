"""One step along a gradient, by descent, momentum or AdamW, in one pass: the server's, and each local one of a worker.

Each element is computed without fastmath, so that whoever repeats a step on the same numbers has the same bits.
Returned is always ||change||^2 as it was made, float64.
"""

# links.py cd66843bcde0
# vector.py ee57d9191f88

from typing import NamedTuple

import numpy as np
from numba import njit

from psopt.problems.kernels.links import FAST
from psopt.problems.kernels.vector import sum_columns

DESCENT, MOMENTUM, ADAMW = range(3)
_BLOCK = 2048


class Rule(NamedTuple):
    """How a step is made, as plain arrays that kernels take.

    Attributes
    ----------
    kind : DESCENT, MOMENTUM or ADAMW
    coefficients : ndarray, float64
        MOMENTUM: momentum, and 1 for Nesterov's step, else 0. ADAMW: beta1, beta2, epsilon, weight decay.
    moments : ndarray, shape (0, dim), (1, dim) or (2, dim)
        What the rule remembers, in theta's dtype; written into.
    count : ndarray, shape (1,), int64
        Steps made so far; written into.
    """

    kind: int
    coefficients: np.ndarray
    moments: np.ndarray
    count: np.ndarray


class Walk(NamedTuple):
    """Many steps, one after the other: step s goes along the gradient of the samples rows[ends[s]:ends[s + 1]].

    Attributes
    ----------
    rows : ndarray, shape (total,), int64
    ends : ndarray, shape (steps + 1,), int64, rising from 0 to total
    step_sizes : ndarray, shape (steps,), float64
    """

    rows: np.ndarray
    ends: np.ndarray
    step_sizes: np.ndarray


def rule(kind: int, coefficients: tuple[float, ...], dim: int, dtype: np.dtype) -> Rule:
    """A rule that has made no step yet; its number is also that of the vectors it remembers."""
    return Rule(kind, np.array(coefficients, np.float64), np.zeros((kind, dim), dtype), np.zeros(1, np.int64))


@njit(cache=True, nogil=True, error_model="numpy", fastmath=False)
def _step(old, step_size, direction):
    # The product and the difference are rounded one by one, here and on every other rank. fastmath=False is written
    # out because Numba lets a function without the word inherit its caller's.
    return old - step_size * direction


@njit(cache=True, nogil=True, error_model="numpy", fastmath=False)
def _change(new, old):
    # Without fastmath: (old - s g) - old must not become -s g.
    return new - old


@njit(cache=True, nogil=True, error_model="numpy", fastmath=FAST)
def _descend_block(block, direction, step):
    part = 0.0
    for j in range(block.size):  # over views: from 0, so that LLVM sees no index that could wrap around
        old = block[j]
        new = _step(old, step, direction[j])
        block[j] = new
        change = np.float64(_change(new, old))
        part += change * change
    return part


@njit(cache=True, nogil=True, error_model="numpy", fastmath=FAST)
def descend(theta, aggregate, step_size):
    """theta <- theta - step_size * aggregate, both shape (d,); returns ||change||^2 as it was made, float64.

    The step is rounded to theta's dtype first, so that theta equals NumPy's ``theta - step_size * aggregate``, bit for
    bit; the change is new minus old after rounding, which is what a threshold is owed.
    """
    step = theta.dtype.type(step_size)
    total = 0.0
    for start in range(0, theta.size, _BLOCK):
        total += _descend_block(theta[start : start + _BLOCK], aggregate[start : start + _BLOCK], step)
    return total


@njit(cache=True, nogil=True, error_model="numpy", fastmath=FAST)
def descend_along_rows(theta, stale, first, total, step_size):
    """`sum_rows` into ``total`` and `descend` along it, in one pass over memory and with the same bits."""
    step = theta.dtype.type(step_size)
    squared = 0.0
    for start in range(0, theta.size, _BLOCK):
        direction = total[start : start + _BLOCK]
        sum_columns(stale, first + start, direction)
        squared += _descend_block(theta[start : start + _BLOCK], direction, step)
    return squared


@njit(cache=True, nogil=True, error_model="numpy", fastmath=False)
def _heavy(velocity, momentum, gradient):
    return momentum * velocity + gradient


@njit(cache=True, nogil=True, error_model="numpy", fastmath=False)
def _average(old, beta, rest, new):
    return beta * old + rest * new


@njit(cache=True, nogil=True, error_model="numpy", fastmath=False)
def _adapted(old, shrink, step_size, first, second, epsilon):
    return shrink * old - step_size * first / (np.sqrt(second) + epsilon)


@njit(cache=True, nogil=True, error_model="numpy", fastmath=FAST)
def momentum_step(theta, gradient, velocity, step_size, momentum, nesterov):
    """v <- momentum v + g, then theta <- theta - step_size v, or with ``nesterov`` theta - step_size (g + momentum v).

    theta, gradient and velocity have shape (d,).
    """
    real = theta.dtype.type
    step, mu = real(step_size), real(momentum)
    total = 0.0
    for start in range(0, theta.size, _BLOCK):
        part = 0.0
        stop = start + _BLOCK
        block, g, v = theta[start:stop], gradient[start:stop], velocity[start:stop]
        for j in range(block.size):
            old = block[j]
            heavy = _heavy(v[j], mu, g[j])
            v[j] = heavy
            new = _step(old, step, _heavy(heavy, mu, g[j]) if nesterov else heavy)
            block[j] = new
            change = np.float64(_change(new, old))
            part += change * change
        total += part
    return total


@njit(cache=True, nogil=True, error_model="numpy", fastmath=FAST)
def adamw_step(theta, gradient, first, second, count, step_size, beta1, beta2, epsilon, decay):
    """AdamW, step number ``count`` = 1, 2, ...: decoupled weight decay, moments corrected for their start at zero.

    theta, gradient and the moments ``first`` and ``second`` have shape (d,).
    """
    real = theta.dtype.type
    # m / (1 - beta1^t) and sqrt(v / (1 - beta2^t)) + eps, with the corrections taken out of the loop
    root = np.sqrt(1.0 - beta2**count)
    step, eps = real(step_size * root / (1.0 - beta1**count)), real(epsilon * root)
    b1, b2, rest1, rest2 = real(beta1), real(beta2), real(1.0 - beta1), real(1.0 - beta2)
    shrink = real(1.0 - step_size * decay)
    total = 0.0
    for start in range(0, theta.size, _BLOCK):
        part = 0.0
        stop = start + _BLOCK
        block, g, m, v = theta[start:stop], gradient[start:stop], first[start:stop], second[start:stop]
        for j in range(block.size):
            old = block[j]
            m[j] = _average(m[j], b1, rest1, g[j])
            v[j] = _average(v[j], b2, rest2, g[j] * g[j])
            new = _adapted(old, shrink, step, m[j], v[j], eps)
            block[j] = new
            change = np.float64(_change(new, old))
            part += change * change
        total += part
    return total


@njit(cache=True, nogil=True, error_model="numpy", fastmath=FAST)
def move(kind, coefficients, moments, count, theta, gradient, step_size):
    """One step of a `Rule`, given by its four fields; theta, shape (d,), in place."""
    count[0] += 1
    if kind == MOMENTUM:
        return momentum_step(theta, gradient, moments[0], step_size, coefficients[0], coefficients[1] != 0.0)
    if kind == ADAMW:
        beta1, beta2, epsilon, decay = coefficients[0], coefficients[1], coefficients[2], coefficients[3]
        return adamw_step(theta, gradient, moments[0], moments[1], count[0], step_size, beta1, beta2, epsilon, decay)
    return descend(theta, gradient, step_size)
