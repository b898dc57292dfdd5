"""What psopt's machinery costs a round: against a minimal hand-written mpi4py loop, in one job, interleaved.

    python tests/benchmarks/bench_round.py [--dim 123] [--rounds 2000] [--repeats 7]

starts 4 ranks (a server and 3 workers, a rank each), and prints the median microseconds of a round of both, and the
ratio. Both do the same exchange with the same polite waiting: receives posted, theta out by a nonblocking broadcast,
three gradients back, summed in worker order, one step. The gradient costs nothing.
"""

import argparse
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
            sum_rows(gradients, total)
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

    from psopt.transports.mpi import Link

    link, comm = Link(), MPI.COMM_WORLD.Dup()
    psopt_round_us(link, dim, 50), bare_round_us(comm, dim, 50)
    ours, bare = [], []
    for _ in range(repeats):
        ours.append(psopt_round_us(link, dim, rounds))
        bare.append(bare_round_us(comm, dim, rounds))
    if link.rank == 0:
        ratio = statistics.median(a / b for a, b in zip(ours, bare, strict=True))
        print(
            f"d = {dim}, {WORKERS} workers, {repeats} x {rounds} rounds: psopt {statistics.median(ours):.0f} us, "
            f"hand-written {statistics.median(bare):.0f} us, ratio {ratio:.2f}",
            flush=True,
        )


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
