"""A worker as a state machine: a broadcast in, an upload or a skip out, no I/O.

It owns its shard's problem, the mirror of what the server holds of it, and the state of its parts. Memory changes only
when an upload is committed.
"""

import math
from collections.abc import Callable, Mapping
from time import perf_counter
from typing import Any, NoReturn

import numpy as np

from psopt.algorithm import Algorithm
from psopt.core.frames import Frame, frame_of
from psopt.core.messages import HEADER_NBYTES, NO_VECTOR, Broadcast, Evaluate, Hello, Skip, Upload, Value, What, made
from psopt.core.model import goes_with
from psopt.core.state import Tree, restored
from psopt.errors import IncompatibleParts, NotFinite, ProtocolError
from psopt.parts import formulas
from psopt.parts.work import Setting
from psopt.problems import kernels
from psopt.problems.base import Problem
from psopt.problems.tensors import first_not_finite, sizes_of, tensors_of
from psopt.records import record


class Oracle:
    """A problem that remembers one gradient computed ahead.

    When the server asks for the objective at a theta where it will ask for the gradient next, one pass over the data
    yields both; the bits are those of asking twice, so that the gradient is no state.
    """

    SAVED = ()

    def __init__(self, problem: Problem, dtype: np.dtype) -> None:
        self.problem = problem
        self.dim = problem.dim
        self.samples = problem.samples
        self.dtype = np.dtype(dtype)
        self.value = problem.value
        self.local_steps = getattr(problem, "local_steps", None)
        self.fused_rows = getattr(problem, "fused_rows", math.inf)
        self.batch_value_and_gradient = getattr(problem, "batch_value_and_gradient", None)
        self._theta = np.empty(problem.dim, dtype=dtype)
        self._gradient = np.empty(problem.dim, dtype=dtype)
        self._value = math.nan
        self._ahead = False

    def look_ahead(self, theta: np.ndarray) -> float:
        """f_m(theta), keeping the gradient for the next `value_and_gradient` at the same theta."""
        self._theta[:] = theta
        self._value = float(self.problem.value_and_gradient(theta, self._gradient))
        self._ahead = True
        return self._value

    def value_and_gradient(self, theta: np.ndarray, out: np.ndarray) -> float:
        if self._ahead:
            self._ahead = False
            if np.array_equal(theta, self._theta):
                out[:] = self._gradient
                return self._value
        return self.problem.value_and_gradient(theta, out)


@record
class Aside:
    """What a worker knows that the algorithm does not: for answers off its books.

    Attributes
    ----------
    initial : callable, optional
        Gives the first iterate, shape (dim,); on the worker that is to tell it.
    score : callable, optional
        Gives, for a theta, the sum of the losses on the test rows that this worker holds, how many of them are
        predicted right, and how many there are.
    """

    initial: Callable[[], np.ndarray] | None = None
    score: Callable[[np.ndarray], tuple[float, int, int]] | None = None


def one_vector(algorithm: Algorithm) -> bool:
    """Whether contribution and mirror may be one vector: every contribution is said as it is, and nobody looks at what
    was said before. A vector less to go through the caches in every round.
    """
    trigger, codec = algorithm.trigger, algorithm.codec
    reading = (codec, "commit"), (trigger, "decide"), (trigger, "commit")
    unread = all(goes_with(part, "ignores_mirror", method) and part.ignores_mirror for part, method in reading)
    return unread and goes_with(codec, "verbatim", "commit") and codec.verbatim and not codec.scaled


class Worker:
    """Worker m's half of the protocol; to its trigger, a `WorkerView`.

    Parameters
    ----------
    m, workers : int
        Its number, from 0, and how many there are.
    algorithm : Algorithm
    problem : Problem
        f_m.
    dtype : numpy dtype
        Of theta, contributions and mirror.
    rng : numpy.random.Generator
        For local work that draws, and, by a generator spawned from it, for a codec that does.
    aside : Aside, optional
    weight : float
        w_m, what the aggregator multiplies a contribution with, where local steps have to know.

    Attributes
    ----------
    frames : tuple of Frame
        Hold contribution and mirror, or the one vector that is both: a payload that is one of their arrays can leave
        from there.
    """

    SAVED = ("_codec_state", "_trigger_state", "_work_state", "problem_state", "round")
    """But for the mirror, which the server holds as well."""

    def __init__(
        self,
        m: int,
        workers: int,
        algorithm: Algorithm,
        problem: Problem,
        dtype: np.dtype,
        rng: np.random.Generator,
        aside: Aside | None = None,
        weight: float = 1.0,
    ) -> None:
        self.m = m
        self.aside = aside or Aside()
        self.algorithm = algorithm
        self.problem = problem
        dim = problem.dim
        self.round = 0
        self.limit = math.inf
        self.theta = np.empty(0, dtype=dtype)
        count = 1 if one_vector(algorithm) else 2
        self.frames: tuple[Frame, ...] = tuple(frame_of(dim, np.dtype(dtype)) for _ in range(count))
        self.contribution, self.mirror = self.frames[0].array, self.frames[-1].array
        self.mirror.fill(algorithm.start.fill)
        self.left = math.nan
        self._gradients = 0
        self._oracle = Oracle(problem, dtype)
        (drawing,) = rng.spawn(1)
        self._step_size, self._scaled = algorithm.step_size, algorithm.codec.scaled
        known = {"M": float(workers)}
        self._initial = formulas.evaluate(algorithm.step_size.initial, known) if algorithm.workers_step else 1.0
        setting = Setting(self._step_size, self._initial, weight)
        self._work, self._work_state = algorithm.work, algorithm.work.init(self._oracle, rng, setting)
        self._limited = algorithm.trigger.threshold is not None
        self._trigger, self._trigger_state = algorithm.trigger, algorithm.trigger.init(dim, dtype)
        self._codec, self._codec_state = algorithm.codec, algorithm.codec.init(sizes_of(problem), dtype, drawing)

    @property
    def problem_state(self) -> Mapping[str, Any]:
        """What the problem itself carries from round to round, where it tells."""
        tells = getattr(self.problem, "state", None)
        return tells() if tells else {}

    @problem_state.setter
    def problem_state(self, state: Mapping[str, Any]) -> None:
        if state:
            self.problem.restore(state)

    @property
    def tells_smoothness(self) -> bool:
        """Whether somebody needs L_m: a selection, or a step size in L that no curvature product can settle jointly.
        After a checkpoint nobody does, because it holds them.
        """
        if self.round:
            return False
        jointly = hasattr(self.problem, "curvature_product")
        return self.algorithm.needs_smoothness or (self.algorithm.needs_joint_smoothness and not jointly)

    def go_on(self, tree: Tree, mirror: np.ndarray) -> None:
        """Takes its state after some round, and what the server then held of it."""
        restored(self, tree)
        self.mirror[:] = mirror

    def move(self, place: np.ndarray) -> None:
        """Contribution and mirror, which are one vector here, are from now on where the server holds the latter."""
        frame = Frame(np.empty(HEADER_NBYTES, np.uint8))
        frame.lend(place)
        self.frames, self.contribution, self.mirror = (frame,), place, place

    def hello(self) -> Hello:
        """The greeting; L_m is computed here, once, where something needs it."""
        smoothness = getattr(self.problem, "smoothness", None)
        bound = float(smoothness()) if smoothness is not None and self.tells_smoothness else math.nan
        return Hello(self.m, self.problem.samples, self.problem.dim, bound)

    def handle(self, message: Broadcast) -> Upload | Skip:
        """Works, decides, commits. The upload's payload is valid until the next call.

        Raises `NotFinite` when the contribution is not finite, at the place where it was computed.
        """
        start = perf_counter()
        k, self.limit, t_start, _, theta, _, _ = message
        self.round, self.theta, self.left = k, theta, math.nan
        contribution = self.contribution
        self._gradients = self._work.contribute(self._work_state, theta, message, contribution)
        if not kernels.vector.all_finite(contribution):
            self._diverged(contribution)
        uploads = self._trigger.decide(self._trigger_state, self)
        self._trigger.commit(self._trigger_state, self, uploads)
        if not uploads:
            return made(Skip, (self.m, k, self._gradients, perf_counter() - start, self.left))
        step_size = float(self._step_size.at(self._initial, t_start + 1)) if self._scaled else 1.0
        payload, mirror = self._codec.commit(self._codec_state, contribution, self.mirror, step_size)
        if mirror is contribution:
            self.contribution = self.mirror
        self.mirror = mirror
        return made(Upload, (self.m, k, self._gradients, perf_counter() - start, payload, self.left))

    def replay(self, theta: np.ndarray, out: np.ndarray) -> None:
        """The contribution of the same samples at another theta, into ``out``, shape (dim,)."""
        if not self._work.replays:
            raise IncompatibleParts(
                f"trigger `{self.algorithm.name('trigger')}` cannot be used with work `{self.algorithm.name('work')}` "
                "that keeps its moments, because it asks for the round from another iterate: set `moments: reset`"
            )
        self._gradients += self._work.replay(self._work_state, theta, out)
        if not kernels.vector.all_finite(out):
            self._diverged(out)

    def compare(self, left: float, right: float) -> bool:
        """``left`` > ``right``, and noted down: the left side on the scale of T^k, or, for a rule without T^k, of 1."""
        scale = self.limit if self._limited else 1.0
        if right != scale and math.isfinite(scale):
            self.left = left * (scale / right) if right else (math.inf if left > 0 else 0.0)
        else:
            self.left = left
        return left > right

    def _diverged(self, gradient: np.ndarray) -> NoReturn:
        what = "pseudo-gradient" if self._work.local else "gradient"
        raise NotFinite(
            f"round {self.round}: the {what} of worker {self.m} is not finite in tensor "
            f"`{first_not_finite(tensors_of(self.problem), gradient)}`: is the step size too large, or the data far "
            "from unit scale?"
        )

    def evaluate(self, message: Evaluate) -> Value:
        """Answers a question off the algorithm's books; changes nothing that the algorithm sees."""
        start = perf_counter()
        value, vector = self._evaluated(message)
        return Value(self.m, message.round, float(value), perf_counter() - start, vector)

    def _evaluated(self, message: Evaluate) -> tuple[float, np.ndarray]:
        problem, theta = self.problem, message.theta
        match message.what:
            case What.OBJECTIVE:
                return self._oracle.look_ahead(theta) if message.soon else problem.value(theta), NO_VECTOR
            case What.GRADIENT:
                gradient = np.full_like(theta, math.nan)  # what a user's code forgets to write must not pass unseen
                return problem.value_and_gradient(theta, gradient), gradient
            case What.HESSIAN:
                hessian = np.ascontiguousarray(problem.hessian(theta), dtype=np.float64)
                if hessian.shape != (problem.dim, problem.dim):
                    raise ValueError(f"hessian() gave shape {hessian.shape}; expected ({problem.dim}, {problem.dim})")
                return 0.0, hessian.ravel()
            case What.CURVATURE_PRODUCT:
                product = np.full_like(theta, math.nan)
                problem.curvature_product(theta, product)
                return 0.0, product
            case What.MIRROR:
                return 0.0, self.mirror
            case What.INITIAL:
                return 0.0, self.aside.initial() if self.aside.initial else NO_VECTOR
            case What.SCORE:
                loss, *counts = self.aside.score(theta) if self.aside.score else (0.0, 0, 0)
                return float(loss), np.array(counts, dtype=np.int64)
        raise ProtocolError(f"worker {self.m} cannot evaluate {message.what}")
