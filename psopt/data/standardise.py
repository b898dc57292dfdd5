"""Scaling of columns. A column without spread becomes 0, because nothing can be learnt from it and 0/0 is no number.

What is learnt from the training rows (`fit`) is applied to any rows: a worker scales its own, and the test rows are
scaled as the training rows were.
"""

from collections.abc import Callable
from typing import Literal

import numpy as np

from psopt.data.checks import unknown
from psopt.data.table import CSR
from psopt.errors import ConfigError
from psopt.records import record

Matrix = np.ndarray | CSR
Scale = Callable[[Matrix], Matrix]
"""Rows, shape (any, n_features) -> the same rows scaled, float64; what is handed in is not changed."""

KINDS = ("none", "min-max", "z-score", "max-abs", "fixed")
BLOCK_VALUES = 1 << 20  # 8 MiB of float64: a large matrix of bytes is squared in pieces


@record
class Standardise:
    """How columns are scaled. All but ``fixed`` go by the training rows, all of them, before they are split.

    Attributes
    ----------
    kind : str
        ``none``. ``min-max``: to [-1, 1]. ``z-score``: to mean 0 and variance 1. ``max-abs``: by the largest
        magnitude, which keeps zeros zero. ``fixed``: (x / divide - mean) / scale, the same for all columns; of MNIST
        one takes divide 255, mean 0.1307 and scale 0.3081.
    divide, scale : float, > 0
        For ``fixed``.
    mean : float
        For ``fixed``.
    """

    kind: Literal["none", "min-max", "z-score", "max-abs", "fixed"] = "none"
    divide: float = 1.0
    mean: float = 0.0
    scale: float = 1.0

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise unknown("standardise", self.kind, KINDS)
        for name, default in (("divide", 1.0), ("mean", 0.0), ("scale", 1.0)):
            value = getattr(self, name)
            if self.kind != "fixed" and value != default:
                raise ConfigError(f"key {name!r} belongs to standardise 'fixed', not to {self.kind!r}: remove it")
            if not np.isfinite(value) or (name != "mean" and value <= 0):
                expected = "a finite number" if name == "mean" else "a finite number above 0"
                raise ConfigError(f"key {name!r} must be {expected}, found {value}")

    @property
    def needs_rows(self) -> bool:
        """Whether anything is learnt from the training rows."""
        return self.kind not in ("none", "fixed")

    def fit(self, x: Matrix | None) -> Scale:
        """The scaling that training rows x, shape (n, n_features), call for; None will do unless `needs_rows`."""
        if isinstance(x, CSR) and self.kind in ("min-max", "z-score"):
            raise _makes_dense(self.kind)
        match self.kind:
            case "none":
                return lambda rows: rows
            case "min-max":
                return _min_max(x)
            case "z-score":
                return _z_score(x)
            case "max-abs":
                return _max_abs(x)
        return self._fixed

    def _fixed(self, rows: Matrix) -> Matrix:
        if not isinstance(rows, CSR):
            return (rows.astype(np.float64, copy=False) / self.divide - self.mean) / self.scale
        if self.mean != 0:
            raise _makes_dense("fixed")
        return CSR(rows.data / self.divide / self.scale, rows.indices, rows.indptr, rows.shape)


def _makes_dense(kind: str) -> ConfigError:
    instead = "'max-abs' or mean 0" if kind == "fixed" else "'max-abs'"
    return ConfigError(f"cannot use standardise {kind!r} on a sparse matrix: it would make it dense; use {instead}")


def min_max(x: np.ndarray) -> np.ndarray:
    """Each column of x, shape (n, n_features), mapped linearly so that it spans [-1, 1]; constant columns become 0."""
    return _min_max(x)(x)


def z_score(x: np.ndarray) -> np.ndarray:
    """Each column with mean 0 and variance 1 (over n, ddof=0); constant columns become 0."""
    return _z_score(x)(x)


def _limits(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Least and largest of each column, float64: bytes would overflow in the difference."""
    return x.min(axis=0).astype(np.float64), x.max(axis=0).astype(np.float64)


def _finite(spread: np.ndarray) -> np.ndarray:
    """The spread of each column; refused where it overflows: what is divided by infinity is 0."""
    if not np.isfinite(spread).all():
        column = int(np.argmin(np.isfinite(spread)))
        raise ConfigError(f"column {column} holds numbers too large to be standardised")
    return spread


def _min_max(x: np.ndarray) -> Scale:
    low, high = _limits(x)
    spread = _finite(high - low)
    constant = spread == 0
    divisor = np.where(constant, 1.0, spread)

    def scale(rows: np.ndarray) -> np.ndarray:
        scaled = 2.0 * (rows - low) / divisor - 1.0
        scaled[:, constant] = 0.0
        return scaled

    return scale


def _z_score(x: np.ndarray) -> Scale:
    low, high = _limits(x)
    constant = low == high  # not variance == 0: rounding of the mean leaves a tiny one
    mean = x.mean(axis=0, dtype=np.float64)
    squares = np.zeros(x.shape[1])
    step = max(1, BLOCK_VALUES // x.shape[1])
    for start in range(0, len(x), step):
        off = x[start : start + step] - mean
        squares += np.square(off, out=off).sum(axis=0)
    deviation = np.where(constant, 1.0, _finite(np.sqrt(squares / len(x))))

    def scale(rows: np.ndarray) -> np.ndarray:
        scaled = (rows - mean) / deviation
        scaled[:, constant] = 0.0
        return scaled

    return scale


def _max_abs(x: Matrix) -> Scale:
    if isinstance(x, CSR):
        largest = np.zeros(x.shape[1])
        np.maximum.at(largest, x.indices, np.abs(x.data))
    else:
        low, high = _limits(x)
        largest = np.maximum(-low, high)
    largest[largest == 0] = 1.0

    def scale(rows: Matrix) -> Matrix:
        if isinstance(rows, CSR):
            return CSR(rows.data / largest[rows.indices], rows.indices, rows.indptr, rows.shape)
        return rows / largest

    return scale
