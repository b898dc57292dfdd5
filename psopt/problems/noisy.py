"""Problems whose gradients are noisy by themselves: a quadratic, and a function with a kink in its slope.

There is no data. A sample is a number i, 0 <= i < 2^32, of which a counter-based generator makes standard normals z,
the same ones each time; the rows of a batch are such numbers, drawn with replacement. f_m is F / M, M the workers, with

    F(x) = E f(x, z),   and of a batch (1/M) times the mean of f(x, z) over its samples,

so that the sum over workers is F. The least F is 0, at x = 0. Both problems are from Spiridonoff, Olshevsky,
Paschalidis, "Communication-efficient SGD: From Local SGD to One-Shot Averaging", NeurIPS 2021, arXiv 2106.04759.

Several copies of an experiment go side by side in theta, one after the other, each coordinate with noise of its own:
for a method that treats coordinates alike and apart, each copy is an experiment of its own.
"""

import math
from typing import TYPE_CHECKING

import numpy as np

from psopt.data.table import Table
from psopt.errors import ConfigError
from psopt.problems import kernels
from psopt.problems.base import Share
from psopt.problems.features import check_rows, check_walk

if TYPE_CHECKING:
    from psopt.problems.kernels.steps import Rule, Walk

_NO_ROWS = np.empty(0, np.int64)  # the kernels' word for the expectation


class _Noisy:
    """What the two share: F is half the sum of x_j times its slope, and copies do not see each other."""

    samples = 2**32
    endless = True

    def __init__(self, share: Share, width: int, start: float, copies: int, dtype: str) -> None:
        if dtype not in ("float64", "float32"):
            raise ConfigError(f"dtype is {dtype!r}, but it has to be float64 or float32")
        if isinstance(copies, bool) or not isinstance(copies, int) or copies < 1:
            raise ConfigError(f"copies is {copies!r}, but it has to be a whole number, 1 or above")
        if not _is_finite(start):
            raise ConfigError(f"start is {start!r}, but it has to be a finite number")
        self.copies = copies
        self.dim = width * copies
        self.dtype = np.dtype(dtype)
        self._start = start
        self._share = 1.0 / share.workers

    def value_and_gradient(self, theta: np.ndarray, out: np.ndarray) -> float:
        """f_m(theta), and its gradient into ``out``, shape (dim,); all NaN where theta holds a NaN or an infinity."""
        return self._finish(theta, self._gradient(theta, _NO_ROWS, out), out)

    def batch_value_and_gradient(self, theta: np.ndarray, rows: np.ndarray, out: np.ndarray) -> float:
        """The estimate of f_m and its gradient from the samples ``rows``, int64, shape (B,), B >= 1."""
        check_rows(rows, self.samples)
        return self._finish(theta, self._gradient(theta, rows, out), out)

    def value(self, theta: np.ndarray) -> float:
        """f_m(theta); NaN where theta holds a NaN or an infinity."""
        return self._finish(theta, self._share * float(self.errors(theta).sum()))

    def errors(self, theta: np.ndarray) -> np.ndarray:
        """F of each copy alone, not divided by the workers, shape (copies,), float64."""
        x = theta.astype(np.float64)
        with np.errstate(over="ignore", invalid="ignore"):
            return 0.5 * (x * self._bends(x) * x).reshape(self.copies, -1).sum(axis=1)

    def initial(self, rng: np.random.Generator) -> np.ndarray:
        """``start`` in every coordinate, shape (dim,); no random number is drawn."""
        return np.full(self.dim, self._start, self.dtype)

    def hessian(self, theta: np.ndarray) -> np.ndarray:
        """The Hessian of f_m at theta, diagonal, shape (dim, dim), float64; from the right where it jumps."""
        return np.diag(self._share * self._bends(theta.astype(np.float64)))

    def local_steps(self, rule: "Rule", theta: np.ndarray, walk: "Walk", scale: float) -> None:
        """Moves theta along ``scale`` times the gradients of the walk's batches, as `Problem` says."""
        check_walk(walk, self.samples)
        self._steps(rule, theta, walk, self._share * scale)

    def _finish(self, theta: np.ndarray, value: float, out: np.ndarray | None = None) -> float:
        if math.isfinite(value) or kernels.vector.all_finite(theta):
            return value
        if out is not None:
            out.fill(math.nan)
        return math.nan

    def _bends(self, x: np.ndarray) -> np.ndarray:
        """The second derivatives of F at x, shape (dim,), float64, from the right where they jump."""
        raise NotImplementedError

    def _gradient(self, theta: np.ndarray, rows: np.ndarray, out: np.ndarray) -> float:
        """f_m(theta) and, into ``out``, its gradient: the estimates from ``rows``, or exactly if there are none."""
        raise NotImplementedError

    def _steps(self, rule: "Rule", theta: np.ndarray, walk: "Walk", weight: float) -> None:
        """`local_steps` along ``weight`` times the mean gradients of the samples' f."""
        raise NotImplementedError


class NoisyQuadratic(_Noisy):
    """f(x, z) = sum_j c_j/2 x_j^2 (1 + a z1_j) + b x_j z2_j, so F(x) = sum_j c_j/2 x_j^2.

    The gradient of a sample is c_j x_j (1 + a z1_j) + b z2_j.

    Parameters
    ----------
    shard : Table
        Not looked at.
    share : Share
    curvature : list of float
        c, above zero: one number a coordinate of a copy.
    multiplicative : float
        a, the strength of the noise that vanishes at the optimum.
    additive : float
        b, the strength of the noise that does not.
    start : float
        Every coordinate of the first iterate.
    copies : int
        Copies of the problem side by side.
    dtype : 'float64' or 'float32'
        Of theta; noise and value are float64 in any case.
    """

    def __init__(
        self,
        shard: Table,
        share: Share,
        *,
        curvature: tuple[float, ...] = (1.0, 2.0, 3.0),
        multiplicative: float = 1.0,
        additive: float = 0.5,
        start: float = 1.0,
        copies: int = 1,
        dtype: str = "float64",
    ) -> None:
        if not isinstance(curvature, list | tuple) or not curvature or not all(_is_finite(c, 0.0) for c in curvature):
            raise ConfigError(f"curvature is {curvature!r}, but it has to be a list of finite numbers above zero")
        _check_strength("multiplicative", multiplicative)
        _check_strength("additive", additive)
        super().__init__(share, len(curvature), start, copies, dtype)
        self._curvature = np.tile(np.array(curvature, np.float64), copies)
        self._strengths = (float(multiplicative), float(additive))
        self._z = np.empty(2 * self.dim)

    def smoothness(self) -> float:
        """L_m, the largest c_j / M."""
        return self._share * float(self._curvature.max())

    def curvature_product(self, v: np.ndarray, out: np.ndarray) -> None:
        """out = diag(c) v / M, both shape (dim,)."""
        out[:] = self._share * self._curvature * v

    def _bends(self, x: np.ndarray) -> np.ndarray:
        return self._curvature

    def _gradient(self, theta: np.ndarray, rows: np.ndarray, out: np.ndarray) -> float:
        return kernels.noisy.quadratic_gradient(
            theta, rows, self._curvature, *self._strengths, self._share, self._z, out
        )

    def _steps(self, rule: "Rule", theta: np.ndarray, walk: "Walk", weight: float) -> None:
        operands = (self._curvature, *self._strengths, weight, self._z)
        kernels.noisy.quadratic_steps(*rule, theta, *walk, *operands, np.empty_like(theta))


class NoisyKink(_Noisy):
    """f(x, z) = sum_j phi(x_j) + b x_j z_j, where phi(x) is x^2 from 0 on and x^2/2 below; F(x) = sum_j phi(x_j).

    F is smooth, but has no second derivative at its optimum, so that the mean of iterates is drawn to one side. The
    gradient of a sample is phi'(x_j) + b z_j.

    Parameters
    ----------
    shard : Table
        Not looked at.
    share : Share
    noise : float
        b, the strength of the noise.
    start : float
        Every coordinate of the first iterate.
    copies : int
        Copies of the problem side by side, one coordinate each.
    dtype : 'float64' or 'float32'
        Of theta; noise and value are float64 in any case.
    """

    def __init__(
        self,
        shard: Table,
        share: Share,
        *,
        noise: float = 8.0,
        start: float = 2.0,
        copies: int = 1,
        dtype: str = "float64",
    ) -> None:
        _check_strength("noise", noise)
        super().__init__(share, 1, start, copies, dtype)
        self._noise = float(noise)
        self._z = np.empty(self.dim + self.dim % 2)

    def smoothness(self) -> float:
        """L_m = 2 / M."""
        return 2.0 * self._share

    def curvature_product(self, v: np.ndarray, out: np.ndarray) -> None:
        """out = 2 v / M, both shape (dim,)."""
        out[:] = 2.0 * self._share * v

    def _bends(self, x: np.ndarray) -> np.ndarray:
        return np.where(x >= 0.0, 2.0, 1.0)

    def _gradient(self, theta: np.ndarray, rows: np.ndarray, out: np.ndarray) -> float:
        return kernels.noisy.kink_gradient(theta, rows, self._noise, self._share, self._z, out)

    def _steps(self, rule: "Rule", theta: np.ndarray, walk: "Walk", weight: float) -> None:
        kernels.noisy.kink_steps(*rule, theta, *walk, self._noise, weight, self._z, np.empty_like(theta))


def _is_finite(value: object, above: float = -math.inf) -> bool:
    return not isinstance(value, bool) and isinstance(value, int | float) and math.isfinite(value) and value > above


def _check_strength(name: str, value: object) -> None:
    if not (_is_finite(value) and value >= 0):
        raise ConfigError(f"{name} is {value!r}, but it has to be a finite number, zero or above")
