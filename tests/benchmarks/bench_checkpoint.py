"""What checkpoints cost: the same run with one every 100 rounds and with none, over MPI, interleaved.

    python tests/benchmarks/bench_checkpoint.py [--workers 27] [--dim 100000] [--rows 20] [--rounds 200] [--ranks 3]

LAG-WK and SASG on a logistic regression of dense random rows. Prints for each the share of the wall time that was spent
on writing, measured at rank 0 from the first file to the rename, the ratio of the medians of whole runs, and bytes. The
first is what checkpoints cost as far as this machine's disk answers at once; the second holds all else as well, and the
noise of the machine.
"""

import argparse
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

EVERY = 100
RECIPES = {"lag-wk": {"recipe": "lag-wk", "step_size": 1e-9}, "sasg": {"recipe": "sasg", "step_size": 1e-6}}


def run_once(link, table, workers, recipe, rounds, every, folder):
    """The wall seconds of one run, and those that rank 0 spent on checkpoints."""
    from psopt.config import parse
    from psopt.runs.checkpoint import Checkpoints
    from psopt.runs.experiment import Plan, run

    config = parse(
        {
            "workers": workers,
            "problem": {"kind": "logistic", "l2": 1e-3},
            "data": {"source": "memory"},
            "algorithm": RECIPES[recipe],
            "f_star": "none",
            "stop": {"max_rounds": rounds},
            "trace": {"every": rounds, "objective": False},
            "checkpoint": {"every_rounds": every, "every_seconds": 1e9, "keep": 2} if every else {"keep": 0},
        }
    )
    spent, write = [], Checkpoints.write

    def timed(*arguments):
        start = time.perf_counter()
        written = write(*arguments)
        spent.append(time.perf_counter() - start)
        return written

    Checkpoints.write = timed
    try:
        done = run(Plan(config, folder, table=table, quiet=True, warns=False), link)
    finally:
        Checkpoints.write = write
    return done.wall_s, sum(spent), len(spent)


def measure(options):
    from psopt.data import Table
    from psopt.transports.mpi import Link

    link = Link()
    rng = np.random.default_rng(0)
    rows = options.workers * options.rows
    table = Table(rng.standard_normal((rows, options.dim)), rng.choice([-1.0, 1.0], rows))
    root = Path(options.folder)
    for recipe in RECIPES:
        walls = {0: [], EVERY: []}
        shares, count, nbytes = [], 0, 0
        for repeat in range(options.repeats + 1):
            for every in walls:
                folder = root / f"{recipe}-{repeat}-{every}"
                wall_s, spent_s, count_now = run_once(
                    link, table, options.workers, recipe, options.rounds, every, folder
                )
                if repeat == 0:
                    continue  # the kernels were compiled
                walls[every].append(wall_s)
                if every:
                    count = count_now
                    shares.append(spent_s / wall_s)
                    if link.rank == 0:
                        point = next((folder / "checkpoints").glob("round-*"))
                        nbytes = sum(path.stat().st_size for path in point.iterdir())
                if link.rank == 0:
                    shutil.rmtree(folder)
        if link.rank == 0:
            none, some = (statistics.median(walls[every]) for every in (0, EVERY))
            print(
                f"{recipe}: M = {options.workers}, d = {options.dim}, {options.rows} rows a worker, {link.size} ranks, "
                f"{options.repeats} x {options.rounds} rounds of {none / options.rounds * 1e3:.1f} ms: {count} "
                f"checkpoints of {nbytes / 1e6:.1f} MB a run take {statistics.median(shares):.2%} of the time "
                f"({statistics.median(shares) * some / count * 1e3:.0f} ms each); whole runs, with over without: "
                f"{some / none:.3f}",
                flush=True,
            )


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, default=27)
    parser.add_argument("--dim", type=int, default=100_000)
    parser.add_argument("--rows", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--ranks", type=int, default=3)
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    options = parser.parse_args()

    from psopt import launch

    if launch.told_ranks() is not None:
        measure(options)
        return
    import subprocess

    with tempfile.TemporaryDirectory() as folder:
        command = [launch.find_mpiexec(), "-n", str(options.ranks), sys.executable, *sys.argv, "--folder", folder]
        sys.exit(subprocess.run(command, env=launch.environment(), check=False).returncode)


if __name__ == "__main__":
    main()
