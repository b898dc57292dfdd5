"""Step sizes: what they begin with, a number or a formula, and how they go on.

A schedule counts steps, t = 0, 1, ...: the rounds of methods that take one step a round, the local steps of all rounds
together where workers take several. ``at`` is given k = t + 1. Powers are made in the same way for one k as for many,
because on some processors Python's and NumPy's differ in the last bit.
"""

from dataclasses import field
from typing import Annotated, Any, Protocol

import numpy as np

from psopt.bounds import Ge, Gt, Le
from psopt.errors import ConfigError
from psopt.parts import formulas
from psopt.records import record


class Schedule(Protocol):
    """``initial`` is a formula; `at` gives the step size of k = 1, 2, ... from its value. k may be an array, shape
    (steps,); what comes back is a number, or broadcasts to that shape.
    """

    @property
    def initial(self) -> float | str: ...

    def at(self, initial: float, k: Any) -> Any: ...


@record
class Constant:
    """The same step size always.

    Attributes
    ----------
    initial : float or str
        A number, or a formula in L (smoothness of F) and M (workers), as `1/L` or `1/(M*L)`.
    """

    initial: float | str = "1/L"

    def __post_init__(self) -> None:
        _check(self.initial)

    def at(self, initial: float, k: Any) -> Any:
        return initial


@record
class Decaying:
    """initial * (offset / (offset + t)) ** power: equal to ``initial`` at the first step.

    Attributes
    ----------
    initial : float or str
        A number, or a formula in L (smoothness of F) and M (workers), as `1/L` or `1/(M*L)`.
    offset : float
        After so many steps the quotient is a half.
    power : float
        Of the quotient.
    """

    initial: float | str = "1/L"
    offset: Annotated[float, Gt(0)] = 1.0
    power: Annotated[float, Ge(0)] = 1.0

    def __post_init__(self) -> None:
        _check(self.initial)

    def at(self, initial: float, k: Any) -> Any:
        return initial * np.power(self.offset / (self.offset + (k - 1)), self.power)


@record
class Inverse:
    """numerator / (mu (t + beta)): for an objective of strong convexity mu.

    With numerator 2 the step of the Local SGD paper's theory (arXiv 2106.04759), which was run with 3 and beta 1.

    Attributes
    ----------
    numerator : float
        What is divided.
    mu : float
        The strong convexity of F.
    beta : float
        What t is counted from, so that the first step is numerator / (mu beta).
    """

    numerator: Annotated[float, Gt(0)] = 2.0
    mu: Annotated[float, Gt(0)] = 1.0
    beta: Annotated[float, Gt(0)] = 1.0

    def __post_init__(self) -> None:
        if not self.mu * self.beta > 0 or not np.isfinite(self.initial):
            raise ConfigError("mu and beta are too small: numerator / (mu beta) has to be a finite number")

    @property
    def initial(self) -> float:
        return self.numerator / (self.mu * self.beta)

    def at(self, initial: float, k: Any) -> Any:
        with np.errstate(over="ignore"):  # the step size is 0 then
            return self.numerator / (self.mu * ((k - 1) + self.beta))


@record
class MultiStep:
    """``initial``, times ``factor`` from each step k in ``milestones`` on (SASG on CIFAR: 0.1 at an epoch).

    Attributes
    ----------
    initial : float or str
        A number, or a formula in L (smoothness of F) and M (workers), as `1/L` or `1/(M*L)`.
    milestones : list of int
        The steps, counted from 1, from which on it is multiplied once more.
    factor : float
        By how much.
    """

    initial: float | str = "1/L"
    milestones: tuple[Annotated[int, Gt(1)], ...] = ()
    factor: Annotated[float, Gt(0), Le(1)] = 0.1

    def __post_init__(self) -> None:
        _check(self.initial)

    def at(self, initial: float, k: Any) -> Any:
        shares = np.array([self.factor**count for count in range(len(self.milestones) + 1)])
        return initial * shares[sum(k >= milestone for milestone in self.milestones)]


@record
class Polynomial:
    """final + (initial - final) (1 - t / steps) ** power, and ``final`` from step t = ``steps`` on.

    Attributes
    ----------
    initial : float or str
        A number, or a formula in L (smoothness of F) and M (workers), as `1/L` or `1/(M*L)`.
    steps : int
        How long the way from `initial` to `final` is.
    power : float
        1: a straight line.
    final : float
        Where it ends.
    """

    initial: float | str
    steps: Annotated[int, Gt(0)]
    power: Annotated[float, Gt(0)] = 1.0
    final: Annotated[float, Ge(0)] = 0.0

    def __post_init__(self) -> None:
        _check(self.initial)

    def at(self, initial: float, k: Any) -> Any:
        left = np.maximum(1.0 - (k - 1) / self.steps, 0.0)
        return self.final + (initial - self.final) * np.power(left, self.power)


@record
class Cosine:
    """From ``initial`` down to ``final`` along half a cosine of ``steps`` steps, and ``final`` after them.

    Attributes
    ----------
    initial : float or str
        A number, or a formula in L (smoothness of F) and M (workers), as `1/L` or `1/(M*L)`.
    steps : int
        How long the way down is.
    final : float
        Where it ends.
    """

    initial: float | str
    steps: Annotated[int, Gt(0)]
    final: Annotated[float, Ge(0)] = 0.0

    def __post_init__(self) -> None:
        _check(self.initial)

    def at(self, initial: float, k: Any) -> Any:
        share = np.minimum((k - 1) / self.steps, 1.0)
        return self.final + (initial - self.final) * 0.5 * (1.0 + np.cos(np.pi * share))


@record
class Capped:
    """The step size of ``of``, but never more than ``cap``.

    Attributes
    ----------
    of : Schedule
        The step size that is capped.
    cap : float
        The largest one.
    """

    of: Schedule
    cap: Annotated[float, Gt(0)]

    @property
    def initial(self) -> float | str:
        return self.of.initial

    def at(self, initial: float, k: Any) -> Any:
        return np.minimum(self.of.at(initial, k), self.cap)


@record
class WarmUp:
    """The step size of ``of``, times (t + 1) / steps during the first ``steps`` steps.

    Attributes
    ----------
    of : Schedule
        The step size that is warmed up to.
    steps : int
        How long that takes.
    """

    of: Schedule = field(default_factory=Constant)
    steps: Annotated[int, Gt(0)] = 100

    @property
    def initial(self) -> float | str:
        return self.of.initial

    def at(self, initial: float, k: Any) -> Any:
        return self.of.at(initial, k) * np.minimum(k / self.steps, 1.0)


def _check(initial: float | str) -> None:
    if not formulas.names_in(initial):
        formulas.evaluate(initial, {})
