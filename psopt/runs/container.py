"""One file that holds a tree of plain data and arrays, checked when it is read, and never executed.

Eight bytes that say what it is, eight that say how long the header is, the header as JSON, and the arrays one after the
other, each from a multiple of 64 bytes. The header holds the tree, in which a number stands for each array, and of each
array dtype, shape, place and SHA-256. Whoever knows the header's SHA-256 knows that of everything. Arrays may be read
one by one.
"""

import hashlib
import json
import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from psopt.errors import ConfigError
from psopt.records import record

MAGIC = b"psopt\x00\x00\x01"
ALIGNED_NBYTES = 64
CHUNK_NBYTES = 1 << 24
SYNC_NBYTES = 1 << 28
_LENGTH = struct.Struct("<Q")
_ARRAY = "#"
_DTYPES = {np.dtype(name).str: np.dtype(name) for name in ("u1", "i1", "i4", "i8", "u4", "u8", "f2", "f4", "f8", "?")}


@record
class Written:
    """What is to be remembered of a file: its length, and the SHA-256 of its header."""

    nbytes: int
    sha256: str


def write(path: Path, tree: Any, tick: Callable[[], None] = lambda: None) -> Written:
    """Writes the tree, through to the disk. ``tick`` is called now and then, at most some ten megabytes apart.

    Raises `OSError` when the file cannot be written, `TypeError` for what has no place in a tree.
    """
    arrays: list[np.ndarray] = []
    plain = _taken_out(tree, arrays)
    listed, place = [], 0
    for array in arrays:
        if array.dtype.str not in _DTYPES:
            raise TypeError(f"arrays of {array.dtype} have no place in a checkpoint")
        listed.append([array.dtype.str, list(array.shape), place, _digest(array, tick)])
        place += _filled_up(array.nbytes)
    header = json.dumps({"tree": plain, "arrays": listed}, separators=(",", ":")).encode("ascii")
    start = _filled_up(len(MAGIC) + _LENGTH.size + len(header))
    with open(path, "wb", buffering=0) as file:
        _put(file, MAGIC + _LENGTH.pack(len(header)) + header, start, tick)
        for array in arrays:
            _put(file, _bytes_of(array), _filled_up(array.nbytes), tick)
        os.fsync(file.fileno())
    return Written(start + place, hashlib.sha256(header).hexdigest())


def _put(file: BinaryIO, content: bytes | memoryview, nbytes: int, tick: Callable[[], None]) -> None:
    """The content, and zeros up to ``nbytes``."""
    view = memoryview(content)
    written = 0
    while view:
        done = file.write(view[:CHUNK_NBYTES])
        view, written = view[done:], written + done
        if written >= SYNC_NBYTES:  # or the last call would wait for all of it at once, without a tick
            os.fdatasync(file.fileno())
            written = 0
        tick()
    zeros = memoryview(bytes(nbytes - len(content)))
    while zeros:
        zeros = zeros[file.write(zeros) :]


def _taken_out(tree: Any, arrays: list[np.ndarray]) -> Any:
    """The tree with a number for each array, which goes to ``arrays``."""
    if isinstance(tree, np.ndarray):
        arrays.append(np.asarray(tree, order="C"))
        return {_ARRAY: len(arrays) - 1}
    if isinstance(tree, dict):
        return {key: _taken_out(inner, arrays) for key, inner in tree.items()}
    if isinstance(tree, list):
        return [_taken_out(inner, arrays) for inner in tree]
    return tree


def _bytes_of(array: np.ndarray) -> memoryview:
    return memoryview(array.reshape(-1).view(np.uint8))


def _filled_up(nbytes: int) -> int:
    return -(-nbytes // ALIGNED_NBYTES) * ALIGNED_NBYTES


def _digest(array: np.ndarray, tick: Callable[[], None]) -> str:
    digest = hashlib.sha256()
    view = _bytes_of(array)
    for at in range(0, len(view), CHUNK_NBYTES):
        digest.update(view[at : at + CHUNK_NBYTES])
        tick()
    return digest.hexdigest()


class Container:
    """A file that was written by `write`, open for reading.

    Parameters
    ----------
    path : Path
    nbytes, sha256
        What `write` told of it.

    Raises
    ------
    ConfigError
        When the file is missing, or is not the one that was written; from `load` as well.
    """

    def __init__(self, path: Path, nbytes: int, sha256: str) -> None:
        self._path = path
        try:
            found = path.stat().st_size
            if found != nbytes:
                raise ConfigError(f"{path} is damaged: it has {found} bytes and had {nbytes}")
            with open(path, "rb") as file:
                opening = file.read(len(MAGIC) + _LENGTH.size)
                length = _LENGTH.unpack_from(opening.ljust(len(MAGIC) + _LENGTH.size, b"\0"), len(MAGIC))[0]
                header = file.read(length) if length <= nbytes else b""
        except OSError as error:
            raise ConfigError(f"{path} cannot be read: {error.strerror}") from None
        if opening[: len(MAGIC)] != MAGIC or hashlib.sha256(header).hexdigest() != sha256:
            raise ConfigError(f"{path} is damaged: its header is not the one that was written")
        content = json.loads(header)
        self.tree = content["tree"]
        """With a reference in the place of each array: see `load`."""
        self._arrays = content["arrays"]
        self._start = _filled_up(len(MAGIC) + _LENGTH.size + len(header))

    def load(self, tree: Any) -> Any:
        """A part of ``tree`` with its arrays, each of which is read and checked."""
        if isinstance(tree, dict):
            if tree.keys() == {_ARRAY}:
                return self._read(tree[_ARRAY])
            return {key: self.load(inner) for key, inner in tree.items()}
        return [self.load(inner) for inner in tree] if isinstance(tree, list) else tree

    def check(self, tick: Callable[[], None] = lambda: None) -> None:
        """Reads every array, one by one, and raises `ConfigError` for one that is damaged."""
        for number in range(len(self._arrays)):
            self._read(number)
            tick()

    def _read(self, number: int) -> np.ndarray:
        kind, shape, place, sha256 = self._arrays[number]
        array = np.empty(shape, _DTYPES[kind])
        view = _bytes_of(array)
        try:
            with open(self._path, "rb", buffering=0) as file:
                file.seek(self._start + place)
                at = 0
                while at < len(view):
                    read = file.readinto(view[at : at + CHUNK_NBYTES])
                    if not read:
                        break
                    at += read
        except OSError as error:
            raise ConfigError(f"{self._path} cannot be read: {error.strerror}") from None
        if _digest(array, lambda: None) != sha256:
            raise ConfigError(f"{self._path} is damaged: an array of it has another checksum than when it was written")
        return array
