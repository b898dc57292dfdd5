"""A shard's features and labels in the shape the kernels want: one class for dense, one for CSR, the same methods.

``rows``                                 the parts that a pass over all rows is made of
``employ(crew)``                         threads for passes over all rows
``evaluate(link, theta)``                the sum of losses, float64
``evaluate(link, theta, out)``           the same, and its gradient written into ``out``
``batch(link, theta, out, rows)``         the same over chosen rows, int64, shape (B,)
``local_steps(link, rule, theta, walk, weight, l2)``
                                         theta moved through all steps, as `kernels.local` says
``network_steps(...)``                   the same for a network; the arguments are those of `kernels.local_network`
``take(rows, out)``                      rows that `check_rows` let pass, dense, in the first B of ``out``; returns them
``block(start, stop, room)``             the rows start <= i < stop, dense, in room's dtype; a view of X where X is so
``curvature(v, out)``                    out = X^T X v
``in_place(dtype)``                      whether ``block`` gives views of X in ``dtype``, of any number of rows
``stored(dtype)``                        as CSR in ``dtype``, where that is worth it, or None
``column_sums()``                        X^T 1, shape (d,), float64
``margins(theta)``                       X theta, shape (n,), float64
``gram(weights)``                        X^T diag(weights) X, shape (d, d), float64
"""

from typing import TYPE_CHECKING

import numpy as np

from psopt.data.table import CSR, Table
from psopt.errors import ProtocolError
from psopt.problems import cuts, kernels
from psopt.problems.crew import Crew, total
from psopt.problems.stored import Stored, few, find

if TYPE_CHECKING:
    from psopt.problems.kernels.steps import Rule, Walk

_BLOCK_NBYTES = 8 << 20


def prepare(shard: Table, dtype: np.dtype) -> "DenseFeatures | SparseFeatures":
    """The features of ``shard`` converted once to ``dtype``; an array that fits already is shared, not copied."""
    return (SparseFeatures if isinstance(shard.features, CSR) else DenseFeatures)(shard, dtype)


class _Swept:
    """Passes over all rows, part after part, or several at a time: ``rows`` says where they are cut.

    Attributes
    ----------
    rows : list of slice
    _labels : list of ndarray, float64
        Each part's, as the kernel wants them.
    _zs : list of ndarray
        Each thread's room for margins.
    """

    rows: list[slice]
    _labels: list[np.ndarray]
    _zs: list[np.ndarray]
    _zeros: list[np.ndarray] | None = None

    def __init__(self) -> None:
        self._crew = Crew()

    def employ(self, crew: Crew) -> None:
        """Lets these threads, engaged before, share the passes."""
        self._crew = crew
        self._zs = [np.empty_like(self._zs[0]) for _ in range(crew.working)]

    def evaluate(self, link: int, theta: np.ndarray, out: np.ndarray | None = None) -> float:
        return self._evaluate(link, self._labels, theta, out)

    def curvature(self, v: np.ndarray, out: np.ndarray) -> None:
        if self._zeros is None:
            self._zeros = [np.zeros_like(labels) for labels in self._labels]
        self._evaluate(kernels.links.SQUARES, self._zeros, v, out)

    def _evaluate(self, link: int, labels: list[np.ndarray], theta: np.ndarray, out: np.ndarray | None) -> float:
        if len(labels) == 1:
            return self._part(link, 0, labels[0], theta, out, self._zs[0])

        def part(number: int, scratch: int, into: np.ndarray | None) -> float:
            return self._part(link, number, labels[number], theta, into, self._zs[scratch])

        return total(self._crew.add_up(len(labels), part, out))

    def _part(
        self, link: int, number: int, labels: np.ndarray, theta: np.ndarray, out: np.ndarray | None, z: np.ndarray
    ) -> float:
        """`evaluate` over the rows of one part."""
        raise NotImplementedError


class DenseFeatures(_Swept):
    """X as a C-contiguous array, shape (n, d)."""

    def __init__(self, shard: Table, dtype: np.dtype) -> None:
        super().__init__()
        self.X = np.require(shard.features, dtype, ["C", "ALIGNED"])
        n, d = self.X.shape
        self.rows = cuts.even(n, cuts.parts_of(self.X.nbytes, d * dtype.itemsize, cuts.VECTORS), kernels.dense.STREAMS)
        self._parts = [self.X[rows] for rows in self.rows]
        self._labels = [kernels.dense.sweep_order(shard.labels[rows]) for rows in self.rows]
        self._plain = np.array(shard.labels, dtype=np.float64)
        self._zs = [kernels.dense.scratch(self.X)]
        self._tile = None
        self._stored: Stored | None = None
        self._sought = False

    def _part(
        self, link: int, number: int, labels: np.ndarray, theta: np.ndarray, out: np.ndarray | None, z: np.ndarray
    ) -> float:
        if out is None:
            return kernels.dense.dense_value(link, self._parts[number], labels, theta, z)
        return kernels.dense.dense_gradient(link, self._parts[number], labels, theta, out, z)

    def batch(self, link: int, theta: np.ndarray, out: np.ndarray, rows: np.ndarray) -> float:
        check_rows(rows, len(self.X))
        return kernels.rows.dense_rows_gradient(link, self.X, self._plain, rows, theta, out, *self._scratch())

    def local_steps(self, link: int, rule: "Rule", theta: np.ndarray, walk: "Walk", weight: float, l2: float) -> None:
        operands = (link, self.X, self._plain, *rule, theta, *walk, weight, l2)
        kernels.local.dense_local_steps(*operands, np.empty_like(theta), *self._scratch())

    def network_steps(self, *operands: object) -> None:
        kernels.local_network.dense_network_steps(self.X, *operands)

    def take(self, rows: np.ndarray, out: np.ndarray) -> np.ndarray:
        kernels.rows.take_dense(self.X, rows, out)
        return out[: len(rows)]

    def block(self, start: int, stop: int, room: np.ndarray) -> np.ndarray:
        if self.in_place(room.dtype):
            return self.X[start:stop]
        np.copyto(room[: stop - start], self.X[start:stop])
        return room[: stop - start]

    def in_place(self, dtype: np.dtype) -> bool:
        return self.X.dtype == dtype

    def stored(self, dtype: np.dtype) -> Stored | None:
        if self.X.dtype != dtype:
            return None
        if not self._sought:
            self._stored, self._sought = find(self.X), True
        return self._stored

    def column_sums(self) -> np.ndarray:
        return self.X.sum(axis=0, dtype=np.float64)

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
            z = self._zs[0]
            self._tile = (np.empty((z.size, self.X.shape[1]), self.X.dtype), np.empty(z.size), z)
        return self._tile

    def _blocks(self) -> list[slice]:
        return _row_blocks(*self.X.shape)


class SparseFeatures(_Swept):
    """X by rows; ``data`` is empty where every stored value is 1. Passes over all rows then go by column, where columns
    are long.
    """

    def __init__(self, shard: Table, dtype: np.dtype) -> None:
        super().__init__()
        matrix = shard.features
        self.shape = matrix.shape
        ones = bool(np.all(matrix.data == 1))
        self.data = np.empty(0, dtype) if ones else np.ascontiguousarray(matrix.data, dtype)
        stored, d = len(matrix.indices), self.shape[1]
        self.indices, self.indptr = kernels.csr.unsigned(matrix.indices, matrix.indptr)
        self.labels = np.array(shard.labels, dtype=np.float64)
        parts = cuts.parts_of(cuts.STORED_NBYTES * stored, d * dtype.itemsize, cuts.VECTORS)
        self.rows = cuts.by_weight(matrix.indptr, parts)
        self._labels = [self.labels[rows] for rows in self.rows]
        self._pointers = [self.indptr[rows.start : rows.stop + 1] for rows in self.rows]
        columns = [kernels.columns.by_column(self.indices, pointers, d) for pointers in self._pointers if ones]
        self._columns = columns if all(starts.size for starts, _ in columns) else []
        self._orders = [] if self._columns else [kernels.csr.visits(pointers) for pointers in self._pointers]
        self._zs = [kernels.columns.scratch() if self._columns else kernels.csr.scratch()]
        self._own, self._margins = kernels.csr.scratch(), kernels.csr.scratch()

    def _part(
        self, link: int, number: int, labels: np.ndarray, theta: np.ndarray, out: np.ndarray | None, z: np.ndarray
    ) -> float:
        if self._columns:
            into = np.empty(0, theta.dtype) if out is None else out  # not theta's own memory, which may be read-only
            return kernels.columns.columns_gradient(link, *self._columns[number], labels, theta, into, z)
        operands = (self.data, self.indices, self._pointers[number], self._orders[number], labels, theta)
        if out is None:
            return kernels.csr.csr_value(link, *operands, z)
        return kernels.csr.csr_gradient(link, *operands, out, z)

    def batch(self, link: int, theta: np.ndarray, out: np.ndarray, rows: np.ndarray) -> float:
        check_rows(rows, len(self.labels))
        operands = (self.data, self.indices, self.indptr, self.labels, rows, theta)
        return kernels.rows.csr_rows_gradient(link, *operands, out, self._own, self._margins)

    def local_steps(self, link: int, rule: "Rule", theta: np.ndarray, walk: "Walk", weight: float, l2: float) -> None:
        operands = (link, self.data, self.indices, self.indptr, self.labels)
        steps = (*rule, theta, *walk, weight, l2)
        kernels.local.csr_local_steps(*operands, *steps, np.empty_like(theta), self._own, self._margins)

    def network_steps(self, *operands: object) -> None:
        kernels.local_network.csr_network_steps(self.data, self.indices, self.indptr, *operands)

    def take(self, rows: np.ndarray, out: np.ndarray) -> np.ndarray:
        panel = out[: len(rows)]
        kernels.rows.take_csr(self.data, self.indices, self.indptr, rows, panel)
        return panel

    def block(self, start: int, stop: int, room: np.ndarray) -> np.ndarray:
        return self.take(np.arange(start, stop), room)

    def in_place(self, dtype: np.dtype) -> bool:
        return False

    def stored(self, dtype: np.dtype) -> Stored | None:
        if self.data.dtype != dtype or not few(len(self.indices), self.shape):
            return None
        return Stored(self.data if self.data.size else np.ones(1, dtype), self.indices, self.indptr)

    def column_sums(self) -> np.ndarray:
        weights = self.data.astype(np.float64) if self.data.size else None
        return np.bincount(self.indices, weights, self.shape[1]).astype(np.float64)

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
    if not (len(rows) and kernels.rows.all_inside(rows, n)):
        raise ProtocolError(f"a batch has to name one or more of the rows 0 to {n - 1} of the shard")


def check_walk(walk: "Walk", n: int) -> None:
    """The same for each step."""
    check_rows(walk.rows, n)
    if not (walk.ends[1:] > walk.ends[:-1]).all():
        raise ProtocolError("every local step has to have one sample or more")


def _row_blocks(n: int, d: int) -> list[slice]:
    rows = max(1, _BLOCK_NBYTES // (8 * max(1, d)))
    return [slice(start, min(start + rows, n)) for start in range(0, n, rows)]
