"""The same files read slowly and by other means than psopt's: what it accepts has to be equal to what these find.

A table is (rows, labels): of each row the numbers that are not zero, by column. Whatever is raised here means that the
file is refused; these readers are more lenient than psopt where that does no harm.
"""

import ast
import bz2
import csv
import gzip
import io
import lzma
import math
import struct
import zipfile
from itertools import pairwise
from pathlib import Path

import numpy as np

Table = tuple[list[dict[int, float]], list[float]]
UNPACK = {".gz": gzip.decompress, ".bz2": bz2.decompress, ".xz": lzma.decompress}
IDX = {0x08: "B", 0x09: "b", 0x0B: "h", 0x0C: "i", 0x0D: "f", 0x0E: "d"}
DTYPES = {
    f"{kind}{size}"
    for kind, sizes in {"f": (2, 4, 8, 16), "i": (1, 2, 4, 8), "u": (1, 2, 4, 8)}.items()
    for size in sizes
}


def content(path: str) -> bytes:
    raw = Path(path).read_bytes()
    return UNPACK.get(Path(path).suffix, bytes)(raw)


def _number(text: str) -> float:
    if "_" in text or not text.isascii():
        raise ValueError(text)
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(text)
    return value


def libsvm(path: str) -> Table:
    rows, labels = [], []
    for line in content(path).removeprefix(b"\xef\xbb\xbf").decode("latin-1").split("\n"):
        label, *entries = line.partition("#")[0].encode("latin-1").split() or [None]
        if label is None:
            continue
        labels.append(_number(label.decode()))
        row: dict[int, float] = {}
        for entry in entries:
            index, value = entry.decode().split(":")
            if not index.isascii() or not index.isdigit() or int(index) < 1:
                raise ValueError(index)
            row[int(index) - 1] = row.get(int(index) - 1, 0.0) + _number(value)
        if not all(map(math.isfinite, row.values())):
            raise ValueError("overflow")
        rows.append({column: value for column, value in row.items() if value})
    if not rows:
        raise ValueError("empty")
    return rows, labels


def delimited(path: str, label: str | int | None, header: bool | None, delimiter: str) -> Table:
    text = content(path).decode("utf-8-sig")
    cells = [
        row
        for row in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
        if len(row) > 1 or "".join(row).strip()
    ]
    first = cells[0]
    if header is None:
        header = not all(map(_reads, first))
    at = len(first) - 1 if label is None else label % len(first) if isinstance(label, int) else first.index(label)
    if len({len(row) for row in cells}) != 1 or len(first) < 2:
        raise ValueError("ragged")
    values = [[_number(cell.strip()) for cell in row] for row in cells[1 if header else 0 :]]
    labels = [row.pop(at) for row in values]
    if not labels:
        raise ValueError("empty")
    return [dict(_nonzero(row)) for row in values], labels


def _reads(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return "_" not in cell and cell.strip().isascii()


def _nonzero(row: list[float]) -> list[tuple[int, float]]:
    return [(column, value) for column, value in enumerate(row) if value]


def array(raw: bytes) -> tuple[tuple[int, ...], list]:
    """Shape and values, in C order, of an .npy file's bytes."""
    if raw[:6] != b"\x93NUMPY" or raw[6] not in (1, 2):
        raise ValueError("magic")
    size, first = (struct.unpack("<H", raw[8:10])[0], 10) if raw[6] == 1 else (struct.unpack("<I", raw[8:12])[0], 12)
    header = ast.literal_eval(raw[first : first + size].decode("latin-1").strip())
    if set(header) != {"descr", "fortran_order", "shape"} or not isinstance(header["descr"], str):
        raise ValueError("header")
    kind, shape, rest = header["descr"], header["shape"], raw[first + size :]
    if not (kind[1:] in DTYPES or kind in ("|b1", "|S3", "|u1", "|i1")) or not all(type(n) is int for n in shape):
        raise ValueError("dtype")
    values = np.frombuffer(rest, kind)
    if min(shape, default=0) < 0 or len(values) != math.prod(shape):
        raise ValueError("size")
    values = values.reshape(shape, order="F" if header["fortran_order"] else "C")
    return shape, values.astype(np.float64).ravel().tolist() if kind != "|S3" else values.ravel().tolist()


def _dense(raw_x: bytes, raw_y: bytes) -> Table:
    (n, d), x = array(raw_x)
    (many,), y = array(raw_y)
    if n != many or n < 1 or d < 1 or not all(map(math.isfinite, x + y)):
        raise ValueError("shape")
    return [dict(_nonzero(x[i * d : (i + 1) * d])) for i in range(n)], y


def npy(path: str, labels_path: str) -> Table:
    return _dense(Path(path).read_bytes(), Path(labels_path).read_bytes())


def npz(path: str) -> Table:
    with zipfile.ZipFile(path) as archive:
        if len(set(archive.namelist())) != len(archive.namelist()):
            raise ValueError("names")
        held = {name.removesuffix(".npy"): archive.read(name) for name in archive.namelist() if name != "extra.npy"}
    if "X" in held:
        return _dense(held["X"], held["y"])
    (_, data), (_, indices), (_, indptr), (_, shape) = (
        array(held[key]) for key in ("data", "indices", "indptr", "shape")
    )
    (many,), y = array(held["y"])
    starts = [int(start) for start in indptr]
    if many != shape[0] or len(starts) != many + 1 or many < 1 or starts != sorted(starts) or starts[0] != 0:
        raise ValueError("indptr")
    if starts[-1] != len(data) or len(data) != len(indices) or not all(map(math.isfinite, data + y)):
        raise ValueError("data")
    rows: list[dict[int, float]] = []
    for start, stop in pairwise(starts):
        row: dict[int, float] = {}
        for column, value in zip(indices[start:stop], data[start:stop], strict=True):
            if not 0 <= column < shape[1]:
                raise ValueError("index")
            row[int(column)] = row.get(int(column), 0.0) + value
        rows.append({column: value for column, value in row.items() if value})
    return rows, y


def _idx(path: str) -> tuple[int, list[float]]:
    raw = content(path)
    if raw[:2] != b"\0\0" or raw[3] < 1:
        raise ValueError("magic")
    lengths = struct.unpack_from(f">{raw[3]}I", raw, 4)
    form = f">{math.prod(lengths)}{IDX[raw[2]]}"
    rest = raw[4 + 4 * raw[3] :]
    if struct.calcsize(form) != len(rest) or not rest:
        raise ValueError("size")
    return lengths[0], list(map(float, struct.unpack(form, rest)))


def idx_pair(images: str, labels: str) -> Table:
    (n, x), (many, y) = _idx(images), _idx(labels)
    if not n == many == len(y) or not all(map(math.isfinite, x + y)):
        raise ValueError("shape")
    d = len(x) // n
    return [dict(_nonzero(x[i * d : (i + 1) * d])) for i in range(n)], y
