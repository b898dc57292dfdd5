"""How well a run survives: configs/lag_wk.yaml on 10 ranks, a worker's rank killed at a random moment, over and over.

``python tests/survive.py --repetitions 30`` prints a line a repetition and exits 1 when one hung, failed or left a
process behind. A run that ended before its worker was killed (round -1) is told and does not count. Open MPI alone.
"""

import argparse
import os
import signal
import statistics
import sys
import tempfile
import threading
import time
import uuid
from pathlib import Path

import mpi_jobs
import numpy as np
from test_failure_policies import TOKEN, left_behind

import psopt

CONFIG = mpi_jobs.HERE.parent / "configs" / "lag_wk.yaml"
WORKERS, RANKS, LIMIT_S = 9, 10, 180.0
BEGUN = "psopt: step size"


def rank_process(token, rank):
    """The process of that rank of the job that carries the token."""
    wanted = {f"{TOKEN}={token}".encode(), f"OMPI_COMM_WORLD_RANK={rank}".encode()}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if wanted <= set((process / "environ").read_bytes().split(b"\0")):
                return int(process.name)
        except OSError:
            continue
    raise ProcessLookupError(f"rank {rank} has ended already")


def repetition(policy, worker, after_s, folder):
    """One run, whose worker's rank (None: nobody's) is killed so long after round 1 began; what hangs is ended."""
    token = uuid.uuid4().hex
    watch = threading.Timer(LIMIT_S, left_behind, [token])
    watch.start()
    began = time.monotonic()
    options = ["--set", f"failure.policy={policy}", "--set", "stop.max_rounds=1500", "--out", str(folder)]
    command = [sys.executable, "-m", "psopt", "run", str(CONFIG), "--ranks", str(RANKS), *options]
    job = mpi_jobs.start(command, **{TOKEN: token})
    said = []
    for line in job.stderr:
        said.append(line)
        if line.startswith(BEGUN):
            break
    if worker is not None:
        time.sleep(after_s)
        try:
            os.kill(rank_process(token, 1 + worker), signal.SIGKILL)
        except ProcessLookupError:
            said.append("nobody was killed: the run had ended\n")
    ended = mpi_jobs.finish(job, timeout_s=2 * LIMIT_S)
    watch.cancel()
    return time.monotonic() - began, ended, "".join(said) + ended.err, left_behind(token)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repetitions", type=int, default=30)
    parser.add_argument("--policy", choices=["continue_stale", "drop"], default="continue_stale")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    rng = np.random.default_rng(asked.seed)
    kept = []
    faults = number = 0
    print(
        f"{'':3} {'worker':>6} {'round':>6} {'rounds':>6} {'ended by':>10} {'gap':>10} {'gap_full':>10} {'seconds':>8}"
    )
    with tempfile.TemporaryDirectory() as out:
        repetition(asked.policy, None, 0.0, Path(out) / "0")
        whole_s = psopt.load_run(Path(out) / "0").wall_s  # of a run that loses nobody: the moments lie within it
        while len(kept) + faults < asked.repetitions:
            number += 1
            worker, after_s = int(rng.integers(WORKERS)), float(rng.uniform(0.0, 0.9)) * whole_s
            folder = Path(out) / f"{number}"
            seconds, ended, said, orphans = repetition(asked.policy, worker, after_s, folder)
            if seconds > LIMIT_S:
                print(f"{number:3} {worker:6} HUNG for {LIMIT_S:g} s:\n{said}")
                faults += 1
                continue
            wrong = ended.code != 0 or orphans or "Traceback" in said
            if wrong:
                print(f"{number:3} {worker:6} FAILED: exit code {ended.code}, left behind {orphans}\n{said}")
                faults += 1
                continue
            run = psopt.load_run(folder)
            lost = run.lost[0]["round"] if run.lost else -1
            full = run.summary.get("gap_full", float("nan"))
            if run.lost:
                kept.append((run.gap, full, seconds))
            row = f"{number:3} {worker:6} {lost:6} {run.rounds:6} {run.stop_reason:>10}"
            print(f"{row} {run.gap:10.2e} {full:10.2e} {seconds:8.1f}", flush=True)
    for name, values in zip(("gap", "gap_full", "seconds"), zip(*kept, strict=True), strict=False):
        print(f"{name}: least {min(values):.2e}, median {statistics.median(values):.2e}, most {max(values):.2e}")
    print(f"{len(kept)} runs that lost a worker and ended well, {faults} that hung or failed")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
