"""Memory asked for before it is needed, so that arithmetic and waiting overlap.

A shard larger than the caches is read once a gradient. The hardware notices a stream only after some lines of it, and
anew for each of several rows that are read together; a kernel knows what it will read next.
"""

# links.py cd66843bcde0
# vectors.py 897d45b343c4

from typing import Any

from numba import njit, types
from numba.extending import intrinsic

from psopt.lines import LINE_NBYTES
from psopt.problems.kernels.links import FAST
from psopt.problems.kernels.vectors import SECOND_LEVEL, ask


@intrinsic
def _fetch_line(_typing: Any, X: Any, _place: Any) -> tuple:
    """The machine's instruction for the line that holds element ``_place`` of the C-contiguous X, in memory order."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        array = context.make_array(signature.args[0])(context, builder, arguments[0])
        ask(builder, builder.gep(array.data, [arguments[1]]), SECOND_LEVEL)
        return context.get_dummy_value()

    return types.void(X, types.intp), generate


@njit(cache=True, nogil=True, error_model="numpy", fastmath=FAST)
def fetch(X, start, stop):
    """Have the elements from ``start`` up to ``stop`` of X brought into the cache, in memory order, and go on at once.

    Nothing is read or written; what lies behind X's end is left alone.

    Parameters
    ----------
    X : ndarray, C-contiguous
    start, stop : int
    """
    for place in range(start, min(stop, X.size), LINE_NBYTES // X.itemsize):
        _fetch_line(X, place)
