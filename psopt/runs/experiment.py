"""One experiment, wired: data, problems, workers, a transport, the server, and what is written down.

`simulate` runs it in this process, `run` on the ranks of an MPI job; both end in `conduct`, so that the same config
gives the same bits.
"""

import hashlib
import json
import math
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from threadpoolctl import threadpool_limits

from psopt import problems
from psopt.config import RunConfig
from psopt.core.downlink import Replica
from psopt.core.worker import Aside, Worker
from psopt.data import CSR, Reader, Table, open_shards
from psopt.errors import ConfigError, IncompatibleParts, WorkerFailed
from psopt.problems.base import Problem, Share
from psopt.problems.check import check_problem
from psopt.problems.tensors import tensors_of
from psopt.runs import folder as run_folder
from psopt.runs.agreement import agreed, raise_told, together, told
from psopt.runs.conduct import Conductor, Facts
from psopt.runs.folder import Run
from psopt.runs.losses import make_outliving
from psopt.runs.progress import Progress
from psopt.runs.readiness import ready
from psopt.runs.replicas import run_replicas
from psopt.runs.stopping import Stopping
from psopt.runs.trace import packed, packed_width, unpacked
from psopt.transports.inprocess import InProcess

if TYPE_CHECKING:
    from psopt.transports.mpi import Link

METHODS = ("smoothness", "curvature_product", "hessian", "initial", "score")
WORK, SELECTION, REORDER, INITIAL = range(4)
T = TypeVar("T")
ValueOf = Callable[[Sequence[int], np.ndarray], float]


@dataclass(frozen=True)
class Plan:
    """One run to do, and how to show and keep it.

    Attributes
    ----------
    config : RunConfig
    folder : Path, optional
        Where to write; None keeps the run in memory.
    stopping : Stopping, optional
        Instead of the one that ``config.stop`` names.
    table : Table, optional
        The arrays that data source ``memory`` stands for.
    problem : class, optional
        Instead of what ``config.problem.kind`` names.
    theta : ndarray, shape (dim,), optional
        The first iterate; zero by default.
    quiet : bool
        No progress line.
    warns : bool
        Whether a run that went wrong is warned of.
    read : callable, optional
        Reads the data source, for runs that share it.
    """

    config: RunConfig
    folder: Path | None = None
    stopping: Stopping | None = None
    table: Table | None = None
    problem: Any = None
    theta: np.ndarray | None = None
    quiet: bool = False
    warns: bool = True
    read: Reader | None = None


def generator(seed: int, *purpose: int) -> np.random.Generator:
    """The random numbers of one purpose (and one worker), the same wherever it lives."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=purpose))


def simulate(plan: Plan, reorder: bool = False) -> Run:
    """Runs in this process, without MPI. ``reorder`` lets answers arrive in random order, which changes no bit."""
    with threadpool_limits(1):
        if plan.config.repeat > 1:
            return run_replicas(plan, None, lambda replica: _simulate(replica, reorder), _prepare)
        return _simulate(plan, reorder)


def _prepare(plan: Plan) -> float:
    """Compiles what a run in this process will call; returns the seconds it took."""
    return ready(plan.config, _is_sparse(_load(plan, range(plan.config.workers))[0]), not plan.quiet)


def _simulate(plan: Plan, reorder: bool) -> Run:
    config = plan.config
    if plan.folder:
        run_folder.check_free(plan.folder)
    members = range(config.workers)
    tables, held_out = _load(plan, members)
    compile_s = ready(config, _is_sparse(tables), not plan.quiet)
    mine = _build(plan, tables, _samples(tables), "in process")
    facts = _common_facts([_facts(mine)])
    value_of = partial(_value_of, plan, _samples(tables))
    workers = _workers(config, mine, held_out, facts)
    transport = InProcess(workers, generator(config.seed, REORDER) if reorder else None, _replica(config, facts))
    _check_theta(plan, facts)
    manifest = run_folder.manifest(config.sha256(), 1, [], None)
    if plan.folder:
        run_folder.create(plan.folder, config.to_yaml(), manifest)
    rng = generator(config.seed, SELECTION)
    conductor = Conductor(config, facts, transport, rng, plan, manifest, compile_s, value_of)
    return conductor.conduct(Progress.of(config, plan.quiet))


def run(plan: Plan, link: "Link") -> Run | None:
    """Runs on all ranks of the link together; every rank gets the finished run, or, where the run survives the loss of
    workers, rank 0 alone.

    What fails in the set-up, and any mistake of input, fails on all ranks with the same error. A worker that raises in
    a round raises `WorkerFailed` on rank 0, and ends the job.
    """
    with threadpool_limits(1):
        if plan.config.repeat > 1:
            _check_same_call(plan, link)
            return run_replicas(plan, link, lambda replica: _simulate(replica, False), _prepare)
        return _run(plan, link)


def _run(plan: Plan, link: "Link") -> Run | None:
    from psopt.transports.mpi import hosted_by, library

    config, start_s = plan.config, plan.config.timeouts.start_s
    if link.size < 2:
        raise together(
            ConfigError(
                "a run over MPI needs at least 2 ranks, the server and one for workers, and this job has 1: start more "
                "(mpiexec -n 3 ..., or `psopt run` by itself), or use `psopt simulate`"
            )
        )
    first = link.rank == 0

    def step(do: Callable[[], T]) -> T:
        return agreed(link, start_s, do)

    _check_same_call(plan, link)
    if config.failure.survives:
        make_outliving(config, link)
    step(lambda: run_folder.check_free(plan.folder) if first and plan.folder else None)
    members = hosted_by(link.rank, config.workers, link.size)
    tables, held_out = step(lambda: _load(plan, members) if members else ({}, {}))
    loaded = link.gather([_samples(tables), _is_sparse(tables)], start_s)
    total, sparse = sum(samples for samples, _ in loaded), any(sparse for _, sparse in loaded)
    # Rank 0 compiles first; the others then find the cache filled instead of compiling all at once.
    compile_s = step(lambda: ready(config, sparse, not plan.quiet) if first else 0.0)
    step(lambda: ready(config, sparse, False) if members else 0.0)
    mine = step(lambda: _build(plan, tables, total, f"rank {link.rank} on {link.host}"))
    described = link.gather(_facts(mine), start_s)
    facts = step(lambda: _common_facts(described))
    step(lambda: _check_theta(plan, facts))
    hosts = link.gather(link.host, start_s)
    manifest = run_folder.manifest(config.sha256(), link.size, hosts, library())
    step(lambda: run_folder.create(plan.folder, config.to_yaml(), manifest) if first and plan.folder else None)
    if not first:
        _serve(plan, link, mine, held_out, facts)
        return None if config.failure.survives else _share_outcome(plan, link, facts.dim, None)
    value_of = partial(_value_of, plan, total)
    outcome = _lead(plan, link, facts, manifest, compile_s, value_of)
    return outcome if config.failure.survives else _share_outcome(plan, link, facts.dim, outcome)


def _check_same_call(plan: Plan, link: "Link") -> None:
    """Every rank must have been called with the same config, arrays and first theta."""
    arrays = [] if plan.table is None else [plan.table.labels]
    if plan.table is not None:
        x = plan.table.features
        arrays += [x.data, x.indices, x.indptr] if isinstance(x, CSR) else [x]
    if plan.theta is not None:
        arrays.append(plan.theta)
    digest = hashlib.sha256(plan.config.sha256().encode())
    for array in arrays:
        digest.update(np.ascontiguousarray(array).tobytes())
    digests = link.gather(digest.hexdigest(), plan.config.timeouts.start_s)
    different = [rank for rank, other in enumerate(digests) if other != digests[0]]
    if different:
        raise together(
            ConfigError(
                f"rank {different[0]} was called with another config or other data than rank 0: every rank must be "
                "given the same (a random generator without a seed gives each rank its own)"
            )
        )


def _lead(
    plan: Plan, link: "Link", facts: Facts, manifest: dict[str, Any], compile_s: float, value_of: ValueOf
) -> Run | ConfigError | IncompatibleParts:
    """Rank 0's part. The user's own mistakes end the conversation in good order and are returned, not raised; where
    ranks outlive each other nobody ends the others, so that whatever happens they are told.
    """
    from psopt.transports.mpi_server import ServerEnd
    from psopt.transports.mpi_surviving import SurvivingServerEnd

    config, survives = plan.config, plan.config.failure.survives
    arguments = (link, config.workers, *_sizes(config, facts), config.timeouts, manifest["hosts"])
    transport = SurvivingServerEnd(*arguments) if survives else ServerEnd(*arguments, config.downlink == "changes")
    rng = generator(config.seed, SELECTION)
    conductor = Conductor(config, facts, transport, rng, plan, manifest, compile_s, value_of)
    try:
        return conductor.conduct(Progress.of(config, plan.quiet))
    except BaseException as error:
        mistake = isinstance(error, ConfigError | IncompatibleParts)
        if mistake or survives:
            transport.stop(conductor.round)
        if mistake and not survives:
            return error
        raise


def _serve(
    plan: Plan, link: "Link", mine: Mapping[int, Problem], held_out: Mapping[int, Table | None], facts: Facts
) -> None:
    from psopt.transports.mpi_survivor import SurvivorEnd
    from psopt.transports.mpi_worker import WorkerEnd

    config = plan.config
    workers = _workers(config, mine, held_out, facts)
    arguments = (link, workers, config.workers, *_sizes(config, facts), config.timeouts)
    (SurvivorEnd(*arguments) if config.failure.survives else WorkerEnd(*arguments, _replica(config, facts))).serve()


def _share_outcome(plan: Plan, link: "Link", dim: int, outcome: Run | ConfigError | IncompatibleParts | None) -> Run:
    """Rank 0's run, or its error, on every rank."""
    start_s = plan.config.timeouts.start_s
    if isinstance(outcome, ConfigError | IncompatibleParts):
        link.share([told(outcome), None], start_s)
        raise together(outcome)
    if outcome is not None:
        link.share([None, outcome.summary], start_s)
        link.share_array(outcome.theta, start_s)
        link.share_array(packed(outcome.uploads), start_s)
        return outcome
    error, content = link.share(None, start_s)
    raise_told(error)
    theta = np.empty(dim, dtype=plan.config.problem.dtype)
    link.share_array(theta, start_s)
    workers = plan.config.workers
    masks = np.empty((content["rounds"], packed_width(workers)), dtype=np.uint8)
    link.share_array(masks, start_s)
    return Run(None, plan.config.resolved(), {}, content, {}, unpacked(masks, workers), theta)


def _replica(config: RunConfig, facts: Facts) -> Replica | None:
    """This rank's copy of the server's model, where the downlink is lazy."""
    if config.downlink == "theta":
        return None
    return Replica(config.algorithm, facts.dim, np.dtype(config.problem.dtype), facts.shards)


def _load(plan: Plan, members: Sequence[int]) -> tuple[dict[int, Table], dict[int, Table | None]]:
    """Each member's shard, and its share of the test rows."""
    config = plan.config
    shards = open_shards(config.data, config.workers, config.seed, config.problem.dtype, plan.table, plan.read)
    return {m: shards.shard(m) for m in members}, {m: shards.held_out(m) for m in members}


def _value_of(plan: Plan, total: int, workers: Sequence[int], theta: np.ndarray) -> float:
    """The sum of f_m(theta) over these workers, from shards loaded here."""
    built = _build(plan, _load(plan, workers)[0], total, "the server", checks=False)
    return sum(float(problem.value(theta)) for problem in built.values())


def _samples(tables: Mapping[int, Table]) -> int:
    return sum(table.samples for table in tables.values())


def _is_sparse(tables: Mapping[int, Table]) -> bool:
    return any(isinstance(table.features, CSR) for table in tables.values())


def _build(plan: Plan, tables: Mapping[int, Table], total: int, where: str, checks: bool = True) -> dict[int, Problem]:
    """f_m for each table; a user's own class is checked on the first. What its code raises is headed by the worker."""
    config = plan.config
    kind = plan.problem or config.problem.kind
    built: dict[int, Problem] = {}
    for m, table in tables.items():
        try:
            share = Share(m, config.workers, total)
            problem = problems.build(kind, table, share, config.problem.dtype, config.problem.options)
            if checks and kind not in problems.PROBLEMS and not built:
                check_problem(problem, np.random.default_rng(0), config.problem.dtype)
        except (ConfigError, IncompatibleParts):
            raise
        except (Exception, SystemExit) as error:
            header = f"### worker {m} of {config.workers}, {where}, round 0"
            raise WorkerFailed(f"{header}\n{traceback.format_exc()}") from error
        _check_needs(config, problem)
        built[m] = problem
    return built


def _check_needs(config: RunConfig, problem: Problem) -> None:
    """Refuses local work, or test rows, for which the problem lacks a method."""
    if config.data.test is not None and not hasattr(problem, "score"):
        raise IncompatibleParts(
            f"`data.test` cannot be used with problem `{config.problem.kind}`, because that has no method `score`"
        )
    work = config.algorithm.work
    if getattr(problem, "endless", False) and getattr(work, "draw", None) == "epoch":
        raise IncompatibleParts(
            f"work `{config.algorithm.name('work')}` with `draw: epoch` cannot be used with problem "
            f"`{config.problem.kind}`, because its samples have no end: set `draw: replace`"
        )
    missing = [name for name in work.needs if not hasattr(problem, name)]
    if missing:
        raise IncompatibleParts(
            f"work `{config.algorithm.name('work')}` cannot be used with problem `{config.problem.kind}`, because that "
            f"has no method `{missing[0]}`"
        )


def _workers(
    config: RunConfig, mine: Mapping[int, Problem], held_out: Mapping[int, Table | None], facts: Facts
) -> list[Worker]:
    dtype, seed = np.dtype(config.problem.dtype), config.seed
    weights = config.algorithm.aggregator.weights(facts.shards)

    def worker(m: int, problem: Problem) -> Worker:
        test = held_out[m]

        def initial() -> np.ndarray:
            return problem.initial(generator(seed, INITIAL))

        def score(theta: np.ndarray) -> tuple[float, int, int]:
            return *problem.score(theta, test), test.samples

        aside = Aside(initial if m == 0 and hasattr(problem, "initial") else None, score if test is not None else None)
        rng = generator(seed, WORK, m)
        return Worker(m, config.workers, config.algorithm, problem, dtype, rng, aside, weights[m])

    return [worker(m, problem) for m, problem in mine.items()]


def _facts(mine: Mapping[int, Problem]) -> dict[str, Any]:
    return {
        "tensors": [tensors_of(problem) for problem in mine.values()],
        "samples": [(m, int(problem.samples)) for m, problem in mine.items()],
        "methods": [[name for name in METHODS if hasattr(problem, name)] for problem in mine.values()],
    }


def _check_theta(plan: Plan, facts: Facts) -> None:
    theta = plan.theta
    if theta is None:
        return
    if theta.shape != (facts.dim,) or theta.dtype.kind not in "fiu":
        raise ConfigError(
            f"the first theta has shape {theta.shape} and dtype {theta.dtype}; expected ({facts.dim},) numbers"
        )
    if not np.isfinite(theta).all():
        raise ConfigError("the first theta holds NaN or infinity")


def _common_facts(described: Sequence[Mapping[str, Any]]) -> Facts:
    """What the problems of all ranks have in common; ranks without workers tell nothing."""
    described = [one for one in described if one["tensors"]]
    found = {json.dumps(tensors): tensors for one in described for tensors in one["tensors"]}
    if len(found) != 1:
        dims = sorted(sum(math.prod(shape) for _, shape in tensors) for tensors in found.values())
        raise ConfigError(
            f"all workers must have the same theta, found dimensions {', '.join(map(str, dims))} or other tensors"
        )
    tensors = tuple((name, tuple(shape)) for name, shape in next(iter(found.values())))
    methods = set(METHODS).intersection(*(names for one in described for names in one["methods"]))
    shards = tuple(samples for _, samples in sorted(tuple(own) for one in described for own in one["samples"]))
    return Facts(tensors, shards, tuple(name for name in METHODS if name in methods))


def _sizes(config: RunConfig, facts: Facts) -> tuple[int, np.dtype, int]:
    """The dimension, the dtype of theta, and the bytes of the largest payload."""
    dtype = np.dtype(config.problem.dtype)
    return facts.dim, dtype, config.algorithm.codec.capacity(facts.sizes, dtype)
