"""One experiment, wired: data, problems, workers, a transport, the server, and what is written down.

`simulate` runs it in this process, `run` on the ranks of an MPI job; both end in `conduct`, so that the same config
gives the same bits.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from psopt.config import RunConfig
from psopt.core.downlink import Replica, Widened, most_nbytes
from psopt.core.worker import Worker
from psopt.data import CSR, Reader, Table, open_shards
from psopt.errors import CannotWrite, ConfigError, IncompatibleParts, Warned
from psopt.problems.crew import Crew
from psopt.records import record
from psopt.runs import folder as run_folder
from psopt.runs import in_common, memory, own_code, threads
from psopt.runs.agreement import End, agreed, raise_told, together
from psopt.runs.agreement import told as told_error
from psopt.runs.building import Facts, Shard, build, check_theta, common_facts, described, fitting
from psopt.runs.checkpoint import Checkpoint, Part, digest_of, set_aside
from psopt.runs.conduct import Conductor
from psopt.runs.faults import IN_PROCESS, THE_SERVER, Faults, announce
from psopt.runs.folder import Run
from psopt.runs.hosting import REORDER, SELECTION, generator, hosted
from psopt.runs.losses import make_outliving
from psopt.runs.progress import Progress
from psopt.runs.readiness import ready, ready_to_wait
from psopt.runs.replicas import run_replicas
from psopt.runs.stopping import Stopping
from psopt.runs.trace import packed, packed_width, unpacked
from psopt.transports.base import hosted_by, rank_of
from psopt.transports.inprocess import InProcess

if TYPE_CHECKING:
    from psopt.transports.mpi import Link

T = TypeVar("T")
ValueOf = Callable[[Sequence[int], np.ndarray], float]


@record
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
    resumed : Checkpoint, optional
        Where the run goes on from; then the folder holds its beginning.
    started : float, optional
        When whoever started the run was called, in seconds since 1970.
    threads : int, optional
        How many to compute with, where other runs go on beside this one; else as the config says.
    again : bool
        The folder holds the beginning of a run with ``repeat``: replicas that need not run again.
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
    resumed: Checkpoint | None = None
    started: float | None = None
    threads: int | None = None
    again: bool = False


def simulate(plan: Plan, reorder: bool = False) -> Run:
    """Runs in this process, without MPI. ``reorder`` lets answers arrive in random order, which changes no bit."""
    with threads.libraries_take_one(), ExitStack() as held:
        if plan.config.repeat > 1:
            return run_replicas(plan, None, lambda replica: _simulate(replica, reorder, held), _prepare, held)
        return _simulate(plan, reorder, held)


def _prepare(plan: Plan) -> float:
    """Compiles what a run in this process will call; returns the seconds it took."""
    return ready(plan.config, _is_sparse(_load(plan, range(plan.config.workers))), not plan.quiet)


def _simulate(plan: Plan, reorder: bool, held: ExitStack) -> Run:
    with Crew(plan.threads or threads.in_process(plan.config)) as crew:
        return _simulated(plan, reorder, held, crew)


def _simulated(plan: Plan, reorder: bool, held: ExitStack, crew: Crew) -> Run:
    config = plan.config
    _check_folder(plan)
    members = range(config.workers)
    faults = Faults(config, [THE_SERVER, *members], IN_PROCESS, members, plan.resumed.round if plan.resumed else 0)
    announce(config)
    faults.start_up()
    shards = _load(plan, members)
    compile_s = ready(config, _is_sparse(shards), not plan.quiet)
    mine = build(config, plan.problem, shards, _samples(shards), "in process")
    facts = common_facts([described(mine)])
    value_of = partial(_value_of, plan, _samples(shards))
    threads.employ(crew, mine.values())
    place = memory.Rank(config.workers, True, False, crew.working)
    needs = fitting("the run", lambda: memory.check(config, facts, place, mine[0], lambda make: [make()]))
    workers, replica = fitting("the state of the workers", lambda: hosted(config, mine, shards, facts, plan.resumed))
    order = generator(config.seed, REORDER) if reorder else None
    transport = faults.around(InProcess(workers, order, replica, faults.handle))
    check_theta(plan.theta, facts)
    manifest = _open_folder(plan, own_code.manifest(config, 1, [], None), needs, [crew.working], held)
    part, rng = _part(plan, 0, workers, shards), generator(config.seed, SELECTION)
    conductor = Conductor(config, facts, transport, rng, plan, manifest, compile_s, value_of, part)
    done = fitting("the run", lambda: conductor.conduct(Progress.of(config, plan.quiet)))
    faults.end()
    return done


def run(plan: Plan, link: "Link") -> Run | None:
    """Runs on all ranks of the link together; every rank gets the finished run, or, where the run survives the loss of
    workers, rank 0 alone.

    What fails in the set-up, and any mistake of input, fails on all ranks with the same error. A worker that raises in
    a round raises `WorkerFailed` on rank 0, and ends the job.
    """
    with threads.libraries_take_one(), ExitStack() as held:
        if plan.config.repeat > 1:
            _check_same_call(plan, link)
            plan = replace(plan, threads=threads.on_rank(plan.config, link, True))
            return run_replicas(plan, link, lambda replica: _simulate(replica, False, held), _prepare, held)
        return _run(plan, link, held)


def _run(plan: Plan, link: "Link", held: ExitStack) -> Run | None:
    from psopt.transports.mpi import library

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
    step(lambda: _check_folder(plan) if first else None)
    members = hosted_by(link.rank, config.workers, link.size)
    homes = [rank_of(m, link.size) for m in range(config.workers)]
    here, after = [THE_SERVER] if first else members, plan.resumed.round if plan.resumed else 0
    faults = Faults(config, here, f"rank {link.rank} on {link.host}", homes, after)
    if first:
        announce(config)

    def load() -> dict[int, Shard]:
        faults.start_up()
        return _load(plan, members) if members else {}

    shards = step(load)
    loaded = link.gather([_samples(shards), _is_sparse(shards)], start_s)
    total, sparse = sum(samples for samples, _ in loaded), any(sparse for _, sparse in loaded)
    hosts = link.gather(link.host, start_s)
    # On each host two ranks compile, each a half; then all find the cache filled, instead of compiling all at once.
    place = hosts[: link.rank].count(link.host)
    tells = first and not plan.quiet
    compile_s = step(lambda: ready(config, sparse, tells, place))
    needed = members or place == 0
    compile_s += step(lambda: (ready(config, sparse, False, model=first) if needed else 0.0) + ready_to_wait())
    mine = step(lambda: build(config, plan.problem, shards, total, f"rank {link.rank} on {link.host}"))
    crew = held.enter_context(Crew(threads.on_rank(config, link, bool(members))))
    step(lambda: threads.employ(crew, mine.values()))
    working = link.gather(crew.working, start_s)
    told = link.gather(described(mine), start_s)
    facts = step(lambda: common_facts(told))
    step(lambda: check_theta(plan.theta, facts))
    place, one = memory.Rank(len(members), first, True, crew.working), next(iter(mine.values()), None)

    def shared(make: Callable[[], list[Any]]) -> list[Any]:
        return link.gather(step(lambda: fitting("the run", make)), start_s)

    needs = memory.check(config, facts, place, one, shared, link.host)
    what = "the state of the workers"
    workers, replica = step(lambda: fitting(what, lambda: hosted(config, mine, shards, facts, plan.resumed)))
    part = step(lambda: _part(plan, link.rank, workers, shards))
    manifest = own_code.manifest(config, link.size, hosts, library()) if first else {}
    manifest = step(lambda: _open_folder(plan, manifest, needs, working, held) if first else manifest)
    if part:
        step(lambda: part.check_seen(f"rank {link.rank} on {link.host}"))
    survives, outcome = config.failure.survives, None
    if first:
        value_of = partial(_value_of, plan, total)
        outcome = _lead(plan, link, facts, manifest, compile_s, value_of, part, faults)
    else:
        _serve(plan, link, workers, replica, facts, part, faults)
    faults.end()
    return outcome if survives else _share_outcome(plan, link, facts.dim, outcome)


def _check_folder(plan: Plan) -> None:
    """Raises `ConfigError` when the folder is no place for this run."""
    if plan.folder and not plan.resumed:
        run_folder.check_free(plan.folder)
    if plan.resumed and plan.resumed.course()["theta0"] != digest_of(plan.theta):
        raise ConfigError("the run that is to go on began with another first theta than this one")


def _open_folder(
    plan: Plan, manifest: dict[str, Any], needs: Sequence[memory.Need], working: Sequence[int], held: ExitStack
) -> dict[str, Any]:
    """Makes the folder, if there is one, that of this run; returns the manifest as it stands there, and what this run
    of it needs and works with.
    """
    own = {"memory": memory.summed_up(needs), "threads": list(working)}
    manifest = {**manifest, **own}
    if plan.folder is None:
        return manifest
    place = {"round": plan.resumed.round} if plan.resumed else None
    manifest = run_folder.occupy(plan.folder, plan.config.to_yaml(), manifest, held, place)
    if plan.resumed:
        set_aside(plan.folder, plan.resumed.round)
    return {**manifest, **own}


def _part(plan: Plan, rank: int, workers: Sequence[Worker], shards: Mapping[int, Shard]) -> Part | None:
    """This rank's part of each checkpoint. None are written of runs without a folder, and of those whose end no config
    can tell.
    """
    if plan.folder is None or plan.config.checkpoint.keep == 0 or plan.stopping is not None:
        return None
    return Part(plan.folder, rank, workers, shards)


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
    own_code.check_same_code(plan.config, link)


def _lead(
    plan: Plan,
    link: "Link",
    facts: Facts,
    manifest: dict[str, Any],
    compile_s: float,
    value_of: ValueOf,
    part: Part | None,
    faults: Faults,
) -> Run | End:
    """Rank 0's part. The user's own mistakes, a full disk, a warning and an interrupt that the run has heeded end the
    conversation in good order and are returned, not raised; where ranks outlive each other nobody ends the others, so
    that whatever happens they are told.
    """
    from psopt.transports.mpi_server import ServerEnd
    from psopt.transports.mpi_surviving import SurvivingServerEnd

    config, survives = plan.config, plan.config.failure.survives
    arguments = (link, config.workers, *_sizes(config, facts), config.timeouts, manifest["hosts"])
    mapped_in = getattr(config.algorithm.aggregator, "mapped_in", None)
    if survives:
        transport = SurvivingServerEnd(*arguments, mapped_in)
    else:
        told = (config.algorithm, facts.sizes, np.dtype(config.problem.dtype), config.workers)
        changes_nbytes = most_nbytes(*told) if config.downlink.lazy else None
        spread = changes_nbytes, config.broadcast, np.dtype(config.sent_dtype), mapped_in
        transport = ServerEnd(*arguments, *spread, in_common.commons(plan, link, facts.dim))
    transport = faults.around(transport)
    rng = generator(config.seed, SELECTION)
    conductor = Conductor(config, facts, transport, rng, plan, manifest, compile_s, value_of, part)
    try:
        return fitting("the run", lambda: conductor.conduct(Progress.of(config, plan.quiet)))
    except BaseException as error:
        mistake = isinstance(error, ConfigError | IncompatibleParts | CannotWrite | Warned)
        if mistake or survives:
            conductor.stop()
        heeded = isinstance(error, KeyboardInterrupt) and conductor.over
        if (mistake or heeded) and not survives:
            return error
        raise


def _serve(
    plan: Plan,
    link: "Link",
    workers: Sequence[Worker],
    replica: Replica | Widened | None,
    facts: Facts,
    part: Part | None,
    faults: Faults,
) -> None:
    from psopt.transports.mpi_survivor import SurvivorEnd
    from psopt.transports.mpi_worker import WorkerEnd

    config = plan.config
    save = part.told if part else None
    dim, sent = facts.dim, np.dtype(config.sent_dtype)
    arguments = (link, workers, config.workers, dim, sent, config.timeouts, replica, save, faults.handle)
    if config.failure.survives:
        SurvivorEnd(*arguments).serve()
    else:
        WorkerEnd(*arguments, spreading=config.broadcast, commons=in_common.commons(plan, link, dim)).serve()


def _share_outcome(plan: Plan, link: "Link", dim: int, outcome: Run | End | None) -> Run:
    """Rank 0's run, or its error, on every rank."""
    start_s = plan.config.timeouts.start_s
    if isinstance(outcome, End):
        link.share([told_error(outcome), None], start_s)
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


def _load(plan: Plan, members: Sequence[int]) -> dict[int, Shard]:
    """What each member is given to work on."""
    config = plan.config

    def load() -> dict[int, Shard]:
        shards = open_shards(config.data, config.workers, config.seed, config.problem.dtype, plan.table, plan.read)
        return {m: Shard(shards.shard(m), shards.held_out(m)) for m in members}

    return fitting("the data", load)


def _value_of(plan: Plan, total: int, workers: Sequence[int], theta: np.ndarray) -> float:
    """The sum of f_m(theta) over these workers, from shards loaded here."""
    built = build(plan.config, plan.problem, _load(plan, workers), total, "the server", checks=False)
    return sum(float(problem.value(theta)) for problem in built.values())


def _samples(shards: Mapping[int, Shard]) -> int:
    return sum(shard.rows.samples for shard in shards.values())


def _is_sparse(shards: Mapping[int, Shard]) -> bool:
    return any(isinstance(shard.rows.features, CSR) for shard in shards.values())


def _sizes(config: RunConfig, facts: Facts) -> tuple[int, np.dtype, int]:
    """The dimension, the dtype of theta, and the bytes of the largest payload."""
    dtype = np.dtype(config.problem.dtype)
    return facts.dim, dtype, config.algorithm.codec.capacity(facts.sizes, dtype)
