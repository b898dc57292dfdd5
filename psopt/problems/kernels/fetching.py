"""Memory asked for before it is needed, so that arithmetic and waiting overlap.

A shard larger than the caches is read once a gradient. The hardware notices a stream only after some lines of it, and
anew for each of several rows that are read together; a kernel knows what it will read next.
"""

# links.py cd66843bcde0

from typing import Any

from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from psopt.problems.kernels.links import FAST

_LINE_NBYTES = 64  # of the cache; where lines are longer, some are asked for twice
_READ, _SECOND_LEVEL, _DATA = 0, 2, 1  # llvm.prefetch: for reading; into the second-level cache; data, not code


@intrinsic
def _fetch_line(_typing: Any, X: Any, _place: Any) -> tuple:
    """The machine's instruction for the line that holds element ``_place`` of the C-contiguous X, in memory order."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        array = context.make_array(signature.args[0])(context, builder, arguments[0])
        address = builder.bitcast(builder.gep(array.data, [arguments[1]]), cgutils.voidptr_t)
        number = ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [address.type, number, number, number])
        prefetch = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        builder.call(prefetch, [address, number(_READ), number(_SECOND_LEVEL), number(_DATA)])
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
    for place in range(start, min(stop, X.size), _LINE_NBYTES // X.itemsize):
        _fetch_line(X, place)
