"""What lives on a rank: its workers, over their shards, and its copy of the server's model."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from psopt.config import RunConfig
from psopt.core.downlink import Replica, Widened
from psopt.core.worker import Aside, Worker
from psopt.errors import ConfigError
from psopt.problems.base import Problem
from psopt.runs.building import Facts, Shard

if TYPE_CHECKING:
    from psopt.runs.checkpoint import Checkpoint

WORK, SELECTION, REORDER, INITIAL = range(4)


def generator(seed: int, *purpose: int) -> np.random.Generator:
    """The random numbers of one purpose (and one worker), the same wherever it lives."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=purpose))


def hosted(
    config: RunConfig,
    mine: Mapping[int, Problem],
    shards: Mapping[int, Shard],
    facts: Facts,
    point: "Checkpoint | None",
) -> tuple[list[Worker], Replica | Widened | None]:
    """The workers of a rank, and its copy of the server's model where the downlink is lazy, or what else makes theta of
    what comes; as the checkpoint has them, where there is one.

    Raises `ConfigError` when the checkpoint was of other data, or cannot be read.
    """
    dtype = np.dtype(config.problem.dtype)
    workers = _workers(config, mine, shards, facts)
    replica: Replica | Widened | None = None
    if config.downlink.lazy:
        replica = Replica(config.algorithm, facts.dim, dtype, facts.shards)
    elif config.sent_dtype != dtype:
        replica = Widened(facts.dim, dtype)
    if point is None:
        return workers, replica
    for worker in workers:
        if worker.m in point.lost:  # its state went with it, and nobody asks it again
            continue
        state, digest = point.worker(worker.m)
        if shards[worker.m].digest() != digest:
            raise ConfigError(f"the data of worker {worker.m} are not those that the run began with")
        worker.go_on(state, point.mirror(worker.m, facts.dim, dtype))
    if isinstance(replica, Replica):
        tree = point.summed_model_state(config.workers, facts.dim, dtype) if replica.told else point.model_state()
        replica.go_on(point.round, point.course()["initial_step"], tree)
    return workers, replica


def _workers(config: RunConfig, mine: Mapping[int, Problem], shards: Mapping[int, Shard], facts: Facts) -> list[Worker]:
    dtype, seed = np.dtype(config.problem.dtype), config.seed
    weights = config.algorithm.aggregator.weights(facts.shards)

    def worker(m: int, problem: Problem) -> Worker:
        test = shards[m].held_out

        def initial() -> np.ndarray:
            return problem.initial(generator(seed, INITIAL))

        def score(theta: np.ndarray) -> tuple[float, int, int]:
            return *problem.score(theta, test), test.samples

        aside = Aside(initial if m == 0 and hasattr(problem, "initial") else None, score if test is not None else None)
        rng = generator(seed, WORK, m)
        return Worker(m, config.workers, config.algorithm, problem, dtype, rng, aside, weights[m])

    return [worker(m, problem) for m, problem in mine.items()]
