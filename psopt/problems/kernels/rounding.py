"""Numbers rounded to a shorter type, in one sweep."""

import numpy as np
from numba import njit


@njit(cache=True, nogil=True, error_model="numpy", fastmath=False)
def _narrow(x, limit, out):
    real = out.dtype.type
    for i in range(x.size):
        out[i] = real(min(max(x[i], -limit), limit))


def narrow(x: np.ndarray, out: np.ndarray) -> None:
    """out <- x, rounded to nearest; what the shorter type cannot hold becomes its largest number and not infinity.

    Parameters
    ----------
    x : ndarray, shape (n,), float64 or float32
        Finite.
    out : ndarray, shape (n,), float64, float32 or float16
    """
    limit = x.dtype.type(np.finfo(out.dtype).max) if out.dtype.itemsize < x.dtype.itemsize else None
    if limit is None:
        out[:] = x
    elif out.dtype.itemsize == 2:  # no type of Numba's
        np.clip(x, -limit, limit, out=out, casting="unsafe")
    else:
        _narrow(x, limit, out)
