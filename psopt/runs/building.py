"""From shards to problems, and what the problems of all workers have in common."""

import hashlib
import json
import math
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np

from psopt import problems
from psopt.config import RunConfig
from psopt.data import CSR, Table
from psopt.data.checks import check_room
from psopt.errors import ConfigError, IncompatibleParts, WorkerFailed
from psopt.problems.base import Problem, Share
from psopt.problems.check import check_problem
from psopt.problems.tensors import tensors_of
from psopt.records import record

T = TypeVar("T")
METHODS = ("smoothness", "curvature_product", "hessian", "initial", "score")


@record
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


@record
class Shard:
    """A worker's rows, and its share of the test rows."""

    rows: Table
    held_out: Table | None

    def digest(self) -> str:
        """SHA-256 of all numbers."""
        digest = hashlib.sha256()
        for table in (self.rows, self.held_out):
            for array in () if table is None else _arrays(table):
                digest.update(f"{array.dtype.str}{array.shape}".encode())
                digest.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8))
        return digest.hexdigest()


def _arrays(table: Table) -> Iterable[np.ndarray]:
    x = table.features
    return (x.data, x.indices, x.indptr, table.labels) if isinstance(x, CSR) else (x, table.labels)


def build(
    config: RunConfig, own: Any, shards: Mapping[int, Shard], total: int, where: str, checks: bool = True
) -> dict[int, Problem]:
    """f_m for each shard, of the class ``own`` instead of what the config names, if there is one.

    A user's own class is checked on the first, unless it was before. What its code raises is headed by the worker.
    """
    kind = own or config.problem.kind
    built: dict[int, Problem] = {}
    for m, shard in shards.items():
        try:
            share = Share(m, config.workers, total)
            problem = _made(config, kind, shard.rows, share)
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


def _made(config: RunConfig, kind: Any, table: Table, share: Share) -> Problem:
    """One worker's problem; refused where theta, a gradient and their sum are more than the machine holds."""
    dtype, options = config.problem.dtype, config.problem.options
    named = f"problem `{config.problem.kind}`"
    problem = fitting(named, lambda: problems.build(kind, table, share, dtype, options))
    check_room(3 * np.dtype(dtype).itemsize * int(problem.dim), f"{named}: theta of {problem.dim} numbers")
    return problem


def fitting(what: str, make: Callable[[], T]) -> T:
    """What ``make`` makes; where memory does not suffice, a sentence about ``what``."""
    try:
        return make()
    except MemoryError as error:
        raise ConfigError(f"{what} cannot be held in memory: {error or 'there is no room'}") from error


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


def described(mine: Mapping[int, Problem]) -> dict[str, Any]:
    """What the problems of a rank tell of themselves, as a JSON value, for `common_facts`."""
    return {
        "tensors": [tensors_of(problem) for problem in mine.values()],
        "samples": [(m, int(problem.samples)) for m, problem in mine.items()],
        "methods": [[name for name in METHODS if hasattr(problem, name)] for problem in mine.values()],
    }


def check_theta(theta: np.ndarray | None, facts: Facts) -> None:
    """Raises `ConfigError` for a first iterate that is none."""
    if theta is None:
        return
    if theta.shape != (facts.dim,) or theta.dtype.kind not in "fiu":
        raise ConfigError(
            f"the first theta has shape {theta.shape} and dtype {theta.dtype}; expected ({facts.dim},) numbers"
        )
    if not np.isfinite(theta).all():
        raise ConfigError("the first theta holds NaN or infinity")


def common_facts(told: Sequence[Mapping[str, Any]]) -> Facts:
    """What the problems of all ranks have in common; ranks without workers tell nothing."""
    told = [one for one in told if one["tensors"]]
    found = {json.dumps(tensors): tensors for one in told for tensors in one["tensors"]}
    if len(found) != 1:
        dims = sorted(sum(math.prod(shape) for _, shape in tensors) for tensors in found.values())
        raise ConfigError(
            f"all workers must have the same theta, found dimensions {', '.join(map(str, dims))} or other tensors"
        )
    tensors = tuple((name, tuple(shape)) for name, shape in next(iter(found.values())))
    methods = set(METHODS).intersection(*(names for one in told for names in one["methods"]))
    shards = tuple(samples for _, samples in sorted(tuple(own) for one in told for own in one["samples"]))
    return Facts(tensors, shards, tuple(name for name in METHODS if name in methods))
