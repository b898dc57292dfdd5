"""The fuzzer's command line: ``python -m fuzz --cases 10000 --seed 1``."""

import argparse
import sys
import time
from pathlib import Path

from fuzz.runner import Report, fuzz, one


def main() -> int:
    parser = argparse.ArgumentParser(prog="fuzz", description="Mutated configs and data files, in this process.")
    parser.add_argument("--cases", type=int, default=10_000, help="how many; about half of each sort (10000)")
    parser.add_argument("--seed", type=int, default=1, help="the same seed makes the same cases (1)")
    parser.add_argument("--only", type=int, metavar="NUMBER", help="this case of the seed alone, and all that it says")
    parser.add_argument(
        "--keep", type=Path, default=Path("fuzz-faults"), help="where inputs of faults go (fuzz-faults)"
    )
    given = parser.parse_args()
    began = time.perf_counter()
    report = Report(given.seed)
    if given.only is not None:
        verdict = one(given.seed, given.only, given.keep)
        report.add(given.only, verdict)
        print(verdict.text)
    else:
        fuzz(given.seed, given.cases, given.keep, report)
    print(report.table())
    print(f"{report.count} cases of seed {given.seed} in {time.perf_counter() - began:.0f} s")
    print(report.faults(given.keep), end="")
    return 1 if report.found else 0


if __name__ == "__main__":
    sys.exit(main())
