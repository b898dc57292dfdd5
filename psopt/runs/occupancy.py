"""Who is writing to a run folder: at most one process, and others can tell."""

import errno
import fcntl
import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, NamedTuple

from psopt.errors import ConfigError
from psopt.runs.writing import writing
from psopt.transports.waiting import done_within

RUNNING = "running"
LOOK_S = 0.3


@contextmanager
def occupied(folder: Path | None) -> Iterator[None]:
    """Around the writing of a run: nobody else may then write to the folder, and `occupant` tells who does.

    A lock of the operating system's, on the file ``running``, which ends with the process. Where a file system knows no
    locks there is none. Raises `ConfigError` when somebody else is at it.
    """
    if folder is None:
        yield
        return
    with writing(folder):
        file = open(folder / RUNNING, "a+b", buffering=0)  # noqa: SIM115  (closed below)
    with file:
        # Somebody who looks has the lock for a moment, too.
        if not done_within(LOOK_S, lambda: _locked(file, fcntl.LOCK_EX)):
            raise ConfigError(f"{folder} is being written by {occupant(folder) or 'another run'}")
        with writing(folder):
            file.truncate(0)
            file.write(json.dumps({"host": socket.gethostname(), "pid": os.getpid()}).encode())
        try:
            yield
        finally:
            (folder / RUNNING).unlink(missing_ok=True)


def occupant(folder: Path) -> "Occupant | None":
    """Who is writing to the folder right now."""
    try:
        with open(folder / RUNNING, "r+b", buffering=0) as file:
            if _locked(file, fcntl.LOCK_SH):
                return None
            said = json.loads(file.read())
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return None
    except ValueError:
        return Occupant("somewhere", 0)  # it has just begun
    return Occupant(said["host"], said["pid"])


class Occupant(NamedTuple):
    """A process that is writing a run."""

    host: str
    pid: int

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"


def _locked(file: IO[bytes], kind: int) -> bool:
    """Whether this process now has the lock of the file, or there are none."""
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP):
            raise
    return True


def ask_to_end(folder: Path, number: int) -> bool | None:
    """Sends a signal to whoever is writing to the folder; None if that is nobody, False if it is nobody here, or where
    locks do not tell.
    """
    who = occupant(folder)
    if who is None:
        return False if (folder / RUNNING).exists() else None
    if not who.pid:
        return None
    if who.host != socket.gethostname():
        return False
    try:
        os.kill(who.pid, number)
    except ProcessLookupError:
        return None
    return True
