"""``repeat: P``: P independent runs, seeds ``seed``, ``seed + 1``, ..., and their mean with its standard error.

Each replica is a whole run in one process, so that it has the bits of ``psopt simulate`` with its seed, wherever it
runs. Replicas are dealt to the ranks in waves of one a rank; after each wave rank 0 holds, and writes, what came out.
"""

import base64
import hashlib
import math
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np

from psopt.config import RunConfig
from psopt.data import reading_once
from psopt.errors import CannotWrite, PsoptError
from psopt.runs import folder as run_folder
from psopt.runs import own_code
from psopt.runs.agreement import agreed, attempted, decided, raise_told
from psopt.runs.folder import Held, Run
from psopt.runs.progress import Progress
from psopt.runs.trace import packed, unpacked

if TYPE_CHECKING:
    from psopt.runs.experiment import Plan
    from psopt.transports.mpi import Link

MEASURED = ("objective", "gap", "test_loss", "test_accuracy", "uploads", "payload_bytes_up", "payload_bytes_down")
"""The fields whose mean has a standard error beside it, ``<field>_se``."""


def run_replicas(
    plan: "Plan",
    link: "Link | None",
    one: Callable[["Plan"], Run],
    prepare: Callable[["Plan"], float],
    held: ExitStack,
) -> Run:
    """All replicas of the plan, on all ranks of the link, or here; ``one`` makes a run in this process, and ``prepare``
    compiles for it and tells the seconds.

    Returns the mean run on every rank. Raises what a replica raised, headed by its number and seed.
    """
    config = plan.config
    first = link is None or link.rank == 0
    ranks, rank = (1, 0) if link is None else (link.size, link.rank)
    began = perf_counter()
    before = _made_before(plan, link)
    manifest = _create(plan, link, len(before), held)
    progress = Progress(config.workers, quiet=plan.quiet or not first)
    already = f", of which {len(before)} are done" * bool(before)
    progress.say(f"psopt: {config.name}: {config.repeat} replicas on {ranks} rank{'s' * (ranks > 1)}{already}")
    plan = replace(plan, read=reading_once(), again=False)
    done = before
    try:
        compile_s = _prepared(plan, link, prepare)
        missing = [number for number in range(config.repeat) if number not in done]
        for wave in (missing[at : at + ranks] for at in range(0, len(missing), ranks)):
            runs, failure = _wave(plan, link, wave, rank, one)
            for number, run in runs.items():
                if first and plan.folder:
                    _write_replica(_folder(plan.folder, number, config.repeat), run)
                done[number] = run
            raise_told(failure)
            progress.tally(len(done), config.repeat, "replicas")
        mean = mean_run(config, [done[number] for number in sorted(done)], manifest)
        mean.summary.update(wall_s=perf_counter() - began - compile_s, compile_s=compile_s)
        if first:
            progress.judge(mean.trace["objective"], np.dtype(config.problem.dtype))
        if first and plan.folder:
            _write_mean(plan.folder, mean)
            mean = replace(mean, folder=plan.folder)
        return mean
    except KeyboardInterrupt:
        _write_end(plan, first, done, "stopped", "interrupted", progress)
        raise
    except BaseException as error:
        status = f"failed: {(str(error) or type(error).__name__).splitlines()[0]}"
        _write_end(plan, first, done, status, None, None if isinstance(error, CannotWrite) else progress)
        raise
    finally:
        progress.close()


def replica_config(config: RunConfig, number: int) -> RunConfig:
    """The config of one replica, an ordinary run."""
    return replace(config, repeat=1, seed=config.seed + number)


def _made_before(plan: "Plan", link: "Link | None") -> dict[int, Run]:
    """The replicas that the folder of a run that goes on holds, by number, on all ranks."""
    config = plan.config
    if not plan.again:
        return {}

    def look() -> dict[str, Any]:
        found = {}
        for number in range(config.repeat):
            folder = _folder(plan.folder, number, config.repeat)
            if run_folder.held(folder, replica_config(config, number).sha256()) is Held.FINISHED:
                found[str(number)] = _told(run_folder.load_run(folder))
        return found

    told = look() if link is None else decided(link, config.timeouts.start_s, look)
    return {int(number): _read(one, config, int(number)) for number, one in told.items()}


def _create(plan: "Plan", link: "Link | None", done: int, held: ExitStack) -> dict[str, Any]:
    """The folder, on rank 0, and what is known before the runs."""
    config, ranks, hosts, mpi = plan.config, 1, [], None
    if link is not None:
        from psopt.transports.mpi import library

        ranks, mpi = link.size, library()
        hosts = link.gather(link.host, config.timeouts.start_s)
    manifest = own_code.manifest(config, ranks, hosts, mpi)

    def create() -> dict[str, Any]:
        if plan.folder is None or (link is not None and link.rank):
            return manifest
        place = {"replicas": done} if plan.again else None
        return run_folder.occupy(plan.folder, config.to_yaml(), manifest, held, place)

    return create() if link is None else agreed(link, config.timeouts.start_s, create)


def _prepared(plan: "Plan", link: "Link | None", prepare: Callable[["Plan"], float]) -> float:
    """Rank 0 compiles first; the others then find the cache filled instead of compiling all at once."""
    if link is None:
        return prepare(plan)
    return agreed(link, plan.config.timeouts.start_s, lambda: prepare(plan) if link.rank == 0 else 0.0)


def _wave(
    plan: "Plan", link: "Link | None", wave: Sequence[int], rank: int, one: Callable[["Plan"], Run]
) -> tuple[dict[int, Run], list[str] | None]:
    """One replica a rank, as far as the wave goes. Returns those that came to their end, by number, and the first
    failure, on all ranks.
    """
    config = plan.config
    number = wave[rank] if rank < len(wave) else None
    if number is not None:
        made = replace(plan, config=replica_config(config, number), folder=None, quiet=True, warns=False)

    def own() -> Run | None:
        if number is None:
            return None
        try:
            return one(made)
        except PsoptError as error:
            header = f"replica {number} of {config.repeat}, seed {made.config.seed}: "
            raise type(error)(header + str(error)) from error

    if link is None:
        return {number: own()}, None
    run, failure = attempted(link, own)
    everyones = link.gather([None if run is None else _told(run), failure], config.timeouts.replica_s)
    runs = {i: _read(found, config, i) for i, (found, _) in zip(wave, everyones, strict=False) if found}
    return runs, next((failure for _, failure in everyones if failure), None)


def _told(run: Run) -> dict[str, Any]:
    """A run kept in memory as a JSON value."""
    return {
        "manifest": run.manifest,
        "summary": run.summary,
        "trace": run_folder.records(run.trace),
        "uploads": _text(packed(run.uploads)),
        "theta": _text(run.theta),
    }


def _read(told: dict[str, Any], config: RunConfig, number: int) -> Run:
    """The way back."""
    masks = np.frombuffer(base64.b64decode(told["uploads"]), np.uint8).reshape(told["summary"]["rounds"], -1)
    uploads = unpacked(masks, config.workers)
    theta = np.frombuffer(base64.b64decode(told["theta"]), config.problem.dtype)
    resolved = replica_config(config, number).resolved()
    return Run(None, resolved, told["manifest"], told["summary"], run_folder.columns(told["trace"]), uploads, theta)


def _text(array: np.ndarray) -> str:
    return base64.b64encode(np.ascontiguousarray(array).tobytes()).decode("ascii")


def mean_run(config: RunConfig, done: Sequence[Run], manifest: dict[str, Any]) -> Run:
    """The replicas' mean as a run: means in trace and summary with ``_se`` fields beside what was measured, one theta a
    replica, and in ``uploads`` the share of replicas in which a worker uploaded in a round.
    """
    theta = np.stack([run.theta for run in done])
    rounds = max(run.uploads.shape[0] for run in done)
    uploads = np.zeros((rounds, config.workers))
    for run in done:
        uploads[: run.uploads.shape[0]] += run.uploads
    summary = _mean_summary(config, done, theta, manifest["ranks"])
    trace = run_folder.columns(mean_records([run.trace for run in done]))
    return Run(None, config.resolved(), manifest, summary, trace, uploads / len(done), theta, tuple(done))


def mean_records(traces: Sequence[dict[str, np.ndarray]]) -> list[dict[str, Any]]:
    """The mean record of every round that a replica recorded. Where one did not, as when it has stopped, its last
    record counts.
    """
    rounds = np.unique(np.concatenate([trace["round"] for trace in traces]))
    places = [np.searchsorted(trace["round"], rounds, side="right") - 1 for trace in traces]
    means: dict[str, np.ndarray] = {}
    for name in traces[0]:
        values = np.array([trace[name][at] for trace, at in zip(traces, places, strict=True)], dtype=np.float64)
        means[name] = values.mean(axis=0)
        if name in MEASURED:
            means[f"{name}_se"] = _standard_error(values)
    means["round"] = rounds
    return run_folder.records(means)


def _standard_error(values: np.ndarray) -> np.ndarray:
    """Of the mean over axis 0; NaN for a single value, and where squares overflow."""
    count = values.shape[0]
    if count == 1:
        return np.full(values.shape[1:], math.nan)
    with np.errstate(over="ignore", invalid="ignore"):
        errors = values.std(axis=0, ddof=1) / math.sqrt(count)
    return np.where(np.isfinite(errors), errors, math.nan)


def _mean_summary(config: RunConfig, done: Sequence[Run], theta: np.ndarray, ranks: int) -> dict[str, Any]:
    summaries = [run.summary for run in done]
    summary: dict[str, Any] = {}
    for name, own in summaries[0].items():
        values = [each[name] for each in summaries]
        numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
        if values.count(own) == len(values):
            summary[name] = own
        else:
            summary[name] = math.fsum(values) / len(values) if numbers else "mixed"
        if name in MEASURED and numbers:
            error = float(_standard_error(np.array(values, dtype=np.float64)))
            summary[f"{name}_se"] = None if math.isnan(error) else error
    own = {
        "repeat": config.repeat,
        "ranks": ranks,
        "seed": config.seed,
        "config_sha256": config.sha256(),
        "theta_sha256": hashlib.sha256(theta.tobytes()).hexdigest(),
    }
    return {**summary, **own}


def _folder(out: Path, number: int, repeat: int) -> Path:
    return out / f"replica-{number:0{max(3, len(str(repeat - 1)))}d}"


def _write_replica(folder: Path, run: Run) -> None:
    """The folder of a replica, whole or not at all."""
    partial = folder.with_name(f".{folder.name}.partial")
    with run_folder.writing(folder):
        for old in (partial, folder):
            if old.exists():
                shutil.rmtree(old)
    run_folder.write_run(partial, run)
    with run_folder.writing(folder):
        partial.rename(folder)


def _write_mean(out: Path, mean: Run) -> None:
    with run_folder.writing(out):
        run_folder.write_trace(out, mean.trace)
        np.save(out / "theta.npy", mean.theta)
        np.save(out / "uploads.npy", mean.uploads)
        run_folder.write_json(out / "summary.json", mean.summary)


def _write_end(
    plan: "Plan", first: bool, done: Mapping[int, Run], status: str, reason: str | None, progress: Progress | None
) -> None:
    """What is to be said of a run that did not come to its end; the replicas that are done stay. ``progress`` tells
    when that cannot be written, unless this is the error that ended the run.
    """
    if not (first and plan.folder and (plan.folder / "config.yaml").is_file()):
        return
    config = plan.config
    said = {
        "schema": run_folder.SCHEMA,
        "status": status,
        "stop_reason": reason,
        "name": config.name,
        "repeat": config.repeat,
        "replicas_done": len(done),
        "config_sha256": config.sha256(),
    }
    try:
        with run_folder.writing(plan.folder):
            run_folder.write_json(plan.folder / "summary.json", said)
    except CannotWrite as error:
        if progress:
            progress.warn(str(error))
