"""Local steps of logistic regression in one call: the loop that one writes in NumPy, a step at a time, against psopt.

The data is made up in the shape of a9a: dense, and CSR with one column of each of 14 groups. Seconds are a step's.
"""

import functools
from collections.abc import Callable, Iterator

import numpy as np

from psopt.bench.linear import one_hot
from psopt.bench.result import Case, Row
from psopt.bench.turns import take_turns
from psopt.data.table import CSR, Table
from psopt.problems import build
from psopt.problems.base import Share
from psopt.problems.kernels import steps
from psopt.problems.kernels.warm import warm_up

SAMPLES, SIZES = 32561, (8,) * 13 + (19,)
L2 = 1e-4
OURS, THEIRS = 20_000, 1_000
"""Steps a turn."""
CASES = (
    ("dense", "sgd", 1, "float64"),
    ("dense", "sgd", 16, "float64"),
    ("dense", "sgd", 16, "float32"),
    ("dense", "adamw", 1, "float64"),
    ("CSR", "sgd", 1, "float64"),
    ("CSR", "sgd", 16, "float64"),
    ("CSR", "momentum", 1, "float64"),
)
RULES = {
    "sgd": (steps.DESCENT, ()),
    "momentum": (steps.MOMENTUM, (0.9, 0.0)),
    "adamw": (steps.ADAMW, (0.9, 0.999, 1e-8, 0.01)),
}


def cases() -> Iterator[Case]:
    """Every comparison, in the order of the table."""
    for each in CASES:
        yield functools.partial(compare, *each)


class Gradients:
    """The mean over a batch of the gradients of the logistic loss, with l2, as NumPy has them."""

    def __init__(self, table: Table) -> None:
        self.features, self.labels = table.features, table.labels

    def dense(self, theta: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """From an array of features."""
        X = self.features[rows]
        return X.T @ self._weights(X @ theta, rows) + L2 * theta

    def csr(self, theta: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """From a CSR matrix of ones."""
        indices, indptr = self.features.indices, self.features.indptr
        columns = [indices[indptr[i] : indptr[i + 1]] for i in rows]
        weights = self._weights(np.array([theta[own].sum() for own in columns]), rows)
        g = L2 * theta
        for own, weight in zip(columns, weights, strict=True):
            g[own] += weight
        return g

    def _weights(self, z: np.ndarray, rows: np.ndarray) -> np.ndarray:
        y = self.labels[rows]
        return -y / (1.0 + np.exp(y * z)) / len(rows)


def plain(rule: str, gradient: Callable, theta: np.ndarray, batches: np.ndarray, step_sizes: np.ndarray) -> None:
    """theta moved along the batches, shape (steps, B), one after the other."""
    first, second = np.zeros_like(theta), np.zeros_like(theta)
    coefficients = RULES[rule][1]
    for count, (rows, step) in enumerate(zip(batches, step_sizes, strict=True), 1):
        g = gradient(theta, rows)
        if rule == "sgd":
            theta -= step * g
        elif rule == "momentum":
            first *= coefficients[0]
            first += g
            theta -= step * first
        else:
            beta1, beta2, epsilon, decay = coefficients
            first += (1.0 - beta1) * (g - first)
            second += (1.0 - beta2) * (g * g - second)
            down = np.sqrt(second / (1.0 - beta2**count)) + epsilon
            theta -= step * decay * theta + step / (1.0 - beta1**count) * first / down


def compare(form: str, rule: str, batch: int, dtype: str, seconds: float) -> list[Row]:
    """A step with a batch of so many rows, by the rule, in many steps one after the other."""
    warm_up(dtype, sparse=form == "CSR")
    rng = np.random.default_rng(1)
    table = one_hot(SAMPLES, SIZES, ones=True)
    n, dim = table.features.shape
    if form == "dense":
        table = Table((rng.standard_normal((n, dim)) / np.sqrt(dim)).astype(dtype), table.labels)
    rows = rng.integers(0, n, OURS * batch)
    ends = np.arange(OURS + 1) * batch
    step_sizes = 0.05 / np.sqrt(1.0 + np.arange(OURS) / 100.0)
    problem = build("logistic", table, Share(0, 1, n), dtype, {"l2": L2, "reduction": "mean"})
    gradients = Gradients(table)
    gradient = gradients.csr if isinstance(table.features, CSR) else gradients.dense

    def quick(number: int) -> np.ndarray:
        theta = np.zeros(dim, dtype)
        chosen = steps.Walk(rows[: number * batch], ends[: number + 1], step_sizes[:number])
        problem.local_steps(steps.rule(*RULES[rule], dim, theta.dtype), theta, chosen, 1.0)
        return theta

    def slow() -> np.ndarray:
        theta = np.zeros(dim, dtype)
        plain(rule, gradient, theta, rows.reshape(-1, batch)[:THEIRS], step_sizes[:THEIRS])
        return theta

    bound = 1e-8 if dtype == "float64" else 1e-2
    assert np.linalg.norm(quick(THEIRS) - slow()) <= bound * np.linalg.norm(slow())
    taken = take_turns({"psopt": lambda: quick(OURS), "NumPy": slow}, seconds)
    name = f"local step: {rule}, {form}, batch of {batch}"
    return [Row(name, (n, dim), dtype, taken["psopt"] / OURS, "NumPy", taken["NumPy"] / THEIRS)]
