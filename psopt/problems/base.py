"""What is minimised: F(theta) = sum over m of f_m(theta), one `Problem` object for each worker's f_m.

A problem is any object with the four required members below; the built-in ones and a user's own class are treated
alike. f_m carries its own share of any 1/n and of any regulariser, so that the sum over workers *is* the objective.

A user's class is named in YAML as ``kind: package.module:Class`` and built as ``Class(shard, share, **options)``,
where ``options`` are the other keys of the ``problem`` mapping.
"""

import math
from typing import Protocol

import numpy as np

from psopt.data.table import Table
from psopt.errors import ConfigError
from psopt.records import record


@record
class Share:
    """What part of the whole a worker's shard is.

    Attributes
    ----------
    worker : int
        m, from 0.
    workers : int
        M, the number of workers.
    total_samples : int
        n, over all workers.
    """

    worker: int
    workers: int
    total_samples: int


class Problem(Protocol):
    """f_m on one shard.

    Required: `dim`, `samples`, `value_and_gradient`, `value`. Optional members open optional features, and a feature
    that misses its member is refused with a sentence:

    ``smoothness() -> float``
        L_m, a bound on the curvature of f_m: for ``step_size: 1/L`` and for the selections that weigh workers by L_m.
    ``curvature_product(v, out) -> None``
        out = C_m v, both shape (dim,), where C_m bounds every Hessian of f_m from above (for a quadratic, the Hessian);
        lets the server find the joint L = lambda_max(sum C_m), which is smaller than sum L_m.
    ``hessian(theta) -> ndarray, shape (dim, dim), float64``
        for the reference optimum f* (normal equations, Newton).
    ``batch_value_and_gradient(theta, rows, out) -> float``
        the unbiased estimate of f_m and its gradient from the samples ``rows``, int64 indices into the shard of shape
        (B,), B >= 1: their share of the loss times n_m / B, plus the whole l2 term. With all rows it equals
        `value_and_gradient` up to rounding; the same theta and rows give the same bits.
    ``tensors``, tuple of (name, shape)
        what theta is made of, in the order of the flat vector; the sizes add up to dim. Without it theta is one tensor,
        ("theta", (dim,)).
    ``initial(rng) -> ndarray, shape (dim,)``
        the first iterate, in the problem's dtype, from a NumPy generator. Without it theta starts at zero.
    ``score(theta, held_out) -> (float, int)``
        the sum of the losses, without l2, and the number of right predictions on the rows of another `Table`; it may
        remember what it prepared of the last table.
    ``endless``, True
        the samples 0 to ``samples`` - 1 are numbers of draws from a distribution: there is no epoch, rows are drawn
        with replacement only, and f_m is the expectation, which no batch equals.
    ``state() -> dict``, ``restore(state) -> None``
        what the problem carries from round to round, as numbers, texts, arrays, and lists and mappings of such, and the
        way back: for checkpoints. Without them it carries nothing.
    ``local_steps(rule, theta, walk, scale) -> None``
        theta, shape (dim,), in place through many steps in one call: each takes g = scale * the gradient that
        `batch_value_and_gradient` gives for its samples, one or more, at the present theta, and moves theta by
        ``rule``. ``rule`` and ``walk`` are a `Rule` and a `Walk` of `psopt.problems.kernels.steps`. Whether theta is
        still finite is for the caller to ask. Without it local work calls `batch_value_and_gradient`, a Python call a
        step.
    ``parts``, a number, and ``employ(crew) -> None``
        how many parts its passes over all rows are made of, which depends on no thread; and, where these are several,
        threads (`psopt.problems.crew.Crew`) that may form them. The bits are the same with any crew, or with none.
    ``fused_rows``, a number
        the largest batch for which `local_steps` is the quicker way: larger ones go by `batch_value_and_gradient`,
        where BLAS, say, is worth a Python call a step. Without it local work calls `local_steps` for every batch.
    """

    dim: int
    samples: int

    def value_and_gradient(self, theta: np.ndarray, out: np.ndarray) -> float:
        """f_m(theta), and its gradient written into ``out``, shape (dim,), the dtype of theta. theta is not changed."""
        ...

    def value(self, theta: np.ndarray) -> float:
        """f_m(theta), equal to what `value_and_gradient` returns up to rounding."""
        ...


def scale_and_l2(l2: float, reduction: str, dtype: str, share: Share) -> tuple[float, float]:
    """What multiplies a worker's summed losses, and what its 1/2 ||theta||^2; `ConfigError` for a wrong option.

    reduction 'sum' gives (1, l2), 'mean' gives (1/n, l2/M) with n samples and M workers in all.
    """
    if dtype not in ("float64", "float32"):
        raise ConfigError(f"dtype is {dtype!r}, but it has to be float64 or float32")
    if reduction not in ("sum", "mean"):
        raise ConfigError(f"reduction is {reduction!r}, but it has to be sum or mean")
    if isinstance(l2, bool) or not isinstance(l2, int | float) or not (math.isfinite(l2) and l2 >= 0):
        raise ConfigError(f"l2 is {l2!r}, but it has to be a finite number, zero or above")
    return (1.0, float(l2)) if reduction == "sum" else (1.0 / share.total_samples, l2 / share.workers)


def check_width(held_out: Table, n_features: int) -> None:
    """Raise `ConfigError` unless the held-out rows have as many features as the shard."""
    if held_out.n_features != n_features:
        raise ConfigError(f"the held-out rows have {held_out.n_features} features, but the problem has {n_features}")
