"""IDX files, MNIST's format: a type, the lengths of all dimensions, then the values; all of it big-endian.

The four bytes in front are 0, 0, a type code and the number of dimensions; each length is a 4-byte whole number. The
first dimension counts samples, the others are flattened to one row a sample.
"""

import hashlib
import math
import os
from typing import BinaryIO

import numpy as np

from psopt.data.checks import check_finite
from psopt.data.opening import kind_of_file, opened
from psopt.data.table import Table
from psopt.errors import ConfigError

DESCRIPTIONS = {
    "idx": "your images in MNIST's format; set `path` to the folder of train-images-idx3-ubyte and the other three",
}
MOST_DIMENSIONS = 8
PIECE_NBYTES = 1 << 24
TYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
TRAIN, TEST = "train", "t10k"


def read_idx(path: str, sha256: str | None = None) -> np.ndarray:
    """One IDX file as rows, shape (n, values a sample), in its own element type; .gz is decompressed.

    ``sha256``, in hex, is what the content must have: that of the decompressed file, because the same content can be
    compressed in many ways. Rows of bytes share the file's memory and cannot be written into.
    """
    with opened(path) as file:
        raw = _read(file)
    if sha256 is not None and hashlib.sha256(raw).hexdigest() != sha256:
        raise ConfigError("is not the published file (its sha256 differs): use source 'idx' for your own files", path)
    if raw[:2] == b"\x1f\x8b":
        raise ConfigError("is compressed with gzip, but its name does not end in .gz", path)
    if not _is_header(raw):
        begins = f"begins with the bytes {raw[:4].hex(' ')}" if raw else "is empty"
        form = f"00 00, a type from 08 to 0e, the number of dimensions, at most {MOST_DIMENSIONS}"
        raise ConfigError(f"{begins}, expected an IDX file: {form}", path)
    dtype, first = np.dtype(TYPES[raw[2]]), 4 + 4 * raw[3]
    if len(raw) < first:
        raise ConfigError(f"is cut short: {len(raw)} bytes, but its header alone has {first}", path)
    shape, expected = _size(raw)
    lengths = " x ".join(map(str, shape))
    if len(raw) != expected:
        wrong = f"is cut short: {len(raw)} bytes" if len(raw) < expected else "goes on behind its end"
        raise ConfigError(f"{wrong}, expected {expected} for {lengths} values", path)
    if expected == first:
        raise ConfigError(f"holds no values: its header says {lengths}", path)
    rows = np.frombuffer(raw, dtype, offset=first).reshape(shape[0], -1)
    return rows.astype(dtype.newbyteorder("="), copy=False)


def _is_header(raw: bytes) -> bool:
    return len(raw) >= 4 and raw[:2] == b"\0\0" and raw[2] in TYPES and 1 <= raw[3] <= MOST_DIMENSIONS


def _size(raw: bytes) -> tuple[list[int], int]:
    """The lengths of all dimensions, and the bytes of the whole file, as the header has them."""
    first = 4 + 4 * raw[3]
    shape = [int.from_bytes(raw[at : at + 4], "big") for at in range(4, first, 4)]
    return shape, first + math.prod(shape) * np.dtype(TYPES[raw[2]]).itemsize


def _read(file: BinaryIO) -> bytes:
    """The file, and no more of it than a byte behind the end that its header tells: little can unpack to much."""
    pieces = [file.read(4 + 4 * MOST_DIMENSIONS)]
    have = len(pieces[0])
    end = _size(pieces[0])[1] if _is_header(pieces[0]) else 0
    while have <= end and (piece := file.read(min(PIECE_NBYTES, end + 1 - have))):
        pieces.append(piece)
        have += len(piece)
    return b"".join(pieces)


def read_pair(images: str, labels: str, sha256: tuple[str, str] | None = None) -> Table:
    """The table of two IDX files; features in their own element type, labels float64.

    Only who asks for a shard turns its rows into floats: as float64, MNIST would take eight times the memory.
    """
    pins = sha256 or (None, None)
    features, column = read_idx(images, pins[0]), read_idx(labels, pins[1])
    if column.shape[1] != 1:
        raise ConfigError(f"holds {column.shape[1]} values a sample, expected one label", labels)
    if len(features) != len(column):
        raise ConfigError(f"holds {len(features)} samples, but {labels} has {len(column)} labels", images)
    table = Table(features, column[:, 0].astype(np.float64))
    return check_finite(table, images) if features.dtype.kind == "f" or column.dtype.kind == "f" else table


def find_pair(folder: str, part: str) -> tuple[str, str]:
    """Paths of the images and the labels of one part, ``train`` or ``t10k``, in a folder with MNIST's names.

    A name may have a dot in place of its second hyphen and .gz at its end; the plain file comes first.
    """
    expected = f"expected the folder that holds {part}-images-idx3-ubyte"
    try:
        kind = kind_of_file(folder)
    except FileNotFoundError:
        raise ConfigError(f"there is no such folder, {expected}", folder) from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(f"cannot be read: {reason}; {expected}", folder) from None
    if kind != "folder":
        raise ConfigError(f"is a {kind}, {expected}", folder)
    return _find(folder, f"{part}-images", "idx3-ubyte"), _find(folder, f"{part}-labels", "idx1-ubyte")


def _find(folder: str, what: str, form: str) -> str:
    for end in ("", ".gz"):
        for joint in "-.":
            path = os.path.join(folder, f"{what}{joint}{form}{end}")
            if os.path.lexists(path):
                return path
    raise ConfigError(f"holds no {what}-{form}, plain or with .gz", folder)
