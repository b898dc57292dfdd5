"""What a round costs, on each rank of one job: psopt and the others in turns.

Empty rounds, whose gradients cost nothing, against a hand-written mpi4py loop and gloo's all-reduce; whole synchronous
rounds against ``MPI.Allreduce`` with NumPy's kernels and PyTorch's DistributedDataParallel over gloo.
"""

import functools
import itertools
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import numpy as np
from threadpoolctl import threadpool_limits

from psopt import launch
from psopt.bench import machine
from psopt.bench import round_sides as sides
from psopt.bench.linear import plain_gradient
from psopt.bench.networks import Plain
from psopt.bench.result import Row, show, write
from psopt.bench.turns import installed
from psopt.config import RunConfig, parse
from psopt.data.table import Table
from psopt.transports.mpi import MPI, Link

DIMS = (10, 1000, 100_000)
LOGISTIC = (10853, 123)
WIDTHS, BATCH, IMAGES = [784, 200, 10], 32, 2000
LEAST_TURNS, WARM_UP = 7, 5
WITH_TORCH = installed("torch")


class Job(NamedTuple):
    """The links and communicators of this rank.

    Attributes
    ----------
    each : Link
        All ranks: the server, and a rank a worker.
    placed : Link or None
        Those that `psopt run` would start by itself; None on a rank that it would not.
    workers : mpi4py.MPI.Comm or None
        The ranks of the workers alone; None on rank 0.
    """

    each: Any
    placed: Any
    workers: Any


def take_part(out: Path | None, seconds: float, workers: int) -> None:
    """Measures, and on rank 0 prints a line at a time; with ``out`` writes ``bench.json`` into that folder."""
    world = MPI.COMM_WORLD
    few = launch.default_ranks(workers)
    some, hosting = world.Split(int(world.rank < few), world.rank), world.Split(int(world.rank > 0), world.rank)
    job = Job(Link(), Link(some) if world.rank < few else None, hosting if world.rank else None)
    with threadpool_limits(1), ExitStack() as held:
        if WITH_TORCH and job.workers is not None:
            from psopt.bench import round_torch

            held.enter_context(round_torch.group(Link(job.workers)))
        made = (row for case in _cases(job, workers) for row in case(seconds))
        rows = show(made) if world.rank == 0 else list(made)
        if world.rank == 0:
            write(out, rows, machine.describe(min(seconds, 0.5)))


def _cases(job: Job, workers: int) -> Iterator[Any]:
    for dim in DIMS:
        yield functools.partial(_empty, job, workers, dim)
    yield functools.partial(_logistic, job, workers)
    yield functools.partial(_perceptron, job, workers)


def _empty(job: Job, workers: int, dim: int, seconds: float) -> list[Row]:
    """Of GD whose gradients cost nothing."""
    config = functools.partial(_config, workers, {"recipe": "gd", "step_size": 0.1}, "psopt.bench.round_sides:Empty")
    table = Table(np.ones((workers, dim)), np.ones(workers))
    compared = _psopt(job, workers, config, table, sides.Empty)
    compared["by hand"] = sides.by_hand(MPI.COMM_WORLD, dim), True
    if WITH_TORCH:
        compared["gloo"] = _on_workers(job, "all_reduce", dim)
    return _rows("empty round", (workers, dim), "float64", _turns(job, compared, seconds), "by hand")


def _logistic(job: Job, workers: int, seconds: float) -> list[Row]:
    """Of full-batch gradient descent on a dense logistic problem."""
    n, d = LOGISTIC
    rng = np.random.default_rng(0)
    table = Table(rng.standard_normal((workers * n, d)), np.where(rng.random(workers * n) < 0.5, -1.0, 1.0))
    config = functools.partial(_config, workers, {"recipe": "gd", "step_size": 1e-6}, "logistic")
    compared = _psopt(job, workers, config, table)
    X, y = _own_rows(job, table, n)
    if job.workers is not None:
        gradient = plain_gradient("logistic", X, X.T, y)
        compared["MPI.Allreduce, NumPy"] = sides.by_allreduce(job.workers, gradient, np.zeros(d)), True
    else:
        compared["MPI.Allreduce, NumPy"] = None, False
    if WITH_TORCH:
        compared["torch DDP"] = _on_workers(job, "logistic", X, y)
    taken = _turns(job, compared, seconds)
    return _rows("round, dense logistic", (workers, n, d), "float64", taken, "MPI.Allreduce, NumPy")


def _perceptron(job: Job, workers: int, seconds: float) -> list[Row]:
    """Of SGD on a perceptron, a batch a worker."""
    rng = np.random.default_rng(0)
    images = workers * IMAGES
    table = Table(rng.random((images, WIDTHS[0]), dtype="float32"), rng.integers(0, WIDTHS[-1], images))
    problem = {"kind": "perceptron", "hidden": WIDTHS[1:-1], "dtype": "float32", "classes": WIDTHS[-1]}
    work = {"kind": "minibatch", "batch": BATCH}
    config = functools.partial(_config, workers, {"recipe": "sgd", "step_size": 1e-3, "work": work}, problem)
    compared = _psopt(job, workers, config, table)
    X, y = _own_rows(job, table, IMAGES)
    dim = sum((a + 1) * b for a, b in itertools.pairwise(WIDTHS))
    plain, batches = Plain(WIDTHS, BATCH, "float32"), np.random.default_rng(1)
    features, labels = np.empty((BATCH, WIDTHS[0]), "float32"), np.empty(BATCH, np.int64)

    def gradient(theta: np.ndarray, own: np.ndarray) -> None:
        rows = batches.integers(0, IMAGES, BATCH)
        np.take(X, rows, axis=0, out=features, mode="clip")
        np.take(y, rows, out=labels, mode="clip")
        plain.gradient(theta, features, labels, 1 / BATCH, own)

    theta = (0.03 * rng.standard_normal(dim)).astype("float32")
    on_workers = job.workers is not None
    reduced = sides.by_allreduce(job.workers, gradient, theta) if on_workers else None
    compared["MPI.Allreduce, NumPy"] = reduced, on_workers
    if WITH_TORCH:
        compared["torch DDP"] = _on_workers(job, "perceptron", X, y, WIDTHS, BATCH)
    taken = _turns(job, compared, seconds)
    return _rows(f"round, perceptron, batch {BATCH}", (workers, *WIDTHS), "float32", taken, "MPI.Allreduce, NumPy")


def _config(workers: int, algorithm: Mapping[str, Any], problem: str | Mapping[str, Any], rounds: int) -> RunConfig:
    return parse(
        {
            "workers": workers,
            "problem": problem,
            "data": {"source": "memory"},
            "algorithm": dict(algorithm),
            "f_star": "none",
            "stop": {"max_rounds": rounds},
            "trace": {"every": 10**9, "objective": False},
        }
    )


def _psopt(
    job: Job, workers: int, config: Callable[[int], RunConfig], table: Table, problem: type | None = None
) -> dict[str, tuple[Any, bool]]:
    compared = {"a rank a worker": (sides.by_psopt(job.each, config, table, problem), True)}
    if launch.default_ranks(workers) <= workers:
        on = job.placed is not None
        compared["as psopt places"] = sides.by_psopt(job.placed, config, table, problem) if on else None, on
    return compared


def _on_workers(job: Job, name: str, *arguments: Any) -> tuple[Any, bool]:
    """One of PyTorch's sides, on the ranks of the workers."""
    if job.workers is None:
        return None, False
    from psopt.bench import round_torch

    return getattr(round_torch, name)(*arguments), True


def _own_rows(job: Job, table: Table, n: int) -> tuple[np.ndarray, np.ndarray]:
    """The rows that this rank's worker would hold; rank 0 gets some too, and has no use for them."""
    m = 0 if job.workers is None else job.workers.rank
    return table.features[m * n : (m + 1) * n], table.labels[m * n : (m + 1) * n]


def _turns(job: Job, compared: Mapping[str, tuple[Any, bool]], seconds: float) -> dict[str, float]:
    """Median seconds of a round of each side, in turns of which all together take about ``seconds``, at least seven."""
    rounds, taken = {}, {name: [] for name in compared}
    for name, (side, here) in compared.items():
        sides.together(side, WARM_UP, here)
        each = _agreed(job, sides.together(side, WARM_UP, here))
        rounds[name] = max(1, int(seconds / (LEAST_TURNS * len(compared) * each)))
    start, order, over = time.perf_counter(), list(compared.items()), False
    while not over:
        for name, (side, here) in order:
            taken[name].append(_agreed(job, sides.together(side, rounds[name], here)))
        order.reverse()
        turns = len(taken[name])
        over = bool(_agreed(job, float(turns >= LEAST_TURNS and time.perf_counter() - start >= seconds)))
    return {name: median(each) for name, each in taken.items()}


def _agreed(job: Job, number: float) -> float:
    """The largest that any rank has, NaNs apart."""
    return max(each for each in job.each.gather(number, sides.WAIT_S) if each == each)


def _rows(what: str, shape: tuple[int, ...], dtype: str, taken: dict[str, float], baseline: str) -> list[Row]:
    ours = [name for name in ("a rank a worker", "as psopt places") if name in taken]
    others = {name: s for name, s in taken.items() if name not in (*ours, baseline)}
    return [Row(f"{what}, {name}", shape, dtype, taken[name], baseline, taken[baseline], others) for name in ours]
