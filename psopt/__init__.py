"""psopt: communication-efficient distributed optimisation over MPI.

`minimize`, `load_run` and `load_runs` are all that most programs need; they are loaded on first use, so that ``import
psopt`` stays light. Under mpiexec `rank` and `ranks` tell a program which process of how many it is.
"""

from typing import Any

__version__ = "0.1.0"

__all__ = ["load_run", "load_runs", "minimize", "rank", "ranks"]


def rank() -> int:
    """Which rank of its MPI job this process is, by its launcher; 0 in a plain Python process. Starts no MPI."""
    from psopt.launch import told_rank

    return told_rank()


def ranks() -> int:
    """How many ranks its MPI job has, by its launcher; 1 in a plain Python process. Starts no MPI."""
    from psopt.launch import told_ranks

    return told_ranks() or 1


def __getattr__(name: str) -> Any:
    if name in __all__:
        from psopt import api

        return getattr(api, name)
    raise AttributeError(f"module 'psopt' has no attribute {name!r}")
