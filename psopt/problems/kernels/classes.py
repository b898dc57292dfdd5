"""Softmax regression over many rows: scores and gradient of a block of rows while these are in the second-level cache.

The sums of `pairs` stay in registers; scores and derivatives are held class by class, so that exponentials are taken
for many rows in one loop.
"""

# links.py cd66843bcde0
# vectors.py 897d45b343c4
# pairs.py 23224a523890

import math

import numpy as np
from numba import njit

from psopt.lines import VECTOR_NBYTES, zeros
from psopt.problems.kernels.links import FAST, exp_negative
from psopt.problems.kernels.pairs import ROWS, VECTORS, gradient, scores
from psopt.problems.kernels.vectors import lanes_of

_PIECE_NBYTES = 3200  # of a row: six rows and two of weights fit the first-level cache
_BLOCK_NBYTES = 150 * 1024  # of rows: these, the next ones and the weights fit the second-level cache
_MOST_ROWS = 96
_LOGS = 16  # masses, each between 1 and the number of classes, whose product is taken before its logarithm


def rows_of(features: int, itemsize: int) -> int:
    """Rows of a block, a multiple of what tiles hold."""
    both = 2 * ROWS
    return both * min(_MOST_ROWS // both, max(1, _BLOCK_NBYTES // (both * itemsize * max(1, features))))


def room(features: int, classes: int, dtype: np.dtype) -> tuple[np.ndarray, ...]:
    """What `class_blocks` overwrites, for blocks of `rows_of` rows."""
    rows, even = rows_of(features, dtype.itemsize), classes + classes % 2
    lanes = VECTOR_NBYTES // dtype.itemsize
    width = VECTORS * lanes
    packed, parts, tail = even * -(-features // width) * width, even * max(rows * lanes, width), rows * width
    sizes = packed, parts, even * rows, tail, rows
    return *(zeros(size, dtype) for size in sizes), np.zeros(rows, np.int64), np.zeros(rows)


@njit(cache=True, nogil=True, error_model="numpy", fastmath=FAST)
def _piece_of(whole, lanes, itemsize):
    """Vectors of a piece of ``whole`` features, which tiles of the gradient divide; the last piece may have fewer."""
    pieces = max(1, -(-whole * itemsize // _PIECE_NBYTES))
    return VECTORS * max(1, -(-whole // (VECTORS * lanes * pieces)))


@njit(cache=True, nogil=True, error_model="numpy", fastmath=FAST)
def _pack(W, out):
    """The rows of W, shape (K, d), as `scores` takes them: piece by piece, and then the columns that are left, zeros
    behind them. A row that is missing to make the last pair is zero."""
    K, d = W.shape
    lanes = lanes_of(W)
    width = VECTORS * lanes
    whole = d - d % width
    step = _piece_of(whole, lanes, W.itemsize) * lanes
    out[: (K + K % 2) * -(-d // width) * width] = 0
    at = start = 0
    while start < d:
        stop = min(start + step, whole) if start < whole else d
        vectors = -(-(stop - start) // lanes) if start < whole else VECTORS
        for k in range(K):
            first = at + (k - k % 2) * vectors * lanes + k % 2 * lanes
            for v in range(-(-(stop - start) // lanes)):
                w, place = W[k, start + v * lanes : stop], out[first + 2 * v * lanes : first + (2 * v + 1) * lanes]
                for i in range(min(lanes, w.size)):
                    place[i] = w[i]
        at += (K + K % 2) * vectors * lanes
        start = stop


@njit(cache=True, nogil=True, error_model="numpy", fastmath=FAST)
def _add_lanes(S, D, K, length, B):
    """D[k length + b] <- the sum of S's vector k length + b, for k < K and b < B."""
    lanes = lanes_of(S)
    for k in range(K):
        z, s = D[k * length : k * length + B], S[k * length * lanes : (k + 1) * length * lanes]
        if lanes == 4:
            for b in range(z.size):
                z[b] = (s[4 * b] + s[4 * b + 1]) + (s[4 * b + 2] + s[4 * b + 3])
        else:
            for b in range(z.size):
                low = (s[8 * b] + s[8 * b + 1]) + (s[8 * b + 2] + s[8 * b + 3])
                z[b] = low + ((s[8 * b + 4] + s[8 * b + 5]) + (s[8 * b + 6] + s[8 * b + 7]))


@njit(cache=True, nogil=True, error_model="numpy", fastmath=FAST)
def settle_classes(D, K, length, B, bias, labels, weight, top, best, mass):
    """`softmax.settle_softmax` for the scores D[k length + b] of class k < K and row b < B.

    What D holds behind the last row of a class is overwritten with numbers of no meaning.

    Parameters
    ----------
    top, best, mass : ndarray, shape (B,) or longer
        Overwritten.
    """
    top, best, mass = top[:B], best[:B], mass[:B]
    poison = 0.0  # 0 * finite is 0; 0 * NaN and 0 * inf are NaN
    z, b = D[:B], bias[0]
    for i in range(z.size):
        score = z[i] + b
        z[i] = score
        poison += np.float64(score) * 0.0
        top[i] = score
        best[i] = 0
    for k in range(1, K):
        z, b = D[k * length : k * length + B], bias[k]
        for i in range(z.size):
            score = z[i] + b
            z[i] = score
            poison += np.float64(score) * 0.0
            above = score > top[i]
            best[i] = k if above else best[i]
            top[i] = score if above else top[i]
    loss, right = 0.0, 0
    for i in range(labels.size):
        loss += np.float64(top[i]) - np.float64(D[labels[i] * length + i])
        right += best[i] == labels[i]
    for k in range(K):
        z = D[k * length : k * length + B]
        for i in range(z.size):
            z[i] = z[i] - top[i]
    every = D[: (K - 1) * length + B]
    for i in range(every.size):  # in one loop, which is long enough to have several exponentials at work
        every[i] = exp_negative(np.float64(every[i]))
    mass[:] = 0
    for k in range(K):
        z = D[k * length : k * length + B]
        for i in range(z.size):
            mass[i] += z[i]
    for first in range(0, B, _LOGS):
        product = 1.0
        for m in mass[first : first + _LOGS]:
            product *= m
        loss += math.log(product)
    for i in range(mass.size):
        mass[i] = weight / mass[i]
    for k in range(K):
        z = D[k * length : k * length + B]
        for i in range(z.size):
            z[i] = z[i] * mass[i]
    for i in range(labels.size):
        D[labels[i] * length + i] -= D.dtype.type(weight)
    return loss + poison, right


@njit(cache=True, nogil=True, error_model="numpy", fastmath=FAST)
def class_blocks(K, theta, bias, X, labels, weight, block, room, out, fresh):
    """The summed losses of the rows X, the number of right predictions, and the gradient times ``weight``.

    Parameters
    ----------
    K : int
        Classes.
    theta : ndarray, shape (dim,)
        Weights, class by class, and then the constants of all classes, if there are any.
    bias : ndarray, shape (K,)
        These constants, or zeros.
    X : ndarray, shape (n, d), C-contiguous
    labels : ndarray, shape (n,), int64
    weight : float
    block : int
        `rows_of` X's rows.
    room : tuple of ndarray
        What `room` makes.
    out : ndarray, shape (dim,), or (0,) to leave the gradient out
        Not theta itself.
    fresh : bool
        The gradient goes over ``out``; otherwise it is added to it.
    """
    P, S, D, tail, top, best, mass = room
    n, d = X.shape
    flat = X.reshape(n * d)
    lanes = lanes_of(X)
    width = VECTORS * lanes
    whole = d - d % width
    rest, vectors, strips = d - whole, whole // lanes, whole // width
    piece = _piece_of(whole, lanes, X.itemsize)
    pairs = (K + 1) // 2
    _pack(theta[: K * d].reshape((K, d)), P)
    loss, right = 0.0, 0
    for start in range(0, n, block):
        B = min(block, n - start)
        x = flat[start * d : (start + B) * d]
        later = flat[(start + B) * d : min(n, start + B + block) * d]
        early = -(-B // ROWS) * pairs * (vectors // 4)  # fours of vectors, and then of rows, to fetch beside
        late = strips * pairs * (B // 4) if out.size else 0
        step = -(-later.size // max(1, early + late))
        lines = -(-step // (2 * lanes))
        if rest:
            for b in range(B):
                place, y = tail[b * width : b * width + rest], x[b * d + whole : (b + 1) * d]
                for j in range(place.size):
                    place[j] = y[j]
        used = at = 0
        for v in range(0, vectors, piece):
            some = min(piece, vectors - v)
            share = some * early // max(1, vectors) * step
            scores(x[v * lanes :], d, B, P[used:], some, pairs, S, block, v == 0, later[at:], step, lines)
            used += 2 * pairs * some * lanes
            at += share
        if rest:
            scores(tail, width, B, P[used:], VECTORS, pairs, S, block, whole == 0, later, 0, 0)
        _add_lanes(S, D, K, block, B)
        part, hits = settle_classes(D, K, block, B, bias, labels[start : start + B], weight, top, best, mass)
        loss += part
        right += hits
        if out.size:
            over = fresh and start == 0
            gradient(x, d, B, D, block, K, out, d, strips, over, later[at:], step, lines)
            if rest:
                gradient(tail, width, B, D, block, K, S, width, 1, True, later, 0, 0)
                for k in range(K):
                    g, s = out[k * d + whole : (k + 1) * d], S[k * width : k * width + rest]
                    for j in range(g.size):
                        g[j] = s[j] if over else g[j] + s[j]
            for k in range(K if out.size > K * d else 0):
                total = out.dtype.type(0)
                for r in D[k * block : k * block + B]:
                    total += r
                out[K * d + k] = total if over else out[K * d + k] + total
    return loss, right
