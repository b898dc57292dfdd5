"""Reading an array once, as fast as a core can: the lower bound of a pass over it, for `psopt bench`."""

# links.py cd66843bcde0

from numba import njit

from psopt.problems.kernels.links import FAST


@njit(cache=True, nogil=True, error_model="numpy", fastmath=FAST)
def read_once(a):
    """The sum of a, shape (n,), from the first element to the last."""
    total = a.dtype.type(0)
    for j in range(a.size):
        total += a[j]
    return total


@njit(cache=True, nogil=True, error_model="numpy", fastmath=FAST)
def read_streams(a):
    """The sum of a, shape (n,), but for what n leaves over 8: eight far-apart places go on together."""
    q = a.size // 8
    x0, x1, x2, x3 = a[:q], a[q : 2 * q], a[2 * q : 3 * q], a[3 * q : 4 * q]
    x4, x5, x6, x7 = a[4 * q : 5 * q], a[5 * q : 6 * q], a[6 * q : 7 * q], a[7 * q : 8 * q]
    total = a.dtype.type(0)
    for j in range(q):
        total += ((x0[j] + x1[j]) + (x2[j] + x3[j])) + ((x4[j] + x5[j]) + (x6[j] + x7[j]))
    return total
