"""SIGKILL at random moments, over many recipes: what goes on from the checkpoint ends as if nothing had happened.
``make test-kills``.

Each turn starts a run over MPI, kills one of its processes (the server, or a rank with workers) at a
random moment of its rounds, resumes it on another number of ranks, kills that now and then, too, and holds the end
against an undisturbed run in one process: bits, uploads and bytes. Arguments: how many kills, and a seed.
"""

import json
import os
import random
import signal
import sys
import tempfile
import time
from pathlib import Path

import mpi_jobs
from mpi_bits import KEYS

from psopt.runs.checkpoint import existing, round_of
from psopt.runs.folder import load_run
from psopt.runs.occupancy import occupant

SAME = ("status", *KEYS)
MEAN = {"kind": "logistic", "l2": 1e-2, "reduction": "mean"}
SLOW = [{"kind": "delay", "worker": 0, "seconds": 0.004}]
RANKS = (2, 3, 4, 10)
NEVER = 120.0


def recipes():
    """Ten rows: lazy, sparse, local, with momentum at either end, with a downlink of changes."""
    local = {
        "plan": {"kind": "fixed", "local_steps": 3},
        "step_size": {"kind": "cosine", "initial": 0.01, "steps": 900},
    }
    sparse = {"recipe": "sasg", "step_size": 1e-3}
    yield "lag-wk", {"algorithm": "lag-wk"}
    yield "lag-ps", {"algorithm": "lag-ps"}
    yield "num-iag", {"algorithm": "num-iag"}
    yield "sasg", {"algorithm": sparse}
    yield "sasg, changes", {"algorithm": sparse, "downlink": "changes"}
    yield "lasg-wk1", {"algorithm": {"recipe": "lasg-wk1", "step_size": 1e-3}, "trace": {"every": 7}}
    yield "clag", {"algorithm": "clag", "problem": {"kind": "logistic", "l2": 1e-2, "dtype": "float32"}}
    yield "fedavgm", {"algorithm": {"recipe": "fedavgm", **local}, "problem": MEAN}
    yield "diloco", {"algorithm": {"recipe": "diloco", **local}, "problem": MEAN}
    yield "adamw", {"algorithm": {"recipe": "adamw", "step_size": 1e-3}, "problem": MEAN}


def write(path, sections):
    given = {
        "workers": 9,
        "problem": {"kind": "logistic", "l2": 1e-2},
        "data": "lag-logistic",
        "f_star": "none",
        "stop": {"max_rounds": 300, "max_steps": 900},
        "checkpoint": {"every_rounds": 20},
        "seed": 6,
        **sections,
    }
    path.write_text(json.dumps(given))


def killed(command, folder, after_s, draw):
    """Starts the job, kills one of its processes ``after_s`` seconds into its rounds, and waits for all of it.

    Returns who was killed, None if the job was quicker.
    """
    job = mpi_jobs.start([sys.executable, "-m", "psopt", *map(str, command)])
    deadline = time.monotonic() + NEVER
    while occupant(folder) is None and job.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(after_s)
    server = occupant(folder)
    ranks = [pid for pid in mpi_jobs.ranks_of(folder) if pid != job.pid]
    victim = draw.choice(ranks) if ranks and job.poll() is None else None
    if victim is not None:
        os.kill(victim, signal.SIGKILL)
    mpi_jobs.finish(job, timeout_s=60)
    left = mpi_jobs.ranks_of(folder)
    assert not left, f"left behind: {left}"
    if victim is None:
        return None
    return "the server" if server and victim == server.pid else "a worker's rank"


def main(kills, seed):
    draw, different, began = random.Random(seed), 0, time.monotonic()
    rows = list(recipes())
    with tempfile.TemporaryDirectory() as place:
        done, number = 0, 0
        whole = {}
        while done < kills:
            name, sections = rows[number % len(rows)]
            folder = Path(place) / f"run-{number}"
            number += 1
            path = Path(place) / f"{name.replace(', ', '-')}.yaml"
            if name not in whole:
                write(path, sections)
                out = Path(place) / f"whole-{path.stem}"
                ended = mpi_jobs.psopt("simulate", path, "--out", out, "--quiet")
                assert ended.code == 0, ended
                whole[name] = load_run(out)
            slow = ["--set", f"faults={json.dumps(SLOW)}"]
            ranks = draw.choice(RANKS)
            command = ["run", path, "--out", folder, "--ranks", ranks, "--quiet", *slow]
            story = []
            while (who := killed(command, folder, draw.uniform(0, 1.6), draw)) is not None:
                done += 1
                points = existing(folder)
                if not points:
                    story.append(f"{who} on {ranks} ranks before the first checkpoint")
                    break
                story.append(f"{who} on {ranks} ranks, resumed from {round_of(points[-1])}")
                ranks = draw.choice(RANKS)
                command = ["resume", folder, "--ranks", ranks, "--quiet", *slow]
                if draw.random() < 0.7:
                    command = None
                    ended = mpi_jobs.psopt("resume", folder, "--ranks", draw.choice((1, *RANKS)), "--quiet")
                    if ended.code:
                        story.append(f"resume failed: {ended.said}")
                    break
            faults = [] if not existing(folder) else differences(folder, whole[name])
            different += bool(faults)
            print(f"{done:3} of {kills}  {name:14} {'; '.join(story) or 'was quicker'}", flush=True)
            for fault in faults:
                print(f"    {fault}", flush=True)
    print(f"{done} kills in {number} runs: {different} ended otherwise, in {time.monotonic() - began:.0f} s")
    return 1 if different else 0


def differences(folder, whole):
    if not (folder / "summary.json").exists():
        return ["it has not come to its end"]
    mine = load_run(folder)
    found = [f"another {key}: {mine.summary[key]}" for key in SAME if mine.summary[key] != whole.summary[key]]
    return found if (mine.uploads == whole.uploads).all() else [*found, "others uploaded"]


if __name__ == "__main__":
    given = [int(word) for word in sys.argv[1:]]
    sys.exit(main(*(given + [50, 1][len(given) :])))
