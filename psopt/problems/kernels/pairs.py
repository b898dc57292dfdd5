"""Products of many rows with a few rows of weights, two of these at a time, whose sums stay in registers.

Six rows meet two of weights in one loop over features, and two columns of derivatives meet four vectors of features in
one loop over rows: fourteen and eleven of the sixteen registers that AVX2 has. What is worked on next is fetched from
memory meanwhile, a line or so beside every four turns of a loop: asked for at once it would wait in line, and the rows
at hand behind it.
"""

# links.py cd66843bcde0
# vectors.py 897d45b343c4

from typing import Any

from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from psopt.problems.kernels.links import FAST
from psopt.problems.kernels.vectors import PLACE, Vectors, called

ROWS = 6  # of a tile of scores
VECTORS = 4  # of features, of a tile of the gradient


def _scores(builder: Any, real: Any, X: Any, apart: Any, rows: Any, P: Any, vectors: Any, pairs: Any, S: Any,
            length: Any, fresh: Any, ahead: Any, step: Any, lines: Any) -> None:  # fmt: skip
    """`scores`, tile by tile."""
    of = Vectors(builder, real)
    sums, fetch = of.sums(ROWS, 2), of.fetching(ahead, step, lines)
    pair = PLACE(2 * of.lanes)
    beside = builder.mul(length, PLACE(of.lanes))  # from one row of weights to the next, in S
    with cgutils.for_range_slice(builder, PLACE(0), rows, PLACE(ROWS), PLACE, inc=True) as (first, _):
        starts = of.rows(X, apart, first, rows, ROWS)
        with cgutils.for_range(builder, pairs) as outer:
            weights = of.at(P, builder.mul(outer.index, builder.mul(vectors, pair)))
            of.clear(sums)

            both_of = of.walk(weights, pair)
            along = cgutils.alloca_once(builder, PLACE)
            builder.store(PLACE(0), along)

            def add(both_of: Any = both_of, starts: Any = starts) -> None:
                here, offset = both_of(), builder.load(along)
                builder.store(builder.add(offset, PLACE(of.lanes)), along)
                both = of.load(here), of.load(of.at(here, of.lanes))
                for start, row in zip(starts, sums, strict=True):
                    x = of.load(of.at(start, offset))
                    for place, factor in zip(row, both, strict=True):
                        of.add_product(place, x, factor)

            of.repeat(vectors, fetch, add)
            corner = of.at(S, builder.mul(outer.index, builder.mul(beside, PLACE(2))))
            corner = of.at(corner, builder.mul(first, PLACE(of.lanes)))
            for i, (one, other) in enumerate(sums):
                of.settle(one, of.at(corner, i * of.lanes), fresh)
                of.settle(other, of.at(corner, i * of.lanes, beside), fresh)


def _gradient(builder: Any, real: Any, X: Any, apart: Any, rows: Any, D: Any, length: Any, units: Any, G: Any,
              below: Any, strips: Any, fresh: Any, ahead: Any, step: Any, lines: Any) -> None:  # fmt: skip
    """`gradient`, tile by tile."""
    of = Vectors(builder, real)
    sums, fetch = of.sums(VECTORS, 2), of.fetching(ahead, step, lines)
    pairs = builder.sdiv(builder.add(units, PLACE(1)), PLACE(2))
    with cgutils.for_range(builder, strips) as outer:
        across = builder.mul(outer.index, PLACE(VECTORS * of.lanes))
        strip = of.at(X, across)
        with cgutils.for_range(builder, pairs) as middle:
            unit = builder.mul(middle.index, PLACE(2))
            first = of.at(D, builder.mul(unit, length))
            second = of.at(first, length)
            of.clear(sums)

            rows_of, one_of, other_of = of.walk(strip, apart), of.walk(first, 1), of.walk(second, 1)

            def add(rows_of: Any = rows_of, one_of: Any = one_of, other_of: Any = other_of) -> None:
                both, start = (of.spread(one_of()), of.spread(other_of())), rows_of()
                for v, pair in enumerate(sums):
                    x = of.load(of.at(start, v * of.lanes))
                    for place, factor in zip(pair, both, strict=True):
                        of.add_product(place, x, factor)

            of.repeat(rows, fetch, add)
            target = of.at(G, builder.mul(unit, below), across)
            for v, (one, _) in enumerate(sums):
                of.settle(one, of.at(target, v * of.lanes), fresh)
            with builder.if_then(builder.icmp_signed("<", builder.add(unit, PLACE(1)), units)):
                target = of.at(target, below)
                for v, (_, other) in enumerate(sums):
                    of.settle(other, of.at(target, v * of.lanes), fresh)


@intrinsic
def _call_scores(_typing: Any, X: Any, apart: Any, rows: Any, P: Any, vectors: Any, pairs: Any, S: Any, length: Any,
                 fresh: Any, ahead: Any, step: Any, lines: Any) -> tuple:  # fmt: skip
    place = types.intp
    kinds = X, place, place, P, place, place, S, place, types.boolean, ahead, place, place
    return called("scores", _scores, *kinds)


@intrinsic
def _call_gradient(_typing: Any, X: Any, apart: Any, rows: Any, D: Any, length: Any, units: Any, G: Any, below: Any,
                   strips: Any, fresh: Any, ahead: Any, step: Any, lines: Any) -> tuple:  # fmt: skip
    place = types.intp
    kinds = X, place, place, D, place, place, G, place, place, types.boolean, ahead, place, place
    return called("gradient", _gradient, *kinds)


@njit(cache=True, nogil=True, error_model="numpy", fastmath=FAST)
def scores(X, apart, rows, P, vectors, pairs, S, length, fresh, ahead, step, lines):
    """Partial sums of the products of rows with weights, over whole vectors of features.

    With L = `lanes_of` X, S[(k length + b) L + l] <- sum_v X[b apart + v L + l] w_k[v L + l], or that is added for not
    ``fresh``; for b < rows, v < vectors and k < 2 pairs, where w_k stands in P: for each pair and v, first the even
    row's vector and then the odd one's.

    Parameters
    ----------
    X : ndarray, flat
    apart : int
        From row to row of X.
    rows, vectors, pairs : int
    P : ndarray, flat, 2 pairs vectors L elements
    S : ndarray, flat, 2 pairs length L elements
    length : int
        A multiple of `ROWS`, ``rows`` or above: partial sums behind the last row's are overwritten.
    fresh : bool
    ahead : ndarray, flat
        To be fetched from memory meanwhile, ``step`` elements beside every four vectors.
    step : int
    """
    _call_scores(X, apart, rows, P, vectors, pairs, S, length, fresh, ahead, step, lines)


@njit(cache=True, nogil=True, error_model="numpy", fastmath=FAST)
def gradient(X, apart, rows, D, length, units, G, below, strips, fresh, ahead, step, lines):
    """G[k below + j] <- sum_b D[k length + b] X[b apart + j], or that is added for not ``fresh``; for b < rows,
    j < strips `VECTORS` L, with L = `lanes_of` X, and k < units.

    Parameters
    ----------
    X : ndarray, flat
    apart : int
        From row to row of X.
    rows : int
    D : ndarray, flat, ``length`` elements a unit
        Where ``units`` is odd there is one unit more, whose products go nowhere.
    length, units : int
    G : ndarray, flat
    below, strips : int
    fresh : bool
    ahead : ndarray, flat
        To be fetched from memory meanwhile, ``step`` elements beside every four rows.
    step : int
    """
    _call_gradient(X, apart, rows, D, length, units, G, below, strips, fresh, ahead, step, lines)
