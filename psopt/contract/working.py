"""Promises of what a worker does by itself: triggers and local work."""

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from psopt.contract.promises import (
    DTYPES,
    ContractBroken,
    demand,
    demand_same,
    gone_on,
    promise,
    same_tree,
    saved,
    tells,
)
from psopt.parts.plans import PlanEntry
from psopt.parts.schedules import Constant
from psopt.parts.work import Setting

DIM = 5


@dataclass
class View:
    """A worker as its trigger sees it: a `psopt.parts.triggers.WorkerView`; ``there`` is what `replay` gives."""

    limit: float
    theta: np.ndarray
    contribution: np.ndarray
    mirror: np.ndarray
    round: int = 1
    there: Callable[[np.ndarray], np.ndarray] = np.copy

    def replay(self, theta: np.ndarray, out: np.ndarray) -> None:
        out[:] = self.there(theta)

    def compare(self, left: float, right: float) -> bool:
        return left > right


def seen(limit: float, k: int, mirror: np.ndarray, rng: np.random.Generator) -> View:
    """A worker in round k whose gradient is that of a bowl with noise of its own, the same wherever it is replayed."""
    theta, noise = rng.standard_normal((2, mirror.size)).astype(mirror.dtype)
    return View(limit, theta, theta + noise, mirror, k, lambda at: at + noise)


def answers(
    part: Any, limits: list[float], dtype: np.dtype = DTYPES[0], seed: int = 0, pure: bool = False
) -> Iterator[bool]:
    """What a trigger says, round by round; with ``pure`` it is asked twice, and `ContractBroken` is raised when that
    changes something.
    """
    rng, mirror, state = np.random.default_rng(seed), np.zeros(DIM, dtype), part.init(DIM, dtype)
    for k, limit in enumerate(limits, start=1):
        view = seen(limit, k, mirror, rng)
        kept, before = (
            View(limit, *map(np.copy, (view.theta, view.contribution, mirror))),
            saved(state) if pure else None,
        )
        said = part.decide(state, view)
        demand(isinstance(said, bool | np.bool_), f"decide gave {said!r}, expected True or False")
        if pure:
            again = part.decide(state, view)
            demand(again == said, f"round {k}: asked twice, decide said {said} and then {again}")
            demand(same_tree(before, saved(state)), f"round {k}: decide changed the state; only commit may")
        part.commit(state, view, bool(said))
        for name in ("theta", "contribution", "mirror") if pure else ():
            demand_same(getattr(kept, name), getattr(view, name), f"round {k}: the trigger wrote into {name}")
        if said:
            mirror[:] = view.contribution
        yield bool(said)


def _some_limits(rounds: int = 60) -> list[float]:
    return np.random.default_rng(2).uniform(2, 15, rounds).tolist()


tells("trigger")


@promise("trigger", "uploads in a forced round, when the threshold is minus infinity")
def _forced(part: Any) -> None:
    for dtype in DTYPES:
        said = list(answers(part, [-math.inf] * 20, dtype))
        demand(all(said), f"silent in {said.count(False)} of 20 forced rounds")


@promise("trigger", "asked twice it says the same, and changes nothing")
def _pure(part: Any) -> None:
    for dtype in DTYPES:
        for limits in (_some_limits(), [-math.inf, *_some_limits(20)], [math.inf] * 10):
            list(answers(part, limits, dtype, pure=True))


@promise("trigger", "stays silent under an infinite threshold right after an upload")
def _silenced(part: Any) -> None:
    if part.threshold is not None:
        said = list(answers(part, [-math.inf, math.inf]))
        demand(not said[1], "it uploaded right after an upload, though nothing exceeds an infinite threshold")


@promise("trigger", "is silent only if it is `lazy`")
def _lazy(part: Any) -> None:
    said = [one for limits in (_some_limits(), [math.inf] * 20) for one in answers(part, limits)]
    demand(part.lazy or all(said), f"`lazy` is false, but it was silent in {said.count(False)} of {len(said)} rounds")
    demand(part.lazy or part.threshold is None, "`lazy` is false, but it asks the server for a threshold")


@promise("trigger", "what drifts away slowly is said in the end: a skip does not forget what was sent")
def _hears_drift(part: Any) -> None:
    mirror, state = np.zeros(DIM), part.init(DIM, DTYPES[0])
    rounds, still, step = 200, 50, 0.3
    for k in range(1, rounds + still + 1):
        at = np.full(DIM, step * min(k, rounds))
        view = View(-math.inf if k == 1 else 1.0, at, at.copy(), mirror, k, np.copy)
        said = bool(part.decide(state, view))
        part.commit(state, view, said)
        if said and k > 1:
            return
        if said:
            mirror[:] = at
    apart = float(np.linalg.norm(mirror - at))
    raise ContractBroken(
        f"silent for {k - 1} rounds with threshold 1, though the gradient is {apart:.3g} away from what was sent"
    )


@promise("trigger", "follows from what it sees alone: two workers do not meet, and a checkpoint restores it")
def _carries_on(part: Any) -> None:
    limits = [-math.inf, *_some_limits(40)]
    alone = list(answers(part, limits))
    both = zip(answers(part, limits), answers(part, _some_limits(41), seed=1), strict=True)
    demand([said for said, _ in both] == alone, "it decided otherwise while a second worker ran beside the first")
    for cut in (1, 7, 20):
        demand(_resumed(part, limits, cut) == alone[cut:], f"restored after round {cut}, it decided otherwise")


def _resumed(part: Any, limits: list[float], cut: int) -> list[bool]:
    """What a trigger says after round ``cut`` when its state went through a checkpoint there."""
    rng, mirror, state, said = np.random.default_rng(0), np.zeros(DIM), part.init(DIM, DTYPES[0]), []
    for k, limit in enumerate(limits, start=1):
        if k == cut + 1:
            state = gone_on(part.init(DIM, DTYPES[0]), saved(state))
        view = seen(limit, k, mirror, rng)
        said.append(bool(part.decide(state, view)))
        part.commit(state, view, said[-1])
        if said[-1]:
            mirror[:] = view.contribution
    return said[cut:]


class Bowl:
    """f(theta) = ||theta||^2 / 2 by samples, each of which pulls towards its own number."""

    SAVED = ()
    dim, dtype = 3, np.dtype(np.float64)

    def __init__(self, samples: int = 23) -> None:
        self.samples, self._mean = samples, samples * (samples - 1) ** 2 / 4  # of the cubes

    def value_and_gradient(self, theta: np.ndarray, out: np.ndarray) -> float:
        return self.batch_value_and_gradient(theta, np.arange(self.samples), out)

    def value(self, theta: np.ndarray) -> float:
        return float(theta @ theta)

    def batch_value_and_gradient(self, theta: np.ndarray, rows: np.ndarray, out: np.ndarray) -> float:
        out[:] = theta + (rows**3 - self._mean).mean()
        return float(theta @ theta)

    def smoothness(self) -> float:
        return 1.0

    def hessian(self, theta: np.ndarray) -> np.ndarray:
        return np.eye(3)

    def curvature_product(self, v: np.ndarray, out: np.ndarray) -> None:
        out[:] = v


SETTING = Setting(Constant(0.1), 0.1)


def entries(part: Any) -> Iterator[PlanEntry]:
    """Rounds such as a plan gives them for this work."""
    return (PlanEntry(3 * k, 3 if part.local else 1) for k in itertools.count())


def contributions(part: Any, rng: np.random.Generator, rounds: int = 5) -> Iterator[tuple[Any, np.ndarray, np.ndarray]]:
    """State, theta and contribution, round by round; raises `ContractBroken` for what no round may do."""
    state = part.init(Bowl(), rng, SETTING)
    for k, entry in zip(range(1, rounds + 1), entries(part), strict=False):
        theta, out = np.arange(3.0), np.full(3, math.nan)
        spent = part.contribute(state, theta, entry, out)
        demand_same(np.arange(3.0), theta, f"round {k}: contribute wrote into theta")
        demand(np.isfinite(out).all(), f"round {k}: contribute left {int((~np.isfinite(out)).sum())} of 3 unwritten")
        counted = isinstance(spent, int | np.integer) and spent >= 1
        demand(counted, f"round {k}: contribute returned {spent!r}, expected how many gradients it computed")
        yield state, theta, out


tells("work")


@promise("work", "writes all of its contribution, leaves theta alone, and needs only what it lists in `needs`")
def _contributes(part: Any) -> None:
    lacking = [name for name in part.needs if not hasattr(Bowl, name)]
    demand(not lacking, f"`needs` names {', '.join(lacking)}, which no problem here has")
    for _, theta, out in contributions(part, np.random.default_rng(0)):
        if part.whole:
            close = np.allclose(out, theta)
            demand(close, f"`whole` is true, but the contribution is {out} and the shard's gradient {theta}")


@promise("work", "replays the same samples at another theta, without randomness")
def _replays(part: Any) -> None:
    rng, again = np.random.default_rng(0), np.empty(3)
    for state, theta, out in contributions(part, rng):
        drawn = rng.bit_generator.state
        if part.replays:
            part.replay(state, theta, again)
            demand_same(out, again, "replayed at the same theta, the contribution is another")
            part.replay(state, theta + 1, again)
            demand(not np.array_equal(again, out), "replayed at another theta, the contribution is the same")
            demand_same(np.arange(3.0), theta, "replay wrote into theta")
        demand(rng.bit_generator.state == drawn, "replay drew random numbers")


@promise("work", "draws from its own generator alone, and a checkpoint restores it")
def _work_carries_on(part: Any) -> None:
    first = [out for _, _, out in contributions(part, np.random.default_rng(3), 8)]
    second = [out for _, _, out in contributions(part, np.random.default_rng(3), 8)]
    demand(all(map(np.array_equal, first, second)), "the same seed gave other contributions")
    rng, rounds = np.random.default_rng(3), zip(range(8), entries(part), strict=False)
    state = part.init(Bowl(), rng, SETTING)
    for k, entry in rounds:
        out = np.empty(3)
        if k == 4:
            state = gone_on(part.init(Bowl(), np.random.default_rng(9), SETTING), saved(state))
        part.contribute(state, np.arange(3.0), entry, out)
        demand_same(first[k], out, f"restored after round 4, the contribution of round {k + 1} is another")
