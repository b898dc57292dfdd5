"""Writing files: what the operating system refuses, as a full disk does, is one sentence about what was written."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from psopt.errors import CannotWrite


@contextmanager
def writing(folder: Path, what: str = "the run folder") -> Iterator[None]:
    """What the operating system refuses inside is a `CannotWrite` about the folder."""
    try:
        yield
    except OSError as error:
        raise unwritable(folder, error, what) from None


def unwritable(folder: Path, error: OSError, what: str = "the run folder") -> CannotWrite:
    """What to raise for files in a folder that cannot be written."""
    return CannotWrite(f"psopt: {what} {folder} cannot be written: {error.strerror or error}")


def write_through(path: Path, text: str) -> None:
    """Writes a file through to the disk."""
    with open(path, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def sync(folder: Path) -> None:
    """Lets the names in a folder reach the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
