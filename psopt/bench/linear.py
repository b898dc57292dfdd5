"""Gradients of linear models over a whole shard: NumPy, SciPy for CSR, and PyTorch's autograd against psopt's kernels.

NumPy's side is what one writes who cares: every array made beforehand, two products with X, and for value and gradient
one exponential for both. psopt gives the value with each gradient, so that one call of it stands in both rows.
"""

import functools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from psopt.bench.result import Case, Row
from psopt.bench.turns import scipy_or_none, take_turns, torch_or_none
from psopt.data.table import CSR, Table
from psopt.lines import straight
from psopt.problems import build
from psopt.problems.base import Share
from psopt.problems.kernels.reading import read_once, read_streams
from psopt.problems.kernels.warm import warm_up

DENSE = ((1000, 50, "float64"), (32561, 123, "float64"), (60000, 784, "float64"), (60000, 784, "float32"))
GROUPS = (
    ("a9a-like, ones", 32561, (8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 19), True),
    ("a9a-like", 32561, (8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 19), False),
    ("w8a-like, ones", 49749, (25,) * 12, True),
    ("50 a row", 20000, (100,) * 50, False),
)
"""CSR matrices as one-hot coding makes them: name, rows, how many values each attribute has, whether all data are 1."""

UNEVEN = ("w8a-like, uneven, ones", 49749, 300, 11.65)
"""A CSR matrix of ones whose rows are of many lengths: name, rows, columns, how many ones a row has on average."""

KINDS = ("logistic", "least-squares")
Side = Callable[[], object]


def cases() -> Iterator[Case]:
    """Every comparison, in the order of the table."""
    for n, d, dtype in DENSE:
        for kind in KINDS:
            yield functools.partial(dense, kind, n, d, dtype)
    if scipy_or_none():
        tables = {name: functools.partial(one_hot, *sizes) for name, *sizes in GROUPS}
        tables[UNEVEN[0]] = functools.partial(uneven, *UNEVEN[1:])
        for name, table in tables.items():
            for kind in KINDS:
                yield functools.partial(sparse, kind, name, table)


def dense(kind: str, n: int, d: int, dtype: str, seconds: float) -> list[Row]:
    """The gradient, and value and gradient, of a dense shard of shape (n, d)."""
    warm_up(dtype, sparse=False)
    rng = np.random.default_rng(0)
    X = straight(rng.standard_normal((n, d), dtype=dtype))  # as a run's rows lie
    table = Table(X, np.where(rng.random(n) < 0.5, -1.0, 1.0))
    flat = X.ravel()
    sides: dict[str, Side] = {"once": lambda: read_once(flat), "streams": lambda: read_streams(flat)}
    torch = torch_or_none()
    if torch:
        sides["torch"] = _by_torch(torch, kind, X, table.labels)
    taken = _measured(kind, table, X, X.T, dtype, sides, seconds)
    return _rows(kind, (n, d), dtype, taken, min(taken["once"], taken["streams"]))


def sparse(kind: str, name: str, made: Callable[[], Table], seconds: float) -> list[Row]:
    """The same of a CSR shard."""
    warm_up("float64", sparse=True)
    table = made()
    matrix = table.features
    pointers = matrix.indptr.astype(np.int32)
    X = scipy_or_none().csr_matrix((matrix.data, matrix.indices, pointers), shape=matrix.shape)
    taken = _measured(kind, table, X, X.T, "float64", {}, seconds)
    return _rows(f"{kind}, CSR {name}", matrix.shape, "float64", taken, None, "SciPy")


def one_hot(n: int, sizes: tuple[int, ...], ones: bool) -> Table:
    """Rows that each name one column of each group; the j-th column of a group is 1/(j + 1) times as frequent as the
    first, because attributes of real data are uneven.
    """
    rng = np.random.default_rng(0)
    starts = np.concatenate([[0], np.cumsum(sizes)])
    indices = np.empty((n, len(sizes)), np.int32)
    for group, size in enumerate(sizes):
        shares = 1.0 / (1.0 + np.arange(size))
        indices[:, group] = starts[group] + rng.choice(size, n, p=shares / shares.sum())
    data = np.ones(indices.size) if ones else rng.standard_normal(indices.size)
    indptr = np.arange(n + 1, dtype=np.int64) * len(sizes)
    features = CSR(data, indices.ravel(), indptr, (n, int(starts[-1])))
    return Table(features, np.where(rng.random(n) < 0.5, -1.0, 1.0))


def uneven(n: int, d: int, mean: float) -> Table:
    """Rows of ones whose numbers of ones follow the geometric distribution, as those of w8a nearly do; column j is
    drawn 1/(j + 1) times as readily as the first.
    """
    rng = np.random.default_rng(0)
    lengths = np.minimum(rng.geometric(1 / (1 + mean), n) - 1, d)
    indptr = np.concatenate([[0], np.cumsum(lengths)])
    indices = np.empty(indptr[-1], np.int32)
    readiness = -np.log1p(np.arange(d))
    for row in range(n):  # the columns whose readiness, with Gumbel's noise, is the largest: drawn without replacement
        drawn = np.argsort(readiness + rng.gumbel(size=d))[d - lengths[row] :]
        indices[indptr[row] : indptr[row + 1]] = np.sort(drawn)
    features = CSR(np.ones(indices.size), indices, indptr, (n, d))
    return Table(features, np.where(rng.random(n) < 0.5, -1.0, 1.0))


def plain_gradient(kind: str, X: Any, transposed: Any, y: np.ndarray) -> Callable[[np.ndarray, np.ndarray], None]:
    """NumPy's gradient of the summed losses at theta, into ``out``; of SciPy's matrices too."""
    product = _product(X, transposed)

    def gradient(theta: np.ndarray, out: np.ndarray) -> None:
        z = product(X, theta, None)
        if kind == "least-squares":
            z -= y
        else:
            z *= y
            np.exp(z, out=z)
            z += 1
            np.divide(y, z, out=z)
            np.negative(z, out=z)
        product(transposed, z, out)

    return gradient


def plain_both(kind: str, X: Any, transposed: Any, y: np.ndarray) -> Callable[[np.ndarray, np.ndarray], float]:
    """NumPy's value and gradient of the summed losses, without overflow; of SciPy's matrices too."""
    product = _product(X, transposed)

    def both(theta: np.ndarray, out: np.ndarray) -> float:
        z = product(X, theta, None)
        if kind == "least-squares":
            z -= y
            product(transposed, z, out)
            return 0.5 * float(z @ z)
        z *= y
        e = np.exp(-np.abs(z))
        product(transposed, -y * np.where(z >= 0, e, 1) / (1 + e), out)
        return float(np.sum(np.maximum(-z, 0) + np.log1p(e)))

    return both


def _product(X: Any, transposed: Any) -> Callable[[Any, np.ndarray, np.ndarray | None], np.ndarray]:
    if isinstance(X, np.ndarray):
        z = np.empty(len(X), X.dtype)
        return lambda matrix, vector, out: np.dot(matrix, vector, out=z if out is None else out)

    def by_scipy(matrix: Any, vector: np.ndarray, out: np.ndarray | None) -> np.ndarray:
        product = matrix @ vector
        if out is not None:
            out[:] = product
        return product

    return by_scipy


def _measured(
    kind: str, table: Table, X: Any, transposed: Any, dtype: str, sides: dict[str, Side], seconds: float
) -> dict[str, float]:
    """Medians of psopt, the plain gradient, the plain pair and further ``sides``; the first three agree."""
    d = table.n_features
    theta = (np.random.default_rng(1).standard_normal(d) / np.sqrt(d)).astype(dtype)
    y = table.labels.astype(dtype)
    problem = build(kind, table, Share(0, 1, table.samples), dtype, {})
    gradient, both = plain_gradient(kind, X, transposed, y), plain_both(kind, X, transposed, y)
    out, expected, again = np.empty_like(theta), np.empty_like(theta), np.empty_like(theta)
    found, value = problem.value_and_gradient(theta, out), both(theta, expected)
    gradient(theta, again)
    bound = 1e-9 if dtype == "float64" else 1e-3
    assert abs(found - value) <= bound * abs(value)
    for other in (expected, again):
        assert np.linalg.norm(out - other) <= bound * np.linalg.norm(other)
    return take_turns(
        {
            "psopt": lambda: problem.value_and_gradient(theta, out),
            "gradient": lambda: gradient(theta, expected),
            "both": lambda: both(theta, expected),
            **sides,
        },
        seconds,
    )


def _by_torch(torch: Any, kind: str, X: np.ndarray, labels: np.ndarray) -> Side:
    features, y = torch.from_numpy(X), torch.from_numpy(labels.astype(X.dtype))
    theta = torch.zeros(X.shape[1], dtype=features.dtype, requires_grad=True)

    def loss_and_gradient() -> None:
        theta.grad = None
        z = features @ theta
        losses = 0.5 * (z - y) ** 2 if kind == "least-squares" else torch.nn.functional.softplus(-y * z)
        losses.sum().backward()

    return loss_and_gradient


def _rows(
    what: str, shape: tuple[int, int], dtype: str, taken: dict[str, float], read_s: float | None, who: str = "NumPy"
) -> list[Row]:
    others = {"torch": taken["torch"]} if "torch" in taken else {}
    return [
        Row(f"{what}: gradient", shape, dtype, taken["psopt"], who, taken["gradient"], others, read_s),
        Row(f"{what}: value, gradient", shape, dtype, taken["psopt"], who, taken["both"], others, read_s),
    ]
