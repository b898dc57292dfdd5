"""Products of matrices whose sums stay in registers: six rows of one times sixteen float32, or eight float64, of the
other at a time, a cache line.

The second factor is cut into strips one line wide, each stored as one run of memory, so that it is read straight ahead
out of the second-level cache while six rows of the first stay in the first. BLAS packs both factors at every call, and
is at half its speed or less where one has few rows. Every element is one sum, from the first term to the last, whatever
the width of the machine's vectors.
"""

# links.py cd66843bcde0
# vectors.py 897d45b343c4

from typing import Any

from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from psopt.lines import LINE_NBYTES
from psopt.problems.kernels.links import FAST
from psopt.problems.kernels.vectors import PLACE, Vectors, called

ROWS = 6  # 6 x 2 sums, two vectors of a line and a factor take 15 of the 16 registers that AVX2 has


def _products(builder: Any, real: Any, A: Any, apart: Any, step: Any, rows: Any, terms: Any, P: Any, strips: Any,
              C: Any, below: Any, beside: Any, fresh: Any) -> None:  # fmt: skip
    """`multiply`, tile by tile."""
    of = Vectors(builder, real)
    across = range(0, of.line, of.lanes)
    sums = of.sums(ROWS, len(across))
    with cgutils.for_range_slice(builder, PLACE(0), rows, PLACE(ROWS), PLACE, inc=True) as (first, _):
        starts = of.rows(A, apart, first, rows, ROWS)
        with cgutils.for_range(builder, strips) as outer:
            strip = of.at(P, builder.mul(outer.index, builder.mul(terms, PLACE(of.line))))
            of.clear(sums)
            with cgutils.for_range(builder, terms) as inner:
                here = of.at(strip, builder.mul(inner.index, PLACE(of.line)))
                factors = [of.load(of.at(here, by)) for by in across]
                along = builder.mul(inner.index, step)
                for start, row in zip(starts, sums, strict=True):
                    weight = of.spread(of.at(start, along))
                    for place, factor in zip(row, factors, strict=True):
                        of.add_product(place, weight, factor)
            corner = of.at(C, builder.mul(outer.index, beside))
            for i, row in enumerate(sums):
                number = builder.add(first, PLACE(i))
                with builder.if_then(builder.icmp_signed("<", number, rows)):
                    target = of.at(corner, builder.mul(number, below))
                    for by, place in zip(across, row, strict=True):
                        of.settle(place, of.at(target, by), fresh)


@intrinsic
def _multiply(_typing: Any, A: Any, apart: Any, step: Any, rows: Any, terms: Any, P: Any, strips: Any, C: Any,
              below: Any, beside: Any, fresh: Any) -> tuple:  # fmt: skip
    place = types.intp
    return called("multiply", _products, A, place, place, place, place, P, place, C, place, place, types.boolean)


@njit(cache=True, nogil=True, error_model="numpy", fastmath=FAST)
def line_of(array):
    """Elements of a line, the width of strips."""
    return LINE_NBYTES // array.itemsize


@njit(cache=True, nogil=True, error_model="numpy", fastmath=FAST)
def multiply(A, apart, step, rows, terms, P, strips, C, below, beside, fresh):
    """C[s beside + i below + c] <- sum_k A[i apart + k step] P[(s terms + k) line + c], or that is added for not
    ``fresh``; for i < rows, s < strips and c < line.

    Parameters
    ----------
    A, C : ndarray, flat
    apart, step : int
        From row to row of A, and from term to term.
    rows, terms, strips : int
    P : ndarray, flat
        Strips, one behind the other.
    below, beside : int
        From row to row of C, and from strip to strip.
    fresh : bool
    """
    _multiply(A, apart, step, rows, terms, P, strips, C, below, beside, fresh)


@njit(cache=True, nogil=True, error_model="numpy", fastmath=FAST)
def strips_of_columns(X, out):
    """Strips of X, shape (B, d): ``out`` gets, for each run of columns a line long, these of row 0, of row 1, ...

    Where columns end within a line, zeros follow.
    """
    B, d = X.shape
    line = line_of(X)
    whole = d - d % line
    for b in range(B):
        x = X[b]
        for j in range(0, whole, line):
            y, place = x[j : j + line], out[j * B + b * line : j * B + (b + 1) * line]
            for c in range(place.size):
                place[c] = y[c]
        if whole < d:
            place = out[whole * B + b * line : whole * B + (b + 1) * line]
            place[:] = 0
            for j in range(whole, d):
                place[j - whole] = x[j]


@njit(cache=True, nogil=True, error_model="numpy", fastmath=FAST)
def strips_of_rows(X, out):
    """Strips of the transpose of X, shape (B, d): for each run of rows a line long, their elements in column 0, in
    column 1, ... Where rows end within a line, the last one is repeated.
    """
    B, d = X.shape
    line = line_of(X)
    for b in range(0, -(-B // line) * line, 4):
        x0, x1 = X[min(b, B - 1)], X[min(b + 1, B - 1)]
        x2, x3 = X[min(b + 2, B - 1)], X[min(b + 3, B - 1)]
        first = b - b % line
        fours = out[first * d + b % line : (first + line) * d]
        for j in range(x0.size):
            place = fours[j * line : j * line + 4]
            y0, y1, y2, y3 = x0[j], x1[j], x2[j], x3[j]
            place[0], place[1], place[2], place[3] = y0, y1, y2, y3
