"""What a data set is once it is in memory: a matrix of features, dense or CSR, and one label a row."""

import numpy as np

from psopt.errors import ConfigError
from psopt.records import record


@record
class CSR:
    """A sparse matrix by rows; column indices are sorted and unique within a row.

    Attributes
    ----------
    data : ndarray, shape (nnz,), float64 or float32
    indices : ndarray, shape (nnz,), int32
        Column of each value, 0-based.
    indptr : ndarray, shape (n + 1,), int64
        Row i owns ``data[indptr[i]:indptr[i + 1]]``.
    shape : (n, n_features)
    """

    data: np.ndarray
    indices: np.ndarray
    indptr: np.ndarray
    shape: tuple[int, int]

    def rows(self, index: np.ndarray | slice) -> "CSR":
        """The matrix of the named rows, in that order (int64 array or slice)."""
        rows = np.arange(self.shape[0])[index]
        lengths = np.diff(self.indptr)[rows]
        indptr = np.zeros(len(rows) + 1, dtype=np.int64)
        np.cumsum(lengths, out=indptr[1:])
        take = np.repeat(self.indptr[rows] - indptr[:-1], lengths) + np.arange(indptr[-1])
        return CSR(self.data[take], self.indices[take], indptr, (len(rows), self.shape[1]))

    def toarray(self) -> np.ndarray:
        """The same matrix, dense, shape (n, n_features)."""
        dense = np.zeros(self.shape, dtype=self.data.dtype)
        dense[np.repeat(np.arange(self.shape[0]), np.diff(self.indptr)), self.indices] = self.data
        return dense


@record
class Table:
    """One data set, or one worker's shard of it.

    Attributes
    ----------
    features : ndarray, shape (n, n_features), C-contiguous, or CSR
        float64 or float32; until it is scaled, what an IDX file holds has its own element type.
    labels : ndarray, shape (n,)
    """

    features: "np.ndarray | CSR"
    labels: np.ndarray

    @property
    def samples(self) -> int:
        return self.features.shape[0]

    @property
    def n_features(self) -> int:
        return self.features.shape[1]

    def rows(self, index: np.ndarray | slice) -> "Table":
        """The table of the named rows, in that order (int64 array or slice)."""
        features = self.features
        taken = features.rows(index) if isinstance(features, CSR) else np.ascontiguousarray(features[index])
        return Table(taken, self.labels[index])


def stack(tables: list[Table]) -> Table:
    """Dense tables of the same features, one under the other; no source has several sparse ones."""
    if len(tables) == 1:
        return tables[0]
    widths = sorted({table.n_features for table in tables})
    if len(widths) > 1:
        raise ConfigError(f"cannot join tables of {' and '.join(map(str, widths))} features into one")
    features = np.concatenate([table.features for table in tables])
    return Table(features, np.concatenate([table.labels for table in tables]))
