"""Files that a view makes: over an older one of its kind, and never over anything else; whole, or not at all."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from psopt.errors import ConfigError
from psopt.runs.folder import FILES
from psopt.runs.writing import writing

HEAD_NBYTES = 4096


def check_place(out: Path, example: str) -> None:
    """Raises `ConfigError` where the name is a folder's, or its own folder does not exist; ``example`` names a file."""
    if out.is_dir():
        raise ConfigError(f"--out {out} is a folder; expected a file, as in {out / example}")
    if not out.parent.is_dir():
        raise ConfigError(f"--out {out}: there is no folder {out.parent}")


def check_writable(out: Path, what: str, is_ours: Callable[[bytes], bool]) -> None:
    """Raises `ConfigError` where the file belongs to a run, or exists and is not what is to be written over.

    Parameters
    ----------
    what : str
        What is written, as in ``report``.
    is_ours : callable
        Whether a file that begins with these bytes, `HEAD_NBYTES` at most, is an older one.
    """
    if out.name in FILES:
        raise ConfigError(f"--out {out} has the name of a run's own file: choose another")
    if out.exists() and not (out.is_file() and is_ours(_head(out))):
        raise ConfigError(f"--out {out} exists and is no {what} of psopt's: choose another name, or move it away")


def _head(path: Path) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read(HEAD_NBYTES)
    except OSError as error:
        raise ConfigError(f"--out {path} cannot be read: {error.strerror}") from None


@contextmanager
def replacing(out: Path, what: str) -> Iterator[Path]:
    """A file to write beside ``out``, which it becomes at the end, unless something is raised."""
    partial = out.with_name(f".{out.name}.partial")
    with writing(out.parent, f"the {what} {out.name} in"):
        try:
            yield partial
            os.replace(partial, out)
        finally:
            partial.unlink(missing_ok=True)
