"""A shard's features and labels in the shape the kernels want: one class for dense, one for CSR, the same methods.

``evaluate(link, theta)``                the sum of losses, float64
``evaluate(link, theta, out)``           the same, and its gradient written into ``out``
``batch(link, theta, out, rows)``         the same over chosen rows, int64, shape (B,)
``local_steps(link, rule, theta, walk, weight, l2)``
                                         theta moved through all steps, as `kernels.local` says
``network_steps(...)``                   the same for a network; the arguments are those of `kernels.local_network`
``take(rows, out)``                      rows that `check_rows` let pass, dense, in the first B of ``out``; returns them
``block(start, stop, room)``             the rows start <= i < stop, dense, in room's dtype; a view of X where X is so
``curvature(v, out)``                    out = X^T X v
``in_place(dtype)``                        whether ``block`` gives views of X in ``dtype``, of any number of rows
``column_sums()``                        X^T 1, shape (d,), float64
``margins(theta)``                       X theta, shape (n,), float64
``gram(weights)``                        X^T diag(weights) X, shape (d, d), float64
"""

import numpy as np

from psopt.data.table import CSR, Table
from psopt.errors import ProtocolError
from psopt.problems.kernels import csr, dense, local, local_network
from psopt.problems.kernels import rows as chosen
from psopt.problems.kernels.links import SQUARES
from psopt.problems.kernels.steps import Rule, Walk

_BLOCK_NBYTES = 8 << 20


def prepare(shard: Table, dtype: np.dtype) -> "DenseFeatures | SparseFeatures":
    """The features of ``shard`` converted once to ``dtype``; an array that fits already is shared, not copied."""
    return (SparseFeatures if isinstance(shard.features, CSR) else DenseFeatures)(shard, dtype)


class DenseFeatures:
    """X as a C-contiguous array, shape (n, d)."""

    def __init__(self, shard: Table, dtype: np.dtype) -> None:
        self.X = np.require(shard.features, dtype, ["C", "ALIGNED"])
        self.labels = dense.sweep_order(shard.labels)
        self._plain = np.array(shard.labels, dtype=np.float64)
        self._z = dense.scratch(self.X)
        self._zeros = None
        self._tile = None

    def evaluate(self, link: int, theta: np.ndarray, out: np.ndarray | None = None) -> float:
        if out is None:
            return dense.dense_value(link, self.X, self.labels, theta, self._z)
        return dense.dense_gradient(link, self.X, self.labels, theta, out, self._z)

    def batch(self, link: int, theta: np.ndarray, out: np.ndarray, rows: np.ndarray) -> float:
        check_rows(rows, len(self.X))
        return chosen.dense_rows_gradient(link, self.X, self._plain, rows, theta, out, *self._scratch())

    def local_steps(self, link: int, rule: Rule, theta: np.ndarray, walk: Walk, weight: float, l2: float) -> None:
        operands = (link, self.X, self._plain, *rule, theta, *walk, weight, l2)
        local.dense_local_steps(*operands, np.empty_like(theta), *self._scratch())

    def network_steps(self, *operands: object) -> None:
        local_network.dense_network_steps(self.X, *operands)

    def take(self, rows: np.ndarray, out: np.ndarray) -> np.ndarray:
        chosen.take_dense(self.X, rows, out)
        return out[: len(rows)]

    def block(self, start: int, stop: int, room: np.ndarray) -> np.ndarray:
        if self.in_place(room.dtype):
            return self.X[start:stop]
        np.copyto(room[: stop - start], self.X[start:stop])
        return room[: stop - start]

    def in_place(self, dtype: np.dtype) -> bool:
        return self.X.dtype == dtype

    def column_sums(self) -> np.ndarray:
        return self.X.sum(axis=0, dtype=np.float64)

    def curvature(self, v: np.ndarray, out: np.ndarray) -> None:
        if self._zeros is None:
            self._zeros = np.zeros(len(self.labels))
        dense.dense_gradient(SQUARES, self.X, self._zeros, v, out, self._z)

    def margins(self, theta: np.ndarray) -> np.ndarray:
        z = np.empty(len(self.X))
        for rows in self._blocks():
            z[rows] = self.X[rows].astype(np.float64, copy=False) @ theta
        return z

    def gram(self, weights: np.ndarray | None = None) -> np.ndarray:
        d = self.X.shape[1]
        total = np.zeros((d, d))
        for rows in self._blocks():
            block = self.X[rows].astype(np.float64, copy=False)
            if weights is not None:
                block = block * np.sqrt(weights[rows])[:, None]
            total += block.T @ block
        return total

    def _scratch(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Room for a tile of chosen rows, their labels and their margins, made when a batch is asked for."""
        if self._tile is None:
            panel = np.empty((self._z.size, self.X.shape[1]), self.X.dtype)
            self._tile = (panel, np.empty(self._z.size), self._z)
        return self._tile

    def _blocks(self) -> list[slice]:
        return _row_blocks(*self.X.shape)


class SparseFeatures:
    """X by rows; ``data`` is empty where every stored value is 1."""

    def __init__(self, shard: Table, dtype: np.dtype) -> None:
        matrix = shard.features
        self.shape = matrix.shape
        ones = bool(np.all(matrix.data == 1))
        self.data = np.empty(0, dtype) if ones else np.ascontiguousarray(matrix.data, dtype)
        self.indices, self.indptr = csr.unsigned(matrix.indices, matrix.indptr)
        self.labels = np.array(shard.labels, dtype=np.float64)
        self._z = csr.scratch()
        self._zeros = None
        self._own = csr.scratch()

    def evaluate(self, link: int, theta: np.ndarray, out: np.ndarray | None = None) -> float:
        operands = (self.data, self.indices, self.indptr, self.labels, theta)
        if out is None:
            return csr.csr_value(link, *operands, self._z)
        return csr.csr_gradient(link, *operands, out, self._z)

    def batch(self, link: int, theta: np.ndarray, out: np.ndarray, rows: np.ndarray) -> float:
        check_rows(rows, len(self.labels))
        operands = (self.data, self.indices, self.indptr, self.labels, rows, theta)
        return chosen.csr_rows_gradient(link, *operands, out, self._own, self._z)

    def local_steps(self, link: int, rule: Rule, theta: np.ndarray, walk: Walk, weight: float, l2: float) -> None:
        operands = (link, self.data, self.indices, self.indptr, self.labels)
        steps = (*rule, theta, *walk, weight, l2)
        local.csr_local_steps(*operands, *steps, np.empty_like(theta), self._own, self._z)

    def network_steps(self, *operands: object) -> None:
        local_network.csr_network_steps(self.data, self.indices, self.indptr, *operands)

    def take(self, rows: np.ndarray, out: np.ndarray) -> np.ndarray:
        panel = out[: len(rows)]
        chosen.take_csr(self.data, self.indices, self.indptr, rows, panel)
        return panel

    def block(self, start: int, stop: int, room: np.ndarray) -> np.ndarray:
        return self.take(np.arange(start, stop), room)

    def in_place(self, dtype: np.dtype) -> bool:
        return False

    def column_sums(self) -> np.ndarray:
        weights = self.data.astype(np.float64) if self.data.size else None
        return np.bincount(self.indices, weights, self.shape[1]).astype(np.float64)

    def curvature(self, v: np.ndarray, out: np.ndarray) -> None:
        if self._zeros is None:
            self._zeros = np.zeros(len(self.labels))
        csr.csr_gradient(SQUARES, self.data, self.indices, self.indptr, self._zeros, v, out, self._z)

    def margins(self, theta: np.ndarray) -> np.ndarray:
        z = np.empty(self.shape[0])
        for rows in _row_blocks(*self.shape):
            z[rows] = self._dense(rows) @ theta
        return z

    def gram(self, weights: np.ndarray | None = None) -> np.ndarray:
        total = np.zeros((self.shape[1], self.shape[1]))
        for rows in _row_blocks(*self.shape):
            block = self._dense(rows)
            if weights is not None:
                block *= np.sqrt(weights[rows])[:, None]
            total += block.T @ block
        return total

    def _dense(self, rows: slice) -> np.ndarray:
        pointers = self.indptr[rows.start : rows.stop + 1].astype(np.int64)
        taken = slice(pointers[0], pointers[-1])
        block = np.zeros((rows.stop - rows.start, self.shape[1]))
        where = np.repeat(np.arange(len(block)), np.diff(pointers))
        block[where, self.indices[taken]] = self.data[taken] if self.data.size else 1.0
        return block


def check_rows(rows: np.ndarray, n: int) -> None:
    """Raise `ProtocolError` unless ``rows`` names at least one row, and only rows of the n."""
    if not (len(rows) and chosen.all_inside(rows, n)):
        raise ProtocolError(f"a batch has to name one or more of the rows 0 to {n - 1} of the shard")


def check_walk(walk: Walk, n: int) -> None:
    """The same for each step."""
    check_rows(walk.rows, n)
    if not (walk.ends[1:] > walk.ends[:-1]).all():
        raise ProtocolError("every local step has to have one sample or more")


def _row_blocks(n: int, d: int) -> list[slice]:
    rows = max(1, _BLOCK_NBYTES // (8 * max(1, d)))
    return [slice(start, min(start + rows, n)) for start in range(0, n, rows)]
