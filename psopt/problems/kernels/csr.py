"""CSR kernels: value and gradient of sum_i loss(x_i.theta, y_i), a block of rows at a time.

Rows are short, so that instructions and not memory set the speed. Hence unsigned indices (Numba then leaves out its
test for negative ones), four accumulators in the dot product, four loads before four stores in the scatter, and the
losses of a whole block in one vector loop. The scatter relies on a row never naming a column twice.

Where rows end is what a processor cannot foresee, and each wrong guess costs as much as ten stored values. Rows of
uneven length are therefore visited by length within a block, in an order that `visits` finds once.

When every stored value is 1, as in one-hot data, ``data`` is an empty array and is never read; passes over all rows of
such data are mostly those of `columns`. The order of sums depends on the pattern of the matrix alone.

Numba makes float64 of int64 mixed with uint64: every number that meets an index below is unsigned.
"""

# fetching.py cf06c7c622e4
# links.py cd66843bcde0

import numpy as np
from numba import njit

from psopt.problems.kernels.fetching import fetch
from psopt.problems.kernels.links import settle

_ROWS = 256  # a block: its margins stay in the first-level cache
STEP = {"contract"}  # more freedom makes these loops slower


def scratch() -> np.ndarray:
    """Room for the margins of one block of rows, float64."""
    return np.empty(_ROWS)


def unsigned(indices: np.ndarray, indptr: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Views or copies of a CSR's indices and row pointers as the kernels want them: uint32; uint64 from 4 G values."""
    width = np.uint32 if indptr[-1] < 2**32 else np.uint64
    return np.ascontiguousarray(indices, dtype=np.int32).view(np.uint32), indptr.astype(width)


def visits(indptr: np.ndarray) -> np.ndarray:
    """The order in which rows are visited, shape (n,), uint32: by length within each block, rows of one length in
    theirs. Empty, for the order they are in, where most rows are as long as the one before.
    """
    lengths = np.diff(indptr.astype(np.int64))
    if 2 * np.count_nonzero(np.diff(lengths)) < len(lengths) or len(lengths) >= 2**32:
        return np.empty(0, np.uint32)
    return np.lexsort((lengths, np.arange(len(lengths)) // _ROWS)).astype(np.uint32)


@njit(cache=True, nogil=True, error_model="numpy", fastmath=STEP)
def block_margins(data, indices, indptr, order, theta, first, stop, z):
    """z[i - first] <- x_i.theta for the rows first <= i < stop, visited in that order, or as ``order`` says."""
    one, two, three, four = np.uint64(1), np.uint64(2), np.uint64(3), np.uint64(4)
    zero = theta.dtype.type(0)
    ones, ordered = data.size == 0, order.size > 0
    for place in range(first, stop):
        i = np.uint64(order[place]) if ordered else place
        p, end = np.uint64(indptr[i]), np.uint64(indptr[i + one])
        s0 = s1 = s2 = s3 = zero
        if ones:
            while p + four <= end:
                s0 += theta[indices[p]]
                s1 += theta[indices[p + one]]
                s2 += theta[indices[p + two]]
                s3 += theta[indices[p + three]]
                p += four
            while p < end:
                s0 += theta[indices[p]]
                p += one
        else:
            while p + four <= end:
                s0 += data[p] * theta[indices[p]]
                s1 += data[p + one] * theta[indices[p + one]]
                s2 += data[p + two] * theta[indices[p + two]]
                s3 += data[p + three] * theta[indices[p + three]]
                p += four
            while p < end:
                s0 += data[p] * theta[indices[p]]
                p += one
        z[i - first] = (s0 + s1) + (s2 + s3)


@njit(cache=True, nogil=True, error_model="numpy", fastmath=STEP)
def block_scatter(data, indices, indptr, order, first, stop, z, out):
    """out += sum of z[i - first] x_i over the rows first <= i < stop, visited in that order, or as ``order`` says."""
    one, two, three, four = np.uint64(1), np.uint64(2), np.uint64(3), np.uint64(4)
    ones, ordered = data.size == 0, order.size > 0
    for place in range(first, stop):
        i = np.uint64(order[place]) if ordered else place
        p, end = np.uint64(indptr[i]), np.uint64(indptr[i + one])
        r = out.dtype.type(z[i - first])
        if ones:
            while p + four <= end:
                c0, c1, c2, c3 = indices[p], indices[p + one], indices[p + two], indices[p + three]
                g0, g1, g2, g3 = out[c0] + r, out[c1] + r, out[c2] + r, out[c3] + r
                out[c0], out[c1], out[c2], out[c3] = g0, g1, g2, g3
                p += four
            while p < end:
                out[indices[p]] += r
                p += one
        else:
            while p + four <= end:
                c0, c1, c2, c3 = indices[p], indices[p + one], indices[p + two], indices[p + three]
                g0, g1 = out[c0] + r * data[p], out[c1] + r * data[p + one]
                g2, g3 = out[c2] + r * data[p + two], out[c3] + r * data[p + three]
                out[c0], out[c1], out[c2], out[c3] = g0, g1, g2, g3
                p += four
            while p < end:
                out[indices[p]] += r * data[p]
                p += one


@njit(cache=True, nogil=True, error_model="numpy", fastmath=STEP)
def _fetch_block(data, indices, indptr, order, first, stop):
    """Rows visited out of order are no stream that the hardware would notice."""
    if order.size:
        start, end = np.int64(indptr[first]), np.int64(indptr[stop])
        fetch(indices, start, end)
        fetch(data, start, end)


@njit(cache=True, nogil=True, error_model="numpy", fastmath=STEP)
def csr_value(link, data, indices, indptr, order, labels, theta, z):
    """sum_i loss(x_i.theta, y_i), float64.

    Parameters
    ----------
    link : SQUARES or LOGISTIC
    data : ndarray, shape (nnz,), or (0,) when every value is 1
    indices, indptr : ndarray of unsigned integers, shapes (nnz,) and (n + 1,), from `unsigned`
    order : ndarray, from `visits`
    labels : ndarray, shape (n,), float64
    theta : ndarray, shape (d,)
    z : ndarray, float64, from `scratch`; overwritten
    """
    n, rows = np.uint64(labels.size), np.uint64(z.size)
    total = 0.0
    first = np.uint64(0)
    while first < n:
        stop = min(first + rows, n)
        _fetch_block(data, indices, indptr, order, stop, min(stop + rows, n))
        block_margins(data, indices, indptr, order, theta, first, stop, z)
        total += settle(link, z, labels, np.int64(first), np.int64(stop - first))
        first = stop
    return total


@njit(cache=True, nogil=True, error_model="numpy", fastmath=STEP)
def csr_gradient(link, data, indices, indptr, order, labels, theta, out, z):
    """The value as `csr_value` gives it, and out <- sum_i loss'(x_i.theta, y_i) x_i, shape (d,)."""
    n, rows = np.uint64(labels.size), np.uint64(z.size)
    total = 0.0
    out[:] = 0
    first = np.uint64(0)
    while first < n:
        stop = min(first + rows, n)
        _fetch_block(data, indices, indptr, order, stop, min(stop + rows, n))
        block_margins(data, indices, indptr, order, theta, first, stop, z)
        total += settle(link, z, labels, np.int64(first), np.int64(stop - first))
        block_scatter(data, indices, indptr, order, first, stop, z, out)
        first = stop
    return total


@njit(cache=True, nogil=True, error_model="numpy", fastmath=STEP)
def count_stored(X, ends):
    """ends[i + 1] <- how many elements of the rows 0, ..., i of X, shape (n, d), are not zero; NaN is not."""
    ends[0] = 0
    for i in range(X.shape[0]):
        count = 0
        for x in X[i]:
            count += x != 0
        ends[i + 1] = ends[i] + count


@njit(cache=True, nogil=True, error_model="numpy", fastmath=STEP)
def store(X, ends, data, columns):
    """data and columns, shape (nnz,), <- these elements row by row, and where in their rows they are."""
    for i in range(X.shape[0]):
        x, place = X[i], ends[i]
        for j in range(x.size):
            if x[j] != 0:
                data[place], columns[place] = x[j], j
                place += 1
