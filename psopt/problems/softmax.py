"""Softmax regression, the linear model of K classes: a perceptron without hidden layers.

    loss_i(theta) = log sum_k exp(z_ik) - z_{i, y_i},   z_ik = w_k.x_i + b_k

The Hessian of log-sum-exp is diag(p) - p p^T <= I/2 (Boehning, Ann. Inst. Statist. Math. 44, 1992), hence

    C_m = scale/2 I_K (x) X^T X + l2 I

bounds every Hessian of f_m, where X carries a column of ones if there is a bias. ``reduction`` and ``l2`` are those of
`glm`.
"""

import numpy as np

from psopt.data.table import Table
from psopt.errors import ConfigError
from psopt.problems import kernels
from psopt.problems.base import Share
from psopt.problems.perceptron import Network
from psopt.problems.smoothness import largest_eigenvalue, power_iteration

_GRAM_DIM = 256  # up to here X^T X is formed and its spectrum found exactly
_HESSIAN_ROWS = 512
_BEND = 0.5


class Softmax(Network):
    """Softmax regression (multinomial logistic regression), labels 0 to classes - 1.

    Parameters
    ----------
    shard : Table
        Features, dense or CSR, shape (n_m, d), and labels. Passes over all rows go by the elements that are not zero,
        of dense ones too, where these are a third at most.
    share : Share
    classes : int
        K, how many labels there are, 2 or above.
    bias : bool
        Whether each class has a constant b_k beside its weights.
    l2 : float
        The weight of l2/2 ||theta||^2, of weights and biases alike.
    reduction : 'sum' or 'mean'
        Whether the losses of all samples are added up, or their mean is taken.
    dtype : 'float64' or 'float32'
        Of features and, normally, of theta; the value is float64 in any case.

    theta holds ``weight`` (K, d) and then ``bias`` (K,).
    """

    def __init__(
        self,
        shard: Table,
        share: Share,
        *,
        classes: int,
        bias: bool = True,
        l2: float = 0.0,
        reduction: str = "mean",
        dtype: str = "float64",
    ) -> None:
        if not isinstance(bias, bool):
            raise ConfigError(f"bias is {bias!r}, but it has to be true or false")
        super().__init__(shard, share, classes, [], kernels.layers.LINEAR, l2, reduction, dtype, bias, block_rows=64)
        self._sums: np.ndarray | None = None

    def initial(self, rng: np.random.Generator) -> np.ndarray:
        """Zero, shape (dim,); no random number is drawn."""
        return np.zeros(self.dim, self.dtype)

    def smoothness(self) -> float:
        """L_m, the largest eigenvalue of C_m."""
        d = self.n_features
        inputs = d + self._bias
        if inputs > _GRAM_DIM:
            top = power_iteration(self._curvature, inputs)
        else:
            gram = np.empty((inputs, inputs))
            gram[:d, :d] = self._features.gram()
            if self._bias:
                gram[d, :d] = gram[:d, d] = self._column_sums()
                gram[d, d] = self.samples
            top = largest_eigenvalue(gram)
        return self._scale * _BEND * top + self._l2

    def curvature_product(self, v: np.ndarray, out: np.ndarray) -> None:
        """out = C_m v, both shape (dim,), float64."""
        d, places = self.n_features, self._per_class()
        product = np.empty(d + self._bias)
        for place in places:
            self._curvature(v[place], product)
            out[place] = self._scale * _BEND * product
        out += self._l2 * v

    def hessian(self, theta: np.ndarray) -> np.ndarray:
        """The Hessian of f_m at theta, shape (dim, dim), float64, summed over blocks of rows."""
        d, K = self.n_features, self.classes
        theta = theta.astype(np.float64)
        W, b = theta[: K * d].reshape(K, d), theta[K * d :] if self._bias else np.zeros(K)
        inputs = d + self._bias
        X, P = np.ones((_HESSIAN_ROWS, inputs)), np.empty((_HESSIAN_ROWS, K))
        room = np.empty((_HESSIAN_ROWS, d))
        blocks = np.zeros((K, K, inputs, inputs))
        for start in range(0, self.samples, _HESSIAN_ROWS):
            stop = min(start + _HESSIAN_ROWS, self.samples)
            panel = self._features.block(start, stop, room)
            x, p = X[: stop - start], P[: stop - start]
            x[:, :d] = panel
            kernels.products.rows_by_rows(panel, W, p, panel[:0])
            kernels.softmax.softmax(p, b)
            for k in range(K):
                for other in range(k, K):
                    weights = p[:, k] * ((k == other) - p[:, other])
                    blocks[k, other] += (x * weights[:, None]).T @ x
        matrix = np.empty((self.dim, self.dim))
        places = self._per_class()
        for k in range(K):
            for other in range(k, K):
                matrix[np.ix_(places[k], places[other])] = blocks[k, other]
                matrix[np.ix_(places[other], places[k])] = blocks[k, other].T
        matrix *= self._scale
        matrix.flat[:: self.dim + 1] += self._l2
        return matrix

    def _curvature(self, v: np.ndarray, out: np.ndarray) -> None:
        """out = X^T X v, both shape (d,), or (d + 1,) with the column of ones."""
        d = self.n_features
        self._features.curvature(np.ascontiguousarray(v[:d]), out[:d])
        if self._bias:
            sums = self._column_sums()
            out[d] = sums @ v[:d] + self.samples * v[d]
            out[:d] += v[d] * sums

    def _column_sums(self) -> np.ndarray:
        if self._sums is None:
            self._sums = self._features.column_sums()
        return self._sums

    def _per_class(self) -> np.ndarray:
        """Where each class's weights, and then its bias, stand in theta: shape (K, d) or (K, d + 1)."""
        d, K = self.n_features, self.classes
        weights = np.arange(K * d).reshape(K, d)
        return np.hstack([weights, np.arange(K * d, K * d + K)[:, None]]) if self._bias else weights

    def _tensors(self) -> tuple[tuple[str, tuple[int, ...]], ...]:
        weight = ("weight", (self.classes, self.n_features))
        return (weight, ("bias", (self.classes,))) if self._bias else (weight,)
