"""What a measurement was made on, and what would make it unfair."""

import os
import platform
from importlib import metadata
from pathlib import Path
from typing import Any

import psopt
from psopt.launch import affinity, cores

HINDRANCES = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE", "MKL_DEBUG_CPU_TYPE")
"""Environment variables that may make NumPy slower than it is; they count when NumPy is loaded."""

VERSIONS = ("numpy", "numba", "scipy", "torch", "mpi4py")
READ_NBYTES = 256 << 20


def clear_the_way() -> None:
    """Takes away what would slow NumPy down; to be called before it is imported."""
    for name in HINDRANCES:
        os.environ.pop(name, None)


def describe(seconds: float = 0.5) -> dict[str, Any]:
    """The machine as ``bench.json`` has it: CPU, cores, affinity, versions, and how fast one core reads memory."""
    return {
        "cpu": cpu(),
        "cores": os.cpu_count(),
        "affinity": affinity(),
        "cores_to_run_on": cores(),
        "load": round(os.getloadavg()[0], 2),
        "read_bytes_per_s": read_bandwidth(seconds),
        "system": platform.platform(),
        "versions": versions(),
    }


def cpu() -> str:
    """The model name of the CPU, or its architecture where the system does not say."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())


def read_bandwidth(seconds: float, nbytes: int = READ_NBYTES) -> float:
    """Bytes a second that one core reads from memory, out of any cache: the faster of two ways."""
    import numpy as np

    from psopt.bench.turns import take_turns
    from psopt.problems.kernels.reading import read_once, read_streams

    held = np.ones(nbytes // 8)
    taken = take_turns({"once": lambda: read_once(held), "streams": lambda: read_streams(held)}, seconds)
    return held.nbytes / min(taken.values())


def versions() -> dict[str, str]:
    """Of Python, psopt, and what psopt and its baselines compute with, as far as it is installed."""
    found = {"python": platform.python_version(), "psopt": psopt.__version__}
    for name in VERSIONS:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found
