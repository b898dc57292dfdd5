"""Local work of several steps: SGD, momentum and AdamW on a worker's own copy of theta.

The contribution is the pseudo-gradient, start point minus end point, so that `descent` with rate 1 over their mean puts
theta at the mean of the end points. Steps are numbered across the run; their sizes come from the row's `step_size`.
The steps of a round run in one compiled call where the problem has `local_steps` for batches of this size, some ten
thousand steps at a time.
"""

import math
from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import numpy as np

from psopt.bounds import Ge, Gt, Lt
from psopt.parts.batches import AHEAD, Batches
from psopt.parts.plans import PlanEntry
from psopt.parts.work import Setting
from psopt.problems import kernels
from psopt.problems.base import Problem
from psopt.records import record

if TYPE_CHECKING:
    from psopt.problems.kernels.steps import Rule, Walk

MOST_ROWS = 1 << 16
"""Rows drawn at once: beyond that a round is several calls, so that a long one takes no more memory."""


class _Steps:
    """A worker's local steps: its batches, its copy of theta, and what the rule remembers from round to round."""

    SAVED = ("batches", "rule")
    __slots__ = ("ahead", "batches", "begin", "local_steps", "room", "rule", "setting", "size", "theta")

    def __init__(
        self, problem: Problem, rng: np.random.Generator, setting: Setting, size: int, replace: bool, made: "Rule"
    ) -> None:
        self.batches = Batches(problem, rng, size, replace)
        self.setting, self.size, self.rule = setting, size, made
        self.theta = np.empty(made.moments.shape[1], made.moments.dtype)
        fused = min(size, problem.samples) <= getattr(problem, "fused_rows", math.inf)
        self.local_steps = getattr(problem, "local_steps", None) if fused else None
        self.room = np.empty_like(self.theta) if self.local_steps is None else None
        self.begin = (0, 0, None)
        self.ahead = (0, np.empty(0))

    def run(self, theta: np.ndarray, entry: PlanEntry, out: np.ndarray) -> int:
        """From theta through the round's steps; the pseudo-gradient into ``out``. Returns the steps."""
        self.begin = (entry.t_start, entry.local_steps, self.batches.mark())
        return self._walk(self.batches, theta, entry.t_start, entry.local_steps, out)

    def again(self, theta: np.ndarray, out: np.ndarray) -> int:
        """The same from another theta, with the same batches."""
        t_start, count, mark = self.begin
        return self._walk(self.batches.again(mark), theta, t_start, count, out)

    # Whoever asked for the contribution looks whether it is finite; an overflow on the way says no more.

    def _walk(self, batches: Batches, theta: np.ndarray, t_start: int, count: int, out: np.ndarray) -> int:
        self.theta[:] = theta
        at_once = max(1, MOST_ROWS // self.size)
        for start in range(t_start, t_start + count, at_once):
            steps = min(at_once, t_start + count - start)
            self._step(kernels.steps.Walk(*batches.draw_many(steps), self._sizes(start, steps)))
        with np.errstate(over="ignore", invalid="ignore"):
            np.subtract(theta, self.theta, out=out)
        return count

    def _sizes(self, start: int, steps: int) -> np.ndarray:
        """The step sizes of t = start, start + 1, ..., shape (steps,); computed ahead for many short rounds."""
        first, sizes = self.ahead
        if start < first or start + steps > first + sizes.size:
            first, sizes = start, np.empty(max(steps, AHEAD))
            sizes[:] = self.setting.step_size.at(self.setting.initial, np.arange(1, sizes.size + 1) + start)
            self.ahead = first, sizes
        return sizes[start - first : start - first + steps]

    def _step(self, walk: "Walk") -> None:
        scale = 1.0 / self.setting.weight
        if self.local_steps is not None:
            self.local_steps(self.rule, self.theta, walk, scale)
            return
        gradient_of, gradient = self.batches.problem.batch_value_and_gradient, self.room
        for (start, stop), step_size in zip(pairwise(walk.ends), walk.step_sizes, strict=True):
            gradient_of(self.theta, walk.rows[start:stop], gradient)
            with np.errstate(over="ignore", invalid="ignore"):
                np.multiply(gradient, gradient.dtype.type(scale), out=gradient)
            kernels.steps.move(*self.rule, self.theta, gradient, step_size)

    def forget(self) -> None:
        """Puts the rule back to its start."""
        if self.rule.moments.size:
            self.rule.moments.fill(0)
            self.rule.count.fill(0)


class _Local:
    """What the works below share: batches of ``batch`` samples, drawn as ``draw`` says, through a `_Steps`."""

    needs: ClassVar[tuple[str, ...]] = ("batch_value_and_gradient",)
    whole: ClassVar[bool] = False
    local: ClassVar[bool] = True

    batch: int
    draw: str
    moments: str = "reset"

    @property
    def replays(self) -> bool:
        return self.moments == "reset"

    def init(self, problem: Problem, rng: np.random.Generator, setting: Setting) -> _Steps:
        made = kernels.steps.rule(*self._rule(), problem.dim, problem.dtype)
        return _Steps(problem, rng, setting, self.batch, self.draw == "replace", made)

    def contribute(self, state: _Steps, theta: np.ndarray, entry: PlanEntry, out: np.ndarray) -> int:
        self._begin(state)
        return state.run(theta, entry, out)

    def replay(self, state: _Steps, theta: np.ndarray, out: np.ndarray) -> int:
        self._begin(state)
        return state.again(theta, out)

    def _begin(self, state: _Steps) -> None:
        if self.moments == "reset":
            state.forget()

    def _rule(self) -> tuple[int, tuple[float, ...]]:
        raise NotImplementedError


@record
class LocalSGD(_Local):
    """x <- x - step_size g for each local step, g the gradient of a batch.

    Attributes
    ----------
    batch : int
        Samples in a batch.
    draw : 'epoch' or 'replace'
        As `minibatch` draws them.
    """

    batch: Annotated[int, Gt(0)] = 10
    draw: Literal["epoch", "replace"] = "epoch"

    def _rule(self) -> tuple[int, tuple[float, ...]]:
        return kernels.steps.DESCENT, ()


@record
class LocalMomentum(_Local):
    """v <- momentum v + g, x <- x - step_size v; with ``nesterov`` x <- x - step_size (g + momentum v).

    Attributes
    ----------
    batch : int
        Samples in a batch.
    draw : 'epoch' or 'replace'
        As `minibatch` draws them.
    momentum : float
        How much of v is kept at each step.
    nesterov : bool
        Whether to step along g + momentum v instead of v.
    moments : 'keep' or 'reset'
        `keep` carries v from round to round, `reset` begins each round with v = 0.
    """

    batch: Annotated[int, Gt(0)] = 10
    draw: Literal["epoch", "replace"] = "epoch"
    momentum: Annotated[float, Ge(0), Lt(1)] = 0.9
    nesterov: bool = False
    moments: Literal["keep", "reset"] = "keep"

    def _rule(self) -> tuple[int, tuple[float, ...]]:
        return kernels.steps.MOMENTUM, (self.momentum, float(self.nesterov))


@record
class LocalAdamW(_Local):
    """AdamW's steps (Loshchilov, Hutter, ICLR 2019), the inner optimiser of DiLoCo.

    Attributes
    ----------
    batch : int
        Samples in a batch.
    draw : 'epoch' or 'replace'
        As `minibatch` draws them.
    beta1 : float
        How much of the first moment, the mean of gradients, is kept at each step.
    beta2 : float
        How much of the second moment, that of their squares, is kept at each step.
    epsilon : float
        Added to the root that divides.
    weight_decay : float
        The share of theta, times the step size, that is taken off at each step.
    moments : 'keep' or 'reset'
        `keep` carries both moments and the count of steps from round to round, `reset` begins anew.
    """

    batch: Annotated[int, Gt(0)] = 10
    draw: Literal["epoch", "replace"] = "epoch"
    beta1: Annotated[float, Ge(0), Lt(1)] = 0.9
    beta2: Annotated[float, Ge(0), Lt(1)] = 0.999
    epsilon: Annotated[float, Gt(0)] = 1e-8
    weight_decay: Annotated[float, Ge(0)] = 0.01
    moments: Literal["keep", "reset"] = "keep"

    def _rule(self) -> tuple[int, tuple[float, ...]]:
        return kernels.steps.ADAMW, (self.beta1, self.beta2, self.epsilon, self.weight_decay)
