"""Local work: what a worker computes from theta before it decides whether to speak.

The outcome is a contribution: a gradient, or a pseudo-gradient (start point minus end point of local steps, in
`psopt.parts.local_work`).
"""

from typing import Annotated, Any, ClassVar, Literal, Protocol

import numpy as np

from psopt.bounds import Gt
from psopt.parts.batches import Batches
from psopt.parts.plans import PlanEntry
from psopt.parts.schedules import Schedule
from psopt.problems.base import Problem
from psopt.records import record


@record
class Setting:
    """What local steps go by.

    Attributes
    ----------
    step_size : Schedule
    initial : float
        The value of its formula.
    weight : float
        w_m, what the aggregator multiplies this worker's contribution with when everyone speaks. Local steps follow
        f_m / w_m, so that one step each is one step along the gradient of F.
    """

    step_size: Schedule
    initial: float = 1.0
    weight: float = 1.0


class LocalWork(Protocol):
    """``contribute`` writes the contribution into ``out``, shape (dim,), and returns how many gradients it computed;
    ``entry`` has the two fields of a `PlanEntry`. ``replay`` repeats the last contribution's samples from another
    theta, and consumes no randomness.

    ``needs``: the optional methods that a problem must have for it. ``whole``: a contribution is the gradient of f_m.
    ``local``: it is a pseudo-gradient, with the step sizes in it. ``replays``: `replay` is possible.
    """

    needs: ClassVar[tuple[str, ...]]
    whole: ClassVar[bool]
    local: ClassVar[bool]

    @property
    def replays(self) -> bool: ...

    def init(self, problem: Problem, rng: np.random.Generator, setting: Setting) -> Any: ...

    def contribute(self, state: Any, theta: np.ndarray, entry: PlanEntry, out: np.ndarray) -> int: ...

    def replay(self, state: Any, theta: np.ndarray, out: np.ndarray) -> int: ...


@record
class FullGradient:
    """The gradient of f_m over the whole shard."""

    needs: ClassVar[tuple[str, ...]] = ()
    whole: ClassVar[bool] = True
    local: ClassVar[bool] = False
    replays: ClassVar[bool] = True

    def init(self, problem: Problem, rng: np.random.Generator, setting: Setting) -> Problem:
        return problem

    def contribute(self, state: Problem, theta: np.ndarray, entry: PlanEntry, out: np.ndarray) -> int:
        state.value_and_gradient(theta, out)
        return 1

    def replay(self, state: Problem, theta: np.ndarray, out: np.ndarray) -> int:
        state.value_and_gradient(theta, out)
        return 1


@record
class Minibatch:
    """The gradient of f_m estimated from ``batch`` of its samples.

    Attributes
    ----------
    batch : int
        Samples in a batch.
    draw : 'epoch' or 'replace'
        `epoch`: without replacement, in an order that is drawn anew each time the shard has been gone through (its last
        batch may be smaller, and of a shard with fewer samples each batch is all of it); `replace`: each batch at
        random from the whole shard.
    """

    batch: Annotated[int, Gt(0)] = 10
    draw: Literal["epoch", "replace"] = "epoch"

    needs: ClassVar[tuple[str, ...]] = ("batch_value_and_gradient",)
    whole: ClassVar[bool] = False
    local: ClassVar[bool] = False
    replays: ClassVar[bool] = True

    def init(self, problem: Problem, rng: np.random.Generator, setting: Setting) -> Batches:
        return Batches(problem, rng, self.batch, self.draw == "replace")

    def contribute(self, state: Batches, theta: np.ndarray, entry: PlanEntry, out: np.ndarray) -> int:
        state.problem.batch_value_and_gradient(theta, state.draw(), out)
        return 1

    def replay(self, state: Batches, theta: np.ndarray, out: np.ndarray) -> int:
        state.problem.batch_value_and_gradient(theta, state.rows, out)
        return 1
