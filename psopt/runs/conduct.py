"""Rank 0's course of a run: ask for L and f*, then round after round until a rule says stop, and write it down."""

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np

import psopt
from psopt.config import RunConfig
from psopt.core import downlink
from psopt.core.messages import Evaluate, What
from psopt.core.server import Server
from psopt.errors import ConfigError, ProtocolError
from psopt.runs import folder as run_folder
from psopt.runs import reference
from psopt.runs.folder import Run
from psopt.runs.losses import Losses
from psopt.runs.progress import Progress
from psopt.runs.stopping import Stopping
from psopt.runs.trace import Record, Trace
from psopt.transports.base import Transport

if TYPE_CHECKING:
    from psopt.runs.experiment import Plan


@dataclass(frozen=True)
class Facts:
    """What all workers agree on: theta's tensors, n_m of every worker, and the optional methods every problem has."""

    tensors: tuple[tuple[str, tuple[int, ...]], ...]
    shards: tuple[int, ...]
    methods: tuple[str, ...]

    @property
    def samples(self) -> int:
        """n, those of all workers."""
        return sum(self.shards)

    @property
    def sizes(self) -> tuple[int, ...]:
        """How many numbers each tensor holds."""
        return tuple(math.prod(shape) for _, shape in self.tensors)

    @property
    def dim(self) -> int:
        return sum(self.sizes)


class Conductor:
    """One run, seen from the server.

    Parameters
    ----------
    config : RunConfig
    facts : Facts
    transport : Transport
    rng : numpy.random.Generator
        For selections that draw.
    plan : Plan
        Folder, stopping, first iterate.
    manifest : dict
        Written into the folder as it is.
    compile_s : float
        Seconds that the kernels took to compile or load.
    value_of : callable
        Gives the sum of f_m(theta) over some workers, from their shards, without asking them.
    """

    def __init__(
        self,
        config: RunConfig,
        facts: Facts,
        transport: Transport,
        rng: np.random.Generator,
        plan: "Plan",
        manifest: dict[str, Any],
        compile_s: float,
        value_of: Callable[[Sequence[int], np.ndarray], float],
    ) -> None:
        self._config, self._facts, self._transport, self._rng = config, facts, transport, rng
        self._folder: Path | None = plan.folder
        self._manifest = manifest
        self._compile_s = compile_s
        self._stopping = plan.stopping or Stopping(config.stop)
        self._dtype = np.dtype(config.problem.dtype)
        self._given = plan.theta
        self._warns = plan.warns
        self._theta = np.zeros(facts.dim, self._dtype) if plan.theta is None else plan.theta.astype(self._dtype)
        self._f_star: float | None = None
        self._server: Server | None = None
        self._last: Record | None = None
        self._first_objective: float | None = None
        self._began = self._ended = perf_counter()
        self._overhead = (0.0, 0.0)
        self._losses = Losses(config, facts.dim, facts.methods, transport, value_of)
        self._in_full: dict[str, float | None] = {}

    @property
    def round(self) -> int:
        """The rounds begun so far."""
        return self._server.round if self._server else 0

    def conduct(self, progress: Progress) -> Run:
        """Runs to the end and returns what came out; whatever happens, the folder tells."""
        trace = Trace(self._folder)
        try:
            self._prepare(progress)
            reason = self._rounds(trace, progress)
            self._transport.stop(self.round)
            self._warn(progress, reason)
            if self._losses.any:
                self._save_theta()  # now: the shards that are read next may be what their ranks died of
            self._in_full = self._losses.in_full(self._last.objective, self._server.theta)
            self._write(trace, "ok", reason)
        except KeyboardInterrupt:
            self._write(trace, "stopped", "interrupted")
            raise
        except BaseException as error:
            self._write(trace, f"failed: {_first_line(error)}", None)
            raise
        finally:
            progress.close()
        if self._folder:
            return run_folder.load_run(self._folder)
        config, theta = self._config, self._server.theta
        uploads = trace.uploads(config.workers)
        records = run_folder.columns([asdict(record) for record in trace.records])
        return Run(None, config.resolved(), self._manifest, self._summary(theta, "ok", reason), records, uploads, theta)

    def _warn(self, progress: Progress, reason: str) -> None:
        """Says what a person could overlook in a run that ended by a limit."""
        first, last = self._first_objective, self._last.objective
        if last is not None and self._warns and progress.judge([first, last], self._dtype):
            return
        if self._config.stop.gap is not None and reason != "gap":
            progress.say(f"psopt: ended by {reason}; the gap of {self._config.stop.gap:g} was not reached")

    def _prepare(self, progress: Progress) -> None:
        """Greetings, then L and f* where they are asked for, then the server."""
        config, facts, transport = self._config, self._facts, self._transport
        ranks = self._manifest["ranks"]
        where = f"and the server on {ranks} ranks" if ranks > 1 else "in one process"
        progress.say(
            f"psopt: {config.name}: {config.algorithm_name}, {config.workers} workers {where}, "
            f"{facts.samples} samples, "
            f"{facts.dim} parameters ({config.problem.dtype}), seed {config.seed}"
        )
        if config.downlink == "changes":
            said = downlink.costs(config.algorithm, facts.sizes, self._dtype, config.workers)
            progress.say(f"psopt: downlink `changes`: {said}")
        hellos = transport.hellos()
        if self._given is None and "initial" in facts.methods:
            self._theta = reference.initial_theta(transport, facts.dim, self._dtype)
        joint = None
        if config.algorithm.needs_joint_smoothness:
            joint = reference.joint_smoothness(transport, hellos, facts.dim, facts.methods)
        self._f_star = self._find_f_star()
        lazy = config.downlink == "changes"
        max_steps = config.stop.max_steps
        self._server = Server(config.algorithm, self._theta, hellos, self._rng, joint, lazy, facts.tensors, max_steps)
        self._losses.begin(self._server, self._f_star, progress)
        known = f", f* = {self._f_star:.10g}" if self._f_star is not None else ""
        progress.say(f"psopt: step size {self._server.step_size:.6g}{known}")

    def _find_f_star(self) -> float | None:
        config, facts = self._config, self._facts
        if not config.trace.objective:
            return None
        if config.f_star == "auto":
            try:
                f_star = reference.reference_optimum(self._transport, facts.dim, facts.methods)
            except ConfigError:
                if config.stop.gap is not None:
                    raise
                f_star = None  # nobody needs it: the gap is a column of the trace that stays empty
            if f_star is None and config.stop.gap is not None:
                raise ConfigError(
                    "`stop.gap` needs f*, which cannot be found for this problem (it has no method `hessian`, or more "
                    f"than {reference.LARGEST_NEWTON_DIM} parameters): set `f_star` to a number, or stop otherwise"
                )
            return f_star
        return None if config.f_star == "none" else config.f_star

    def _rounds(self, trace: Trace, progress: Progress) -> str:
        config, server, transport = self._config, self._server, self._transport
        self._overhead = (transport.computed_s, transport.waited_s)
        self._began = perf_counter()
        ledger, every, stopping = transport.ledger, config.trace.every, self._stopping
        counts_uploads = config.stop.max_uploads is not None
        self._record(trace, progress)
        while True:
            message = server.begin()
            if message is None:
                transport.idle()
            else:
                transport.exchange(message, server.receive)
            self._settle()
            server.finish()
            k = server.round
            trace.round(server.uploaded)
            if config.debug.check_mirror:
                self._check_mirrors(k)
            record = self._record(trace, progress) if k % every == 0 else None
            uploads = ledger.totals().uploads if counts_uploads else 0
            reason = stopping.reason(k, record, uploads, perf_counter() - self._began, server.aggregate_norm)
            if server.over and not reason:
                reason = "max_steps" if server.local_steps == config.stop.max_steps else "plan"
            if reason:
                break
        if k % every:
            self._record(trace, progress)
        self._ended = perf_counter()
        return reason

    def _record(self, trace: Trace, progress: Progress) -> Record:
        """Evaluates what the config wants to see at the present theta, and writes it down."""
        server, transport = self._server, self._transport
        value, loss, accuracy = self._looked_at()
        while self._losses.pending:
            self._settle()
            value, loss, accuracy = self._looked_at()
        gap = None if self._f_star is None or value is None else value - self._f_star
        elapsed = perf_counter() - self._began
        compute = transport.computed_s - self._overhead[0]
        waited = transport.waited_s - self._overhead[1]
        self._last = Record(
            round=server.round,
            local_steps=server.local_steps,
            objective=value,
            gap=gap,
            test_loss=loss,
            test_accuracy=accuracy,
            **asdict(transport.ledger.totals()),
            compute_s=compute,
            wait_s=waited - compute,
            rest_s=elapsed - waited,
        )
        trace.record(self._last)
        progress.update(self._last)
        return self._last

    def _looked_at(self) -> tuple[float | None, float | None, float | None]:
        """F, and the loss and the accuracy on the test rows, where the config wants to see them."""
        server = self._server
        value = self._objective() if self._config.trace.objective else None
        if self._config.data.test is None:
            return value, None, None
        loss, accuracy = reference.test_score(self._transport, server.round, server.theta)
        if not math.isfinite(loss):
            raise ConfigError(
                f"the loss on the test rows is {loss} after round {server.round}: is the step "
                f"{server.step_size:.6g} too large?"
            )
        return value, loss, accuracy

    def _objective(self) -> float:
        """F at the present theta.

        Raises `ConfigError` when it is not finite.
        """
        server = self._server
        values = reference.objectives(self._transport, server.round, server.theta, server.asks_everyone_next)
        value = sum(values.values())
        if not math.isfinite(value):
            m = next((m for m, own in values.items() if not math.isfinite(own)), 0)
            raise ConfigError(
                f"the objective of worker {m} is {values.get(m, value)} after round {server.round}: is the step "
                f"{server.step_size:.6g} too large?"
            )
        if self._first_objective is None:
            self._first_objective = value
        return value

    def _settle(self) -> None:
        if self._losses.pending:
            self._f_star = self._losses.settle()

    def _check_mirrors(self, k: int) -> None:
        for answer in self._transport.evaluate(Evaluate(k, What.MIRROR, False, self._server.theta)):
            if not np.array_equal(answer.vector, self._server.stale(answer.worker)):
                raise ProtocolError(f"round {k}: worker {answer.worker}'s mirror differs from what the server holds")

    def _write(self, trace: Trace, status: str, reason: str | None) -> None:
        """Closes the trace and writes theta and the summary, if there is a folder."""
        trace.close()
        if self._folder:
            theta = self._save_theta()
            run_folder.write_json(self._folder / "summary.json", self._summary(theta, status, reason))

    def _save_theta(self) -> np.ndarray:
        theta = self._server.theta if self._server else self._theta
        if self._folder:
            np.save(self._folder / "theta.npy", theta)
        return theta

    def _summary(self, theta: np.ndarray, status: str, reason: str | None) -> dict[str, Any]:
        config, facts, last = self._config, self._facts, self._last
        totals = asdict(self._transport.ledger.totals())
        evaluation = totals.pop("evaluation_bytes_up") + totals.pop("evaluation_bytes_down")
        wire = self._transport.ledger.wire
        server = self._server
        return {
            "schema": run_folder.SCHEMA,
            "status": status,
            "stop_reason": reason,
            "psopt_version": psopt.__version__,
            "name": config.name,
            "recipe": config.recipe,
            "workers": config.workers,
            "repeat": config.repeat,
            "ranks": self._manifest["ranks"],
            "dim": facts.dim,
            "samples": facts.samples,
            "rounds": self.round,
            "local_steps": server.local_steps if server else 0,
            **totals,
            "evaluation_bytes": evaluation,
            "wire_bytes_up": wire.bytes_up,
            "wire_bytes_down": wire.bytes_down,
            "wire_setup_bytes": wire.setup_bytes,
            "objective": last.objective if last else None,
            "f_star": self._f_star,
            "gap": last.gap if last else None,
            **self._in_full,
            "lost": self._losses.summary(),
            "test_loss": last.test_loss if last else None,
            "test_accuracy": last.test_accuracy if last else None,
            "step_size": server.step_size if server else None,
            "smoothness": server.joint_smoothness if server else None,
            "wall_s": self._ended - self._began if self._ended > self._began else perf_counter() - self._began,
            "compile_s": self._compile_s,
            "seed": config.seed,
            "config_sha256": config.sha256(),
            "theta_sha256": hashlib.sha256(theta.tobytes()).hexdigest(),
        }


def _first_line(error: BaseException) -> str:
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__
