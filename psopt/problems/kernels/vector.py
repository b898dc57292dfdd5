"""Passes over whole vectors that trigger, server and history make every round, each in one sweep over memory.

Norms are accumulated in float64 whatever the dtype, block by block; the order of sums depends on the length alone.
"""

# links.py cd66843bcde0

import numpy as np
from numba import njit

from psopt.problems.kernels.links import FAST

_BLOCK = 2048  # elements; 16 KB of float64


@njit(cache=True, nogil=True, error_model="numpy", fastmath=FAST)
def squared_distance(a, b):
    """||a - b||^2, float64, for a, b of shape (d,); the difference is not written anywhere."""
    total = 0.0
    for start in range(0, a.size, _BLOCK):
        part = 0.0
        for j in range(start, min(start + _BLOCK, a.size)):
            difference = np.float64(a[j]) - np.float64(b[j])
            part += difference * difference
        total += part
    return total


@njit(cache=True, nogil=True, error_model="numpy", fastmath=FAST)
def squared_norm(a):
    """||a||^2, float64, for a of shape (d,)."""
    total = 0.0
    for start in range(0, a.size, _BLOCK):
        part = 0.0
        for j in range(start, min(start + _BLOCK, a.size)):
            value = np.float64(a[j])
            part += value * value
        total += part
    return total


@njit(cache=True, nogil=True, error_model="numpy", fastmath=False)
def sum_columns(stale, start, block):
    """block <- 0 + the columns of ``stale``, shape (M, any), that begin at ``start``, summed in the order of rows.

    Rows go by fours, and what is left of them together: each pass more over a block in the first-level cache was a
    tenth of the server's step. No fastmath, so that every element is the same, bit for bit, as adding one row after the
    other to zero.
    """
    workers, stop, zero = stale.shape[0], start + block.size, block.dtype.type(0)
    fours = workers - workers % 4
    for m in range(0, fours, 4):
        begun = m > 0
        s0, s1, s2, s3 = (
            stale[m, start:stop],
            stale[m + 1, start:stop],
            stale[m + 2, start:stop],
            stale[m + 3, start:stop],
        )
        for j in range(block.size):
            block[j] = ((((block[j] if begun else zero) + s0[j]) + s1[j]) + s2[j]) + s3[j]
    begun = fours > 0
    if workers - fours == 3:
        s0, s1, s2 = stale[fours, start:stop], stale[fours + 1, start:stop], stale[fours + 2, start:stop]
        for j in range(block.size):
            block[j] = (((block[j] if begun else zero) + s0[j]) + s1[j]) + s2[j]
    elif workers - fours == 2:
        s0, s1 = stale[fours, start:stop], stale[fours + 1, start:stop]
        for j in range(block.size):
            block[j] = ((block[j] if begun else zero) + s0[j]) + s1[j]
    elif workers - fours == 1:
        s0 = stale[fours, start:stop]
        for j in range(block.size):
            block[j] = (block[j] if begun else zero) + s0[j]
    elif not begun:
        block[:] = zero


@njit(cache=True, nogil=True, error_model="numpy", fastmath=False)
def sum_rows(stale, first, out):
    """out <- 0 + stale[0] + stale[1] + ..., in that order; ``out`` has shape (d,), and row m of ``stale`` begins with
    ``first`` elements that are none of it, shape (M, at least first + d).
    """
    for start in range(0, out.size, _BLOCK):
        sum_columns(stale, first + start, out[start : start + _BLOCK])


@njit(cache=True, nogil=True, error_model="numpy", fastmath=False)
def weigh_rows(stale, first, chosen, shares, out):
    """out <- 0 + shares[0] stale[chosen[0]] + ..., in that order, with the bits of doing it row by row in NumPy.

    ``stale`` and ``first`` are as for `sum_rows`, ``chosen`` has shape (S,), int64, ``shares`` (S,) in the dtype of
    ``out``, shape (d,).
    """
    for start in range(0, out.size, _BLOCK):
        stop = min(start + _BLOCK, out.size)
        block = out[start:stop]
        block[:] = 0
        for i in range(chosen.size):
            row, share = stale[chosen[i], first + start : first + stop], shares[i]
            for j in range(block.size):
                block[j] += share * row[j]


@njit(cache=True, nogil=True, error_model="numpy", fastmath=FAST)
def regularise(theta, scale, l2, out):
    """out <- scale * out + l2 * theta, both shape (d,); returns ||theta||^2, float64."""
    real = out.dtype.type
    by, weight = real(scale), real(l2)
    total = 0.0
    for start in range(0, theta.size, _BLOCK):
        part = 0.0
        block, own = out[start : start + _BLOCK], theta[start : start + _BLOCK]
        for j in range(block.size):
            value = np.float64(own[j])
            block[j] = by * block[j] + weight * real(own[j])
            part += value * value
        total += part
    return total


@njit(cache=True, nogil=True, error_model="numpy", fastmath=FAST)
def all_finite(a):
    """Whether no element of a, shape (d,), is NaN or infinite; stops at the first block that holds one."""
    zero = a.dtype.type(0)
    for start in range(0, a.size, _BLOCK):
        poison = zero  # 0 * finite is 0; 0 * NaN and 0 * inf are NaN
        for j in range(start, min(start + _BLOCK, a.size)):
            poison += a[j] * zero
        if poison != zero:
            return False
    return True
