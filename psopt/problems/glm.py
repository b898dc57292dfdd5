"""Least squares and logistic regression: losses of the margins x_i.theta, with an l2 term.

    reduction 'sum'   f_m(theta) =        sum_i loss_i(theta) +    l2  / 2 ||theta||^2
    reduction 'mean'  f_m(theta) = (1/n)  sum_i loss_i(theta) + (l2/M) / 2 ||theta||^2

where i runs over the shard, n counts the samples of all workers and M the workers. With 'mean' the sum over workers is
the mean loss plus l2/2 ||theta||^2; with 'sum' every worker adds the whole l2 term, as LAG's experiments do. No
intercept is added.
"""

import math
from typing import TYPE_CHECKING

import numpy as np

from psopt.data.table import Table
from psopt.errors import ConfigError
from psopt.problems import kernels
from psopt.problems.base import Share, check_width, scale_and_l2
from psopt.problems.crew import Crew
from psopt.problems.features import DenseFeatures, SparseFeatures, check_walk, prepare
from psopt.problems.smoothness import largest_eigenvalue, power_iteration

if TYPE_CHECKING:
    from psopt.problems.kernels.steps import Rule, Walk

_GRAM_DIM = 256  # up to here X^T X is formed and its spectrum found exactly


class _LinearModel:
    """What the two losses share; ``loss``, the name of a link, and ``bend``, a bound on the loss's second derivative,
    tell them apart.
    """

    loss: str
    bend: float

    def __init__(self, shard: Table, share: Share, l2: float, reduction: str, dtype: str, initial_scale: float) -> None:
        self.link: int = getattr(kernels.links, self.loss)
        self._scale, self._l2 = scale_and_l2(l2, reduction, dtype, share)
        self._initial_scale = _checked_scale(initial_scale)
        self.samples = shard.samples
        self.dim = shard.n_features
        self.dtype = np.dtype(dtype)
        self._features = prepare(shard, self.dtype)
        self.parts = len(self._features.rows)

    def employ(self, crew: Crew) -> None:
        """Lets these threads share passes over all rows."""
        self._features.employ(crew)

    def value_and_gradient(self, theta: np.ndarray, out: np.ndarray) -> float:
        """f_m(theta), and its gradient into ``out``, shape (dim,); all NaN where theta holds a NaN or an infinity."""
        return self._finish(self._features.evaluate(self.link, theta, out), self._scale, theta, out)

    def batch_value_and_gradient(self, theta: np.ndarray, rows: np.ndarray, out: np.ndarray) -> float:
        """The estimate of f_m and its gradient from the samples ``rows``, int64, shape (B,), B >= 1."""
        loss = self._features.batch(self.link, theta, out, rows)
        return self._finish(loss, self._scale * (self.samples / len(rows)), theta, out)

    def local_steps(self, rule: "Rule", theta: np.ndarray, walk: "Walk", scale: float) -> None:
        """Moves theta along ``scale`` times the gradients of the walk's batches, as `Problem` says."""
        check_walk(walk, self.samples)
        weight = scale * self._scale * self.samples
        self._features.local_steps(self.link, rule, theta, walk, weight, scale * self._l2)

    def value(self, theta: np.ndarray) -> float:
        """f_m(theta); NaN where theta holds a NaN or an infinity."""
        norm = kernels.vector.squared_norm(theta)
        if not math.isfinite(norm) and not kernels.vector.all_finite(theta):
            return math.nan
        return self._total(self._features.evaluate(self.link, theta), self._scale, norm)

    def initial(self, rng: np.random.Generator) -> np.ndarray:
        """Normal with standard deviation ``initial_scale``, shape (dim,); at 0 no random number is drawn."""
        if not self._initial_scale:
            return np.zeros(self.dim, self.dtype)
        with np.errstate(over="ignore"):  # the objective there is not finite, which is said
            return (self._initial_scale * rng.standard_normal(self.dim)).astype(self.dtype)

    def smoothness(self) -> float:
        """L_m, the largest eigenvalue of C_m = scale * bend * X^T X + l2 I."""
        if self.dim <= _GRAM_DIM:
            top = largest_eigenvalue(self._features.gram())
        else:
            top = power_iteration(self._features.curvature, self.dim)
        return self._scale * self.bend * top + self._l2

    def curvature_product(self, v: np.ndarray, out: np.ndarray) -> None:
        """out = C_m v, both shape (dim,)."""
        self._features.curvature(v, out)
        kernels.vector.regularise(v, self._scale * self.bend, self._l2, out)

    def hessian(self, theta: np.ndarray) -> np.ndarray:
        """The Hessian of f_m at theta, shape (dim, dim), float64, summed over blocks of rows."""
        matrix = self._features.gram(self._weights(theta))
        matrix *= self._scale
        matrix.flat[:: self.dim + 1] += self._l2
        return matrix

    def _weights(self, theta: np.ndarray) -> np.ndarray | None:
        """The loss's second derivative in each row, shape (n,); None for ones."""
        raise NotImplementedError

    def _finish(self, loss: float, scale: float, theta: np.ndarray, out: np.ndarray) -> float:
        """The value, and in ``out`` the gradient, from the summed losses and their gradient."""
        norm = kernels.vector.regularise(theta, scale, self._l2, out)
        if not math.isfinite(norm) and not kernels.vector.all_finite(theta):
            out.fill(math.nan)
            return math.nan
        return self._total(loss, scale, norm)

    def _total(self, loss: float, scale: float, norm: float) -> float:
        # Without l2 a norm that overflows must not turn a finite loss into NaN.
        return scale * loss + 0.5 * self._l2 * norm if self._l2 else scale * loss


class LeastSquares(_LinearModel):
    """loss_i = (x_i.theta - y_i)^2 / 2.

    Parameters
    ----------
    shard : Table
        Features, dense or CSR, shape (n_m, dim), and labels.
    share : Share
    l2 : float
        Each worker adds l2/2 ||theta||^2 to its part of F; with `reduction: mean` an M-th of it, so that F has it once.
    reduction : 'sum' or 'mean'
        Whether the losses of all samples are added up, or their mean is taken.
    dtype : 'float64' or 'float32'
        Of features and, normally, of theta; the value is float64 in any case.
    initial_scale : float
        The standard deviation of the first iterate, theta ~ N(0, initial_scale^2 I). Default 0: theta starts at zero.
    """

    loss = "SQUARES"
    bend = 1.0

    def __init__(
        self,
        shard: Table,
        share: Share,
        *,
        l2: float = 0.0,
        reduction: str = "sum",
        dtype: str = "float64",
        initial_scale: float = 0.0,
    ) -> None:
        super().__init__(shard, share, l2, reduction, dtype, initial_scale)

    def _weights(self, theta: np.ndarray) -> None:
        return None


class Logistic(_LinearModel):
    """loss_i = log(1 + exp(-y_i x_i.theta)), labels -1 and +1.

    Parameters
    ----------
    shard, share, dtype
        Those of `LeastSquares`.
    l2 : float
        Each worker adds l2/2 ||theta||^2 to its part of F; with `reduction: mean` an M-th of it, so that F has it once.
    reduction : 'sum' or 'mean'
        Whether the losses of all samples are added up, or their mean is taken.
    initial_scale : float
        The standard deviation of the first iterate. Default 0: theta starts at zero.
    zero_labels : bool
        Whether the label 0 is allowed as well: such a row adds log 2 to the value and nothing to the gradient.
    """

    loss = "LOGISTIC"
    bend = 0.25

    def __init__(
        self,
        shard: Table,
        share: Share,
        *,
        l2: float = 0.0,
        reduction: str = "sum",
        dtype: str = "float64",
        initial_scale: float = 0.0,
        zero_labels: bool = False,
    ) -> None:
        self._zero_labels = zero_labels
        self._labels = self._checked(shard, f"worker {share.worker}, row {{row}} of its shard")
        super().__init__(shard, share, l2, reduction, dtype, initial_scale)
        self._held_out: tuple[Table, DenseFeatures | SparseFeatures] | None = None

    def score(self, theta: np.ndarray, held_out: Table) -> tuple[float, int]:
        """The sum of the losses and the number of right predictions on other rows; +1 is predicted where x.theta > 0.

        A label 0 is never right. The features of the last ``held_out`` are remembered.
        """
        if self._held_out is None or self._held_out[0] is not held_out:
            check_width(held_out, self.dim)
            self._checked(held_out, "held-out row {row}")
            self._held_out = (held_out, prepare(held_out, self.dtype))
        if not kernels.vector.all_finite(theta):
            return math.nan, 0
        z = self._held_out[1].margins(theta)
        labels = np.asarray(held_out.labels, dtype=np.float64)
        right = int(np.count_nonzero(labels == np.where(z > 0, 1.0, -1.0)))
        return float(kernels.links.settle(self.link, z, labels, 0, len(z))), right

    def _weights(self, theta: np.ndarray) -> np.ndarray:
        e = np.exp(-np.abs(self._labels * self._features.margins(theta)))
        return self._labels.astype(np.float64) ** 2 * e / (1.0 + e) ** 2

    def _checked(self, table: Table, where: str) -> np.ndarray:
        labels = np.asarray(table.labels)
        wrong = ~((labels == 1) | (labels == -1) | ((labels == 0) & self._zero_labels))
        if wrong.any():
            row = int(np.argmax(wrong))
            allowed = "-1, 0 or +1" if self._zero_labels else "-1 or +1"
            raise ConfigError(
                f"{where.format(row=row)}: the label is {float(labels[row]):g}, but logistic "
                f"regression wants {allowed}; `data.positive: 1` maps the label 1 to +1 and all others to -1"
            )
        return labels


def _checked_scale(value: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not (math.isfinite(value) and value >= 0):
        raise ConfigError(f"initial_scale is {value!r}, but it has to be a finite number, zero or above")
    return float(value)
