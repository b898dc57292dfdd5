"""Promises of what the server does: selections, aggregators and updates."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from psopt.contract.promises import DTYPES, demand, demand_near, demand_same, gone_on, promise, saved, tells
from psopt.core.model import goes_with
from psopt.parts.codecs import Codec, Increment, Overwrite
from psopt.parts.compressors import TopK


@dataclass
class Asking:
    """The server as its selection sees it: a `psopt.parts.selections.ServerView`."""

    round: int
    workers: int
    threshold: float = 0.0
    given: Sequence[float] = ()
    present: Sequence[int] | None = None

    def __post_init__(self) -> None:
        self.living = np.arange(self.workers) if self.present is None else np.array(self.present)

    def drifts(self) -> Sequence[float]:
        return self.given

    def compare(self, left: np.ndarray, right: float) -> np.ndarray:
        return left > right


def chosen(part: Any, rounds: int, workers: int = 9, living: Sequence[int] | None = None, cut: int = 0) -> list[Any]:
    """Whom a selection asks, round by round, None for everyone; checked. After round ``cut`` its state goes through a
    checkpoint.
    """
    rng = np.random.default_rng(0)
    smoothness = rng.random(workers) + 0.1
    state, kept, found = part.init(smoothness, np.random.default_rng(1)), smoothness.copy(), []
    for k in range(1, rounds + 1):
        if cut and k == cut + 1:
            state = gone_on(part.init(smoothness, np.random.default_rng(9)), saved(state))
        drifts = rng.random(workers).tolist()
        view = Asking(k, workers, rng.random() if living is None else 1e-9, drifts.copy(), living)
        present = view.living.tolist()
        one = part.select(state, view)
        demand(view.given == drifts and view.living.tolist() == present, f"round {k}: select wrote into what it sees")
        demand(part.everyone == (one is None), f"round {k}: `everyone` is {part.everyone}, but select gave {one}")
        if one is not None:
            demand(
                isinstance(one, np.ndarray) and one.dtype.kind == "i", f"round {k}: select gave {one!r}, no integers"
            )
            demand((np.diff(one) > 0).all(), f"round {k}: {one.tolist()} does not ascend, or asks somebody twice")
            strangers = sorted(set(one.tolist()) - set(present))
            demand(not strangers, f"round {k}: it asks {strangers}, who are not among the living {present}")
        found.append(None if one is None else one.tolist())
    demand_same(kept, smoothness, "the selection wrote into the smoothness")
    return found


tells("selection")


@promise("selection", "asks workers that are there, in ascending order, nobody twice; None means everyone")
def _asks(part: Any) -> None:
    for workers in (1, 2, 9):
        chosen(part, 50, workers)


@promise("selection", "asks among the living, and each of them in the end")
def _living(part: Any) -> None:
    for living in ([0, 2, 5, 8], [4]):
        asked = chosen(part, 400, 9, living)
        if not part.everyone:
            never = sorted(set(living) - {m for one in asked for m in one})
            demand(not never, f"in 400 rounds it never asked {never} of {living}")


@promise("selection", "asks everyone under a threshold of minus infinity, if it has a threshold")
def _asks_all(part: Any) -> None:
    if part.threshold is not None:
        state = part.init(np.arange(1.0, 10.0), np.random.default_rng(1))
        one = part.select(state, Asking(1, 9, -math.inf, [0.0] * 9))
        demand(one is not None and one.tolist() == list(range(9)), f"it asked {one} of 9")


@promise("selection", "draws from its own generator alone, and a checkpoint restores it")
def _selection_carries_on(part: Any) -> None:
    first = chosen(part, 40)
    demand(chosen(part, 40) == first, "the same seed gave another choice")
    demand(chosen(part, 40, cut=7) == first, "restored from a checkpoint, it chose otherwise")


CODECS: tuple[Codec, ...] = (Overwrite(), Overwrite(TopK(count=2)), Increment(TopK(count=2)))
SIZES = [2, 3]
WORKERS = 4
SAMPLES = [3 * m + 1 for m in range(WORKERS)]


class Server:
    """An aggregator's state, and what each worker holds of itself."""

    def __init__(self, part: Any, codec: Codec, dtype: np.dtype, fill: float) -> None:
        self.part, self.codec, self.dtype, self.fill = part, codec, dtype, fill
        self.state = self.fresh()
        self.held = np.full((WORKERS, sum(SIZES)), fill, dtype)
        self._said = [codec.init(SIZES, dtype, np.random.default_rng(m)) for m in range(WORKERS)]

    def fresh(self) -> Any:
        return self.part.init(sum(SIZES), self.dtype, self.fill, self.codec, SAMPLES)

    def hear(self, spoke: Sequence[int], numbers: np.ndarray) -> None:
        """A round in which these workers speak, in that order; ``numbers``, shape (WORKERS, dim), is what they say."""
        self.part.open(self.state)
        for m in spoke:
            self.say(m, numbers[m].astype(self.dtype))

    def say(self, m: int, numbers: np.ndarray) -> None:
        payload, self.held[m] = self.codec.commit(self._said[m], numbers, self.held[m].copy(), 0.1)
        arrived = np.ascontiguousarray(payload).copy()
        kept = arrived.copy()
        self.part.absorb(self.state, m, arrived)
        demand_same(kept, arrived, "absorb wrote into the payload")
        arrived.fill(0)  # as the transport may

    def total(self) -> np.ndarray:
        return self.part.total(self.state)


def _servers(part: Any) -> list[tuple[Codec, np.dtype, float]]:
    return [(codec, dtype, fill) for codec in CODECS for dtype in DTYPES for fill in (0.0, 1.0, 0.1)]


def _rounds(rng: np.random.Generator, rounds: int = 6) -> list[tuple[list[int], np.ndarray]]:
    """Who speaks in each round, and what they say; now and then nobody does."""
    return [
        (rng.permutation(WORKERS)[: rng.integers(0, WORKERS + 1)].tolist(), rng.standard_normal((WORKERS, sum(SIZES))))
        for _ in range(rounds)
    ]


@promise("aggregator", "holds of each worker what that worker last said")
def _holds(part: Any) -> None:
    for codec, dtype, fill in _servers(part):
        server = Server(part, codec, dtype, fill)
        for spoke, numbers in _rounds(np.random.default_rng(0)):
            server.hear(spoke, numbers)
            for m in spoke:
                demand_same(server.held[m], part.stale(server.state, m), f"of worker {m} it holds something else")


@promise("aggregator", "its aggregate is the same however answers arrive, asked twice, and after a checkpoint")
def _total(part: Any) -> None:
    for codec, dtype, fill in _servers(part):
        one, other, resumed = (Server(part, codec, dtype, fill) for _ in range(3))
        for spoke, numbers in _rounds(np.random.default_rng(1)):
            one.hear(spoke, numbers)
            other.hear(spoke[::-1], numbers)
            resumed.hear(spoke, numbers)
            total = one.total().copy()
            demand(total.shape == (sum(SIZES),) and total.dtype == dtype, f"it is {total.dtype}{total.shape}")
            demand(np.isfinite(total).all(), f"it is not finite: {total}")
            demand_same(total, one.total(), "asked twice, the aggregate is another")
            demand_same(total, other.total(), "with answers in another order, the aggregate is another")
            resumed.state = gone_on(resumed.fresh(), saved(resumed.state))
            demand_same(total, resumed.total(), "after a checkpoint, the aggregate is another")


@promise("aggregator", "if it `sums`, its aggregate is what it holds of all workers, added in their order, always")
def _sums(part: Any) -> None:
    if not (goes_with(part, "sums", "total") and part.sums):
        return
    for codec, dtype, fill in _servers(part):
        server = Server(part, codec, dtype, fill)
        for spoke, numbers in _rounds(np.random.default_rng(2)):
            server.hear(spoke, numbers)
            added = np.zeros(sum(SIZES), dtype)
            for m in range(WORKERS):
                added += part.stale(server.state, m)
            demand_same(added, server.total(), "its aggregate is not the sum")


@promise("aggregator", "`weights` are what it multiplies with: if all say x, the aggregate is their sum times x")
def _weights(part: Any) -> None:
    weights = part.weights(SAMPLES)
    demand(len(weights) == WORKERS and min(weights) > 0, f"it gave {weights} for {WORKERS} workers")
    for dtype in DTYPES:
        server, x = Server(part, CODECS[0], dtype, 0.0), np.linspace(-1.0, 2.0, sum(SIZES))
        server.hear(range(WORKERS), np.tile(x, (WORKERS, 1)))
        within = 100 * float(np.finfo(dtype).eps) * sum(weights) * 2
        demand_near(sum(weights) * x, server.total(), within, "all said the same, and the aggregate is another")


@promise("aggregator", "forgets a worker that is dropped")
def _drops(part: Any) -> None:
    for codec, dtype, fill in _servers(part):
        rounds, totals = _rounds(np.random.default_rng(2)), []
        for scale in (1.0, 100.0):
            server = Server(part, codec, dtype, fill)
            for spoke, numbers in rounds:
                numbers = numbers * np.where(np.arange(WORKERS) == 1, scale, 1.0)[:, None]
                server.hear(spoke, numbers)
            part.open(server.state)
            part.drop(server.state, 1)
            for m in (0, 2, 3):
                server.say(m, np.arange(5.0).astype(dtype))
            totals.append(server.total().copy())
        demand_same(*totals, "what the dropped worker had said still counts")


@promise("aggregator", "tells how many bytes it holds")
def _nbytes(part: Any) -> None:
    for codec in CODECS:
        told = part.nbytes(WORKERS, SIZES, DTYPES[0], 0.0, codec)
        demand(isinstance(told, int) and told > 0, f"nbytes gave {told!r}")


def iterates(part: Any, aggregates: np.ndarray, reuse: bool, cut: int = 0) -> list[np.ndarray]:
    """theta after each step; checked. ``reuse``: the aggregate is one array, overwritten after each step."""
    dim, dtype = aggregates.shape[1], aggregates.dtype
    theta, state, found = np.linspace(-1, 1, dim).astype(dtype), part.init(dim, dtype), []
    room = np.empty(dim, dtype)
    for k, aggregate in enumerate(aggregates):
        if cut and k == cut:
            state = gone_on(part.init(dim, dtype), saved(state))
        given, before, same = room if reuse else aggregate.copy(), theta.copy(), theta
        given[:] = aggregate
        moved = part.step(state, theta, given, 0.3)
        demand(theta is same and np.isfinite(theta).all(), f"step {k + 1}: theta is not finite")
        demand_same(aggregate, given, f"step {k + 1}: the update wrote into the aggregate")
        change = theta.astype(np.float64) - before
        exact, eps = float(change @ change), float(np.finfo(dtype).eps)
        rounding = eps * float(np.linalg.norm(before)) * math.sqrt(exact)  # of what was added, as theta took it up
        near = abs(moved - exact) <= 4 * rounding + 10 * eps * max(exact, abs(moved))
        demand(near, f"step {k + 1}: it returned {moved!r}, but ||theta^(k+1) - theta^k||^2 is {exact!r}")
        found.append(theta.copy())
        room.fill(math.nan)
    return found


@promise("update", "moves theta in place, returns how far, squared, and leaves the aggregate alone")
def _moves(part: Any) -> None:
    for dtype in DTYPES:
        for dim in (1, 5, 5000):
            thetas = iterates(part, np.random.default_rng(0).standard_normal((5, dim)).astype(dtype), False)
            demand(not np.array_equal(thetas[0], np.linspace(-1, 1, dim).astype(dtype)), "theta did not move")


@promise("update", "remembers what it needs, and a checkpoint restores it")
def _update_carries_on(part: Any) -> None:
    for dtype in DTYPES:
        aggregates = np.random.default_rng(0).standard_normal((8, 5)).astype(dtype)
        first = iterates(part, aggregates, False)
        again = iterates(part, aggregates, False)
        demand(all(map(np.array_equal, first, again)), "the same aggregates moved theta elsewhere")
        demand(
            all(map(np.array_equal, first, iterates(part, aggregates, True))),
            "it keeps the aggregate's own array, which the next round overwrites",
        )
        demand(
            all(map(np.array_equal, first, iterates(part, aggregates, False, 4))), "restored, it moved theta elsewhere"
        )
