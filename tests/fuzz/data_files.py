"""Files of every format as bytes: good ones, ones with something wrong in what they say, and what befalls bytes."""

import bz2
import gzip
import io
import lzma
import os
import random
import struct
import warnings
import zipfile
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np

PACK: dict[str, Callable[[bytes], bytes]] = {".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress}
NUMBERS = [
    "nan",
    "-inf",
    "1e400",
    "1e-400",
    "1_0",
    "0x10",
    "",
    " ",
    "١",
    "1e",
    "--1",
    "1.5.2",
    "+",
    "1\0",
    "é",
    "1e308",
]


def table(rng: random.Random) -> tuple[np.ndarray, np.ndarray]:
    """Features (n, d) and labels -1/+1, small."""
    random_ = np.random.default_rng(rng.getrandbits(32))
    n, d = rng.randrange(3, 9), rng.randrange(1, 5)
    X = random_.standard_normal((n, d)).round(2) * (random_.random((n, d)) < 0.7)
    return X, random_.choice([-1.0, 1.0], n)


# --- text ----------------------------------------------------------------------------------------------------------


def libsvm(X: np.ndarray, y: np.ndarray) -> bytes:
    lines = [
        f"{label:g} " + " ".join(f"{j + 1}:{v}" for j, v in enumerate(x) if v) for x, label in zip(X, y, strict=True)
    ]
    return ("\n".join(lines) + f"\n0 {X.shape[1]}:1\n").encode()


def wrong_libsvm(rng: random.Random, X: np.ndarray, y: np.ndarray) -> bytes:
    lines = libsvm(X, y).decode().split("\n")
    entry = rng.choice(
        [
            *(
                "0:1",
                "-1:1",
                "2147483647:1",
                "2147483648:1",
                "4294967297:1",
                "9999999999:1",
                "99999999999999999999999:1",
            ),
            *(
                "1:1:1",
                "1 :1",
                "1: 1",
                ":1",
                "1:",
                "1",
                "qid:3",
                "1;1",
                "x:1",
                "1.0:1",
                "+1:1",
                "٢:1",
                "2:1 2:1",
                "3:1 1:1",
            ),
            *("# why", "#", "\0", "\r", "\x0b1:1", "\x1c2:1", "\x85", "\xa01:1", "1:0x1p3", "1:nan(1)", "1:infinity"),
            *("00000000000000000000000001:1", "1000000:1", "2:1e308 2:1e308"),
            *(f"1:{number}" for number in NUMBERS),
        ]
    )
    at = rng.randrange(len(lines))
    lines[at] = rng.choice([f"{lines[at]} {entry}", f"{entry} {lines[at]}", entry, f"{rng.choice(NUMBERS)} 1:1"])
    text = rng.choice(["\n", "\n", "\r\n", "\n\n", "\r", " \n"]).join(lines)
    text = rng.choice([text, text, text, "\ufeff" + text, "# only\n# comments\n", "", "\n\n", "1\n-1\n", text.strip()])
    return text.encode("utf-8", "surrogatepass")


def delimited(X: np.ndarray, y: np.ndarray) -> bytes:
    head = ",".join([*(f"x{j}" for j in range(X.shape[1])), "y"])
    return "\n".join([head, *(",".join(map(str, [*x, label])) for x, label in zip(X, y, strict=True)), ""]).encode()


def wrong_delimited(rng: random.Random, X: np.ndarray, y: np.ndarray) -> bytes:
    lines = delimited(X, y).decode().split("\n")
    if rng.random() < 0.3:
        del lines[0]
    cell = rng.choice(
        [
            *(
                "1,2,3",
                '"1',
                '1"',
                '"1"',
                '"1\n"',
                '"1,2"',
                '""',
                "'1'",
                "\0",
                "\r",
                "1\r2",
                "\x0b1",
                "\x1c1",
                "\x85",
                "\xa01",
                "#1",
            ),
            *(
                "9" * 400,
                "9" * 140_000,
                "1 2",
                "1;2",
                "1\t2",
                ",",
                ",,",
                "True",
                "1+2j",
                "1d5",
                "0b1",
                "１",
                "\u2028",
                " 1 ",
            ),
            *NUMBERS,
        ]
    )
    at = rng.randrange(len(lines))
    cells = lines[at].split(",")
    cells[rng.randrange(len(cells))] = cell
    lines[at] = ",".join(cells)
    text = rng.choice(["\n", "\n", "\r\n", "\n\n", "\r", ",\n", "\n \n"]).join(lines)
    text = rng.choice([text, text, text, "\ufeff" + text, lines[0], "", "\n\n", "x\n1\n2\n", "\0" * 20, ",,,\n1,2,3,4"])
    return text.encode("utf-8", "surrogatepass")


# --- NumPy's -------------------------------------------------------------------------------------------------------

DTYPES = ["f2", "f4", ">f8", "<i4", ">i8", "u1", "u8", "?", "c8", "S3", "U3", "O", "M8[s]", "m8[s]", "g", "V4", "i1,f4"]
DESCRS = [
    "'|O'",
    "'O'",
    "'<f9'",
    "'<f8,<f4'",
    "[('a', '<f8')]",
    "'|V8'",
    "('<f8', (2,))",
    "None",
    "'<M8[s]'",
    "''",
    "3",
]
SHAPES = [
    *("(1000000000000, 5)", "(1000000000, 1)", "(4294967296, 4294967296)", "(9223372036854775808, 1)", "(-1, 3)", "()"),
    *("(True, 3)", "[3, 2]", "(3.0, 2)", "('3',)", "None", "(3, -2)", "(0, 1000000000000)", "(1000000000000, 0)"),
    *(
        "(" * 50 + "3" + ")" * 50,
        "(3L, 2L)",
        "(10**12,)",
        "__import__('os').system('touch executed')",
        "(",
        "3",
        "(0,)",
    ),
    "(" + "1, " * 70 + ")",
]


class Executes:
    """Pickled, something that makes a folder when it is read again."""

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, ("executed",)


def npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array, allow_pickle=True)
    return file.getvalue()


def odd_array(rng: random.Random, array: np.ndarray) -> np.ndarray:
    """The array with one thing about it changed: values, dtype, order or shape."""
    match rng.randrange(5):
        case 0:
            array = array.copy()
            array.flat[rng.randrange(array.size)] = rng.choice([np.nan, np.inf, -np.inf, 1e308, 0.5, 7, -0.0, 5e-324])
            return array
        case 1:
            dtype = rng.choice(DTYPES)
            if dtype == "O":
                return np.full(array.shape, Executes(), dtype=object)
            with np.errstate(all="ignore"):
                return array.astype(dtype)
        case 2:
            return np.asfortranarray(array) if array.ndim == 2 else array[::-1]
        case 3:
            shape = rng.choice([(-1,), (1, -1), (-1, 1), (1, 1, -1), (-1, 1, 1)])
            return array.reshape(shape)
    return rng.choice(
        [array[:0], array[:1], array[..., :0], np.array(3.0), np.zeros((0, 0)), np.float64(1e300) * array]
    )


def odd_header(rng: random.Random, array: np.ndarray) -> bytes:
    """An .npy file whose header lies."""
    descr, order, shape = "'<f8'", "False", str(array.shape)
    match rng.randrange(4):
        case 0:
            descr = rng.choice(DESCRS)
        case 1:
            order = rng.choice(["'yes'", "None", "1", "true", "[]"])
        case _:
            shape = rng.choice(SHAPES)
    header = f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, }}"
    header = rng.choice(
        [header, header, header, header[:-3], header * 2, "{}", "", "[]", header.replace("shape", "form")]
    )
    raw = header.encode() + b"\n"
    version = rng.choice([1, 1, 1, 2, 3, 0, 9])
    size = rng.choice([len(raw), len(raw), len(raw), len(raw) + 5, 2**16 - 1])
    begin = struct.pack("<H", size) if version == 1 else struct.pack("<I", rng.choice([size, size, 2**32 - 1]))
    return b"\x93NUMPY" + bytes([version, 0]) + begin + raw + array.astype("<f8").tobytes()


def npz(members: dict[str, bytes], rng: random.Random, deflate: bool, odd: bool = False) -> bytes:
    """A zip archive of .npy files; an odd one doubles a name, or is packed as NumPy never does."""
    file = io.BytesIO()
    method = zipfile.ZIP_DEFLATED if deflate else zipfile.ZIP_STORED
    if odd:
        method = rng.choice([method, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
    with zipfile.ZipFile(file, "w", method) as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a name that is given twice
        for name, raw in members.items():
            archive.writestr(f"{name}.npy", raw)
            if odd and rng.random() < 0.3:
                archive.writestr(f"{name}.npy", raw[:-8] + bytes(8))
    raw = bytearray(file.getvalue())
    if odd and rng.random() < 0.5:  # a flag or a size in the directory lies
        at = raw.index(b"PK\x01\x02")
        place, value = rng.choice(
            [(8, b"\x01\0"), (6, b"\xff\0"), (20, b"\xff" * 4), (24, b"\xff\xff\xff\x7f"), (10, b"\x63\0")]
        )
        raw[at + place : at + place + len(value)] = value
    return bytes(raw)


def csr(X: np.ndarray, y: np.ndarray) -> dict[str, np.ndarray]:
    """The arrays that scipy.sparse.save_npz writes, and y."""
    rows, columns = np.nonzero(X)
    indptr = np.concatenate(([0], np.cumsum(np.bincount(rows, minlength=len(X))))).astype(np.int32)
    indices = columns.astype(np.int32)
    return {
        "indices": indices,
        "indptr": indptr,
        "format": np.array(b"csr"),
        "shape": np.array(X.shape),
        "data": X[rows, columns],
        "y": y,
    }


def wrong_csr(rng: random.Random, X: np.ndarray, y: np.ndarray) -> dict[str, np.ndarray]:
    arrays: dict[str, Any] = csr(X, y)
    key = rng.choice(list(arrays))
    match rng.choice(["element", "element", "array", "drop", "format", "shape"]):
        case "element":
            changed = arrays[key].copy()
            if changed.ndim and changed.size:
                value = rng.choice([-1, 0, 1, 100, 2**31 - 1])
                changed.flat[rng.randrange(changed.size)] = value
            arrays[key] = changed
        case "array":
            other = rng.choice(["u8", "f8", "i8", "u1", "O", "U3", "?"])
            if arrays[key].dtype.kind != "S":
                arrays[key] = rng.choice([arrays[key].astype(other), arrays[key][::-1], arrays[key][:-1], np.array(1)])
        case "drop":
            del arrays[key]
        case "format":
            odd = [b"csc", "csr", [b"csr", b"csr"], b"\xff\xfe", 1, [], None, "x" * 5000, "a\nb"]
            arrays["format"] = np.array(rng.choice(odd))
        case "shape":
            n, d = X.shape
            odd = [
                [n, 2**40],
                [2**62, d],
                [2**40, 2**40],
                [n, 0],
                [-1, d],
                [n],
                [n, d, 1],
                [d, n],
                [n + 1, d],
                [n, d + 3],
            ]
            arrays["shape"] = np.array(rng.choice([*odd, [[n, d]], [float(n), d]]))
            if rng.random() < 0.5 and len(arrays["indices"]):
                arrays["indices"] = arrays["indices"].astype(np.int64)
                arrays["indices"][-1] = 2**33
    return arrays


# --- IDX -----------------------------------------------------------------------------------------------------------


def idx(array: np.ndarray, code: int = 0x0E, lengths: tuple[int, ...] | None = None) -> bytes:
    lengths = lengths or array.shape
    form = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}.get(code, "u1")
    with np.errstate(all="ignore"):
        values = array.astype(form)
    return bytes([0, 0, code, len(lengths)]) + b"".join(n.to_bytes(4, "big") for n in lengths) + values.tobytes()


def wrong_idx(rng: random.Random, array: np.ndarray) -> bytes:
    n = len(array)
    lengths = rng.choice(
        [(0,), (n, 0), (n + 1, 2), (2**32 - 1,) * 3, (2**32 - 1,) * 200, (n, 2**31), (1, n), (n,), (n, 1, 1, 1)]
    )
    code = rng.choice([0x08, 0x0B, 0x0D, 0x0E, 0x0A, 0x00, 0xFF])
    match rng.randrange(4):
        case 0:
            return idx(array, code)
        case 1:
            odd = odd_array(rng, array)
            return idx(odd if odd.dtype.kind in "fiub" else array, 0x0E)
        case 2:
            return rng.choice([b"", b"\0", b"\0\0\x08", b"\0\0\x08\0", b"\0\0\x08\x01", b"\x1f\x8b", b"\0\0\x08\xff"])
    return idx(array, rng.choice([0x0E, 0x08]), lengths)


# --- what befalls bytes --------------------------------------------------------------------------------------------


def battered(rng: random.Random, raw: bytes) -> bytes:
    """Cut short, flipped, lengthened, doubled, exchanged: one to three times, near the start more often."""
    for _ in range(rng.choice([1, 1, 1, 2, 3])):
        data = bytearray(raw)
        at = rng.randrange(len(data) + 1) if rng.random() < 0.8 else rng.randrange(min(len(data), 140) + 1)
        more = at + rng.choice([1, 2, 4, 16])
        match rng.randrange(10):
            case 0:
                del data[at:]
            case 1 | 2 | 8 | 9 if data:
                data[min(at, len(data) - 1)] ^= 1 << rng.randrange(8)
            case 3:
                data[at:at] = rng.randbytes(rng.choice([1, 2, 8, 64]))
            case 4:
                del data[at:more]
            case 5:
                data[at:more] = rng.choice([b"\0", b"\xff", b"\n", b" ", b"9", b":", b","]) * len(data[at:more])
            case 6:
                data += data[at:] or b"\0"
            case _:
                data[at:at] = rng.choice(
                    [b"nan", b"inf", b"-", b"1e999", b"\n\n", b"\r", b"#", b"\0\0\0\0", b"'", b'"', b"e"]
                )
        raw = bytes(data)
    return raw


def bomb(rng: random.Random) -> bytes:
    """64 MB in 64 kB of gzip: zeros, or one endless line."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    piece = rng.choice([b"\0", b"1", b" ", b"\n", b"1 1:1 "]) * (1 << 20)
    return b"".join(packer.compress(piece[: 1 << 20]) for _ in range(64)) + packer.flush()
