"""Making a CSR of entries as they come: sorted within each row, and with repeated columns summed."""

import numpy as np

from psopt.data.table import CSR
from psopt.errors import ConfigError

MOST_COLUMNS = np.iinfo(np.int32).max  # columns are int32


def check_n_features(n_features: int | None) -> None:
    """Refuse a width that no matrix can have."""
    if n_features is not None and not 1 <= n_features <= MOST_COLUMNS:
        raise ConfigError(f"key 'n_features' must be from 1 to {MOST_COLUMNS}, found {n_features}")


def canonical(data: np.ndarray, indices: np.ndarray, indptr: np.ndarray, shape: tuple[int, int]) -> CSR:
    """The CSR of float64 data (nnz,), integer indices (nnz,) and indptr (n + 1,), which are valid but in any order."""
    indices = indices.astype(np.int32, copy=False)
    indptr = indptr.astype(np.int64, copy=False)
    inside = np.ones(len(indices), dtype=bool)  # whether an entry follows another one of its own row
    inside[indptr[:-1][indptr[:-1] < len(indices)]] = False
    if not np.any(inside[1:] & (indices[1:] <= indices[:-1])):
        return CSR(data, indices, indptr, shape)
    row = np.repeat(np.arange(shape[0]), np.diff(indptr))
    order = np.lexsort((indices, row))
    row, indices, data = row[order], indices[order], data[order]
    first = np.ones(len(indices), dtype=bool)
    first[1:] = (row[1:] != row[:-1]) | (indices[1:] != indices[:-1])
    starts = np.flatnonzero(first)
    counts = np.bincount(row[starts], minlength=shape[0])
    merged = np.concatenate(([0], np.cumsum(counts))).astype(np.int64)
    with np.errstate(over="ignore", invalid="ignore"):  # the caller refuses what is not finite
        summed = np.add.reduceat(data, starts)
    return CSR(summed, indices[starts], merged, shape)
