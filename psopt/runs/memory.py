"""What a run will hold in memory, counted before it begins, and refused where it cannot fit.

Counted are the vectors that psopt itself makes and fills: those of the table "Where state lives" in the design, and
what messages are written into and received in. Not counted are code and data, which are there already when the counting
is done, and what a problem of one's own allocates while it works.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from psopt import capacity
from psopt.algorithm import Algorithm
from psopt.config import RunConfig
from psopt.config.model import Downlink
from psopt.core import downlink
from psopt.core.messages import HEADER_NBYTES
from psopt.core.model import lands_in_rows
from psopt.core.worker import Worker
from psopt.data import open_shards
from psopt.errors import ConfigError
from psopt.parts.codecs import Overwrite
from psopt.parts.compressors import Cast
from psopt.parts.mapped import check_place
from psopt.problems.base import Problem
from psopt.problems.crew import room_nbytes
from psopt.records import record
from psopt.runs.agreement import together
from psopt.runs.building import Facts, Shard, build, common_facts, described
from psopt.runs.reference import LARGEST_NEWTON_DIM
from psopt.runs.threads import foreseen as foreseen_threads
from psopt.runs.threads import in_process, parts_of
from psopt.transports.base import hosted_by

Need = dict[str, int]
"""What for -> bytes."""

TOLD_FROM = 100_000_000
"""Bytes from which the line tells what they are for."""


@record
class Rank:
    """A rank's place in a run: how many ``workers`` live there, whether the ``server`` does, whether there are
    ``others``, and with how many ``threads`` it computes.
    """

    workers: int
    server: bool
    others: bool
    threads: int = 1


def need(config: RunConfig, facts: Facts, rank: Rank, problem: Problem | None) -> Need:
    """The bytes that a rank of the run will hold; ``problem`` is one of its workers', where it has any."""
    algorithm, dtype = config.algorithm, np.dtype(config.problem.dtype)
    theta, upload = facts.dim * dtype.itemsize, algorithm.codec.capacity(facts.sizes, dtype)
    vector, mapped_in = _question(config, facts), getattr(algorithm.aggregator, "mapped_in", None)
    verbatim = lands_in_rows(algorithm)
    found: Need = {}
    if rank.server:
        found |= {"theta": 2 * theta, **_model(algorithm, facts, dtype)}
        in_place = verbatim and not config.failure.survives
        if rank.others and not in_place and mapped_in is None:
            found["receive buffers"] = config.workers * (HEADER_NBYTES + upload)
        if config.downlink.lazy:
            first = downlink.first_nbytes(theta)
            found["changes"] = 2 * max(first, downlink.most_nbytes(algorithm, facts.sizes, dtype, config.workers))
        _ask(found, config, 2 * config.workers * vector)
    elif config.downlink.lazy:
        found |= {"copy of theta": theta, **_model(downlink.followed(algorithm, facts.dim, dtype), facts, dtype)}
    if rank.workers and problem is not None:
        found["workers"] = rank.workers * _worker(config, facts, dtype, problem)
        found["parts of gradients"] = room_nbytes(parts_of(problem), rank.threads, max(theta, vector))
    if rank.others:
        if rank.workers:
            found["send buffers"] = rank.workers * (HEADER_NBYTES + max(0 if verbatim else upload, vector))
        found["broadcast"] = theta
    else:
        found["messages"] = theta + max(upload, vector)
    return {what: nbytes for what, nbytes in found.items() if nbytes}


def _ask(found: Need, config: RunConfig, answers: int) -> None:
    """What is asked off the books is answered before anything is held of the workers, and forgotten then; but for their
    mirrors, which are asked for in every round.
    """
    held = {what: found.get(what, 0) for what in ("stale vectors", "receive buffers")}
    if config.debug.check_mirror:
        found["questions"] = answers
    elif answers > _total(held):
        found |= {**dict.fromkeys(held, 0), "questions": answers}


def _model(algorithm: Algorithm, facts: Facts, dtype: np.dtype) -> Need:
    """Of theta's model but for theta itself."""
    fill, codec = algorithm.start.fill, algorithm.codec
    held = algorithm.aggregator.nbytes(len(facts.shards), facts.sizes, dtype, fill, codec)
    return {"stale vectors": held, "moments": arrays_nbytes(algorithm.update.init(facts.dim, dtype))}


def _worker(config: RunConfig, facts: Facts, dtype: np.dtype, problem: Problem) -> int:
    """Of one worker, made and thrown away: what is zero or empty costs nothing until it is filled."""
    made = Worker(0, config.workers, config.algorithm, problem, dtype, np.random.default_rng(0))
    work = config.algorithm.work
    permutation = 8 * max(facts.shards) if getattr(work, "draw", None) == "epoch" else 0
    # The room for a gradient computed ahead is not touched where none is.
    unused = 0 if work.whole and config.trace.objective else 2 * facts.dim * dtype.itemsize
    return arrays_nbytes(made, problem) + permutation - unused


def _question(config: RunConfig, facts: Facts) -> int:
    """Bytes of the longest answer, float64 whatever the dtype, that a worker may be asked for off the books."""
    if _finds_optimum(config, facts):
        return 8 * facts.dim**2
    jointly = config.algorithm.needs_joint_smoothness and "curvature_product" in facts.methods
    return 8 * facts.dim if config.debug.check_mirror or jointly else 0


def _finds_optimum(config: RunConfig, facts: Facts) -> bool:
    wanted = config.trace.objective and config.f_star == "auto"
    return wanted and "hessian" in facts.methods and facts.dim <= LARGEST_NEWTON_DIM


def arrays_nbytes(thing: Any, *but: Any) -> int:
    """Bytes of the arrays within an object, each once, views not at all; ``but`` not those within these."""
    seen, found, todo = {id(one) for one in but}, 0, [thing]
    while todo:
        one = todo.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        if isinstance(one, np.ndarray):
            if one.base is None:
                found += one.nbytes
            else:
                todo.append(one.base)
        elif isinstance(one, Mapping):
            todo += one.values()
        elif isinstance(one, list | tuple):
            todo += one
        elif not isinstance(one, type) and not callable(one):
            slots = [name for cls in type(one).__mro__ for name in getattr(cls, "__slots__", ())]
            todo += [getattr(one, name) for name in slots if hasattr(one, name)]
            todo += vars(one).values() if hasattr(one, "__dict__") else ()
    return found


def summed_up(needs: Sequence[Need]) -> dict[str, Any]:
    """For the manifest: the needs of the server and of the largest other rank, and how many of these there are; rank 0
    is the server.
    """
    found: dict[str, Any] = {"server": needs[0], "others": len(needs) - 1}
    if len(needs) > 1:
        largest = max(needs[1:], key=_total)
        found |= {"largest": largest, "alike": all(_total(own) == _total(largest) for own in needs[1:])}
    return found


def told(summed: Mapping[str, Any]) -> str:
    """The line about memory that a run begins with, of what `summed_up` gives."""
    said = f"memory, beside code and data: {_described(summed['server'])}"
    others = summed["others"]
    if not others:
        return said
    which = f"{'each' if summed['alike'] else 'the largest'} of {others} other ranks"
    if others == 1:
        which = "the other rank"
    return f"{said} for the server, {_described(summed['largest'])} for {which}"


def _total(own: Need) -> int:
    return sum(own.values())


def _described(own: Need) -> str:
    """The total, and, where it is large, what the most of it is for."""
    total = _total(own)
    if total < TOLD_FROM:
        return size(total)
    large = sorted(((nbytes, what) for what, nbytes in own.items() if nbytes >= total / 20), reverse=True)
    return f"{size(total)} ({', '.join(f'{what} {size(nbytes)}' for nbytes, what in large)})"


def size(nbytes: float) -> str:
    """Bytes for a person, three digits."""
    for factor, unit in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if nbytes >= 0.9995 * factor:
            return f"{nbytes / factor:.3g} {unit}"
    return f"{nbytes:.0f} B"


Change = tuple[str, RunConfig]
"""What to set, in a config's words, and the config with it."""


def changes(config: RunConfig, facts: Facts) -> list[Change]:
    """What makes the run take less, the mildest first: those that change no iterate, then those that round."""
    found: list[Change] = []

    def offer(says: str, **fields: Any) -> None:
        found.append((says, replace(config, **fields)))

    row = config.algorithm
    if _finds_optimum(config, facts):
        offer("f_star: none", f_star="none")
    if config.downlink.lazy:
        offer("downlink: theta", downlink=Downlink())
    if getattr(row.aggregator, "mapped_in", "") is None:
        mapped = replace(row.aggregator, mapped_in=".")
        offer("algorithm.aggregator.mapped_in: FOLDER", algorithm=replace(row, aggregator=mapped))
    if row.codec == Overwrite() and config.problem.dtype == "float64":
        rounded = replace(row.codec, compressor=Cast())
        offer("algorithm.codec.compressor: cast", algorithm=replace(row, codec=rounded))
    if config.problem.dtype == "float64":
        offer("problem.dtype: float32", problem=replace(config.problem, dtype="float32"))
    return found


def lacking(needs: Sequence[Need], hosts: Sequence[str], free: Sequence[int]) -> tuple[str, int, int] | None:
    """The first host whose ranks need more than it has free: its name, what they need, what it has; None if all fit.

    The three sequences have an entry a rank.
    """
    for host in dict.fromkeys(hosts):
        here = [rank for rank, other in enumerate(hosts) if other == host]
        needed, has = sum(_total(needs[rank]) for rank in here), min(free[rank] for rank in here)
        if needed > has:
            return host, needed, has
    return None


def refusal(
    short: tuple[str, int, int],
    needs: Sequence[Need],
    offers: Sequence[tuple[str, Sequence[Need]]],
    hosts: Sequence[str],
    free: Sequence[int],
) -> ConfigError:
    """The sentence about a run that does not fit, and which of the ``offers``, (what to set, the needs then), helps."""
    host, needed, has = short
    most: Need = {}
    for rank, own in enumerate(needs):
        if hosts[rank] == host:
            for what, nbytes in own.items():
                most[what] = most.get(what, 0) + nbytes
    what = max(most, key=most.__getitem__)
    where = "this machine" if len(set(hosts)) == 1 else host
    said = (
        f"the run would take {size(needed)} of memory on {where}, most of it for {what} ({size(most[what])}), and "
        f"{size(has)} are free"
    )
    for says, then in offers:
        if lacking(then, hosts, free) is None:
            return ConfigError(f"{said}: `{says}` makes it fit")
    helps = sorted((sum(map(_total, then)), says) for says, then in offers)
    less = f" (`{helps[0][1]}` would come nearest, with {size(helps[0][0])} in all)" if helps else ""
    return ConfigError(f"{said}, and no option makes it fit{less}: use fewer workers, or more machines")


def foreseen(config: RunConfig, ranks: int) -> str:
    """The line about memory of a run on so many ranks that is not begun; worker 0's data are read for it."""
    shards = open_shards(config.data, config.workers, config.seed, config.problem.dtype)
    shard, total = Shard(shards.shard(0), shards.held_out(0)), shards.total_samples
    mine = build(config, None, {0: shard}, shard.rows.samples * config.workers if total is None else total, "here")
    facts = common_facts([described(mine)])
    facts = replace(facts, shards=facts.shards * config.workers)
    if ranks == 1 or config.repeat > 1:
        places = [Rank(config.workers, True, False, in_process(config))]
    else:
        workers = [len(hosted_by(rank, config.workers, ranks)) for rank in range(ranks)]
        threads = foreseen_threads(config, [number > 0 for number in workers])
        places = [Rank(workers[rank], rank == 0, True, threads[rank]) for rank in range(ranks)]
    return told(summed_up([need(config, facts, place, mine[0]) for place in places]))


def check(
    config: RunConfig,
    facts: Facts,
    rank: Rank,
    problem: Problem | None,
    share: Callable[[Callable[[], Any]], list[Any]],
    host: str = "",
) -> list[Need]:
    """The needs of all ranks, in rank order; all ranks call it together.

    Parameters
    ----------
    config, facts, rank, problem
        As for `need`.
    share : callable
        What a call gives on every rank, JSON values in rank order.
    host : str
        This rank's.

    Raises `ConfigError`, the same one on all ranks, where they do not fit, or where what is held of the workers cannot
    be mapped into the folder that is named for it.
    """

    def own() -> list[Any]:
        folder = getattr(config.algorithm.aggregator, "mapped_in", None)
        if rank.server and folder is not None:
            check_place(folder, config.workers * facts.dim * np.dtype(config.problem.dtype).itemsize)
        return [host, capacity.available(), need(config, facts, rank, problem)]

    said = share(own)
    hosts, free, needs = ([one[i] for one in said] for i in range(3))
    short = lacking(needs, hosts, free)
    if short is None:
        return needs
    ways = changes(config, facts)
    then = share(lambda: [need(other, facts, rank, problem) for _, other in ways])
    offers = [(says, [own[i] for own in then]) for i, (says, _) in enumerate(ways)]
    raise together(refusal(short, needs, offers, hosts, free))
