"""What psopt's machinery costs a round: against a minimal hand-written mpi4py loop, in one job, interleaved.

    python tests/benchmarks/bench_round.py [--dim 123] [--rounds 2000] [--repeats 7]

starts 4 ranks, a server and 3 workers, and prints the median microseconds of a round of both, and the ratio: of psopt
with a rank a worker, as the loop has it, and with its workers placed as `psopt run` places them by itself. Both do the
same exchange with the same polite waiting: receives posted, theta out to everyone, three gradients back, summed in
worker order, one step. The gradient costs nothing.
"""

import argparse
import math
import statistics
import sys
import time

import numpy as np

WORKERS = 3


class Empty:
    """f_m whose gradient is whatever is in the buffer already."""

    def __init__(self, shard, share):
        self.samples, self.dim = shard.samples, shard.n_features

    def value(self, theta):
        return 0.0

    def value_and_gradient(self, theta, out):
        out.fill(0.0)
        return 0.0


def psopt_round_us(link, dim, rounds):
    """Microseconds of a round of `gd` with an empty kernel."""
    from psopt.config import parse
    from psopt.data import Table
    from psopt.runs.experiment import Plan, run

    config = parse(
        {
            "workers": WORKERS,
            "problem": "bench_round:Empty",
            "data": {"source": "memory"},
            "algorithm": {"recipe": "gd", "step_size": 0.1},
            "f_star": "none",
            "stop": {"max_rounds": rounds},
            "trace": {"every": rounds},
        }
    )
    table = Table(np.ones((WORKERS, dim)), np.ones(WORKERS))
    return run(Plan(config, table=table, problem=Empty, quiet=True), link).wall_s / rounds * 1e6


def bare_round_us(comm, dim, rounds):
    """Microseconds of a round of the hand-written loop."""
    from mpi4py import MPI

    from psopt.problems.kernels.steps import descend
    from psopt.problems.kernels.vector import sum_rows
    from psopt.transports.waiting import Patience

    def until(done):
        patience = Patience(60.0)
        while not done():
            assert patience.pause()

    theta, gradients, total = np.zeros(dim), np.zeros((WORKERS, dim)), np.zeros(dim)
    rank = comm.Get_rank()
    comm.Barrier()
    start = time.perf_counter()
    if rank == 0:
        for _ in range(rounds):
            requests = [comm.Irecv(gradients[m], m + 1) for m in range(WORKERS)]
            sent = comm.Ibcast(theta, 0)
            missing, patience = WORKERS, Patience(60.0)
            while missing:
                done = MPI.Request.Testsome(requests)
                if done:
                    missing -= len(done)
                    patience.reset()
                else:
                    assert patience.pause()
            until(sent.Test)
            sum_rows(gradients, 0, total)
            descend(theta, total, 0.1)
    else:
        gradient, sending = np.zeros(dim), MPI.REQUEST_NULL
        for _ in range(rounds):
            until(comm.Ibcast(theta, 0).Test)
            until(sending.Test)
            gradient.fill(0.0)
            sending = comm.Isend(gradient, 0)
        until(sending.Test)
    return (time.perf_counter() - start) / rounds * 1e6


def measure(dim, rounds, repeats):
    from mpi4py import MPI

    from psopt.launch import default_ranks
    from psopt.transports.mpi import Link
    from psopt.transports.waiting import done_within

    world = MPI.COMM_WORLD
    comm, ranks = world.Dup(), default_ranks(WORKERS)
    few = world.Split(int(world.rank < ranks), world.rank)
    each, placed = Link(), Link(few) if world.rank < ranks else None

    def together(run, *arguments):
        """One of the loops, on those ranks that take part; the others wait politely."""
        us = math.nan if arguments[0] is None else run(*arguments)
        assert done_within(600.0, comm.Ibarrier().Test)
        return us

    loops = {
        f"psopt, {WORKERS + 1} ranks": (psopt_round_us, each),
        f"psopt, {ranks} ranks": (psopt_round_us, placed),
        f"hand-written, {WORKERS + 1} ranks": (bare_round_us, comm),
    }
    for run, where in loops.values():
        together(run, where, dim, 50)
    took = {name: [] for name in loops}
    for _ in range(repeats):
        for name, (run, where) in loops.items():
            took[name].append(together(run, where, dim, rounds))
    if world.rank == 0:
        print(f"d = {dim}, {WORKERS} workers, {repeats} x {rounds} rounds", flush=True)
        *_, bare = took.values()
        for name, us in took.items():
            ratio = statistics.median(a / b for a, b in zip(us, bare, strict=True))
            print(f"  {name:<24} {statistics.median(us):7.0f} us  {ratio:5.2f}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dim", type=int, default=123)
    parser.add_argument("--rounds", type=int, default=2000)
    parser.add_argument("--repeats", type=int, default=7)
    arguments = parser.parse_args()
    from psopt import launch

    if launch.told_ranks() is not None:
        measure(arguments.dim, arguments.rounds, arguments.repeats)
        return 0
    import subprocess

    command = [launch.find_mpiexec(), "-n", str(WORKERS + 1), sys.executable, *sys.argv]
    return subprocess.run(command, env=launch.environment(), check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
