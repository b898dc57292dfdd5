"""What a run does about lost workers: tells of them, sees that F and f* are those of the workers that are left, and
reports both gaps at the end.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, fields
from typing import TYPE_CHECKING, Any

import numpy as np

from psopt.config import RunConfig
from psopt.core.messages import Evaluate, Value
from psopt.core.server import Server
from psopt.errors import ConfigError
from psopt.parts.aggregators import FreshMean
from psopt.runs import reference
from psopt.runs.agreement import together
from psopt.runs.progress import Progress
from psopt.transports.base import Transport
from psopt.transports.roll import Loss

if TYPE_CHECKING:
    from psopt.transports.mpi import Link


def make_outliving(config: RunConfig, link: "Link") -> None:
    """Lets the ranks of this job outlive each other; raises `ConfigError` on all of them where MPI cannot."""
    from psopt.transports import mpi_outliving

    lacking = mpi_outliving.lacking()
    if lacking:
        raise together(
            ConfigError(
                f"`failure.policy: {config.failure.policy}` needs ranks that outlive each other, and {lacking}: use "
                "`psopt run` without mpiexec, or Open MPI's `mpiexec --with-ft ulfm -n ...`, or `failure.policy: stop`"
            )
        )
    mpi_outliving.outlive(link)


class Losses:
    """The losses of one run.

    Parameters
    ----------
    config : RunConfig
    dim : int
    methods : sequence of str
        The optional methods that every problem has.
    transport : Transport
    value_of : callable
        Gives the sum of f_m(theta) over some workers, from their shards, without asking them.
    """

    def __init__(
        self,
        config: RunConfig,
        dim: int,
        methods: Sequence[str],
        transport: Transport,
        value_of: Callable[[Sequence[int], np.ndarray], float],
    ) -> None:
        self._config, self._dim, self._methods = config, dim, methods
        self._transport, self._value_of = transport, value_of
        self._settled = 0
        self._server: Server | None = None
        self._progress: Progress | None = None
        self._f_star_of_all: float | None = None

    def begin(self, server: Server, f_star: float | None, progress: Progress) -> None:
        """The next round is about to begin: from now on the policy holds. ``f_star`` is that of those who are left."""
        self._server, self._progress = server, progress
        if not self.any:
            self._f_star_of_all = f_star
        self._transport.roll.survives = self._config.failure.survives

    def state(self) -> dict[str, Any]:
        """What a checkpoint holds."""
        lost = [asdict(loss) for loss in self._transport.roll.lost]
        return {"lost": lost, "f_star_of_all": self._f_star_of_all}

    def go_on(self, state: Mapping[str, Any]) -> None:
        """Takes the state: who was lost before stays lost."""
        self._transport.roll.remember([Loss(**{**loss, "workers": tuple(loss["workers"])}) for loss in state["lost"]])
        self._settled = len(state["lost"])
        self._f_star_of_all = state["f_star_of_all"]

    @property
    def number(self) -> int:
        """How many times somebody was lost."""
        return len(self._transport.roll.lost)

    @property
    def any(self) -> bool:
        """Whether anybody was lost."""
        return bool(self._transport.roll.lost)

    @property
    def pending(self) -> bool:
        """Whether somebody was lost since they were last settled."""
        return len(self._transport.roll.lost) > self._settled

    def settle(self) -> float | None:
        """Takes the lost from the server, says so, and returns f* of those who are left, None where it is unknown."""
        f_star = None
        roll, drop = self._transport.roll, self._config.failure.policy == "drop"
        while self.pending:
            for loss in roll.lost[self._settled :]:
                self._tell(loss)
                self._server.lose(loss.workers, drop)
            self._settled = len(roll.lost)
            f_star = self._f_star_of_the_rest()
        self._check_stop(f_star)
        return f_star

    def summary(self) -> list[dict[str, Any]]:
        """One mapping a worker that was lost, by round, then by worker."""
        lost = [
            {"worker": m, "rank": loss.rank, "round": loss.round, "why": loss.why}
            for loss in self._transport.roll.lost
            for m in loss.workers
        ]
        return sorted(lost, key=lambda one: (one["round"], one["worker"]))

    def in_full(self, objective: float | None, theta: np.ndarray) -> dict[str, float | None]:
        """F over all workers, the lost included, and its gap; nothing where nobody was lost."""
        lost = sorted(m for loss in self._transport.roll.lost for m in loss.workers)
        if not lost:
            return {}
        full, gap = None, None
        if objective is not None:
            try:
                full = objective + self._value_of(lost, theta)
            except Exception as error:  # noqa: BLE001  (a user's code, that may have failed the worker as well; it is told)
                self._progress.warn(f"psopt: the lost workers' part of the objective is not known: {error}")
            if full is not None and not math.isfinite(full):
                full = None
        if full is not None and self._f_star_of_all is not None:
            gap = full - self._f_star_of_all
        return {"objective_full": full, "gap_full": gap}

    def _f_star_of_the_rest(self) -> float | None:
        if self._f_star_of_all is None:
            return None
        try:
            return reference.reference_optimum(_Steady(self._transport), self._dim, self._methods)
        except (_Fewer, ConfigError):  # asked again without those; or there is none within reach, and no gap any longer
            return None

    def _check_stop(self, f_star: float | None) -> None:
        """A run that could stop at a gap alone cannot go on without f*."""
        stop = self._config.stop
        if stop.gap is None or f_star is not None:
            return
        others = [key.name for key in fields(stop) if key.name != "gap" and getattr(stop, key.name) is not None]
        sentence = "f* of the workers that are left cannot be found"
        if not others:
            raise ConfigError(f"{sentence}, and nothing but `stop.gap` would stop the run")
        self._progress.warn(f"psopt: {sentence}: the run stops by {' or '.join(others)}")

    def _tell(self, loss: Loss) -> None:
        several = len(loss.workers) > 1
        if isinstance(self._config.algorithm.aggregator, FreshMean):
            then = "the mean goes on without them" if several else "the mean goes on without it"
        elif self._config.failure.policy == "drop":
            then = "their parts leave the objective" if several else "its part leaves the objective"
        else:
            then = "their last gradients stay in the sum" if several else "its last gradient stays in the sum"
        account = f"\n{loss.account}" if loss.account else ""
        self._progress.warn(f"psopt: {loss}; {then} (failure.policy){account}")


class _Fewer(Exception):
    """Somebody was lost between two questions that belong together."""


class _Steady:
    """Asks through a transport; raises `_Fewer` when a question leaves fewer workers than there were at first."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._lost = len(transport.roll.lost)

    def evaluate(self, message: Evaluate) -> list[Value]:
        answers = self._transport.evaluate(message)
        if len(self._transport.roll.lost) > self._lost:
            raise _Fewer
        return answers
