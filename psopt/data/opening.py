"""Opening a data file, plain or compressed, so that every failure is one sentence about that file."""

import bz2
import gzip
import lzma
import os
import stat
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from psopt.errors import ConfigError

LONGEST_REASON = 200
COMPRESSED = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}


@contextmanager
def opened(path: str) -> Iterator[BinaryIO]:
    """The file's bytes, decompressed if its suffix says .gz, .bz2 or .xz."""
    with _sentences(path), COMPRESSED.get(Path(path).suffix.lower(), open)(path, "rb") as file:
        yield file


@contextmanager
def opened_plain(path: str) -> Iterator[BinaryIO]:
    """The file's bytes as they are."""
    with _sentences(path), open(path, "rb") as file:
        yield file


def kind_of_file(path: str | Path) -> str:
    """``file``, ``folder``, or ``pipe or device``, whose content might never end; links are followed."""
    mode = os.stat(path).st_mode
    if stat.S_ISDIR(mode):
        return "folder"
    return "file" if stat.S_ISREG(mode) else "pipe or device"


@contextmanager
def _sentences(path: str) -> Iterator[None]:
    """Refuses what is no ordinary file, and makes sentences of what goes wrong while it is read."""
    try:
        kind = kind_of_file(path)
        if kind != "file":
            raise ConfigError(f"is a {kind}, expected a data file", path)
        yield
    except FileNotFoundError:
        raise ConfigError("there is no such file", path) from None
    except (OSError, EOFError, zlib.error, lzma.LZMAError) as error:
        reason = getattr(error, "strerror", None) or one_line(error)
        raise ConfigError(f"cannot be read: {reason}", path) from error
    except ValueError as error:  # of a path that holds a zero byte
        if "\0" not in path:
            raise
        raise ConfigError(f"cannot be read: {error}", path) from None


def one_line(error: BaseException) -> str:
    """What a library says of a file, which may hold pieces of the file: the beginning of it."""
    text = " ".join(str(error).split())
    return text if len(text) <= LONGEST_REASON else f"{text[:LONGEST_REASON]}..."


def suffix(path: str) -> str:
    """The suffix that tells the format, with a compression's suffix taken off first: ``a9a.csv.gz`` -> ``.csv``."""
    bare = Path(path)
    return (bare.with_suffix("") if bare.suffix.lower() in COMPRESSED else bare).suffix.lower()
