"""Rank 0's course of a run: ask for L and f*, then round after round until a rule says stop, and write it down."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from time import perf_counter, time
from typing import TYPE_CHECKING, Any

import numpy as np

from psopt import signals
from psopt.config import RunConfig
from psopt.core import downlink
from psopt.core.messages import Hello
from psopt.core.server import Server
from psopt.core.state import restored, state_of
from psopt.errors import CannotWrite, Warned
from psopt.runs import folder as run_folder
from psopt.runs import memory, reference
from psopt.runs.building import Facts
from psopt.runs.checkpoint import Checkpoints, Part, digest_of, how_to_go_on
from psopt.runs.folder import Run
from psopt.runs.losses import Losses
from psopt.runs.observing import Observer
from psopt.runs.progress import Progress
from psopt.runs.stopping import Stopping
from psopt.runs.summary import summary_of
from psopt.runs.trace import Record, Trace
from psopt.transports.base import Transport

if TYPE_CHECKING:
    from psopt.runs.experiment import Plan

INTERRUPTED = "interrupted"


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
    part : Part, optional
        Rank 0's part of each checkpoint; without it none is written.
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
        part: Part | None = None,
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
        self._observer = Observer(config, facts, transport)
        self._started, self._startup_s = plan.started, None
        self._began = self._ended = perf_counter()
        self._overhead = (0.0, 0.0, 0.0)
        self._resumed = plan.resumed
        self._checkpoints = Checkpoints(plan.folder, config, manifest["ranks"], part) if part else None
        self._course = self._resumed.course() if self._resumed else None
        self._losses = Losses(config, facts.dim, facts.methods, transport, value_of)
        self._in_full: dict[str, float | None] = {}
        self._recorded_losses = 0
        self._stopped = False
        self.over = False

    @property
    def round(self) -> int:
        """The rounds begun so far."""
        return self._server.round if self._server else 0

    def conduct(self, progress: Progress) -> Run:
        """Runs to the end and returns what came out; whatever happens, the folder tells."""
        config = self._config
        deciding = config.workers if config.trace.decisions and config.algorithm.lazy else 0
        trace = Trace(self._folder, self._course and self._course["trace"], deciding)
        try:
            self._prepare(progress)
            reason = self._rounds(trace, progress)
            self.stop()
            if reason == INTERRUPTED:
                raise self._interruption()
            self._warn(progress, reason)
            if self._losses.any:
                self._save_theta()  # now: the shards that are read next may be what their ranks died of
            self._in_full = self._losses.in_full(self._last.objective, self._server.theta)
            self._write(trace, "ok", reason)
            if self._checkpoints:
                self._checkpoints.thin(self.round)
        except (KeyboardInterrupt, Warned):
            self._write_end(trace, "stopped", INTERRUPTED, progress)
            self._offer(progress)
            raise
        except CannotWrite as error:
            self._write_end(trace, f"failed: {_first_line(error)}", None)
            self._offer(progress)
            raise
        except BaseException as error:
            self._write_end(trace, f"failed: {_first_line(error)}", None, progress)
            self._offer(progress)
            raise
        finally:
            progress.close()
        if self._folder:
            return run_folder.load_run(self._folder)
        theta = self._server.theta.copy()  # which may lie where other processes see it
        uploads = trace.uploads(config.workers)
        records = run_folder.columns([asdict(record) for record in trace.records])
        return Run(None, config.resolved(), self._manifest, self._summary(theta, "ok", reason), records, uploads, theta)

    def _interruption(self) -> BaseException:
        """What a run that was asked to end raises; who was warned, and can go on, is to be started again."""
        if signals.warned() and self._checkpoints:
            return Warned(f"psopt: ended after round {self.round}, before its time is over, to go on later")
        return KeyboardInterrupt()

    def _offer(self, progress: Progress) -> None:
        """Says how a run that did not come to its end can go on."""
        offer = how_to_go_on(self._folder) if self._checkpoints else None
        if offer:
            progress.warn(offer)

    def stop(self) -> None:
        """Ends the conversation with the workers, once."""
        if not self._stopped:
            self._stopped = True
            self._transport.stop(self.round)
            self.over = True

    def _warn(self, progress: Progress, reason: str) -> None:
        """Says what a person could overlook in a run that ended by a limit."""
        first, last = self._observer.first_objective, self._last.objective
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
        progress.say(f"psopt: {memory.told(self._manifest['memory'])}")
        threads = max(self._manifest["threads"])
        if threads > 1:
            progress.say(f"psopt: passes over whole shards by up to {threads} threads a rank")
        if config.downlink.lazy:
            said = downlink.costs(config.algorithm, facts.sizes, self._dtype, config.workers)
            progress.say(f"psopt: downlink `changes`: {said}")
        hellos = transport.hellos()
        if self._course:
            self._go_on(hellos)
            progress.say(f"psopt: goes on after round {self.round}")
        else:
            if self._given is None and "initial" in facts.methods:
                self._theta = reference.initial_theta(transport, facts.dim, self._dtype)
            joint = None
            if config.algorithm.needs_joint_smoothness:
                joint = reference.joint_smoothness(transport, hellos, facts.dim, facts.methods)
            self._f_star = self._observer.find_f_star()
            self._server = self._made(hellos, joint)
        self._losses.begin(self._server, self._f_star, progress)
        known = f", f* = {self._f_star:.10g}" if self._f_star is not None else ""
        after = ""
        if self._started is not None:
            self._startup_s = max(0.0, time() - self._started)
            after = f"; ready for round {self.round + 1} after {self._startup_s:.1f} s"
        progress.say(f"psopt: step size {self._server.step_size:.6g}{known}{after}")

    def _made(self, hellos: list[Hello], joint: float | None) -> Server:
        config = self._config
        lazy, max_steps = config.downlink.lazy, config.stop.max_steps
        row, tensors, room = config.algorithm, self._facts.tensors, self._transport.room
        sent = np.dtype(config.sent_dtype)
        return Server(row, self._theta, hellos, self._rng, joint, lazy, tensors, max_steps, room, sent)

    def _go_on(self, hellos: list[Hello]) -> None:
        """Takes the state of the checkpoint; what only greets or asks anew is not booked again."""
        course, ledger = self._course, self._transport.ledger
        known = [hello._replace(smoothness=own) for hello, own in zip(hellos, course["smoothness"], strict=True)]
        self._server = restored(self._made(known, course["joint_smoothness"]), self._resumed.server_state())
        began_with = replace(ledger.wire)
        restored(ledger, course["ledger"])
        ledger.wire.add(began_with)
        self._observer.first_objective = course["first_objective"]
        self._f_star = course["f_star"]
        self._losses.go_on(course["losses"])
        self._recorded_losses = self._losses.number
        self._last = Record(**course["last"])
        if self._f_star is None and self._config.stop.gap is not None:
            self._f_star = self._observer.find_f_star()

    def _state(self, trace: Trace) -> dict[str, Any]:
        """What a checkpoint holds of the run beside the server and the workers."""
        server, transport = self._server, self._transport
        return {
            "ledger": state_of(transport.ledger),
            "trace": {name: list(place) for name, place in trace.places().items()},
            "smoothness": server.smoothness.tolist(),
            "joint_smoothness": server.joint_smoothness,
            "initial_step": server.initial_step_size,
            "f_star": self._f_star,
            "losses": self._losses.state(),
            "first_objective": self._observer.first_objective,
            "last": asdict(self._last),
            "theta0": digest_of(self._given),
            "elapsed_s": perf_counter() - self._began,
            "spent_s": self._spent(),
        }

    def _rounds(self, trace: Trace, progress: Progress) -> str:
        config, server, transport = self._config, self._server, self._transport
        losses, checkpoints = self._losses, self._checkpoints
        self._overhead = _clocks(transport)
        self._began = perf_counter()
        every, checks, reason = config.trace.every, config.debug.check_mirror, None
        if self._course:
            self._began -= self._course["elapsed_s"]
            pairs = zip(self._overhead, self._course["spent_s"], strict=True)
            self._overhead = tuple(now - before for now, before in pairs)
            reason = self._reason(self._last if self._last.round == server.round else None)
        else:
            self._record(trace, progress)
        with signals.heeded() as wish:
            while not reason:
                message = server.begin()
                if message is None:
                    transport.idle()
                else:
                    transport.exchange(message, server.receive, server.land)
                if losses.pending:
                    self._settle()
                server.finish()
                k = server.round
                trace.round(server.uploaded, server.threshold, server.asked, server.left)
                if checks:
                    self._observer.check_mirrors(server)
                reason = self._reason(self._record(trace, progress) if k % every == 0 else None)
                if wish.asked and wish.granted() and not reason:
                    reason = INTERRUPTED
                if checkpoints and (reason or checkpoints.due(k)):
                    self._keep(trace)
                    if wish.granted() and not reason:
                        reason = INTERRUPTED
            # After the checkpoint, because a run that goes on from there makes no record here.
            if server.round % every or self._losses.number != self._recorded_losses:
                self._record(trace, progress)
        self._ended = perf_counter()
        return reason

    def _keep(self, trace: Trace) -> None:
        """Writes a checkpoint of the present round; once more, where somebody is lost meanwhile."""
        written = False
        while not written:
            self._settle()
            with signals.patient():
                written = self._checkpoints.write(self.round, self._transport, self._server, self._state(trace))

    def _reason(self, record: Record | None) -> str | None:
        """Why the run is over with the present round, if it is; ``record`` is that of the round, if there is one."""
        server, stop = self._server, self._config.stop
        uploads = self._transport.ledger.totals().uploads if stop.max_uploads is not None else 0
        elapsed = perf_counter() - self._began
        reason = self._stopping.reason(server.round, record, uploads, elapsed, server.aggregate_norm)
        if server.over and not reason:
            reason = "max_steps" if server.local_steps == stop.max_steps else "plan"
        return reason

    def _record(self, trace: Trace, progress: Progress) -> Record:
        """Evaluates what the config wants to see at the present theta, and writes it down."""
        server, transport = self._server, self._transport
        value, loss, accuracy = self._observer.look(server)
        while self._losses.pending:
            self._settle()
            value, loss, accuracy = self._observer.look(server)
        gap = None if self._f_star is None or value is None else value - self._f_star
        elapsed = perf_counter() - self._began
        compute, waited, handled = self._spent()
        handled = max(0.0, min(handled, waited - compute))  # the rest of it went on behind the workers' work
        self._last = Record(
            round=server.round,
            local_steps=server.local_steps,
            objective=value,
            gap=gap,
            test_loss=loss,
            test_accuracy=accuracy,
            **asdict(transport.ledger.totals()),
            compute_s=compute,
            serialise_s=handled,
            wait_s=waited - compute - handled,
            rest_s=elapsed - waited,
        )
        self._recorded_losses = self._losses.number
        trace.record(self._last)
        progress.update(self._last)
        return self._last

    def _spent(self) -> list[float]:
        """Seconds of computing, of messages, and of handling them, since round 1 began."""
        return [now - before for now, before in zip(_clocks(self._transport), self._overhead, strict=True)]

    def _settle(self) -> None:
        if self._losses.pending:
            self._f_star = self._losses.settle()

    def _write(self, trace: Trace, status: str, reason: str | None) -> None:
        """Closes the trace and writes theta and the summary, if there is a folder."""
        trace.close()
        if self._folder:
            theta = self._save_theta()
            with run_folder.writing(self._folder):
                run_folder.write_json(self._folder / "summary.json", self._summary(theta, status, reason))

    def _save_theta(self) -> np.ndarray:
        theta = self._server.theta if self._server else self._theta
        if self._folder:
            with run_folder.writing(self._folder):
                np.save(self._folder / "theta.npy", theta)
        return theta

    def _write_end(self, trace: Trace, status: str, reason: str | None, progress: Progress | None = None) -> None:
        """Writes what can be written while an error is on its way, which must get through; ``progress`` tells what
        cannot, where the error itself does not.
        """
        told = progress is None
        for write in (trace.close, lambda: self._write(trace, status, reason)):
            try:
                write()
            except CannotWrite as error:
                if not told:
                    progress.warn(str(error))
                    told = True

    def _summary(self, theta: np.ndarray, status: str, reason: str | None) -> dict[str, Any]:
        ended = self._ended if self._ended > self._began else perf_counter()
        return summary_of(
            self._config,
            self._facts,
            self._manifest["ranks"],
            self._transport.ledger,
            self._server,
            self._last,
            theta,
            status=status,
            stop_reason=reason,
            f_star=self._f_star,
            **self._in_full,
            lost=self._losses.summary(),
            wall_s=ended - self._began,
            compile_s=self._compile_s,
            startup_s=self._startup_s,
            threads=max(self._manifest["threads"]),
        )


def _clocks(transport: Transport) -> tuple[float, ...]:
    return transport.computed_s, transport.waited_s, transport.handled_s


def _first_line(error: BaseException) -> str:
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__
