"""Exact top-k and error feedback: NumPy's argpartition, and PyTorch's topk where there is one, against psopt's kernels,
on streams as training makes them.

Selection: a fresh random vector each turn. Error feedback: a residual that has lived through many rounds, and a fresh
random gradient each turn. Both sides get the same data, take turns, and must choose the same but for ties; medians are
printed, so that a busy machine spoils both alike. ``candidates`` tells how well the hints foresee: entries that passed,
over the k that are kept.
"""

import functools
from collections.abc import Callable, Iterator

import numpy as np

from psopt.bench.result import Case, Row
from psopt.bench.turns import take_turns, torch_or_none
from psopt.problems.kernels import topk

SELECTIONS = (10_000, 160_000, 1_000_000, 10_000_000)
FEEDBACKS = (
    ((160_000,), (1_600,)),
    ((401_920, 5_130), (4_019, 52)),  # a perceptron 784-512-10, a tensor a layer
    ((1_000_000,), (10_000,)),
    ((10_000_000,), (100_000,)),
)
SCALE = 0.1
Side = Callable[[np.ndarray], None]


def cases() -> Iterator[Case]:
    """Every comparison, in the order of the table."""
    for dtype in ("float64", "float32"):
        for dim in SELECTIONS:
            yield functools.partial(selection, dim, dtype)
        for sizes, counts in FEEDBACKS:
            yield functools.partial(feedback, sizes, counts, dtype)


class Buffers:
    """What psopt's side allocates once for tensors of ``sizes`` that keep ``counts`` entries."""

    def __init__(self, sizes: tuple[int, ...], counts: tuple[int, ...], dtype: str) -> None:
        self.offsets = np.concatenate([[0], np.cumsum(sizes)])
        self.counts = np.array(counts)
        self.hints = np.zeros((len(sizes), 2))
        self.room = topk.scratch(self.offsets, self.counts, np.dtype(dtype))
        self.indices = np.empty(sum(counts), topk.index_dtype(sum(sizes)))
        self.values = np.empty(sum(counts), dtype)

    def operands(self) -> tuple:
        return self.offsets, self.counts, self.hints, self.room, self.indices, self.values

    def candidates(self, x: np.ndarray) -> float:
        """Entries of x above their tensor's floor, over the number that is kept."""
        spans = zip(self.offsets, self.offsets[1:], self.hints[:, 0].astype(x.dtype), strict=False)
        return sum(np.count_nonzero(np.abs(x[a:b]) > floor) for a, b, floor in spans) / len(self.indices)


def stream(dim: int, dtype: str) -> Iterator[np.ndarray]:
    """Fresh normal numbers, without end; the array is the same one each time."""
    rng, x = np.random.default_rng(0), np.empty(dim, dtype)
    while True:
        rng.standard_normal(out=x, dtype=dtype)
        yield x


def selection(dim: int, dtype: str, seconds: float) -> list[Row]:
    """1 % of one vector: indices and values; NumPy's come in any order."""
    k = dim // 100
    buffers, arrivals, found = Buffers((dim,), (k,), dtype), stream(dim, dtype), []

    def theirs(x: np.ndarray) -> None:
        chosen = np.argpartition(np.abs(x), dim - k)[dim - k :]
        found[:] = [chosen, x[chosen]]

    def ours(x: np.ndarray) -> None:
        topk.select(x, *buffers.operands())

    torch = torch_or_none()

    def by_torch(x: np.ndarray) -> None:
        vector = torch.from_numpy(x)
        chosen = torch.topk(vector.abs(), k, sorted=False).indices
        found[:] = [chosen, vector[chosen]]

    for _ in range(5):  # compile, and let the hint settle
        ours(next(arrivals))
    candidates = buffers.candidates(next(arrivals))
    taken = _taken({"NumPy": theirs, "psopt": ours, **({"torch": by_torch} if torch else {})}, arrivals, seconds)
    x = next(arrivals)
    theirs(x)
    ours(x)
    assert np.array_equal(np.sort(np.abs(found[1])), np.sort(np.abs(buffers.values)))
    return [_row("select", dim, k, dtype, taken, candidates)]


def feedback(sizes: tuple[int, ...], counts: tuple[int, ...], dtype: str, seconds: float) -> list[Row]:
    """Residual plus gradient, the largest entries of each tensor, and these set to zero in the residual."""
    dim = sum(sizes)
    buffers, arrivals = Buffers(sizes, counts, dtype), stream(dim, dtype)
    residual, found = np.zeros(dim, dtype), []
    spans = list(zip(buffers.offsets, buffers.offsets[1:], counts, strict=False))

    def ours(gradient: np.ndarray) -> None:
        topk.feed_back(residual, gradient, SCALE, *buffers.operands())

    for _ in range(120 if dim <= 1_000_000 else 20):  # residuals pile up to what they stay at in about d / k rounds
        ours(next(arrivals))
    shares = []
    for _ in range(5):
        gradient = next(arrivals)
        shares.append(buffers.candidates(residual + np.dtype(dtype).type(SCALE) * gradient))
        ours(gradient)
    plain = residual.copy()

    def theirs(gradient: np.ndarray) -> None:
        np.add(plain, SCALE * gradient, out=plain)
        found.clear()
        for first, stop, k in spans:
            own = plain[first:stop]
            chosen = np.argpartition(np.abs(own), own.size - k)[own.size - k :]
            found.append((chosen + first, own[chosen]))
            own[chosen] = 0

    torch = torch_or_none()
    tensor = torch.from_numpy(residual.copy()) if torch else None

    def by_torch(gradient: np.ndarray) -> None:
        tensor.add_(torch.from_numpy(gradient), alpha=SCALE)
        found.clear()
        for first, stop, k in spans:
            own = tensor[first:stop]
            chosen = torch.topk(own.abs(), k, sorted=False).indices
            found.append((chosen + first, own[chosen]))
            own[chosen] = 0

    taken = _taken({"NumPy": theirs, "psopt": ours, **({"torch": by_torch} if torch else {})}, arrivals, seconds)
    plain[:] = residual  # NumPy breaks ties as it likes, so that the two may have gone apart
    gradient = next(arrivals)
    theirs(gradient)
    ours(gradient)
    apart = np.flatnonzero(plain != residual)
    at_the_edge = np.isin(np.abs(plain[apart] + residual[apart]), buffers.hints[:, 1].astype(dtype))
    assert at_the_edge.all(), "the two sides differ by more than ties"
    what = "feed back" if len(sizes) == 1 else f"feed back, {len(sizes)} tensors"
    return [_row(what, dim, sum(counts), dtype, taken, float(np.median(shares)))]


def _taken(sides: dict[str, Side], arrivals: Iterator[np.ndarray], seconds: float) -> dict[str, float]:
    """Medians; in each turn all sides get the same fresh vector, which is not measured."""
    arrived = next(arrivals)  # the same array each time
    held = {name: functools.partial(side, arrived) for name, side in sides.items()}
    return take_turns(held, seconds, before=lambda: next(arrivals))


def _row(what: str, dim: int, kept: int, dtype: str, taken: dict[str, float], candidates: float) -> Row:
    others = {"torch": taken["torch"]} if "torch" in taken else {}
    figures = {"kept": kept, "candidates": candidates}
    return Row(f"top-k: {what}", (dim,), dtype, taken["psopt"], "NumPy", taken["NumPy"], others, figures=figures)
