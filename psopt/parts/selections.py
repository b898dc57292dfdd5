"""Selections: whom the server asks in a round.

A selection sees the server's side only. Its run-time state is made by `init` and passed back in; `select` returns the
chosen workers in ascending order, or ``None`` for everyone. A worker that was lost is never chosen.
"""

from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Protocol

import numpy as np

from psopt.bounds import Gt, Le
from psopt.errors import ConfigError
from psopt.parts.thresholds import Threshold, Window
from psopt.records import record


class ServerView(Protocol):
    """What a selection may look at in round k."""

    round: int
    workers: int
    threshold: float
    living: np.ndarray
    """The workers that can be asked, ascending: all of them, until one is lost."""

    def drifts(self) -> Sequence[float]:
        """||anchor_m - theta^k||^2 for every m, shape (M,), anchor_m the iterate at which m was last contacted."""
        ...

    def compare(self, left: np.ndarray, right: float) -> np.ndarray:
        """``left`` > ``right`` for every m, shape (M,), and noted down, so that `psopt explain` can tell both."""
        ...


class Selection(Protocol):
    """``everyone``: asks all, always. ``needs_smoothness``: L_m must be known. ``needs_anchors``: the server keeps the
    iterates of last contact.
    """

    everyone: ClassVar[bool]
    needs_smoothness: ClassVar[bool]
    needs_anchors: ClassVar[bool]

    @property
    def threshold(self) -> Threshold | None: ...

    def init(self, smoothness: np.ndarray, rng: np.random.Generator) -> Any: ...

    def select(self, state: Any, view: ServerView) -> np.ndarray | None: ...


@record
class All:
    """Everyone, every round."""

    everyone: ClassVar[bool] = True
    needs_smoothness: ClassVar[bool] = False
    needs_anchors: ClassVar[bool] = False
    threshold: ClassVar[None] = None

    def init(self, smoothness: np.ndarray, rng: np.random.Generator) -> None:
        return None

    def select(self, state: None, view: ServerView) -> None:
        return None


@record
class Cyclic:
    """One worker a round in turn, m = k mod M (Cyc-IAG); the turn of a lost worker is the next one's."""

    everyone: ClassVar[bool] = False
    needs_smoothness: ClassVar[bool] = False
    needs_anchors: ClassVar[bool] = False
    threshold: ClassVar[None] = None

    def init(self, smoothness: np.ndarray, rng: np.random.Generator) -> None:
        return None

    def select(self, state: None, view: ServerView) -> np.ndarray:
        living = view.living
        return living[[np.searchsorted(living, view.round % view.workers) % living.size]]


@record
class BySmoothness:
    """One worker a round, drawn with probability L_m / sum of all L_m (Num-IAG), the sum of those that live."""

    everyone: ClassVar[bool] = False
    needs_smoothness: ClassVar[bool] = True
    needs_anchors: ClassVar[bool] = False
    threshold: ClassVar[None] = None

    def init(self, smoothness: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.random.Generator]:
        return smoothness, rng

    def select(self, state: tuple[np.ndarray, np.random.Generator], view: ServerView) -> np.ndarray:
        smoothness, rng = state
        cumulative = np.cumsum(smoothness[view.living])
        drawn = int(np.searchsorted(cumulative, rng.random() * cumulative[-1], side="right"))
        return view.living[[min(drawn, view.living.size - 1)]]


@record
class Sampled:
    """Some, drawn anew each round, all equally likely: partial participation (FedAvg's C K clients).

    Attributes
    ----------
    fraction : float, optional
        The share of the workers that live, rounded to a whole number of at least one.
    count : int, optional
        How many. Exactly one of the two is set.
    """

    fraction: Annotated[float, Gt(0), Le(1)] | None = None
    count: Annotated[int, Gt(0)] | None = None

    everyone: ClassVar[bool] = False
    needs_smoothness: ClassVar[bool] = False
    needs_anchors: ClassVar[bool] = False
    threshold: ClassVar[None] = None
    one_of: ClassVar[tuple[str, ...]] = ("fraction", "count")

    def __post_init__(self) -> None:
        if (self.fraction is None) == (self.count is None):
            raise ConfigError("exactly one of `fraction` and `count` has to be set")

    def init(self, smoothness: np.ndarray, rng: np.random.Generator) -> np.random.Generator:
        return rng

    def select(self, state: np.random.Generator, view: ServerView) -> np.ndarray:
        living = view.living
        some = max(1, round(self.fraction * living.size)) if self.count is None else min(self.count, living.size)
        return np.sort(state.choice(living, some, replace=False))


@record
class SmoothnessDrift:
    """Those whose gradient may have moved: L_m^2 ||anchor_m - theta^k||^2 > T^k, LAG (7b).

    The bound costs the workers nothing: the unselected get no message, compute nothing and send nothing. With
    ``max_age`` nobody is left out for too long (LASG-PS): the age is 0 until the forced rounds are over, 1 after a
    later selection, grows by 1 with every round left out, and who exceeds ``max_age`` is selected.

    Attributes
    ----------
    window : int
        D, how many of theta's last steps the threshold looks at.
    xi : float or list of float
        The weight of each of these steps, or D weights, the newest first; larger: fewer are asked.
    max_age : int, optional
        The most rounds in a row that a worker may be left out. Default: no limit.
    """

    window: Window = 10
    xi: float | tuple[float, ...] = 1.0
    max_age: Annotated[int, Gt(0)] | None = None

    everyone: ClassVar[bool] = False
    needs_smoothness: ClassVar[bool] = True
    needs_anchors: ClassVar[bool] = True

    @property
    def threshold(self) -> Threshold:
        return Threshold(self.window, self.xi)

    def init(self, smoothness: np.ndarray, rng: np.random.Generator) -> tuple[list[float], np.ndarray]:
        return [float(value) ** 2 for value in smoothness], np.zeros(smoothness.size, dtype=np.int64)

    def select(self, state: tuple[list[float], np.ndarray], view: ServerView) -> np.ndarray:
        squares, ages = state
        bounds = zip(squares, view.drifts(), strict=True)
        moved = view.compare(np.array([square * drift for square, drift in bounds]), view.threshold)
        if self.max_age is not None:
            moved |= ages > self.max_age
            ages += 1
            ages[moved] = 1
        return view.living[moved[view.living]]
