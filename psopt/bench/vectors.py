"""Passes over whole vectors that server and trigger make every round: NumPy, and PyTorch, against the fused ones."""

import functools
from collections.abc import Iterator

import numpy as np

from psopt.bench.result import Case, Row
from psopt.bench.turns import take_turns, torch_or_none
from psopt.problems.kernels import vector
from psopt.problems.kernels.reading import read_once, read_streams
from psopt.problems.kernels.warm import warm_model, warm_vectors

DISTANCES = ((100_000, "float64"), (10_000_000, "float64"), (10_000_000, "float32"))
SUMS = ((3, 100_000, "float64"), (10, 407_050, "float64"), (10, 4_000_000, "float32"))


def cases() -> Iterator[Case]:
    """Every comparison, in the order of the table."""
    for dim, dtype in DISTANCES:
        yield functools.partial(squared_distance, dim, dtype)
    for workers, dim, dtype in SUMS:
        yield functools.partial(sum_rows, workers, dim, dtype)


def squared_distance(dim: int, dtype: str, seconds: float) -> list[Row]:
    """||a - b||^2, as a trigger wants it: NumPy forms the difference in a buffer."""
    warm_vectors(dtype)
    both = np.random.default_rng(0).standard_normal((2, dim), dtype=dtype)
    a, b, flat, room = both[0], both[1], both.ravel(), np.empty(dim, dtype)

    def by_numpy() -> float:
        np.subtract(a, b, out=room)
        return float(np.dot(room, room))

    expected, bound = by_numpy(), 1e-9 if dtype == "float64" else 1e-3
    assert abs(vector.squared_distance(a, b) - expected) <= bound * expected
    sides = {
        "psopt": lambda: vector.squared_distance(a, b),
        "NumPy": by_numpy,
        "once": lambda: read_once(flat),
        "streams": lambda: read_streams(flat),
    }
    torch = torch_or_none()
    if torch:
        left, right = torch.from_numpy(a), torch.from_numpy(b)
        sides["torch"] = lambda: (left - right).square().sum().item()
    return [_row("squared distance", (dim,), dtype, take_turns(sides, seconds))]


def sum_rows(workers: int, dim: int, dtype: str, seconds: float) -> list[Row]:
    """The sum of what the workers said, shape (M, d), in worker order."""
    warm_model(dtype)
    stale = np.random.default_rng(0).standard_normal((workers, dim), dtype=dtype)
    out, expected, flat = np.empty(dim, dtype), np.empty(dim, dtype), stale.ravel()
    vector.sum_rows(stale, 0, out)
    np.sum(stale, axis=0, out=expected)
    assert np.array_equal(out, expected)
    sides = {
        "psopt": lambda: vector.sum_rows(stale, 0, out),
        "NumPy": lambda: np.sum(stale, axis=0, out=expected),
        "once": lambda: read_once(flat),
        "streams": lambda: read_streams(flat),
    }
    torch = torch_or_none()
    if torch:
        rows, total = torch.from_numpy(stale), torch.from_numpy(expected)
        sides["torch"] = lambda: torch.sum(rows, 0, out=total)
    return [_row("sum of rows", (workers, dim), dtype, take_turns(sides, seconds))]


def _row(what: str, shape: tuple[int, ...], dtype: str, taken: dict[str, float]) -> Row:
    others = {"torch": taken["torch"]} if "torch" in taken else {}
    read_s = min(taken["once"], taken["streams"])
    return Row(what, shape, dtype, taken["psopt"], "NumPy", taken["NumPy"], others, read_s)
