"""Gradients of large shards by two threads against one: the same parts, hence the same bits."""

import functools
import time
from collections.abc import Iterator

import numpy as np

from psopt.bench import linear
from psopt.bench.result import Case, Row
from psopt.bench.turns import take_turns
from psopt.data.table import Table
from psopt.launch import cores
from psopt.problems import build
from psopt.problems.base import Share
from psopt.problems.crew import Crew
from psopt.problems.kernels.warm import warm_up

THREADS, CLASSES = 2, 10
DENSE = (("logistic", 60000, 784, "float64"), ("logistic", 60000, 784, "float32"), ("softmax", 20000, 784, "float64"))
SPARSE = "w8a-like, ones"


def cases() -> Iterator[Case]:
    """Every comparison, where there are cores for it."""
    if cores() < THREADS:
        return
    for kind, n, d, dtype in DENSE:
        yield functools.partial(dense, kind, n, d, dtype)
    yield from (functools.partial(sparse, name, n, sizes) for name, n, sizes, _ in linear.GROUPS if name == SPARSE)


def dense(kind: str, n: int, d: int, dtype: str, seconds: float) -> list[Row]:
    """The gradient of a dense shard of shape (n, d)."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, CLASSES, n) if kind == "softmax" else np.where(rng.random(n) < 0.5, -1.0, 1.0)
    return _row(kind, kind, Table(rng.standard_normal((n, d), dtype=dtype), labels), dtype, seconds)


def sparse(name: str, n: int, sizes: tuple[int, ...], seconds: float) -> list[Row]:
    """The same of a CSR shard whose rows hold one column of each group of ``sizes``, all values 1."""
    return _row("logistic", f"logistic, CSR {name}", linear.one_hot(n, sizes, True), "float64", seconds)


def _row(kind: str, what: str, table: Table, dtype: str, seconds: float) -> list[Row]:
    warm_up(dtype, not isinstance(table.features, np.ndarray), kind=kind)
    share, options = Share(0, 1, table.samples), {"classes": CLASSES} if kind == "softmax" else {}
    one, several = (build(kind, table, share, dtype, options) for _ in range(2))
    theta = (0.03 * np.random.default_rng(1).standard_normal(one.dim)).astype(dtype)
    out, expected = np.empty_like(theta), np.empty_like(theta)
    with Crew(THREADS) as crew:
        crew.engage(several.parts)
        several.employ(crew)
        assert several.value_and_gradient(theta, out) == one.value_and_gradient(theta, expected)
        assert np.array_equal(out, expected)
        sides = {
            "several": lambda: several.value_and_gradient(theta, out),
            "one": lambda: one.value_and_gradient(theta, expected),
        }
        taken = take_turns(sides, seconds, clock=time.perf_counter)
    name, shape = f"{THREADS} threads: {what}, gradient", (table.samples, table.n_features)
    return [Row(name, shape, dtype, taken["several"], "one thread", taken["one"], figures={"parts": one.parts})]
