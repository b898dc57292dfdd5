"""What a fault does to the process that it strikes: the real thing, as far as a user without rights can do it."""

import errno
import fnmatch
import os
import resource
import signal
import stat
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from psopt.config import RunConfig
from psopt.config.faults import Freeze, Strike
from psopt.data.named import BUNDLED
from psopt.data.spec import WORKER

STANDARD_STREAMS = (1, 2)


class InjectedFault(RuntimeError):
    """What `raise` raises."""


def strike(fault: Strike | Freeze, config: RunConfig) -> None:
    """Does it, and returns where the process lives on; `not_finite` concerns no process, and numbers elsewhere."""
    match fault.kind:
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "terminate":
            os.kill(os.getpid(), signal.SIGTERM)
        case "interrupt":
            os.kill(os.getpid(), signal.SIGINT)
        case "raise":
            raise InjectedFault(f"{fault.told}, as `faults` asks")
        case "freeze":
            _freeze(fault.seconds)
        case "disk_full":
            _fill_disk()
        case "unreadable_data":
            _lose(_files(config))


def _freeze(seconds: float | None) -> None:
    """Stops this process; with ``seconds``, a small one started beforehand wakes it up."""
    if seconds is None:
        os.kill(os.getpid(), signal.SIGSTOP)
        return
    with subprocess.Popen(["sh", "-c", f"sleep {seconds}; kill -CONT {os.getpid()}"]):
        os.kill(os.getpid(), signal.SIGSTOP)


def _fill_disk() -> None:
    """No file takes a byte any more: the kernel refuses with EFBIG, as a full disk does with ENOSPC.

    What is printed must not suffer: a standard stream that is a file is written by a small process without the limit.
    """
    for stream in STANDARD_STREAMS:
        if stat.S_ISREG(os.fstat(stream).st_mode):
            writer = subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=stream)  # ends with this process
            os.dup2(writer.stdin.fileno(), stream)
            writer.stdin.close()
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))


def _files(config: RunConfig) -> list[str]:
    """Patterns of the paths that the data are read from."""
    data = config.data
    paths = [data.path, data.labels_path, *([data.test.path, data.test.labels_path] if data.test else [])]
    named = [os.path.abspath(WORKER.sub("*", path)) for path in paths if path] or [str(BUNDLED)]
    return [pattern for path in named for pattern in (path, str(Path(path) / "*"))]


def _lose(patterns: Sequence[str]) -> None:
    """Opening a file of one of these paths fails from now on, as it does on a bad disk."""

    def refuse(event: str, arguments: tuple[object, ...]) -> None:
        if event != "open" or not isinstance(arguments[0], str | os.PathLike):
            return
        path = os.path.abspath(os.fspath(arguments[0]))
        if any(fnmatch.fnmatch(path, pattern) for pattern in patterns):
            raise OSError(errno.EIO, os.strerror(errno.EIO), path)

    sys.addaudithook(refuse)
