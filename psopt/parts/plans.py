"""Round plans: when a round starts on the clock of local steps, and how many local steps it holds.

Local steps are numbered across the whole run (t = 0, 1, ..., T - 1), never within a round, so that step sizes that
decay with t go on where the last round ended. T is the run's ``stop.max_steps``; a plan's last round is cut short to
end there. Theta is averaged after step t when t + 1 is one of the instants rho_1 < rho_2 < ... of the plan.

Growing, constant and one-shot plans: Spiridonoff, Olshevsky, Paschalidis, NeurIPS 2021, arXiv 2106.04759.
"""

import math
from collections.abc import Iterable, Iterator
from itertools import count
from typing import Annotated, ClassVar, NamedTuple, Protocol

from psopt.bounds import Ge, Gt, Le
from psopt.errors import ConfigError
from psopt.parts import formulas
from psopt.records import record


class PlanEntry(NamedTuple):
    """One round: it begins at local step ``t_start`` and lasts ``local_steps`` (H) of them."""

    t_start: int
    local_steps: int


class Plan(Protocol):
    """``single``: every round is one step. ``needs_steps``: T has to be known. ``one_of``, where there is one: the
    fields of which exactly one is set.
    """

    single: ClassVar[bool]

    @property
    def needs_steps(self) -> bool: ...

    def instants(self, steps: int | None, workers: int) -> Iterator[int]:
        """rho_1, rho_2, ... for T = ``steps`` (None: no end) and M workers. Some may be equal or beyond T: `Rounds`
        drops them.
        """
        ...


class Rounds:
    """A plan on its way: the entry of round 1, then of round 2, and so on until None.

    Parameters
    ----------
    plan : Plan
    steps : int or None
        T.
    workers : int
        M.
    """

    def __init__(self, plan: Plan, steps: int | None, workers: int) -> None:
        self._instants = plan.instants(steps, workers)
        self._steps = steps
        self._ended = 0
        self._next = self._find()

    @property
    def over(self) -> bool:
        """Whether no round is left."""
        return self._next is None

    def go_on_after(self, t: int) -> None:
        """As if the rounds up to local step ``t`` had been given out; of rounds that have not begun yet."""
        if t:
            self._ended = t
            self._next = self._find()

    def ends_at(self, t: int) -> bool:
        """Whether one of the rounds from here on ends with local step ``t``."""
        while self._ended < t and self.advance() is not None:
            pass
        return self._ended == t

    def advance(self) -> PlanEntry | None:
        """The next round's entry, None when the plan is at its end."""
        entry = self._next
        if entry is not None:
            t_start, local_steps = entry
            self._ended = t_start + local_steps
            self._next = self._find()
        return entry

    def _find(self) -> PlanEntry | None:
        start, end = self._ended, self._steps
        if end is not None and start >= end:
            return None
        for rho in self._instants:
            if rho > start:
                stop = rho if end is None else min(rho, end)
                return tuple.__new__(PlanEntry, (start, stop - start))  # in half the time, in every round
        return None


@record
class Every:
    """A round after every step: H = 1."""

    single: ClassVar[bool] = True
    needs_steps: ClassVar[bool] = False

    def instants(self, steps: int | None, workers: int) -> Iterator[int]:
        return count(1)


@record
class Fixed:
    """Rounds of equal length: H steps each, or, for R ``rounds``, up to rho_i = floor(i T / R).

    Attributes
    ----------
    local_steps : int, optional
        H.
    rounds : float or str, optional
        R, rounded up: a number, or a formula in M, as `sqrt(M)`. Exactly one of the two is set.
    """

    local_steps: Annotated[int, Gt(0)] | None = None
    rounds: float | str | None = None

    single: ClassVar[bool] = False
    one_of: ClassVar[tuple[str, ...]] = ("local_steps", "rounds")

    def __post_init__(self) -> None:
        _check_one_of(self)
        _check_rounds(self.rounds)

    @property
    def needs_steps(self) -> bool:
        return self.rounds is not None

    def instants(self, steps: int | None, workers: int) -> Iterator[int]:
        if self.local_steps is not None:
            return count(self.local_steps, self.local_steps)
        rounds = min(_rounds(self.rounds, workers), steps)
        return (i * steps // rounds for i in range(1, rounds + 1))


@record
class Growing:
    """Rounds that grow by a steps each: H_i = a (i + 1), rho_i = floor(a i (i + 1) / 2).

    With as many rounds as workers, the paper's choice, the error keeps falling with 1/(M T) whatever T is.

    Attributes
    ----------
    rounds : float or str, optional
        R, rounded up: a number, or a formula in M, as `M` or `M**0.75`. Then a = 2 T / (R (R + 1)); instants that fall
        together are one, so that there may be fewer rounds than R. R of T or more is a round every step.
    increment : float, optional
        a. At most one of the two is set; without either there are M rounds.
    """

    rounds: float | str | None = None
    increment: Annotated[float, Ge(1e-6), Le(1e15)] | None = None

    single: ClassVar[bool] = False
    one_of: ClassVar[tuple[str, ...]] = ("rounds", "increment")

    def __post_init__(self) -> None:
        if self.rounds is None and self.increment is None:
            object.__setattr__(self, "rounds", "M")
        _check_one_of(self)
        _check_rounds(self.rounds)

    @property
    def needs_steps(self) -> bool:
        return self.rounds is not None

    def instants(self, steps: int | None, workers: int) -> Iterator[int]:
        if self.increment is not None:
            from fractions import Fraction  # loaded by those plans alone that are made of tenths

            a = Fraction(str(self.increment))  # 0.3 is three tenths
            return (math.floor(a * (i * (i + 1) // 2)) for i in count(1))
        return iter(_triangular(steps, _rounds(self.rounds, workers)))


@record
class Decreasing:
    """The growing plan backwards: R rounds, the longest first, the last the shortest.

    Attributes
    ----------
    rounds : float or str
        R, rounded up: a number, or a formula in M.
    """

    rounds: float | str = "M"

    single: ClassVar[bool] = False
    needs_steps: ClassVar[bool] = True

    def __post_init__(self) -> None:
        _check_rounds(self.rounds)

    def instants(self, steps: int | None, workers: int) -> Iterator[int]:
        rounds = _rounds(self.rounds, workers)
        return (steps - rho for rho in reversed([0, *_triangular(steps, rounds)][:-1]))


@record
class OneShot:
    """One round of T steps: everyone speaks once, at the end."""

    single: ClassVar[bool] = False
    needs_steps: ClassVar[bool] = True

    def instants(self, steps: int | None, workers: int) -> Iterator[int]:
        return iter((steps,))


@record
class Listed:
    """Rounds as they are listed; after the last one the run is over.

    Attributes
    ----------
    local_steps : list of int
        H of round 1, of round 2, and so on.
    """

    local_steps: tuple[Annotated[int, Gt(0)], ...]

    single: ClassVar[bool] = False
    needs_steps: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if not self.local_steps:
            raise ConfigError("key 'local_steps' has to list one round at least")

    def instants(self, steps: int | None, workers: int) -> Iterator[int]:
        end = 0
        for length in self.local_steps:
            end += length
            yield end


def _triangular(steps: int, rounds: int) -> Iterable[int]:
    """floor(a i (i + 1) / 2) with a = 2 T / (R (R + 1)), in whole numbers; each step for R of T or more."""
    if rounds >= steps:
        return range(1, steps + 1)
    return (steps * i * (i + 1) // (rounds * (rounds + 1)) for i in range(1, rounds + 1))


def _rounds(rounds: float | str, workers: int) -> int:
    value = formulas.evaluate(rounds, {"M": float(workers)}, "number of rounds")
    return math.ceil(value)


def _check_rounds(rounds: float | str | None) -> None:
    if rounds is None:
        return
    if "L" in formulas.names_in(rounds, "number of rounds"):
        raise ConfigError(f"key 'rounds' is {rounds!r}; expected a number or a formula in M (workers) alone")
    if not isinstance(rounds, str):
        _rounds(rounds, 1)


def _check_one_of(plan: Fixed | Growing) -> None:
    if sum(getattr(plan, key) is not None for key in plan.one_of) != 1:
        raise ConfigError(f"exactly one of {' and '.join(f'`{key}`' for key in plan.one_of)} has to be set")
