"""What `trace.decisions` costs: the same run with it and without, interleaved, in one process or over MPI.

    python tests/benchmarks/bench_decisions.py [--rounds 3000] [--repeats 21]
    mpiexec -n 4 ... python tests/benchmarks/bench_decisions.py

LAG-WK and LAG-PS on the LAG paper's logistic problem, 9 workers: rounds that do next to nothing, so the dearest case.
Prints the median of the ratios of neighbouring runs, and the quartiles.
"""

import argparse
import statistics
import tempfile
from pathlib import Path

RECIPES = ("lag-wk", "lag-ps", "gd")


def config_of(recipe, rounds, decisions):
    from psopt.config import parse

    return parse(
        {
            "workers": 9,
            "problem": {"kind": "logistic", "l2": 1e-3},
            "data": "lag-logistic",
            "algorithm": recipe,
            "f_star": "none",
            "stop": {"max_rounds": rounds},
            "trace": {"every": 1, "decisions": decisions},
            "checkpoint": {"keep": 0},
        }
    )


def main():
    from psopt import launch
    from psopt.commands import join
    from psopt.runs.experiment import Plan, run, simulate

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3000)
    parser.add_argument("--repeats", type=int, default=21)
    options = parser.parse_args()
    link = None if launch.told_ranks() is None else join(None)
    with tempfile.TemporaryDirectory() as scratch:
        for recipe in RECIPES:
            took = {True: [], False: []}
            for i in range(-1, options.repeats):  # the first pair warms up
                for decisions in (True, False) if i % 2 else (False, True):
                    folder = Path(scratch) / f"{recipe}-{i}-{decisions}"
                    plan = Plan(config_of(recipe, options.rounds, decisions), folder, quiet=True, warns=False)
                    done = simulate(plan) if link is None else run(plan, link)
                    if i >= 0:
                        took[decisions].append(done.wall_s / done.rounds)
            if link is None or link.rank == 0:
                ratios = [a / b for a, b in zip(took[True], took[False], strict=True)]
                low, middle, high = statistics.quantiles(ratios, n=4)
                print(
                    f"{recipe:8} {statistics.median(took[False]) * 1e6:7.1f} us a round without, "
                    f"ratio with/without {middle:.3f} (quartiles {low:.3f}, {high:.3f})",
                    flush=True,
                )


if __name__ == "__main__":
    main()
