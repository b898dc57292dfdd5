"""An algorithm is a row of parts; a row that makes no sense is refused here, with a sentence."""

from dataclasses import field, fields

from psopt.errors import IncompatibleParts
from psopt.parts import FAMILIES, formulas, kind_of
from psopt.parts.aggregators import Aggregator, FreshMean, Lazy
from psopt.parts.codecs import Codec, Overwrite
from psopt.parts.plans import Every, Plan
from psopt.parts.schedules import Constant, Schedule
from psopt.parts.selections import All, Selection
from psopt.parts.starts import Gradient, Start
from psopt.parts.thresholds import Threshold
from psopt.parts.triggers import Always, MaxAge, SameSample, Snapshot, Trigger
from psopt.parts.updates import Descent, ServerUpdate
from psopt.parts.work import FullGradient, LocalWork
from psopt.records import record


@record
class Algorithm:
    """Plan x Start x Selection x LocalWork x Trigger x Codec x Aggregator x ServerUpdate, and the step size.

    The defaults are plain gradient descent. Raises `IncompatibleParts` when the parts cannot work together.

    Attributes
    ----------
    plan : Plan
        When a round starts: how many local steps lie between two rounds.
    start : Start
        What the server holds of each worker before round 1, and who has to upload at first.
    selection : Selection
        Whom the server asks in a round.
    work : LocalWork
        What a worker computes before it decides whether to speak.
    trigger : Trigger
        Whether what it found is worth sending.
    codec : Codec
        What an upload says, and what both ends then hold.
    aggregator : Aggregator
        What the uploads come to.
    update : ServerUpdate
        How that moves theta.
    step_size : Schedule
        A number, a formula in L and M, or a schedule.
    """

    plan: Plan = field(default_factory=Every)
    start: Start = field(default_factory=Gradient)
    selection: Selection = field(default_factory=All)
    work: LocalWork = field(default_factory=FullGradient)
    trigger: Trigger = field(default_factory=Always)
    codec: Codec = field(default_factory=Overwrite)
    aggregator: Aggregator = field(default_factory=Lazy)
    update: ServerUpdate = field(default_factory=Descent)
    step_size: Schedule = field(default_factory=Constant)

    def __post_init__(self) -> None:
        selecting, triggering = self.selection.threshold, self.trigger.threshold
        if selecting and triggering and selecting != triggering:
            raise IncompatibleParts(
                f"selection `{self.name('selection')}` cannot be combined with trigger `{self.name('trigger')}` of "
                "another window or other weights, because the server broadcasts one threshold a round"
            )
        for threshold in filter(None, (selecting, triggering)):
            _check_weights(threshold)
        if isinstance(self.trigger, MaxAge) and not self.trigger.of.lazy:
            raise IncompatibleParts(
                "trigger `max_age` cannot wrap `always`, because that never skips and so has no age to bound"
            )
        self._check_trigger()
        self._check_codec()
        self._check_steps()
        self._check_aggregator()
        if self.start.forced_rounds == 0 and self.start.fill == 0 and self.lazy:
            raise IncompatibleParts(
                "start `zero` without forced rounds cannot be combined with a lazy trigger or selection, because "
                "nothing has moved yet in round 1: set `forced_rounds` or use start `gradient`"
            )

    def _check_trigger(self) -> None:
        inner = self.trigger.of if isinstance(self.trigger, MaxAge) else self.trigger
        name = kind_of("trigger", inner) if isinstance(inner, SameSample | Snapshot) else None
        if name and self.start.forced_rounds == 0:
            raise IncompatibleParts(
                f"trigger `{name}` cannot be used with start `{self.name('start')}` without forced rounds, because "
                "it compares with the iterate of the last upload, and there is none"
            )
        if name and not self.work.replays:
            raise IncompatibleParts(
                f"trigger `{name}` cannot be used with work `{self.name('work')}` that keeps its moments, because the "
                "round cannot be repeated from another iterate: set `moments: reset`"
            )
        if isinstance(inner, Snapshot) and not self.selection.everyone:
            raise IncompatibleParts(
                f"trigger `snapshot` cannot be used with selection `{self.name('selection')}`, because a worker "
                "that is not asked misses the round in which the snapshot is taken"
            )

    def _check_steps(self) -> None:
        work, plan = self.name("work"), self.name("plan")
        if not self.plan.single and not self.work.local:
            raise IncompatibleParts(
                f"plan `{plan}` cannot be used with work `{work}`, because that takes no local steps: use `local_sgd`"
            )
        if self.work.local and self.codec.scaled:
            raise IncompatibleParts(
                f"codec `overwrite` with `scale: step` cannot be used with work `{work}`, because a pseudo-gradient "
                "holds the step sizes already"
            )
        if self.workers_step and self.needs_joint_smoothness:
            who = f"work `{work}`" if self.work.local else "codec `overwrite` with `scale: step`"
            raise IncompatibleParts(
                f"{who} cannot be used with a step size that is a formula in L, because workers do not know L: set "
                "`step_size` to a number, or to a formula in M"
            )

    def _check_aggregator(self) -> None:
        if not isinstance(self.aggregator, FreshMean):
            return
        name = self.name("aggregator")
        if self.lazy:
            silent = "trigger" if self.trigger.lazy else "selection"
            raise IncompatibleParts(
                f"{silent} `{self.name(silent)}` cannot be used with aggregator `{name}`, because that forgets who is "
                "silent: use `lazy`"
            )
        if self.start.fill:
            raise IncompatibleParts(
                f"start `{self.name('start')}` cannot be used with aggregator `{name}`, because nothing counts there "
                "but what was said in the round"
            )

    def _check_codec(self) -> None:
        codec, compressor = self.codec, self.codec.compressor
        feedback = getattr(codec, "feedback", False)
        if feedback and compressor.exact:
            name = kind_of("compressor", compressor)
            raise IncompatibleParts(f"error feedback cannot be used with `{name}`, because it leaves nothing out")
        if (feedback or not codec.replaces) and not compressor.contraction:
            raise IncompatibleParts(
                f"compressor `{kind_of('compressor', compressor)}` with `unbiased` cannot be used with "
                + ("error feedback" if feedback else "codec `increment`")
                + ", because what it leaves out can be longer than the whole: the errors would grow"
            )
        if self.trigger.looks_back and (codec.scaled or feedback):
            raise IncompatibleParts(
                f"trigger `{self.name('trigger')}` cannot be used with a codec that scales or feeds back, because it "
                "compares the gradient with what was sent: use `same_sample`"
            )

    def name(self, family: str) -> str:
        """The YAML name of the row's part of that family."""
        return kind_of(family, getattr(self, family))

    @property
    def threshold(self) -> Threshold | None:
        """The threshold the server computes each round, if any part needs one."""
        return self.trigger.threshold or self.selection.threshold

    @property
    def lazy(self) -> bool:
        """Whether anybody can be left out because little has changed."""
        return self.trigger.lazy or self.selection.threshold is not None

    @property
    def needs_joint_smoothness(self) -> bool:
        """Whether the step size is a formula in L, the smoothness of the whole objective."""
        return "L" in formulas.names_in(self.step_size.initial)

    @property
    def workers_step(self) -> bool:
        """Whether the step size is applied by the workers, so that the update's step is 1 times its rate."""
        return self.work.local or self.codec.scaled

    @property
    def needs_smoothness(self) -> bool:
        """Whether each worker's L_m must be known."""
        return self.selection.needs_smoothness


def _check_weights(threshold: Threshold) -> None:
    xi = threshold.xi
    if isinstance(xi, tuple) and len(xi) != threshold.window:
        raise IncompatibleParts(
            f"`xi` lists {len(xi)} weights and cannot fill a `window` of {threshold.window}: give one number, or one "
            "weight a difference"
        )
    if min(xi) < 0 if isinstance(xi, tuple) else xi < 0:
        raise IncompatibleParts("`xi` cannot be negative, because a threshold below zero makes everybody upload")


ROW = tuple(f.name for f in fields(Algorithm))
"""The families of a row, in the order of the design."""

assert set(ROW) <= set(FAMILIES)
