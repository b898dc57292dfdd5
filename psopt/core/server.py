"""The server as a state machine: messages in, messages out, no I/O.

One round is `begin` (choose, and say what to send), then `receive` for each answer in any order, then `finish` (step).
It holds theta, what each worker last said, and how theta moved; the state's owners are listed in the design, section 5.
"""

import math
from collections.abc import Sequence

import numpy as np

from psopt.algorithm import Algorithm
from psopt.core import downlink
from psopt.core.history import Anchors, History
from psopt.core.messages import Broadcast, Hello, Landed, Skip, Upload, made, mask_nbytes
from psopt.core.model import Model
from psopt.core.room import NO_ROOM, Room
from psopt.errors import ConfigError, IncompatibleParts, ProtocolError
from psopt.parts import formulas
from psopt.parts.plans import Rounds
from psopt.problems import kernels
from psopt.problems.tensors import first_not_finite

NOBODY: frozenset[int] = frozenset()


class Server:
    """Rank 0's half of the protocol.

    Parameters
    ----------
    algorithm : Algorithm
    theta : ndarray, shape (dim,), float64 or float32
        The first iterate; copied.
    hellos : sequence of Hello
        One a worker, in worker order.
    rng : numpy.random.Generator
        For selections that draw.
    joint_smoothness : float or None
        L of the whole objective, where the step size is a formula in it.
    lazy_downlink : bool
        Broadcasts hold what changed instead of theta, see `psopt.core.downlink`.
    tensors : sequence of (name, shape), optional
        What theta is made of, for messages.
    max_steps : int, optional
        T, the local steps of the whole run, which the plan is cut to, or laid out over.
    room : Room, optional
        Where theta and what is held of the workers may live.
    sent_dtype : numpy dtype, optional
        In which theta crosses, rounded where that is shorter than its own; its own by default.

    Raises
    ------
    ConfigError
        When an L_m or L that the row needs is not known, or the step size is not a positive number.
    """

    SAVED = (
        "_anchors",
        "_history",
        "_model",
        "_said",
        "_selection",
        "_told",
        "living",
        "local_steps",
        "round",
        "squared_step",
        "step_size",
        "threshold",
        "uploaded",
    )

    def __init__(
        self,
        algorithm: Algorithm,
        theta: np.ndarray,
        hellos: Sequence[Hello],
        rng: np.random.Generator,
        joint_smoothness: float | None = None,
        lazy_downlink: bool = False,
        tensors: Sequence[tuple[str, tuple[int, ...]]] | None = None,
        max_steps: int | None = None,
        room: Room = NO_ROOM,
        sent_dtype: np.dtype | None = None,
    ) -> None:
        self.algorithm = algorithm
        self.workers = len(hellos)
        self.smoothness = np.array([hello.smoothness for hello in hellos])
        self.joint_smoothness = joint_smoothness
        self.round = 0
        self.threshold = 0.0
        self.uploaded = np.zeros(self.workers, dtype=bool)
        self.left = np.full(self.workers, math.nan)
        self.squared_step = math.inf
        self.local_steps = 0
        self.initial_step_size = self._first_step_size()
        self.step_size = float(algorithm.step_size.at(self.initial_step_size, 1))
        self._model = Model(algorithm, theta, [hello.samples for hello in hellos], room)
        self.theta, self._absorb = self._model.theta, self._model.absorb
        self._sums_up = lazy_downlink and downlink.sums_up(algorithm, theta.size, theta.dtype)
        self._keeps_said = lazy_downlink and not self._sums_up
        self._said: list[tuple[int, np.ndarray]] | None = [] if lazy_downlink else None
        self._told = False
        self._rounded = np.empty(theta.size, sent_dtype) if sent_dtype not in (None, theta.dtype) else None
        self._tensors = tensors or (("theta", (theta.size,)),)
        if algorithm.needs_smoothness and not np.isfinite(self.smoothness).all():
            raise IncompatibleParts(
                f"selection `{algorithm.name('selection')}` cannot be used with this problem, because it has no method "
                "`smoothness()` to tell L_m"
            )
        self.asked: np.ndarray | None = None
        self._hears_left = self._left_noted = algorithm.trigger.lazy
        self._selection = algorithm.selection.init(self.smoothness, rng)
        self._threshold = algorithm.threshold
        self._weights = self._threshold.weights().tolist() if self._threshold else []
        self._history = History(len(self._weights))
        self._anchors = Anchors(self.workers, self.theta) if algorithm.selection.needs_anchors else None
        self.living = np.arange(self.workers)
        self._everyone = frozenset(range(self.workers))
        self._awaited: set[int] | frozenset[int] = NOBODY
        self._open = False
        self._rounds = Rounds(algorithm.plan, max_steps, self.workers)

    def _first_step_size(self) -> float:
        known = {"M": float(self.workers)}
        if self.joint_smoothness is not None:
            known["L"] = self.joint_smoothness
        elif self.algorithm.needs_joint_smoothness:
            raise ConfigError("the step size is a formula in L, but this problem has no method `smoothness()`")
        return formulas.evaluate(self.algorithm.step_size.initial, known)

    def resumed(self) -> None:
        """Between two rounds: what the state leaves open follows from it."""
        self._rounds.go_on_after(self.local_steps)
        self._everyone = frozenset(self.living.tolist())

    def lose(self, workers: Sequence[int], drop: bool) -> None:
        """These workers are gone: not awaited any longer, nor ever asked again.

        What they last said stays in the aggregate, or, with ``drop``, leaves it.
        """
        self._awaited = self._awaited - set(workers)
        self._everyone -= set(workers)
        self.living = np.array(sorted(self._everyone))
        if drop:
            for m in workers:
                self._model.drop(m)

    def compare(self, left: np.ndarray, right: float) -> np.ndarray:
        """``left`` > ``right`` for every m, and noted down."""
        self.left[:] = left
        self._left_noted = True
        return left > right

    def drifts(self) -> list[float]:
        """||anchor_m - theta^k||^2 for every m; a selection asks for it."""
        return self._anchors.drifts(self.theta)

    def begin(self) -> Broadcast | None:
        """Opens the next round, if the plan is not `over`; returns what to send, or None when nobody is asked.

        A message for everyone is for everyone who lives.

        The message's theta is the server's own array: it must be sent, or copied, before `finish`.
        """
        if self._open:
            raise ProtocolError(f"round {self.round} was not finished")
        entry = self._rounds.advance()
        if entry is None:
            raise ProtocolError(f"the plan ended with round {self.round}")
        self._open = True
        self.round = k = self.round + 1
        algorithm = self.algorithm
        t_start, local_steps = entry
        self.local_steps = t_start + local_steps
        self.step_size = float(algorithm.step_size.at(self.initial_step_size, t_start + 1))
        self._model.open()
        last, self.uploaded = self.uploaded, np.zeros(self.workers, bool)
        if self._left_noted:
            self.left.fill(math.nan)
            self._left_noted = self._hears_left
        workers = self._choose(k)
        if workers is not None and len(workers) == self.living.size:
            workers = None
        if self._anchors is not None:
            self._anchors.contact(workers, k, self.theta)
        self.asked = workers if workers is not None or self.living.size == self.workers else self.living
        if workers is None:
            self._awaited = self._everyone
            content = self._whole() if self._said is None else self._changes(k, last)
            return made(Broadcast, (k, self.threshold, t_start, local_steps, content, None, 0))
        self._awaited = set(workers.tolist())
        if not self._awaited:
            return None
        mask = mask_nbytes(self.workers)
        return Broadcast(k, self.threshold, t_start, local_steps, self._whole(), workers, mask)

    def _whole(self) -> np.ndarray:
        """theta as it crosses."""
        if self._rounded is None:
            return self.theta
        kernels.rounding.narrow(self.theta, self._rounded)
        return self._rounded

    def _changes(self, k: int, last: np.ndarray) -> np.ndarray:
        """What every rank's copy of theta lacks; ``last``, shape (M,), bool, tells who spoke in the last round."""
        if not self._told:
            self._told = True
            return downlink.first_message(self.initial_step_size, self.theta)
        said = self._said
        if self._sums_up:
            said = [(downlink.AGGREGATE, self._model.aggregate())] if last.any() else []
        content = downlink.changes(said, self.theta if k % downlink.CHECK_EVERY == 0 else None)
        self._said.clear()
        return content

    def _choose(self, k: int) -> np.ndarray | None:
        start = self.algorithm.start
        if k <= start.forced_rounds:
            self.threshold = -math.inf
            return None
        if k <= start.silent_rounds:
            self.threshold = math.inf
            return np.zeros(0, dtype=np.int64)
        self.threshold = 0.0
        if self._threshold is not None:
            steps = self._history.squared_steps()
            step_size = 1.0 if self.algorithm.work.local else self.step_size
            self.threshold = self._threshold.limit(steps, self._weights, step_size, self.workers)
        return self.algorithm.selection.select(self._selection, self)

    def receive(self, message: Upload | Skip) -> None:
        """Takes one answer; the payload is absorbed at once and may be overwritten afterwards, unless it is the
        worker's own row in the room.
        """
        m, k = message[:2]
        awaited = self._awaited
        if k != self.round or m not in awaited:
            raise self._unasked(m, k)
        if type(awaited) is frozenset:
            awaited = self._awaited = set(awaited)
        awaited.remove(m)
        if self._hears_left:
            self.left[m] = message.left
        if type(message) is Upload:
            payload = message.payload
            self._absorb(m, payload)
            self.uploaded[m] = True
            if self._keeps_said:
                self._said.append((m, payload.copy()))

    def _unasked(self, m: object, k: int) -> ProtocolError:
        return ProtocolError(
            f"an answer of worker {m} for round {k} arrived in round {self.round}, which awaits "
            f"{sorted(self._awaited) or 'nobody'}"
        )

    def land(self, landed: Landed) -> None:
        """Takes many answers together, as `receive` would one after the other."""
        k, uploads, skips, uploaded, skipped, _, _, left, vectors = landed
        awaited = self._awaited
        if uploads + skips == self.workers == len(awaited) and k == self.round:
            self._awaited = NOBODY
            if self._hears_left:
                self.left[:] = left
            if uploads:
                self.uploaded = uploaded.copy()
        else:
            answered = set(np.flatnonzero(uploaded | skipped).tolist())
            if k != self.round or not answered <= awaited:
                raise self._unasked(sorted(answered - awaited) or sorted(answered), k)
            self._awaited = awaited - answered
            if self._hears_left:
                np.copyto(self.left, left, where=uploaded | skipped)
            self.uploaded |= uploaded
        if not uploads:
            return
        self._model.land(uploaded, vectors)
        if self._keeps_said:
            self._said += [(m, vectors[m].copy()) for m in np.flatnonzero(uploaded).tolist()]

    @property
    def over(self) -> bool:
        """Whether the plan holds no further round."""
        return self._rounds.over

    @property
    def asks_everyone_next(self) -> bool:
        """Whether the next round is sure to ask everyone for the gradient at the present theta, as it is."""
        algorithm, k = self.algorithm, self.round + 1
        asked = k <= algorithm.start.forced_rounds or (
            algorithm.selection.everyone and k > algorithm.start.silent_rounds
        )
        return algorithm.work.whole and asked and not self.over and self._rounded is None

    @property
    def awaited(self) -> set[int] | frozenset[int]:
        """The workers whose answer is still missing."""
        return self._awaited

    def finish(self) -> None:
        """Closes the round: the aggregate, the step, the history. Everybody asked must have answered."""
        if self._awaited or not self._open:
            raise ProtocolError(f"round {self.round} cannot be finished: {sorted(self._awaited)} are missing")
        self._open = False
        self.squared_step = self._model.step(self.step_size)
        if not math.isfinite(self.squared_step):
            raise ConfigError(
                f"theta is no longer finite after round {self.round}, first in tensor "
                f"`{first_not_finite(self._tensors, self.theta)}`: is the step size {self.step_size:.6g}, or the "
                "weight `xi` of a lazy rule, too large?"
            )
        self._history.advance(self.squared_step)

    def aggregate_norm(self) -> float:
        """||aggregate||, what the last step was taken along; stale parts included."""
        return math.sqrt(kernels.vector.squared_norm(self._model.aggregate()))

    def stale(self, m: int) -> np.ndarray:
        """What worker m last said, shape (dim,); equal to the worker's mirror."""
        return self._model.stale(m)
