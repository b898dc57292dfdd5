"""Whole rounds in a job of 1 + M ranks: psopt's, and those that one writes with mpi4py by hand.

Every side is called by all ranks of the job together with a number of rounds, and returns seconds a round on rank 0.
"""

import math
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from psopt.config import RunConfig
from psopt.data.table import Table
from psopt.problems.kernels.steps import descend
from psopt.problems.kernels.vector import sum_rows
from psopt.runs.experiment import Plan, run
from psopt.transports.mpi import MPI, Link
from psopt.transports.waiting import Patience, done_within

WAIT_S = 600.0
Side = Callable[[int], float]


class Empty:
    """f_m whose gradient costs nothing: what is left of a round is psopt's own."""

    def __init__(self, shard: Any, share: Any) -> None:
        self.samples, self.dim = shard.samples, shard.n_features

    def value(self, theta: np.ndarray) -> float:
        return 0.0

    def value_and_gradient(self, theta: np.ndarray, out: np.ndarray) -> float:
        out.fill(0.0)
        return 0.0


def together(side: Side, rounds: int, takes_part: bool = True) -> float:
    """Seconds a round of a side, on those ranks that take part in it; the others wait politely, NaN comes of them."""
    seconds = side(rounds) if takes_part else math.nan
    if not done_within(WAIT_S, MPI.COMM_WORLD.Ibarrier().Test):
        raise TimeoutError(f"the ranks of a benchmark did not meet within {WAIT_S:g} s")
    return seconds


def by_psopt(link: Link, config: Callable[[int], RunConfig], table: Table, problem: type | None = None) -> Side:
    """psopt's own rounds on the ranks of a link; what comes before round 1 is not counted. ``config`` is given how many
    rounds there are to be.
    """

    def side(rounds: int) -> float:
        return run(Plan(config(rounds), table=table, problem=problem, quiet=True), link).wall_s / rounds

    return side


def by_hand(comm: Any, dim: int) -> Side:
    """A minimal parameter server with an empty kernel and psopt's polite waiting: receives posted, theta out to
    everyone, M gradients back, summed in worker order, one step.
    """
    workers, first = comm.Get_size() - 1, comm.Get_rank() == 0
    theta, gradients, total = np.zeros(dim), np.zeros((workers, dim)), np.zeros(dim)

    def serve(rounds: int) -> None:
        for _ in range(rounds):
            requests = [comm.Irecv(gradients[m], m + 1) for m in range(workers)]
            sent = comm.Ibcast(theta, 0)
            missing, patience = workers, Patience(WAIT_S)
            while missing:
                done = MPI.Request.Testsome(requests)
                if done:
                    missing -= len(done)
                    patience.reset()
                else:
                    assert patience.pause()
            _until(sent.Test)
            sum_rows(gradients, 0, total)
            descend(theta, total, 0.1)

    def work(rounds: int) -> None:
        gradient, sending = np.zeros(dim), MPI.REQUEST_NULL
        for _ in range(rounds):
            _until(comm.Ibcast(theta, 0).Test)
            _until(sending.Test)
            gradient.fill(0.0)
            sending = comm.Isend(gradient, 0)
        _until(sending.Test)

    return _timed(comm, serve if first else work)


def by_allreduce(comm: Any, gradient: Callable[[np.ndarray, np.ndarray], object], theta: np.ndarray) -> Side:
    """Every rank of ``comm`` computes ``gradient(theta, out)``, MPI adds them up, and each takes the same step. MPI
    waits as it likes: it spins.
    """
    own, total = np.empty_like(theta), np.empty_like(theta)

    def work(rounds: int) -> None:
        for _ in range(rounds):
            gradient(theta, own)
            comm.Allreduce(own, total)
            np.multiply(total, 1e-3, out=total)
            np.subtract(theta, total, out=theta)

    return _timed(comm, work)


def _timed(comm: Any, work: Callable[[int], None]) -> Side:
    def side(rounds: int) -> float:
        comm.Barrier()
        start = time.perf_counter()
        work(rounds)
        return (time.perf_counter() - start) / rounds

    return side


def _until(done: Callable[[], bool]) -> None:
    patience = Patience(WAIT_S)
    while not done():
        assert patience.pause()
