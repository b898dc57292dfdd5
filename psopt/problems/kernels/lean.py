"""Numba without what psopt's kernels do not need: a quarter of a second of each rank's start."""

import importlib
import importlib.util
import sys

_LINEAR_ALGEBRA = "scipy.linalg"


def load_numba() -> None:
    """Loads Numba's functions of arrays, as its first compilation would, but not SciPy's linear algebra.

    Numba imports that to learn whether there is a BLAS, which decides how `np.convolve` and `np.correlate` add up in
    code that it compiles; products of arrays look for themselves. Where the answer is no they add up by themselves. No
    kernel of psopt calls either. What has been imported already is left as it is.
    """
    if _LINEAR_ALGEBRA in sys.modules or importlib.util.find_spec("scipy") is None:
        return
    sys.modules[_LINEAR_ALGEBRA] = None  # type: ignore[assignment]  # its import fails, as where there is no SciPy
    try:
        importlib.import_module("numba.np.arraymath")
    finally:
        del sys.modules[_LINEAR_ALGEBRA]
