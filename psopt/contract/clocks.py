"""Promises of what is counted off: plans, step sizes and starts."""

import itertools
import math
from numbers import Integral
from typing import Any

import numpy as np

from psopt.contract.promises import ContractBroken, demand, promise, tells
from psopt.errors import ConfigError
from psopt.parts import formulas
from psopt.parts.plans import PlanEntry, Rounds

ROUNDS = 1000
WORKERS = (1, 9)
LENGTHS = (1, 2, 100, 1000, None)


def entries_of(part: Any, steps: int | None, workers: int) -> list[PlanEntry]:
    """The first rounds of a plan, and None behind them where it ends; raises `ContractBroken` for gaps."""
    rounds, t, found = Rounds(part, steps, workers), 0, []
    while not rounds.over and len(found) <= ROUNDS:
        entry = rounds.advance()
        demand(entry.t_start == t, f"round {len(found) + 1} begins at local step {entry.t_start}, expected {t}")
        demand(entry.local_steps >= 1, f"round {len(found) + 1} has {entry.local_steps} local steps")
        t += entry.local_steps
        found.append(entry)
    demand(not (rounds.over and rounds.advance()), "a round came after the last one")
    return found


tells("plan")


@promise("plan", "numbers local steps across the run in whole numbers: no gap, one round at least, at most T steps")
def _numbers(part: Any) -> None:
    for steps, workers in itertools.product(LENGTHS, WORKERS):
        if steps is None and part.needs_steps:
            continue
        for rho in itertools.islice(part.instants(steps, workers), ROUNDS):
            demand(isinstance(rho, Integral), f"instants gave {rho!r}, expected whole numbers")
        found = entries_of(part, steps, workers)
        demand(found, f"with T = {steps} and M = {workers} it has no round at all")
        total = sum(entry.local_steps for entry in found)
        demand(steps is None or total <= steps, f"with T = {steps} it has {total} local steps")
        again = entries_of(part, steps, workers)
        demand(again == found, f"asked again for T = {steps} and M = {workers}, it gave other rounds")


@promise("plan", "has rounds of one step only if it is `single`")
def _single(part: Any) -> None:
    if part.single:
        for workers in WORKERS:
            longest = max(entry.local_steps for entry in entries_of(part, 100, workers))
            demand(longest == 1, f"`single` is true, but a round has {longest} local steps")


@promise("plan", "goes on after a checkpoint with the rounds that it would have had")
def _goes_on(part: Any) -> None:
    for workers in WORKERS:
        found = entries_of(part, 100, workers)
        cut = found[len(found) // 2]
        rounds = Rounds(part, 100, workers)
        rounds.go_on_after(cut.t_start)
        demand(rounds.advance() == cut, f"going on after {cut.t_start} local steps, it did not give {cut}")


tells("step_size")


@promise("step_size", "begins with a positive number, or a formula in L and M")
def _begins(part: Any) -> None:
    try:
        formulas.evaluate(part.initial, {"L": 2.0, "M": 3.0})
    except ConfigError as error:
        raise ContractBroken(f"`initial`: {error.message}") from None


@promise("step_size", "gives the same numbers one by one and many at once, finite and never negative")
def _one_by_one(part: Any) -> None:
    k = np.arange(1, 200)
    initial = 0.7 if isinstance(part.initial, str) else part.initial
    values = [float(part.at(initial, int(one))) for one in k]
    for one, value in zip(k, values, strict=True):
        demand(math.isfinite(value) and value >= 0, f"at k = {one} the step size is {value}")
    at_once = np.broadcast_to(part.at(initial, k), k.shape)
    differ = np.flatnonzero(at_once != values)
    if differ.size:
        first = int(differ[0])
        raise ContractBroken(
            f"at k = {k[first]} it gave {values[first]!r} alone and {at_once[first]!r} in an array"
            + "; Python and NumPy round powers otherwise: np.power(k, p) is the same for both"
            * bool(np.allclose(at_once, values, rtol=1e-14))
        )
    demand([float(part.at(initial, int(one))) for one in k] == values, "asked again, it gave other numbers")


tells("start")


@promise("start", "holds a finite number, and never forces and silences at once")
def _starts(part: Any) -> None:
    demand(math.isfinite(part.fill), f"`fill` is {part.fill}")
    forced, silent = part.forced_rounds, part.silent_rounds
    demand(min(forced, silent) >= 0, f"forced_rounds is {forced} and silent_rounds {silent}, expected 0 or more")
    demand(min(forced, silent) == 0, f"{forced} rounds are forced and {silent} silent: one of them has to be 0")
