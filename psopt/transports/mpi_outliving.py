"""A job whose ranks outlive each other: whether this one can, and how a rank of it leaves.

Open MPI's user-level failure mitigation (ULFM) lets calls to a dead rank raise instead of ending the job. After a death
neither ``MPI_Finalize`` nor ``MPI_Abort`` can be relied upon, so every rank leaves by itself, and no rank outlives its
launcher.
"""

import ctypes
import os
import signal
import sys
from typing import NoReturn

from psopt.transports.mpi import MPI, Link, library

SIGN = "OMPI_MCA_mpi_ft_enable"
"""What ``--with-ft ulfm`` puts into the environment of every rank."""
PR_SET_PDEATHSIG = 1

_outliving = False


def lacking() -> str | None:
    """What this job lacks to go on after the death of a rank; None when it can."""
    if not library().startswith("Open MPI"):
        return f"this MPI library ({library()}) ends the job when a process dies"
    if os.environ.get(SIGN) != "1":
        return "this job was not started with `mpiexec --with-ft ulfm`"
    try:
        MPI.COMM_WORLD.Get_failed()
    except (MPI.Exception, NotImplementedError):
        return f"this MPI library ({library()}) was built without ULFM"
    return None


def outlive(link: Link) -> None:
    """From now on a call to a dead rank raises, and this rank dies with its launcher."""
    for comm in (MPI.COMM_WORLD, MPI.COMM_SELF, link.comm):
        comm.Set_errhandler(MPI.ERRORS_RETURN)
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def go_alone() -> None:
    """The set-up is over: from now on this rank leaves by itself, and aborts nobody."""
    global _outliving
    _outliving = True


def goes_alone() -> bool:
    return _outliving


def leave(code: int) -> NoReturn:
    """Ends this process without a word to MPI, which after a death may never let go of it."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def is_death(error: BaseException) -> bool:
    """Whether an MPI error says that the process at the other end has died."""
    return isinstance(error, MPI.Exception) and error.Get_error_class() == MPI.ERR_PROC_FAILED
