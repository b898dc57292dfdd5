"""Dense rows of which little is not zero, as CSR: found when first asked for, once for all who share the rows."""

from weakref import WeakValueDictionary

import numpy as np

from psopt.problems import kernels

_MOST = 1 / 3
"""Of the elements: with more, multiplying all of them is as quick."""


class Stored:
    """CSR arrays as `kernels.sparse_classes` takes them.

    Attributes
    ----------
    data : ndarray, shape (nnz,), or (1,) where every stored value is that one
    indices, indptr : ndarray of unsigned integers
    rows : ndarray, optional
        What they were found in, which lives while these do.
    """

    def __init__(
        self, data: np.ndarray, indices: np.ndarray, indptr: np.ndarray, rows: np.ndarray | None = None
    ) -> None:
        self.data, self.indices, self.indptr, self.rows = data, indices, indptr, rows


_found: WeakValueDictionary[tuple[int, tuple[int, ...], str], Stored] = WeakValueDictionary()
"""By address, shape and dtype of rows that live."""


def few(stored: int, shape: tuple[int, ...]) -> bool:
    """Whether so many stored values of a matrix are few enough to be worth it."""
    return stored <= _MOST * shape[0] * shape[1]


def find(rows: np.ndarray) -> Stored | None:
    """The elements of ``rows``, shape (n, d), C-contiguous, that are not zero; None where they are many."""
    place = rows.ctypes.data, rows.shape, rows.dtype.str
    known = _found.get(place)
    if known is not None:
        return known
    ends = np.empty(len(rows) + 1, np.int64)
    kernels.csr.count_stored(rows, ends)
    if not few(int(ends[-1]), rows.shape):
        return None
    data, columns = np.empty(ends[-1], rows.dtype), np.empty(ends[-1], np.int32)
    kernels.csr.store(rows, ends, data, columns)
    found = _found[place] = Stored(data, *kernels.csr.unsigned(columns, ends), rows)
    return found
