"""Softmax regression and a perceptron: NumPy with `out=` and PyTorch's autograd against psopt.

A batch is taken from the shard by each side. NumPy's products write into arrays that were made beforehand.
"""

import functools
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from psopt.bench.result import Case, Row
from psopt.bench.turns import take_turns, torch_or_none
from psopt.data.table import Table
from psopt.lines import straight
from psopt.problems import build
from psopt.problems.base import Share
from psopt.problems.kernels.warm import warm_up

FEATURES, CLASSES = 784, 10
FULL = ((20000, (), "float64"), (20000, (), "float32"), (4096, (200,), "float32"))
BATCHES = ((10, (200,), "float32"), (64, (200,), "float32"), (32, (512,), "float32"), (10, (512,), "float64"))
SAMPLES = 4096


def cases() -> Iterator[Case]:
    """Every comparison, in the order of the table."""
    for n, hidden, dtype in FULL:
        yield functools.partial(whole, n, hidden, dtype)
    for size, hidden, dtype in BATCHES:
        yield functools.partial(batch, size, hidden, dtype)


class Plain:
    """What one writes in NumPy: relu layers, every array made beforehand."""

    def __init__(self, widths: list[int], rows: int, dtype: str) -> None:
        self.widths = widths
        self.up = [np.empty((rows, width), dtype) for width in widths]
        self.down = [np.empty((rows, width), dtype) for width in widths]
        self.index = np.arange(rows)

    def views(self, flat: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
        """Weights and biases of each layer."""
        found, start = [], 0
        for inputs, units in itertools.pairwise(self.widths):
            W = flat[start : start + inputs * units].reshape(units, inputs)
            start += W.size
            found.append((W, flat[start : start + units]))
            start += units
        return found

    def gradient(self, theta: np.ndarray, X: np.ndarray, y: np.ndarray, weight: float, out: np.ndarray) -> float:
        """The weighted sum of the losses, and its gradient into ``out``."""
        layers, gradients = self.views(theta), self.views(out)
        a = X
        for number, (W, b) in enumerate(layers, 1):
            z = self.up[number]
            np.dot(a, W.T, out=z)
            z += b
            if number < len(layers):
                np.maximum(z, 0, out=z)
            a = z
        a -= a.max(axis=1, keepdims=True)
        own = a[self.index, y].sum()
        np.exp(a, out=a)
        mass = a.sum(axis=1, keepdims=True)
        loss = float(np.log(mass).sum() - own)
        a /= mass
        a[self.index, y] -= 1
        a *= weight
        d = a
        for number in range(len(layers), 0, -1):
            G, g = gradients[number - 1]
            below = self.up[number - 1] if number > 1 else X
            np.dot(d.T, below, out=G)
            np.sum(d, axis=0, out=g)
            if number > 1:
                up = self.down[number - 1]
                np.dot(d, layers[number - 1][0], out=up)
                np.multiply(up, below > 0, out=up)
                d = up
        return loss * weight


def whole(n: int, hidden: tuple[int, ...], dtype: str, seconds: float) -> list[Row]:
    """Value and gradient of a whole shard."""
    table, problem, theta, widths = _made(n, hidden, dtype)
    plain, X, y = Plain(widths, n, dtype), table.features, table.labels
    expected, out = np.empty_like(theta), np.empty_like(theta)
    sides = {
        "psopt": lambda: problem.value_and_gradient(theta, out),
        "NumPy": lambda: plain.gradient(theta, X, y, 1 / n, expected),
    }
    torch = torch_or_none()
    if torch:
        step = _by_torch(torch, widths, theta)
        features, labels = torch.from_numpy(X), torch.from_numpy(y)
        sides["torch"] = lambda: step(features, labels)
    return [_row("whole shard", (n, *widths), dtype, _agreeing(sides, out, expected, dtype, seconds))]


def batch(size: int, hidden: tuple[int, ...], dtype: str, seconds: float) -> list[Row]:
    """Value and gradient of a batch of ``size`` rows, which are taken from the shard."""
    table, problem, theta, widths = _made(SAMPLES, hidden, dtype)
    rows = np.random.default_rng(1).permutation(SAMPLES)[:size]
    plain, X, y = Plain(widths, size, dtype), np.empty((size, FEATURES), dtype), np.empty(size, np.int64)
    expected, out = np.empty_like(theta), np.empty_like(theta)

    def by_numpy() -> float:
        np.take(table.features, rows, axis=0, out=X, mode="clip")
        np.take(table.labels, rows, out=y, mode="clip")
        return plain.gradient(theta, X, y, 1 / size, expected)

    sides = {"psopt": lambda: problem.batch_value_and_gradient(theta, rows, out), "NumPy": by_numpy}
    torch = torch_or_none()
    if torch:
        step = _by_torch(torch, widths, theta)
        features, labels, chosen = (torch.from_numpy(a) for a in (table.features, table.labels, rows))
        sides["torch"] = lambda: step(features[chosen], labels[chosen])
    return [_row(f"batch of {size}", tuple(widths), dtype, _agreeing(sides, out, expected, dtype, seconds))]


def _made(n: int, hidden: tuple[int, ...], dtype: str) -> tuple:
    """A shard like images, its rows as those of a run lie, the problem over it, theta, and the widths of the layers."""
    rng = np.random.default_rng(0)
    table = Table(straight(rng.random((n, FEATURES), dtype=dtype)), rng.integers(0, CLASSES, n))
    kind, options = ("perceptron", {"hidden": list(hidden)}) if hidden else ("softmax", {})
    warm_up(dtype, sparse=False, kind=kind)
    problem = build(kind, table, Share(0, 1, n), dtype, {"classes": CLASSES, **options})
    theta = (0.03 * rng.standard_normal(problem.dim)).astype(dtype)
    return table, problem, theta, [FEATURES, *hidden, CLASSES]


def _by_torch(torch: Any, widths: list[int], theta: np.ndarray) -> Callable[[Any, Any], None]:
    """Forward and backward of the module that one writes, from the same weights."""
    from psopt.bench.torch_modules import perceptron  # needs PyTorch

    model = perceptron(widths, getattr(torch, str(theta.dtype)))
    torch.nn.utils.vector_to_parameters(torch.from_numpy(theta.copy()), model.parameters())

    def step(features: Any, labels: Any) -> None:
        model.zero_grad()
        torch.nn.functional.cross_entropy(model(features), labels).backward()

    return step


def _agreeing(
    sides: dict[str, Callable[[], object]], out: np.ndarray, expected: np.ndarray, dtype: str, seconds: float
) -> dict[str, float]:
    """Medians of sides of which psopt and NumPy found the same."""
    found, value = sides["psopt"](), sides["NumPy"]()
    bound = 1e-9 if dtype == "float64" else 1e-3
    assert abs(found - value) <= bound * abs(value)
    assert np.linalg.norm(out - expected) <= bound * np.linalg.norm(expected)
    return take_turns(sides, seconds)


def _row(what: str, shape: tuple[int, ...], dtype: str, taken: dict[str, float]) -> Row:
    kind = "softmax" if shape[-2] == FEATURES else "perceptron"
    others = {"torch": taken["torch"]} if "torch" in taken else {}
    return Row(f"{kind}: {what}", shape, dtype, taken["psopt"], "NumPy", taken["NumPy"], others)
