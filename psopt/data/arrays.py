"""NumPy's own files: one .npz with features and labels, dense or CSR, or a pair of .npy files."""

import os
import struct
import zipfile
import zlib
from collections import Counter
from typing import IO

import numpy as np

from psopt.data.checks import as_float64, check_finite, check_lengths, dense_table
from psopt.data.npy import MAGIC, PIECE_NBYTES, read_array
from psopt.data.opening import one_line, opened_plain
from psopt.data.sparse import MOST_COLUMNS, canonical
from psopt.data.table import CSR, Table
from psopt.errors import ConfigError, printable

CSR_KEYS = ("data", "indices", "indptr", "shape")
MOST_PACKED = 1032  # bytes that deflate can make of one
_ZIP_FAULTS = (OSError, EOFError, ValueError, RuntimeError, OverflowError, zipfile.BadZipFile, zlib.error, struct.error)


def read_npy(path: str, labels_path: str) -> Table:
    """A dense table of two .npy files: features (n, n_features) and labels (n,)."""
    features, labels = _read_file(path), _read_file(labels_path)
    return dense_table(features, as_float64(labels, "labels", labels_path), path)


def _read_file(path: str) -> np.ndarray:
    with opened_plain(path) as file:
        begin = file.read(4)
        if begin == b"PK\x03\x04":
            raise ConfigError("holds several arrays, expected one: is it an .npz file?", path)
        file.seek(0)
        return read_array(file, os.fstat(file.fileno()).st_size, path, "the file")


def read_npz(path: str) -> Table:
    """A table of one .npz file: ``X`` and ``y``, or scipy.sparse.save_npz's CSR keys and ``y``.

    Other arrays in it have to be whole, and are not looked at.
    """
    with opened_plain(path) as file:
        if file.read(len(MAGIC)) == MAGIC:
            raise ConfigError("holds one array, expected an .npz with X and y", path)
        try:
            with zipfile.ZipFile(file) as archive:
                stored = _read_members(archive, os.fstat(file.fileno()).st_size, path)
        except _ZIP_FAULTS as error:
            raise ConfigError(f"is not a readable .npz file: {one_line(error)}", path) from error
    return dense_table(stored["X"], stored["y"], path) if "X" in stored else _csr_table(stored, path)


def _read_members(archive: zipfile.ZipFile, nbytes: int, path: str) -> dict[str, np.ndarray]:
    """The arrays that make a table, by key."""
    members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
    twice = [name for name, count in Counter(archive.namelist()).items() if count > 1]
    if twice:
        raise ConfigError(f"holds {twice[0][:40]!r} more than once", path)
    if "y" in members and "X" in members:
        keys = ["X", "y"]
    elif "y" in members and all(key in members for key in CSR_KEYS):
        keys = [*CSR_KEYS, "y", *(["format"] if "format" in members else [])]
    else:
        names = ", ".join(members)
        found = (names if len(names) <= 200 else f"{names[:200]}...") or "nothing"
        raise ConfigError(f"expected the keys X, y or {', '.join(CSR_KEYS)}, y; found {found}", path)
    for name in members.keys() - set(keys):
        with _opened_member(archive, members[name], printable(name[:40]), nbytes, path) as member:
            while member.read(PIECE_NBYTES):  # for its checksum: a damaged name may hide an array that matters
                pass
    return {key: _read_member(archive, members[key], key, nbytes, path) for key in keys}


def _read_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo, key: str, nbytes: int, path: str) -> np.ndarray:
    with _opened_member(archive, info, key, nbytes, path) as member:
        return read_array(member, info.file_size, path, key)


def _opened_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo, key: str, nbytes: int, path: str) -> IO[bytes]:
    """A member; its size in the archive's directory is believed only if so many bytes can be packed there."""
    if info.flag_bits & 1:
        raise ConfigError(f"{key} is encrypted", path)
    packing = {zipfile.ZIP_STORED: 1, zipfile.ZIP_DEFLATED: MOST_PACKED}.get(info.compress_type)
    if packing is None:
        raise ConfigError(f"{key} is packed in a way that NumPy does not write", path)
    if info.compress_size > nbytes or info.file_size > packing * info.compress_size:
        raise ConfigError(f"{key} claims {info.file_size} bytes, more than the archive can hold of it", path)
    return archive.open(info)


def _csr_table(stored: dict[str, np.ndarray], path: str) -> Table:
    """Check the four arrays of a CSR before anything trusts them."""
    form = _text(stored["format"]) if "format" in stored else "csr"
    if form != "csr":
        raise ConfigError(f"holds a {form} matrix, expected csr: convert it with .tocsr() before saving", path)
    shape, indptr, indices = stored["shape"], stored["indptr"], stored["indices"]
    for key in ("shape", "indptr", "indices"):
        if stored[key].ndim != 1 or stored[key].dtype.kind not in "iu":
            raise ConfigError(f"{key} must be a list of whole numbers", path)
    if shape.shape != (2,) or shape.min() < 0 or shape[1] < 1:
        raise ConfigError(f"shape must be (samples, features), found {tuple(shape[:4].tolist())}", path)
    rows, columns = (int(size) for size in shape)
    if columns > MOST_COLUMNS:
        raise ConfigError(f"has {columns} features, expected at most {MOST_COLUMNS}", path)
    check_lengths(rows, stored["y"], path)
    data = as_float64(stored["data"], "data", path)
    if data.shape != indices.shape:
        raise ConfigError(f"{len(indices)} indices but data of shape {data.shape}", path)
    if len(indptr) != rows + 1 or indptr[0] != 0 or indptr[-1] != len(data) or np.any(indptr[1:] < indptr[:-1]):
        raise ConfigError(f"indptr must rise from 0 to {len(data)} in {rows + 1} numbers", path)
    if len(indices) and (indices.min() < 0 or indices.max() >= columns):
        raise ConfigError(f"an index lies outside the {columns} columns", path)
    matrix: CSR = canonical(data, indices, indptr, (rows, columns))
    return check_finite(Table(matrix, as_float64(stored["y"], "labels", path)), path)


def _text(array: np.ndarray) -> str:
    """The one text in an array of texts or bytes, for people; of anything else its dtype."""
    if array.dtype.kind not in "SU" or array.size != 1:
        return f"{array.dtype} of {array.size}"
    text = array.item()
    text = text.decode("ascii", errors="replace") if isinstance(text, bytes) else text
    return printable(text[:40])
