"""One cell of the fault matrix: a job with one fault, and what came of it.

Whatever a job leaves behind is found by a token in its environment, ended, and held against the cell.
"""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import uuid
from dataclasses import dataclass
from pathlib import Path

import mpi_jobs
from fault_outcomes import CHECKPOINT_EVERY, FAILURE, KINDS, ROUND_OF, ROUNDS, Cell, promised

from psopt import config
from psopt.errors import PsoptError
from psopt.runs.checkpoint import existing
from psopt.runs.folder import Held, held, read_summary
from psopt.runs.trace import packed_width

WITHIN_S = 20.0
"""From the fault to the end of the job; the deadlines below are far shorter."""
HARD_S = 90.0
GONE_WITHIN_S = 5.0
TOKEN = "PSOPT_FAULT_CELL"
TIMEOUTS = {"start_s": 30, "round_s": 3, "idle_s": 3}
SIGNALS = {"Ctrl-C": signal.SIGINT, "SIGTERM": signal.SIGTERM}
SAME = ("status", "theta_sha256", "rounds", "uploads", "payload_bytes_up", "payload_bytes_down")
CUT_OFF_BY = ("SIGKILL", "SIGSTOP", "disk full")


@dataclass(frozen=True)
class Result:
    """What came: in words, how long after the fault, and in what it differs from the promise."""

    came: str
    seconds: float
    differences: list[str]
    output: str


def prepare(folder: Path) -> Path:
    """The config of all cells, with its data; and a run without a fault, so that kernels are compiled."""
    rows = [f"{x},{1 - x},{x * x},{3 * x - 1}" for x in (i / 40 for i in range(40))]
    (folder / "data.csv").write_text("a,b,c,y\n" + "\n".join(rows) + "\n")
    path = folder / "cell.yaml"
    problem = {"workers": 4, "problem": "least-squares", "algorithm": "gd", "f_star": "none", "timeouts": TIMEOUTS}
    data = {"source": "file", "path": str(folder / "data.csv")}
    saved = {"checkpoint": {"every_rounds": CHECKPOINT_EVERY}}
    path.write_text(json.dumps({**problem, "data": data, "stop": {"max_rounds": ROUNDS}, **saved}))
    clean = mpi_jobs.psopt("run", path, "--ranks", 3, "--out", folder / "clean", "--set", "timeouts.start_s=120")
    if clean.code:
        raise AssertionError(f"the run without a fault failed: {clean}")
    return path


def _fault(cell: Cell) -> dict:
    """The cell's fault as the config has it. The launcher is struck by us, while a rank is held up for a moment."""
    fault, place, moment = cell
    k = ROUND_OF[moment]
    if place == "launcher":
        return {"kind": "freeze", "worker": 1, "round": k, "seconds": 2}
    k = max(k, 1) if fault == "NaN gradient" else k  # there is none before
    return {"kind": KINDS[fault], "round": k, **({"server": True} if place == "server" else {"worker": 1})}


def run_cell(cell: Cell, path: Path, out: Path) -> Result:
    fault, place, moment = cell
    token = uuid.uuid4().hex
    overrides = [f"faults={json.dumps([_fault(cell)])}"]
    if (fault, moment) == ("SIGSTOP", "start-up"):
        overrides.append("timeouts.start_s=4")
    command = [sys.executable, "-m", "psopt", "run", str(path), "--ranks", "3", "--quiet", "--out", str(out)]
    job = mpi_jobs.start(command + [word for each in overrides for word in ("--set", each)], **{TOKEN: token})
    lines, struck_at = _watched(job, SIGNALS[fault] if place == "launcher" else None)
    seconds = time.monotonic() - struck_at if struck_at else 0.0
    left = _left_behind(token)
    ended = mpi_jobs.Ended(job.returncode, "", "\n".join(lines), seconds, time.time())
    differences = [f"still there: {each}" for each in left]
    if not struck_at:
        differences.append("the fault did not come")
    if seconds > WITHIN_S:
        differences.append(f"{seconds:.0f} s from the fault to the end")
    folder, broken = _folder(out, path, overrides, fault)
    differences += broken + _judged(cell, ended, folder)
    resumed = existing(out) and folder != "ok"
    if resumed:
        differences += _resumed(out, path.parent / "clean")
    elif folder in ("stopped", "failed", "cut off") and promised(cell).exit != FAILURE and moment == "last round":
        differences.append("there is no checkpoint")
    came = f"exit {ended.code}, {folder}" + ", then resumed" * bool(resumed)
    return Result(came, seconds, differences, ended.err)


def _resumed(out: Path, clean: Path) -> list[str]:
    """In what the run that goes on, without the fault, differs from the undisturbed one."""
    ended = mpi_jobs.psopt("resume", out, "--ranks", 1, "--quiet", "--set", "faults=[]")
    if ended.code:
        return [f"resume: exit {ended.code}, {' '.join(ended.said)}"]
    mine, other = read_summary(out), read_summary(clean)
    return [f"resume: another {key}" for key in SAME if mine[key] != other[key]]


def _watched(job: subprocess.Popen, number: int | None) -> tuple[list[str], float | None]:
    """Reads what the job says until it ends, and when its fault came; then sends the launcher the signal, if any."""
    lines: list[str] = []
    struck: list[float] = []

    def read(stream) -> None:
        with stream:
            for line in stream:
                lines.append(line.rstrip("\n"))
                if "psopt: faults: now" in line:
                    struck.append(time.monotonic())
                    if number is not None:
                        job.send_signal(number)

    readers = [threading.Thread(target=read, args=[stream], daemon=True) for stream in (job.stdout, job.stderr)]
    for reader in readers:
        reader.start()
    try:
        job.wait(HARD_S)
    except subprocess.TimeoutExpired:
        lines.append(f"HUNG for {HARD_S:g} s")
        os.killpg(job.pid, signal.SIGKILL)
        job.wait()
    for reader in readers:
        reader.join(GONE_WITHIN_S)  # what was left behind may hold the other end of the pipe
    return lines, struck[0] if struck else None


def _left_behind(token: str) -> list[str]:
    """The processes of a job that do not go by themselves, once it has ended; they are killed."""
    deadline = time.monotonic() + GONE_WITHIN_S
    while (left := mpi_jobs.bearing(token)) and time.monotonic() < deadline:
        time.sleep(0.05)
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    return [f"{pid} {command[:100]}" for pid, command in left.items()]


def _folder(out: Path, path: Path, overrides: list[str], fault: str) -> tuple[str, list[str]]:
    """What the folder says, in the words of `Outcome.folder`, and what is broken in it."""
    broken = []
    found = held(out, config.load(path, overrides).sha256()) if out.exists() else Held.NOTHING
    if found is Held.NOTHING:
        return "none", []
    if found is Held.ANOTHER:
        return "another run", ["the folder is taken for another run's"]
    for name in ("trace.jsonl", "uploads.bin"):
        if (out / name).exists():
            broken += _unreadable(out / name, fault in CUT_OFF_BY)
    for partial in out.glob("*.partial"):
        broken.append(f"{partial.name} was left")
    try:
        config.load(out / "config.yaml")
    except PsoptError as error:
        if (out / "config.yaml").stat().st_size or fault not in CUT_OFF_BY:
            broken.append(str(error))
    if not (out / "summary.json").exists():
        return "cut off", broken
    return read_summary(out)["status"].partition(":")[0], broken


def _unreadable(file: Path, may_be_cut: bool) -> list[str]:
    if file.name == "uploads.bin":
        return [] if file.stat().st_size % packed_width(4) == 0 else ["uploads.bin holds half a round"]
    *whole, last = file.read_text().split("\n")
    try:
        rounds = [json.loads(line)["round"] for line in whole]
    except ValueError as error:
        return [f"trace.jsonl: {error}"]
    if last and not may_be_cut:
        return ["trace.jsonl: its last line is cut off"]
    return [] if rounds == list(range(len(rounds))) else [f"trace.jsonl holds the rounds {rounds}"]


def _judged(cell: Cell, ended: mpi_jobs.Ended, folder: str) -> list[str]:
    """In what the job's end differs from the promise."""
    promise = promised(cell)
    said = [line for line in ended.said if not line.startswith("psopt: faults: ")]
    tracebacks = sum("Traceback (most recent" in line for line in said)
    differences = []
    if (ended.code == 0) if promise.exit == FAILURE else (ended.code != promise.exit):
        differences.append(f"exit {ended.code} instead of {promise.exit}")
    if folder not in promise.folder:
        differences.append(f"the folder says {folder} instead of {' or '.join(promise.folder)}")
    times = sum(promise.says in line for line in said) if promise.says else 1
    once = times == 1 or (cell[1] == "launcher" and times == 2)  # rank 0 and the launcher, each of itself
    if not once:
        differences.append(f"`{promise.says}` was said {times} times")
    if tracebacks != promise.traceback:
        differences.append(f"{tracebacks} tracebacks instead of {int(promise.traceback)}")
    if promise.exit == 0 and [line for line in said if re.search("error|fault|warning", line, re.IGNORECASE)]:
        differences.append("words of a failure, and exit 0")
    if any(line.startswith("HUNG") for line in said):
        differences.append("hung")
    return differences
