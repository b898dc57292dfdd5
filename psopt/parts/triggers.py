"""Triggers: whether what a worker found is worth sending.

`decide` is pure: asking twice changes nothing. `commit` is told what was done, and alone moves the trigger's state.
In a forced round the server broadcasts a threshold of minus infinity, and every rule says yes.
"""

import math
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Protocol

import numpy as np

from psopt.bounds import Ge, Gt
from psopt.parts.thresholds import Power, Threshold, Window
from psopt.problems import kernels
from psopt.records import record


class WorkerView(Protocol):
    """What a trigger may look at when a worker has found its contribution; nothing of it is to be written into."""

    round: int
    limit: float
    """T^k."""
    theta: np.ndarray
    contribution: np.ndarray
    mirror: np.ndarray
    """What the server holds of this worker."""

    def replay(self, theta: np.ndarray, out: np.ndarray) -> None:
        """The contribution of the same samples at another theta, into ``out``, shape (dim,)."""
        ...

    def compare(self, left: float, right: float) -> bool:
        """``left`` > ``right``, and noted down, so that `psopt explain` can tell both."""
        ...


class Trigger(Protocol):
    """``lazy``: it may stay silent. ``threshold``: what the server must broadcast for it, if anything. ``looks_back``:
    it compares the contribution with the mirror, which must then be of the same kind.

    May have ``ignores_mirror``: neither `decide` nor `commit` reads the mirror, so that contribution and mirror may be
    one vector.
    """

    lazy: ClassVar[bool]

    @property
    def looks_back(self) -> bool: ...

    @property
    def threshold(self) -> Threshold | None: ...

    def init(self, dim: int, dtype: np.dtype) -> Any: ...

    def decide(self, state: Any, view: WorkerView) -> bool: ...

    def commit(self, state: Any, view: WorkerView, uploaded: bool) -> None: ...


@record
class Always:
    """Upload every time one is asked."""

    lazy: ClassVar[bool] = False
    looks_back: ClassVar[bool] = False
    ignores_mirror: ClassVar[bool] = True
    threshold: ClassVar[None] = None

    def init(self, dim: int, dtype: np.dtype) -> None:
        return None

    def decide(self, state: None, view: WorkerView) -> bool:
        return True

    def commit(self, state: None, view: WorkerView, uploaded: bool) -> None:
        return None


@record
class Innovation:
    """Upload when ||contribution - mirror||^2 > T^k, LAG (7a): the gradient has moved since it was last sent.

    Attributes
    ----------
    window : int
        D, how many of theta's last steps the threshold looks at.
    xi : float or list of float
        The weight of each of these steps, or D weights, the newest first; larger: fewer uploads.
    """

    window: Window = 10
    xi: float | tuple[float, ...] = 0.1

    lazy: ClassVar[bool] = True
    looks_back: ClassVar[bool] = True

    @property
    def threshold(self) -> Threshold:
        return Threshold(self.window, self.xi)

    def init(self, dim: int, dtype: np.dtype) -> None:
        return None

    def decide(self, state: None, view: WorkerView) -> bool:
        return view.compare(kernels.vector.squared_distance(view.contribution, view.mirror), view.limit)

    def commit(self, state: None, view: WorkerView, uploaded: bool) -> None:
        return None


class _Anchored:
    """``anchor``: the iterate of the last upload; ``old``: room for a gradient there. Both shape (dim,)."""

    SAVED = ("anchor",)
    __slots__ = ("anchor", "old")

    def __init__(self, dim: int, dtype: np.dtype) -> None:
        self.anchor, self.old = np.zeros(dim, dtype), np.empty(dim, dtype)


@record
class SameSample:
    """Upload when the batch's gradient has moved since the last upload: ||g(theta^k) - g(anchor)||^2 > T^k.

    Both gradients are of the same samples, so that their noise cancels: LASG-WK2 (Chen, Sun, Yin 2020), and SASG's rule
    (arXiv 2112.04088). The powers are those of `Threshold`.

    Attributes
    ----------
    window : int
        D, how many of theta's last steps the threshold looks at.
    xi : float or list of float
        The weight of each of these steps, or D weights, the newest first; larger: fewer uploads.
    step_power : int
        p, the power of the step size that divides the weighted sum.
    worker_power : int
        q, the power of M that divides it too.
    """

    window: Window = 10
    xi: float | tuple[float, ...] = 0.1
    step_power: Power = 2
    worker_power: Power = 2

    lazy: ClassVar[bool] = True
    looks_back: ClassVar[bool] = False

    @property
    def threshold(self) -> Threshold:
        return Threshold(self.window, self.xi, self.step_power, self.worker_power)

    def init(self, dim: int, dtype: np.dtype) -> _Anchored:
        return _Anchored(dim, dtype)

    def decide(self, state: _Anchored, view: WorkerView) -> bool:
        if math.isinf(view.limit):
            return view.limit < 0
        view.replay(state.anchor, state.old)
        return view.compare(kernels.vector.squared_distance(view.contribution, state.old), view.limit)

    def commit(self, state: _Anchored, view: WorkerView, uploaded: bool) -> None:
        if uploaded:
            state.anchor[:] = view.theta


class _Snapshot:
    """``theta``: the snapshot; ``drift``: d^k = g(theta^k) - g(snapshot) of round ``round``; ``said``: d of the last
    upload.
    """

    SAVED = ("said", "theta")
    __slots__ = ("drift", "round", "said", "theta")

    def __init__(self, dim: int, dtype: np.dtype) -> None:
        self.theta, self.drift, self.said = np.zeros(dim, dtype), np.zeros(dim, dtype), np.zeros(dim, dtype)
        self.round = 0


@record
class Snapshot:
    """Upload when d^k = g(theta^k) - g(snapshot) has moved since the last upload: LASG-WK1 (Chen, Sun, Yin 2020).

    Both gradients in d^k are of round k's samples. The snapshot is theta^k of the rounds 1, R + 1, 2 R + 1, ... where
    R is ``refresh``; a refresh forces no upload and leaves the d of the last upload as it was.

    Attributes
    ----------
    window : int
        D, how many of theta's last steps the threshold looks at.
    xi : float or list of float
        The weight of each of these steps, or D weights, the newest first; larger: fewer uploads.
    refresh : int
        R, how many rounds a snapshot serves.
    step_power : int
        p, the power of the step size that divides the weighted sum.
    worker_power : int
        q, the power of M that divides it too.
    """

    window: Window = 10
    xi: float | tuple[float, ...] = 0.1
    refresh: Annotated[int, Gt(0)] = 10
    step_power: Power = 2
    worker_power: Power = 2

    lazy: ClassVar[bool] = True
    looks_back: ClassVar[bool] = False

    @property
    def threshold(self) -> Threshold:
        return Threshold(self.window, self.xi, self.step_power, self.worker_power)

    def init(self, dim: int, dtype: np.dtype) -> _Snapshot:
        return _Snapshot(dim, dtype)

    def decide(self, state: _Snapshot, view: WorkerView) -> bool:
        self._measure(state, view)
        return view.compare(kernels.vector.squared_distance(state.drift, state.said), view.limit)

    def commit(self, state: _Snapshot, view: WorkerView, uploaded: bool) -> None:
        if uploaded:
            self._measure(state, view)  # `max_age` uploads without asking
            state.said[:] = state.drift
        if self._refreshes(view):
            state.theta[:] = view.theta

    def _refreshes(self, view: WorkerView) -> bool:
        return (view.round - 1) % self.refresh == 0

    def _measure(self, state: _Snapshot, view: WorkerView) -> None:
        if state.round == view.round:
            return
        state.round = view.round
        if self._refreshes(view):
            state.drift.fill(0)
        else:
            view.replay(state.theta, state.drift)
            np.subtract(view.contribution, state.drift, out=state.drift)


class _Previous:
    """``contribution``: that of the round before, shape (dim,)."""

    SAVED = ("contribution",)
    __slots__ = ("contribution",)

    def __init__(self, dim: int, dtype: np.dtype) -> None:
        self.contribution = np.zeros(dim, dtype)


@record
class Relative:
    """Upload when ||x - mirror||^2 > zeta ||x - y||^2, y the contribution of the round before: CLAG (Richtarik et al.,
    ICML 2022). zeta = 0 always uploads what has changed at all.

    Attributes
    ----------
    zeta : float
        How far the server's copy may lag behind; larger: fewer uploads.
    """

    zeta: Annotated[float, Ge(0)] = 1.0

    lazy: ClassVar[bool] = True
    looks_back: ClassVar[bool] = True
    threshold: ClassVar[None] = None

    def init(self, dim: int, dtype: np.dtype) -> _Previous:
        return _Previous(dim, dtype)

    def decide(self, state: _Previous, view: WorkerView) -> bool:
        if math.isinf(view.limit):
            return view.limit < 0
        behind = kernels.vector.squared_distance(view.contribution, view.mirror)
        return view.compare(behind, self.zeta * kernels.vector.squared_distance(view.contribution, state.contribution))

    def commit(self, state: _Previous, view: WorkerView, uploaded: bool) -> None:
        state.contribution[:] = view.contribution


@dataclass
class _Age:
    SAVED: ClassVar[tuple[str, ...]] = ("inner", "rounds")

    rounds: int
    inner: Any


@record
class MaxAge:
    """The wrapped trigger, but never too many skips in a row: an upload is due when the age exceeds ``rounds``.

    The age is 0 until the forced rounds are over, 1 after any later upload, and grows by 1 with every skip (LASG and
    SASG: D). So at most ``rounds`` + 1 skips follow the forced rounds, and at most ``rounds`` a later upload.

    Attributes
    ----------
    of : Trigger
        The trigger whose silence is bounded.
    rounds : int
        The largest age.
    """

    of: Trigger = field(default_factory=Innovation)
    rounds: Annotated[int, Gt(0)] = 10

    lazy: ClassVar[bool] = True

    @property
    def looks_back(self) -> bool:
        return self.of.looks_back

    @property
    def threshold(self) -> Threshold | None:
        return self.of.threshold

    def init(self, dim: int, dtype: np.dtype) -> _Age:
        return _Age(0, self.of.init(dim, dtype))

    def decide(self, state: _Age, view: WorkerView) -> bool:
        return state.rounds > self.rounds or self.of.decide(state.inner, view)

    def commit(self, state: _Age, view: WorkerView, uploaded: bool) -> None:
        forced = view.limit == -math.inf
        state.rounds = 0 if forced else 1 if uploaded else state.rounds + 1
        self.of.commit(state.inner, view, uploaded)
