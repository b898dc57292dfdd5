"""A made-up problem of any size, with as much difference between the workers as one asks for."""

from typing import Literal

import numpy as np

from psopt.data import seeds
from psopt.data.checks import check_room
from psopt.data.table import Table
from psopt.errors import ConfigError
from psopt.records import record


@record
class Synthetic:
    """What to draw; z, eps and delta_m are standard normal, u_m runs evenly from -1/2 (worker 0) to 1/2.

    features   x = exp(heterogeneity u_m) z, so the smoothness of worker m goes with exp(2 heterogeneity u_m)
    truth      theta_m = (theta + heterogeneity delta_m) / sqrt(n_features), theta shared, standard normal
    linear     y = x^T theta_m + noise eps
    logistic   y = sign(x^T theta_m + noise s), s standard logistic: with noise 1 exactly the logistic model

    Attributes
    ----------
    kind : 'linear' or 'logistic'
        Real labels, or labels -1/+1.
    n_samples : int
        n over all workers; as even as can be, the first workers one row more.
    n_features : int
        Columns.
    noise : float, >= 0
        How far labels stray from the truth.
    heterogeneity : float, >= 0
        0: all workers draw from one distribution.
    """

    kind: Literal["linear", "logistic"] = "linear"
    n_samples: int = 1000
    n_features: int = 20
    noise: float = 0.1
    heterogeneity: float = 0.0

    def __post_init__(self) -> None:
        if self.kind not in ("linear", "logistic"):
            raise ConfigError(f"unknown synthetic kind {self.kind!r}: expected linear or logistic")
        if self.n_samples < 1 or self.n_features < 1:
            raise ConfigError("synthetic data needs n_samples and n_features of at least 1")
        for name in ("noise", "heterogeneity"):
            if not 0 <= getattr(self, name) < np.inf:
                raise ConfigError(f"synthetic {name} must be a finite number >= 0, found {getattr(self, name)}")


def synthetic(options: Synthetic, workers: int, seed: int) -> list[Table]:
    """One dense float64 table a worker. Each has its own generator, so only its size depends on M's other workers."""
    d = options.n_features
    if workers > options.n_samples:
        raise ConfigError(f"cannot split {options.n_samples} samples over {workers} workers: some would have none")
    check_room(8 * d * options.n_samples, "synthetic n_samples x n_features")
    shared = seeds.generator(seed, seeds.SYNTHETIC).standard_normal(d)
    small, larger = divmod(options.n_samples, workers)
    tables = []
    for m in range(workers):
        random = seeds.generator(seed, seeds.SYNTHETIC, m)
        u = m / (workers - 1) - 0.5 if workers > 1 else 0.0
        with np.errstate(over="ignore", invalid="ignore"):
            table = _drawn(options, shared, u, small + (m < larger), random)
        if not (np.isfinite(table.features).all() and np.isfinite(table.labels).all()):
            raise ConfigError("synthetic data overflow: noise or heterogeneity is too large")
        tables.append(table)
    return tables


def _drawn(options: Synthetic, shared: np.ndarray, u: float, rows: int, random: np.random.Generator) -> Table:
    """One worker's rows; ``shared`` is theta, shape (n_features,)."""
    d, h = options.n_features, options.heterogeneity
    truth = (shared + h * random.standard_normal(d)) / np.sqrt(d)
    x = np.exp(h * u) * random.standard_normal((rows, d))
    if options.kind == "linear":
        y = x @ truth + options.noise * random.standard_normal(len(x))
    else:
        y = np.where(x @ truth + options.noise * random.logistic(size=len(x)) >= 0, 1.0, -1.0)
    return Table(x, y)
