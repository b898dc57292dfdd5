"""Eight rows at a time, from eight far-apart places: their products with theta, and their sum into a gradient.

A vector of each of the eight rows meets one of theta, and the eight sums stay in registers; on the way back a vector of
the gradient takes all eight rows before it is stored. Eight rows are as many streams as the hardware fetches ahead.
Where a row ends within a vector, the last one reaches back over elements that have had their turn: those count as zero
in the products, and stay what they are in the gradient.

The hardware fetches ahead only while rows are read for the first time. A caller whose tile is one row of each stream
may have the first half of the next rows asked for in between: asking for more would keep the hardware from doing it.
"""

# links.py cd66843bcde0
# vectors.py 897d45b343c4

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from psopt.problems.kernels.links import FAST
from psopt.problems.kernels.vectors import FIRST_LEVEL, PLACE, Vectors, ask, called, lanes_of

STREAMS = 8
_FIRST_LINES = 4  # of each row, asked for while losses are computed; there is no room for many more requests
_DOUBLE = ir.DoubleType()


def _margins(builder: Any, real: Any, theta: Any, d: Any, X: Any, apart: Any, rows: Any, z: Any, fetching: Any) -> None:
    """`margins`, eight rows by eight."""
    of = Vectors(builder, real)
    [sums] = of.sums(1, STREAMS)
    with cgutils.for_range(builder, rows) as outer:
        starts = _starts(of, X, d, apart, outer.index)
        of.clear([sums])

        def add(along: Any, counted: Any, starts: Any = starts) -> None:
            factor = of.load(of.at(theta, along))
            if counted is not None:
                factor = builder.select(counted, factor, of.zero)
            for start, place in zip(starts, sums, strict=True):
                of.add_product(place, of.load(of.at(start, along)), factor)

        _each_vector(of, d, add, lambda: None)
        found = [builder.load(place) for place in sums]
        target = of.at(z, builder.mul(outer.index, PLACE(STREAMS)))
        for first in range(0, STREAMS, of.lanes):
            totals = of.totals(found[first : first + of.lanes])
            if real != _DOUBLE:
                totals = builder.fpext(totals, ir.VectorType(_DOUBLE, of.lanes))
            of.store(totals, of.at(target, first))
        with builder.if_then(fetching):
            for line in range(_FIRST_LINES):
                for start in starts:
                    ask(builder, of.at(start, builder.mul(rows, d), line * of.line), FIRST_LEVEL)


def _axpys(builder: Any, real: Any, out: Any, d: Any, X: Any, apart: Any, rows: Any, z: Any, fetching: Any) -> None:
    """`axpys`, eight rows by eight."""
    of = Vectors(builder, real)
    with cgutils.for_range(builder, rows) as outer:
        starts = _starts(of, X, d, apart, outer.index)
        weights = of.at(z, builder.mul(outer.index, PLACE(STREAMS)))
        spread = [of.spread(of.at(weights, k)) for k in range(STREAMS)]

        def add(along: Any, counted: Any, starts: Any = starts, spread: Any = spread) -> None:
            here = of.at(out, along)
            total = before = of.load(here)
            for start, weight in zip(starts, spread, strict=True):
                total = of.plus_product(total, of.load(of.at(start, along)), weight)
            of.store(total if counted is None else builder.select(counted, total, before), here)

        next_rows = [of.walk(of.at(start, builder.mul(rows, d), _FIRST_LINES * of.line), of.line) for start in starts]

        def fetch(next_rows: Any = next_rows) -> None:
            with builder.if_then(fetching):
                for go in next_rows:
                    ask(builder, go(), FIRST_LEVEL)

        _each_vector(of, d, add, fetch)


def _starts(of: Vectors, X: Any, d: Any, apart: Any, row: Any) -> list[Any]:
    """Where row ``row`` of each stream begins."""
    first = of.at(X, of.builder.mul(row, d))
    return [of.at(first, of.builder.mul(apart, PLACE(k))) for k in range(STREAMS)]


def _each_vector(of: Vectors, d: Any, add: Callable[[Any, Any], None], before: Callable[[], None]) -> None:
    """``add`` for every whole vector of d elements, given where it begins; and for what is left over, given where the
    last whole one begins and which of its places have not had their turn.
    """
    builder = of.builder
    at = cgutils.alloca_once_value(builder, PLACE(0))

    def one() -> None:
        along = builder.load(at)
        add(along, None)
        builder.store(builder.add(along, PLACE(of.lanes)), at)

    of.repeat(builder.sdiv(d, PLACE(of.lanes)), before, one)
    rest = builder.srem(d, PLACE(of.lanes))
    with builder.if_then(builder.icmp_signed("!=", rest, PLACE(0))):
        add(builder.sub(d, PLACE(of.lanes)), of.last(rest))


@intrinsic
def _call_margins(_typing: Any, theta: Any, d: Any, X: Any, apart: Any, rows: Any, z: Any, fetching: Any) -> tuple:
    place = types.intp
    return called(f"margins_{X.dtype}", _margins, theta, place, X, place, place, z, types.boolean)


@intrinsic
def _call_axpys(_typing: Any, out: Any, d: Any, X: Any, apart: Any, rows: Any, z: Any, fetching: Any) -> tuple:
    place = types.intp
    return called(f"axpys_{X.dtype}", _axpys, out, place, X, place, place, z, types.boolean)


@njit(cache=True, nogil=True, error_model="numpy", fastmath=FAST)
def row_margin(x, theta):
    """x.theta for one row."""
    s = theta.dtype.type(0)
    for j in range(theta.size):
        s += x[j] * theta[j]
    return s


@njit(cache=True, nogil=True, error_model="numpy", fastmath=FAST)
def row_axpy(x, weight, out):
    """out += weight x for one row."""
    r = out.dtype.type(weight)
    for j in range(out.size):
        out[j] += r * x[j]


@njit(cache=True, nogil=True, error_model="numpy", fastmath=FAST)
def margins(X, theta, q, start, stop, z, fetching):
    """z[8 b + k] <- x_{k q + start + b}.theta for the rows start <= start + b < stop of each stream k < 8.

    Parameters
    ----------
    X : ndarray, shape (8 q or more, d), C-contiguous
    theta : ndarray, shape (d,), of X's dtype or wider
    q, start, stop : int
    z : ndarray, float64, 8 (stop - start) elements or more
    fetching : bool
        The first lines of as many rows behind these are then asked for.
    """
    if theta.size >= lanes_of(theta):
        _call_margins(theta, theta.size, X[start:], q * theta.size, stop - start, z, fetching)
        return
    for b in range(stop - start):
        for k in range(STREAMS):
            z[STREAMS * b + k] = row_margin(X[k * q + start + b], theta)


@njit(cache=True, nogil=True, error_model="numpy", fastmath=FAST)
def axpys(X, q, start, stop, z, out, fetching):
    """out += sum over the same rows of z[8 b + k] x_{k q + start + b}; with ``fetching``, what follows the lines that
    `margins` asks for is asked for, up to the middle of those rows.
    """
    if out.size >= lanes_of(out):
        _call_axpys(out, out.size, X[start:], q * out.size, stop - start, z, fetching)
        return
    for b in range(stop - start):
        for k in range(STREAMS):
            row_axpy(X[k * q + start + b], z[STREAMS * b + k], out)
