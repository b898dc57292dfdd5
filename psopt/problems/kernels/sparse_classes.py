"""Softmax regression over rows in CSR form: a stored value meets the weights of all classes at once.

Weights and gradient are held feature by feature, a class a lane, so that what a stored value adds to the scores, and
what it takes of the derivatives, are one to four vectors. An image of which a fifth is not zero takes a quarter of the
time that its pixels take when all are multiplied.
"""

# classes.py 2e3fc00fc3e9
# links.py cd66843bcde0
# vectors.py 897d45b343c4

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
from numba import njit, types
from numba.extending import intrinsic

from psopt.lines import VECTOR_NBYTES, zeros
from psopt.problems.kernels.classes import settle_classes
from psopt.problems.kernels.links import FAST
from psopt.problems.kernels.vectors import PLACE, Vectors, called, lanes_of

_ROWS = 96  # a block: their derivatives stay in the first-level cache


def room(features: int, classes: int, dtype: np.dtype) -> tuple[np.ndarray, ...]:
    """What `class_rows` overwrites."""
    lanes = VECTOR_NBYTES // dtype.itemsize
    width = -(-classes // lanes) * lanes
    sizes = features * width, features * width, classes * _ROWS, width, _ROWS
    return *(zeros(size, dtype) for size in sizes), np.zeros(_ROWS, np.int64), np.zeros(_ROWS)


def _each(of: Vectors, data: Any, step: Any, indices: Any, first: Any, count: Any, rows: Any, width: int,
          body: Callable[[Any, Any], None]) -> None:  # fmt: skip
    """``body`` for each of ``count`` stored values from ``first`` on, given it in all lanes, and its feature's row."""
    builder = of.builder
    values = of.walk(of.at(data, builder.mul(first, step)), step)
    columns = of.walk(of.at(indices, first), 1)

    def one() -> None:
        value = of.spread(values())
        column = builder.zext(builder.load(columns()), PLACE)
        body(value, of.at(rows, builder.mul(column, PLACE(width))))

    of.repeat(count, lambda: None, one)


def _scores(vectors: int) -> Callable[..., None]:
    def emit(builder: Any, real: Any, data: Any, step: Any, indices: Any, first: Any, count: Any, W: Any,
             row: Any) -> None:  # fmt: skip
        of = Vectors(builder, real)
        sums = of.sums(2, vectors)  # two of each, in turns: a sum waits for the one before
        of.clear(sums)
        turns = itertools.cycle(sums)

        def add(value: Any, weights: Any) -> None:
            for v, place in enumerate(next(turns)):
                of.add_product(place, value, of.load(of.at(weights, v * of.lanes)))

        _each(of, data, step, indices, first, count, W, vectors * of.lanes, add)
        for v, (one, other) in enumerate(zip(*sums, strict=True)):
            of.store(builder.fadd(builder.load(one), builder.load(other)), of.at(row, v * of.lanes))

    return emit


def _gradient(vectors: int) -> Callable[..., None]:
    def emit(builder: Any, real: Any, data: Any, step: Any, indices: Any, first: Any, count: Any, G: Any,
             row: Any) -> None:  # fmt: skip
        of = Vectors(builder, real)
        factors = [of.load(of.at(row, v * of.lanes)) for v in range(vectors)]

        def add(value: Any, place: Any) -> None:
            for v, factor in enumerate(factors):
                here = of.at(place, v * of.lanes)
                of.store(of.plus_product(of.load(here), value, factor), here)

        _each(of, data, step, indices, first, count, G, vectors * of.lanes, add)

    return emit


def _intrinsic(name: str, emit: Callable[[int], Callable[..., None]]) -> Any:
    """What emits for so many vectors, as a call that Numba can make."""

    @intrinsic
    def call(_typing: Any, data: Any, step: Any, indices: Any, first: Any, count: Any, rows: Any, row: Any,
             vectors: Any) -> tuple:  # fmt: skip
        place = types.intp
        kinds = data, place, indices, place, place, rows, row

        def choose(builder: Any, real: Any, *arguments: Any) -> None:
            *others, wanted = arguments
            done = builder.append_basic_block()
            switch = builder.switch(wanted, done)
            for number in range(1, 5):
                block = builder.append_basic_block()
                switch.add_case(PLACE(number), block)
                builder.position_at_end(block)
                emit(number)(builder, real, *others)
                builder.branch(done)
            builder.position_at_end(done)

        return called(f"{name}_{indices.dtype}", choose, *kinds, place)

    return call


_add_scores = _intrinsic("row_scores", _scores)
_add_gradient = _intrinsic("row_gradient", _gradient)


@njit(cache=True, nogil=True, error_model="numpy", fastmath=FAST)
def class_rows(K, theta, bias, data, indices, indptr, labels, weight, room, out):
    """The summed losses of CSR rows, the number of right predictions, and the gradient times ``weight``.

    Parameters
    ----------
    K : int
        Classes, 16 at most.
    theta : ndarray, shape (dim,)
        Weights, class by class, and then the constants of all classes, if there are any.
    bias : ndarray, shape (K,)
        These constants, or zeros.
    data : ndarray, shape (nnz,), the dtype of theta, or shape (1,) where every stored value is that one
    indices, indptr : ndarray of unsigned integers, shapes (nnz,) and (n + 1,), from `csr.unsigned`
    labels : ndarray, shape (n,), int64
    weight : float
    room : tuple of ndarray
        What `room` makes.
    out : ndarray, shape (dim,), or (0,) to leave the gradient out; overwritten
    """
    W, G, D, row, top, best, mass = room
    lanes = lanes_of(theta)
    vectors = -(-K // lanes)
    width, block, n = vectors * lanes, top.size, labels.size
    d = W.size // width
    step = 0 if data.size == 1 else 1
    for j in range(d):
        for k in range(K):
            W[j * width + k] = theta[k * d + j]
    G[:] = 0
    row[:] = 0
    sums = out[K * d :] if out.size > K * d else out[:0]
    sums[:] = 0
    loss, right = 0.0, 0
    for start in range(0, n, block):
        B = min(block, n - start)
        for b in range(B):
            first, stop = np.int64(indptr[start + b]), np.int64(indptr[start + b + 1])
            _add_scores(data, step, indices, first, stop - first, W, row, vectors)
            for k in range(K):
                D[k * block + b] = row[k]
        part, hits = settle_classes(D, K, block, B, bias, labels[start : start + B], weight, top, best, mass)
        loss += part
        right += hits
        if out.size:
            for b in range(B):
                first, stop = np.int64(indptr[start + b]), np.int64(indptr[start + b + 1])
                for k in range(K):
                    row[k] = D[k * block + b]
                _add_gradient(data, step, indices, first, stop - first, G, row, vectors)
            for k in range(sums.size):
                total = out.dtype.type(0)
                for r in D[k * block : k * block + B]:
                    total += r
                sums[k] += total
    if out.size:
        for k in range(K):
            for j in range(d):
                out[k * d + j] = G[j * width + k]
    return loss, right
