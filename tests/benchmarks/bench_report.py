"""How long `psopt report` takes: 20 runs of 10,000 rounds, each with a record, a line of its own for each.

    python tests/benchmarks/bench_report.py [--rounds 10000] [--steps 5] [--folder FOLDER] [--repeats 3]

makes the runs (four recipes, so many step sizes each; those that the folder holds are not made again), then starts
`psopt report` in a process of its own, and prints the median seconds from start to end and the size of each format.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from psopt.config import parse
from psopt.runs.experiment import Plan, simulate

RECIPES = {"gd": "/L", "lag-wk": "/L", "lag-ps": "/L", "cyc-iag": "/(M*L)"}
TARGET_S = 10.0


def make(folder, rounds, steps):
    """One run a recipe and step size, in which no rule but the number of rounds says stop."""
    for recipe, step_size in RECIPES.items():
        for number in range(steps):
            own = folder / f"{recipe}-{number}"
            if (own / "summary.json").is_file():
                continue
            config = {
                "name": own.name,
                "seed": 1,
                "workers": 9,
                "problem": {"kind": "logistic", "l2": 1e-3},
                "data": {
                    "source": "synthetic",
                    "synthetic": {"kind": "logistic", "n_samples": 450, "n_features": 20, "heterogeneity": 2.0},
                },
                "algorithm": {"recipe": recipe, "step_size": f"{1 - 0.1 * number:g}{step_size}"},
                "stop": {"max_rounds": rounds},
                "trace": {"every": 1},
                "checkpoint": {"keep": 0},
            }
            simulate(Plan(parse(config), own, quiet=True))


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--rounds", type=int, default=10_000)
    options.add_argument("--steps", type=int, default=5)
    options.add_argument("--repeats", type=int, default=3)
    options.add_argument("--folder", type=Path)
    given = options.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = given.folder or Path(scratch) / "runs"
        folder.mkdir(parents=True, exist_ok=True)
        make(folder, given.rounds, given.steps)
        print(f"{len(RECIPES) * given.steps} runs of {given.rounds} rounds")
        for form in ("html", "png", "svg", "csv"):
            out, times = Path(scratch) / f"report.{form}", []
            command = [sys.executable, "-m", "psopt", "report", str(folder), "--out", str(out)]
            for _ in range(given.repeats):
                began = time.perf_counter()
                subprocess.run(command, check=True, stdout=subprocess.DEVNULL, timeout=300)
                times.append(time.perf_counter() - began)
            middle = statistics.median(times)
            met = "" if form != "html" else f", target {TARGET_S:.0f} s {'met' if middle < TARGET_S else 'MISSED'}"
            print(f"{form:5} {middle:6.2f} s  {out.stat().st_size / 1e6:8.2f} MB{met}")


if __name__ == "__main__":
    main()
