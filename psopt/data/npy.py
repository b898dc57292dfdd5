"""One array in the .npy form, from a file or from a member of an .npz archive.

The header is matched, not evaluated; nothing is unpickled; and no memory is taken before the header's shape is known to
be as large as what follows it.
"""

import math
import re
from typing import BinaryIO

import numpy as np

from psopt.errors import ConfigError

MAGIC = b"\x93NUMPY"
LONGEST_HEADER = 10_000
MOST_DIMENSIONS = 32
LARGEST_EMPTY = 1 << 40  # numbers beside a length of 0
PIECE_NBYTES = 1 << 20

_PAIR = re.compile(
    r"""\s*["'](descr|fortran_order|shape)["']\s*:\s*(?:["']([^"']*)["']|(True|False)|\(([^)]*)\))\s*,?""", re.ASCII
)
_DTYPE = re.compile(r"[<>=|]?[?biufcSUVMm][0-9]{0,4}(\[[0-9]{0,3}[a-z]{1,2}\])?")
_LENGTH = re.compile(r"\s*(0|[1-9][0-9]{0,18})L?\s*", re.ASCII)  # L: written by Python 2
_KEYS = {"descr", "fortran_order", "shape"}


def read_array(file: BinaryIO, nbytes: int, where: str, what: str) -> np.ndarray:
    """The array in a stream of ``nbytes`` bytes; what is wrong is said about ``what`` in the file ``where``."""
    dtype, fortran, shape, begun = _header(file, where, what)
    expected = begun + math.prod(shape) * dtype.itemsize
    if nbytes != expected:
        wrong = "is cut short" if nbytes < expected else "goes on behind its end"
        raise ConfigError(f"{what} {wrong}: {nbytes} bytes, expected {expected} for {_product(shape)} values", where)
    if 0 in shape and math.prod(n for n in shape if n) > LARGEST_EMPTY:
        raise ConfigError(f"{what} has the shape {_product(shape)}, which nothing can have", where)
    array = np.empty(shape[::-1] if fortran else shape, dtype)
    room = array.reshape(-1).view(np.uint8)
    at = 0
    while at < room.size:
        got = file.readinto(room[at : at + PIECE_NBYTES])
        if not got:
            raise ConfigError(f"{what} is cut short: {begun + at} bytes, expected {expected}", where)
        at += got
    return array.T if fortran else array


def _header(file: BinaryIO, where: str, what: str) -> tuple[np.dtype, bool, tuple[int, ...], int]:
    """dtype, whether the first index runs fastest, shape, and the bytes before the first value."""
    begin = file.read(8)
    if begin[:6] != MAGIC:
        found = f"begins with the bytes {begin[:6].hex(' ')}" if begin else "is empty"
        raise ConfigError(f"{what} {found}, expected an .npy file", where)
    if begin[6:] not in (b"\x01\0", b"\x02\0", b"\x03\0"):
        raise ConfigError(f"{what} is of a version of .npy other than 1.0, 2.0 and 3.0", where)
    width = 2 if begin[6] == 1 else 4
    length = int.from_bytes(file.read(width), "little")
    if length > LONGEST_HEADER:
        raise ConfigError(f"{what} claims a header of {length} bytes, expected at most {LONGEST_HEADER}", where)
    text = file.read(length).strip().decode("latin-1")
    found = _pairs(text)
    if found is None:
        raise ConfigError(f"{what} has a header that names no plain descr, fortran_order and shape", where)
    descr, order, lengths = found
    if "O" in descr:
        raise ConfigError(f"{what} holds Python objects, which psopt never unpickles: save numbers", where)
    try:
        dtype = np.dtype(descr) if _DTYPE.fullmatch(descr) else None
    except (TypeError, ValueError):
        dtype = None
    if dtype is None or dtype.itemsize == 0:
        raise ConfigError(f"{what} has the unknown dtype {descr[:40]!r}", where)
    shape = _shape(lengths)
    if shape is None:
        raise ConfigError(f"{what} has the shape ({lengths[:40]}), which is no list of lengths", where)
    return dtype, order == "True", shape, 8 + width + length


def _pairs(text: str) -> tuple[str, str, str] | None:
    """The texts of descr, fortran_order and shape; None unless the header is a mapping of these alone."""
    if not (text.isascii() and text.startswith("{") and text.endswith("}")):
        return None
    found: dict[str, re.Match[str]] = {}
    at, end = 1, len(text) - 1
    while match := _PAIR.match(text, at, end):
        if match[1] in found:
            return None
        found[match[1]] = match
        at = match.end()
    if found.keys() != _KEYS or text[at:end].strip():
        return None
    values = found["descr"][2], found["fortran_order"][3], found["shape"][4]
    return None if None in values else values


def _shape(text: str) -> tuple[int, ...] | None:
    """The lengths in ``3, 2`` or ``3,`` or nothing; ``3`` alone is no tuple of Python's."""
    if not text.strip():
        return ()
    parts = text.split(",")
    if len(parts) == 1:
        return None
    if not parts[-1].strip():
        parts.pop()
    lengths = [_LENGTH.fullmatch(part) for part in parts]
    if len(lengths) > MOST_DIMENSIONS or not all(lengths):
        return None
    return tuple(int(match[1]) for match in lengths)


def _product(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape)) or "1"
