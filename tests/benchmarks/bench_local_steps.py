"""Local steps of logistic regression in one call: psopt against the loop that one writes in NumPy, a step at a time.

    python tests/benchmarks/bench_local_steps.py [--repeats 9]

The data is made up in the shape of a9a, 32561 rows of 123 features: dense, and CSR with 14 ones a row. One thread; the
sides take turns and medians are printed, so that a busy machine spoils both alike.
"""

import os

for name in ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE"):  # either may make NumPy slower than it is
    os.environ.pop(name, None)
os.environ.update(OPENBLAS_NUM_THREADS="1", OMP_NUM_THREADS="1", MKL_NUM_THREADS="1")

import argparse  # noqa: E402
import time  # noqa: E402
from collections.abc import Callable  # noqa: E402

import numpy as np  # noqa: E402

from psopt.data.table import CSR, Table  # noqa: E402
from psopt.problems import build  # noqa: E402
from psopt.problems.base import Share  # noqa: E402
from psopt.problems.kernels import steps  # noqa: E402
from psopt.problems.kernels.warm import warm_up  # noqa: E402

SAMPLES, DIM, ONES = 32561, 123, 14
L2 = 1e-4
OURS, THEIRS = 100_000, 4_000  # steps a turn at batch 1, a quarter of it at batch 16
RULES = {
    "sgd": (steps.DESCENT, ()),
    "momentum": (steps.MOMENTUM, (0.9, 0.0)),
    "adamw": (steps.ADAMW, (0.9, 0.999, 1e-8, 0.01)),
}


class Gradients:
    """The mean over a batch of the gradients of the logistic loss, with l2, as NumPy has them."""

    def __init__(self, table: Table) -> None:
        self.features, self.labels = table.features, table.labels

    def dense(self, theta: np.ndarray, rows: np.ndarray) -> np.ndarray:
        X = self.features[rows]
        return X.T @ self._weights(X @ theta, rows) + L2 * theta

    def csr(self, theta: np.ndarray, rows: np.ndarray) -> np.ndarray:
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


def compare(label: str, dtype: str, table: Table, batch: int, rule: str, repeats: int) -> None:
    rng = np.random.default_rng(1)
    share = 4 if batch > 1 else 1
    ours, theirs = OURS // share, THEIRS // share
    rows = rng.integers(0, SAMPLES, ours * batch)
    ends = np.arange(ours + 1) * batch
    step_sizes = 0.05 / np.sqrt(1.0 + np.arange(ours) / 100.0)
    problem = build("logistic", table, Share(0, 1, SAMPLES), dtype, {"l2": L2, "reduction": "mean"})
    gradients = Gradients(table)
    gradient = gradients.csr if isinstance(table.features, CSR) else gradients.dense

    def quick(number: int) -> np.ndarray:
        theta, kind = np.zeros(DIM, dtype), RULES[rule]
        chosen = steps.Walk(rows[: number * batch], ends[: number + 1], step_sizes[:number])
        problem.local_steps(steps.rule(*kind, DIM, theta.dtype), theta, chosen, 1.0)
        return theta

    def slow() -> np.ndarray:
        theta = np.zeros(DIM, dtype)
        plain(rule, gradient, theta, rows.reshape(-1, batch)[:theirs], step_sizes[:theirs])
        return theta

    bound = 1e-8 if dtype == "float64" else 1e-2
    assert np.linalg.norm(quick(theirs) - slow()) <= bound * np.linalg.norm(slow())
    times: list[list[float]] = [[], []]
    for _ in range(repeats):
        for side, (number, walk) in enumerate(((theirs, slow), (ours, lambda: quick(ours)))):
            start = time.perf_counter()
            walk()
            times[side].append((time.perf_counter() - start) / number)
    loop, call = (float(np.median(side)) for side in times)
    print(
        f"{label:8} {dtype:8} {batch:5} {rule:9} {1 / loop:9.0f} {1 / call:10.0f} {call * 1e9:7.0f} {loop / call:6.0f}",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--repeats", type=int, default=9)
    repeats = parser.parse_args().repeats
    rng = np.random.default_rng(0)
    labels = np.where(rng.random(SAMPLES) < 0.5, -1.0, 1.0)
    X = rng.standard_normal((SAMPLES, DIM)) / np.sqrt(DIM)
    columns = np.sort(rng.random((SAMPLES, DIM)).argpartition(ONES, axis=1)[:, :ONES], axis=1)
    indices, indptr = columns.astype(np.int32).ravel(), np.arange(SAMPLES + 1, dtype=np.int64) * ONES
    print(f"{'features':8} {'dtype':8} {'batch':>5} {'rule':9} {'NumPy /s':>9} {'psopt /s':>10} {'ns':>7} {'ratio':>6}")
    for dtype in ("float64", "float32"):
        ones = CSR(np.ones(indices.size, dtype), indices, indptr, (SAMPLES, DIM))
        for label, features in (("dense", X.astype(dtype)), ("CSR", ones)):
            warm_up(dtype, sparse=label == "CSR")
            for batch in (1, 16):
                for rule in RULES:
                    compare(label, dtype, Table(features, labels.astype(dtype)), batch, rule, repeats)


if __name__ == "__main__":
    main()
