"""What a round costs as M and d grow: of the whole, of the server alone, and in memory; and where one server ends.

    python tests/benchmarks/bench_scale.py [--ranks 2] [--seconds 3] [--cases 10x50:gd,10000x50:gd,...]

starts a job for each case, MxD:RECIPE, and prints the milliseconds of a round, median over parts of the run; what the
server itself does of it, messages and step, in milliseconds, in microseconds a worker and as a share; and how much the
memory of each rank grew, rank 0 first. Then the server's part is fitted as a + b M + c d + e M d over the cases of each
recipe. The gradient costs one pass over theta.
"""

import argparse
import json
import re
import resource
import subprocess
import sys
import time

import numpy as np

CASES = (
    "10x50:gd,100x50:gd,1000x50:gd,10000x50:gd,10x100000:gd,100x10000:gd,3x1000000:gd,1000x50:lag-wk,10000x50:lag-wk"
)
CASES += ",1000x50:sasg,10000x50:sasg"
PARTS = 5


class Slope:
    """f_m = c sum(theta) / M."""

    def __init__(self, shard, share, dtype="float64", dim=50):
        self.samples, self.dim, self.slope = shard.samples, dim, 1.0 / share.workers

    def value(self, theta):
        return self.slope * float(theta.sum(dtype=np.float64))

    def value_and_gradient(self, theta, out):
        out.fill(self.slope)
        return self.value(theta)

    def batch_value_and_gradient(self, theta, rows, out):
        return self.value_and_gradient(theta, out)


def measure(workers, dim, recipe, seconds):
    """On every rank of the job: the case's row, on rank 0."""
    from psopt.config import parse
    from psopt.data import Table
    from psopt.runs import experiment, stopping
    from psopt.transports.mpi import Link

    config = parse(
        {
            "workers": workers,
            "problem": {"kind": "__main__:Slope", "dim": dim},
            "data": {"source": "memory"},
            "algorithm": {"recipe": recipe, "step_size": 1e-3},
            "f_star": "none",
            "stop": {"max_seconds": 30 * seconds},
            "trace": {"every": 1_000_000, "objective": False},
        }
    )
    marks = []

    class Marking(stopping.Stopping):
        """Notes the clock after each round, and lets there be enough of them."""

        def reason(self, *arguments):
            marks.append(time.perf_counter())
            enough = len(marks) > 2 * PARTS and marks[-1] - marks[0] > seconds
            return "max_seconds" if enough else super().reason(*arguments)

    link = Link()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    table = Table(np.ones((workers, 1)), np.ones(workers))
    plan = experiment.Plan(config, stopping=Marking(config.stop), table=table, problem=Slope, quiet=True)
    done = experiment.run(plan, link)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    told = link.gather(grown, 60.0)
    if link.rank:
        return
    parts = np.array_split(np.diff(marks[len(marks) // 10 :]), PARTS)
    last = {name: float(column[-1]) for name, column in done.trace.items() if name.endswith("_s")}
    own_s = (last["serialise_s"] + last["rest_s"]) / done.rounds
    row = {
        "workers": workers,
        "dim": dim,
        "recipe": recipe,
        "ranks": link.size,
        "rounds": done.rounds,
        "uploads": int(done.uploads.sum()),
        "round_ms": float(np.median([part.mean() for part in parts])) * 1e3,
        "server_ms": own_s * 1e3,
        "share": own_s * done.rounds / sum(last.values()),
        "grown_mb": [nbytes / 1e6 for nbytes in told],
    }
    print("ROW " + json.dumps(row), flush=True)


def run(case, ranks, seconds):
    """The row of one case, from a job of its own."""
    from psopt import launch

    workers, dim, recipe = re.fullmatch(r"(\d+)x(\d+):(.+)", case).groups()
    command = [launch.find_mpiexec(), "-n", str(ranks), sys.executable, __file__]
    command += ["--one", workers, dim, recipe, "--seconds", str(seconds)]
    done = subprocess.run(command, env=launch.environment(), capture_output=True, text=True, timeout=600, check=False)
    rows = [json.loads(line[4:]) for line in done.stdout.splitlines() if line.startswith("ROW ")]
    if done.returncode or len(rows) != 1:
        raise SystemExit(f"{case}: {done.stdout[-1000:]}{done.stderr[-2000:]}")
    return rows[0]


def fitted(rows):
    """a, b, c, e of the server's milliseconds, none below zero, relative errors counting alike; None for few cases."""
    if len(rows) < 5:
        return None
    terms = np.array([[1, row["workers"], row["dim"], row["workers"] * row["dim"]] for row in rows], dtype=float)
    cost = np.array([row["server_ms"] for row in rows])
    from scipy.optimize import nnls

    scale = terms.max(axis=0)
    return nnls(terms / scale / cost[:, None], np.ones(len(rows)))[0] / scale


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--cases", default=CASES)
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        workers, dim, recipe = arguments.one
        measure(int(workers), int(dim), recipe, arguments.seconds)
        return
    rows = []
    print(
        f"{'case':<20} {'rounds':>7} {'round ms':>9} {'server ms':>9} {'us/worker':>9} {'share':>8}  grown MB",
        flush=True,
    )
    for case in arguments.cases.split(","):
        row = run(case, arguments.ranks, arguments.seconds)
        rows.append(row)
        grown = " ".join(f"{mb:.0f}" for mb in row["grown_mb"])
        each = row["server_ms"] * 1e3 / row["workers"]
        print(
            f"{case:<20} {row['rounds']:>7} {row['round_ms']:9.3f} {row['server_ms']:9.3f} {each:9.2f} "
            f"{row['share']:8.0%}  {grown}",
            flush=True,
        )
    for recipe in dict.fromkeys(row["recipe"] for row in rows):
        found = fitted([row for row in rows if row["recipe"] == recipe])
        if found is not None:
            a, b, c, e = found
            print(f"{recipe}: the server's round takes {a:.3g} + {b:.3g} M + {c:.3g} d + {e:.3g} M d ms")


if __name__ == "__main__":
    main()
