"""Data files that lie: found by the fuzzer (tests/fuzz) or by thought; each refused in a sentence, none trusted."""

import gzip
import io
import os
import resource
import signal
import struct
import zipfile
import zlib
from contextlib import contextmanager

import numpy as np
import pytest

from psopt.data import DataSpec, Standardise, Synthetic, Table, open_shards
from psopt.data.arrays import read_npy, read_npz
from psopt.data.delimited import read_csv
from psopt.data.idx import find_pair, read_idx
from psopt.data.libsvm import read_libsvm
from psopt.errors import ConfigError


def complaint(read, *args, **options):
    with pytest.raises(ConfigError) as caught:
        read(*args, **options)
    assert str(caught.value).isprintable()
    return str(caught.value)


@contextmanager
def little(seconds=5, nbytes=3 << 30):
    """In so many seconds, and without more memory than that."""

    def late(number, frame):
        raise TimeoutError

    before, had = signal.signal(signal.SIGALRM, late), resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (nbytes, had[1]))
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        resource.setrlimit(resource.RLIMIT_AS, had)
        signal.signal(signal.SIGALRM, before)


# --- what is no ordinary file --------------------------------------------------------------------------------------

READERS = {
    "f": read_libsvm,
    "f.gz": read_libsvm,
    "f.csv": read_csv,
    "f.npz": read_npz,
    "f.npy": lambda path: read_npy(path, path),
    "f-idx3-ubyte": read_idx,
}


@pytest.mark.parametrize("name", READERS)
def test_pipes_devices_folders_and_loops(name, tmp_path):
    read, path = READERS[name], str(tmp_path / name)
    os.mkfifo(path)
    with little():
        assert complaint(read, path) == f"{path}: is a pipe or device, expected a data file"
    os.unlink(path)
    os.symlink("/dev/zero", path)
    with little():
        assert complaint(read, path) == f"{path}: is a pipe or device, expected a data file"
    os.unlink(path)
    os.mkdir(path)
    assert complaint(read, path) == f"{path}: is a folder, expected a data file"
    os.rmdir(path)
    os.symlink(path, path)
    assert complaint(read, path).startswith(f"{path}: cannot be read: Too many levels of symbolic links")
    os.unlink(path)
    os.symlink(str(tmp_path / "nowhere"), path)
    assert complaint(read, path) == f"{path}: there is no such file"
    assert complaint(read, f"{tmp_path}/a\0{name}") == f"{tmp_path}/a?{name}: cannot be read: embedded null byte"
    assert "...: cannot be read: File name too long" not in (said := complaint(read, f"{tmp_path}/{'x' * 5000}{name}"))
    assert said.endswith(": cannot be read: File name too long")
    assert len(said) < 600


def test_the_folder_of_idx_files(tmp_path):
    folder = str(tmp_path)
    assert "is a pipe or device, expected the folder" in complaint(find_pair, "/dev/zero", "train")
    assert "cannot be read: embedded null byte" in complaint(find_pair, "a\0b", "train")
    assert "cannot be read: File name too long" in complaint(find_pair, "a" * 5000, "train")
    os.mkfifo(tmp_path / "train-images-idx3-ubyte")
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(b"\0\0\x08\1\0\0\0\1\7")
    with little():
        assert "is a pipe or device, expected a data file" in complaint(read_idx, find_pair(folder, "train")[0])


# --- .npy and .npz -------------------------------------------------------------------------------------------------


def raw_npy(descr="'<f8'", order="False", shape="(2, 3)", body=bytes(48), version=1, header=None, size=None):
    text = (header or f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, }}").encode() + b"\n"
    size = len(text) if size is None else size
    return b"\x93NUMPY" + bytes([version, 0]) + struct.pack("<H" if version == 1 else "<I", size) + text + body


@pytest.mark.parametrize(
    ("raw", "sentence"),
    [
        (b"", "the file is empty, expected an .npy file"),
        (b"\x93NUMPX\1\0", "the file begins with the bytes 93 4e 55 4d 50 58, expected an .npy file"),
        (raw_npy(version=9), "the file is of a version of .npy other than 1.0, 2.0 and 3.0"),
        (raw_npy(version=2, size=2**32 - 1), "the file claims a header of 4294967295 bytes, expected at most 10000"),
        (raw_npy(shape="(1000000000000, 5)"), "the file is cut short: 130 bytes, expected 40000000000082 for"),
        (
            raw_npy(shape="(9223372036854775807, 9)"),
            "the file is cut short: 136 bytes, expected 664082786653543858192 for",
        ),
        (raw_npy(body=bytes(49)), "the file goes on behind its end: 119 bytes, expected 118 for 2 x 3 values"),
        (raw_npy(body=bytes(40)), "the file is cut short: 110 bytes, expected 118 for 2 x 3 values"),
        (raw_npy(shape="(0, 9000000000000000000)", body=b""), "the file has the shape 0 x 9000000000000000000, which"),
        (raw_npy(shape="(-1, 3)"), "the file has the shape (-1, 3), which is no list of lengths"),
        (raw_npy(shape="(6)"), "the file has the shape (6), which is no list of lengths"),
        (raw_npy(shape="(" + "1, " * 40 + ")"), "which is no list of lengths"),
        (raw_npy(shape="(2, 3"), "the file has a header that names no plain descr, fortran_order and shape"),
        (raw_npy(header="{"), "the file has a header that names no plain descr, fortran_order and shape"),
        (raw_npy(header="{'descr': '<f8', 'descr': '<f4'}"), "names no plain descr, fortran_order and shape"),
        (raw_npy(descr="[('a', '<f8')]"), "names no plain descr, fortran_order and shape"),
        (raw_npy(shape="__import__('os').mkdir('executed')"), "names no plain descr, fortran_order and shape"),
        (raw_npy(descr="'<f9'"), "the file has the unknown dtype '<f9'"),
        (raw_npy(descr="'|S0'", shape="(1000000000000,)", body=b""), "the file has the unknown dtype '|S0'"),
        (raw_npy(descr="'|O'"), "the file holds Python objects, which psopt never unpickles: save numbers"),
        (
            raw_npy(descr="'<c16'", shape="(2, 3)", body=bytes(96)),
            "features must hold real numbers, found dtype complex128",
        ),
        (raw_npy(descr="'|V8'"), "features must hold real numbers, found dtype |V8"),
    ],
)
def test_headers_are_believed_as_far_as_the_bytes_go(raw, sentence, tmp_path):
    (tmp_path / "x.npy").write_bytes(raw)
    np.save(tmp_path / "y.npy", [1.0, -1.0])
    with little():
        said = complaint(read_npy, str(tmp_path / "x.npy"), str(tmp_path / "y.npy"))
    assert said.startswith(f"{tmp_path}/x.npy: ")
    assert sentence in said


@pytest.mark.parametrize(
    "header",
    [
        "{'shape': (2, 3), 'descr': '<f8', 'fortran_order': False}",
        '{"descr":"<f8","fortran_order":False,"shape":(2,3)}',
        "{'descr': '<f8', 'fortran_order': False, 'shape': (2L, 3L), }      ",
    ],
)
def test_headers_of_other_writers(header, tmp_path):
    values = np.arange(6.0)
    (tmp_path / "x.npy").write_bytes(raw_npy(header=header, body=values.tobytes()))
    np.save(tmp_path / "y.npy", [1.0, -1.0])
    table = read_npy(str(tmp_path / "x.npy"), str(tmp_path / "y.npy"))
    np.testing.assert_array_equal(table.features, values.reshape(2, 3))


@pytest.mark.parametrize("dtype", ["f2", ">f4", "f8", "g", "i1", ">i8", "u8", "?"])
@pytest.mark.parametrize("order", "CF")
@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_every_dtype_and_order_is_read_as_numpy_reads_it(dtype, order, save, tmp_path):
    X = np.asarray(np.arange(12).reshape(4, 3) % 5, dtype=dtype, order=order)
    path = str(tmp_path / "f.npz")
    save(path, X=X, y=X[:, 0], extra=np.array([None]))
    table = read_npz(path)
    np.testing.assert_array_equal(table.features, X.astype(np.float64))
    np.testing.assert_array_equal(table.labels, X[:, 0].astype(np.float64))
    assert table.features.flags.c_contiguous
    assert table.features.flags.writeable


def test_long_doubles_beyond_float64_are_infinite(tmp_path):
    X = np.full((2, 1), np.finfo("g").max)
    np.savez(tmp_path / "f.npz", X=X, y=[1, 2])
    assert "row 0, column 0 is inf" in complaint(read_npz, str(tmp_path / "f.npz"))


def archive(method=zipfile.ZIP_DEFLATED, change=None, twice=False):
    """A good archive with one field of its directory's first entry changed: (offset, bytes)."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as made:
        for name in ("X", "y"):
            body = io.BytesIO()
            np.save(body, np.ones((3, 2) if name == "X" else 3))
            made.writestr(f"{name}.npy", body.getvalue())
        if twice:
            with pytest.warns(UserWarning, match="Duplicate"):
                made.writestr("X.npy", body.getvalue())
    raw = bytearray(file.getvalue())
    if change:
        at = raw.index(b"PK\1\2") + change[0]
        raw[at : at + len(change[1])] = change[1]
    return bytes(raw)


def far(raw):
    """The same with a first name, in the header before the data, that reaches far into them: zipfile tells it all."""
    return raw[:26] + b"\xf0\0" + raw[28:]


@pytest.mark.parametrize(
    ("raw", "sentence"),
    [
        (archive(change=(24, b"\xff\xff\xff\x7f")), "X claims 2147483647 bytes, more than the archive can hold of it"),
        (archive(change=(20, b"\xff\xff\xff\x7f")), "more than the archive can hold of it"),
        (archive(zipfile.ZIP_STORED, (24, b"\xff\xff\0\0")), "X claims 65535 bytes, more than the archive can hold"),
        (archive(zipfile.ZIP_BZIP2), "X is packed in a way that NumPy does not write"),
        (archive(zipfile.ZIP_LZMA), "X is packed in a way that NumPy does not write"),
        (archive(change=(10, b"\x63\0")), "X is packed in a way that NumPy does not write"),
        (archive(change=(6, b"\xff\0")), "is not a readable .npz file: zip file version 25.5"),
        (archive(change=(8, b"\1\0")), "X is encrypted"),
        (archive(change=(16, b"\0\0\0\0")), "is not a readable .npz file: Bad CRC-32 for file 'X.npy'"),
        (far(archive()), "is not a readable .npz file: File name in directory 'X.npy' and header b'X.npy"),
        (archive(twice=True), "holds 'X.npy' more than once"),
        (archive()[:-30], "is not a readable .npz file: File is not a zip file"),
    ],
)
def test_archives_that_lie(raw, sentence, tmp_path):
    path = tmp_path / "f.npz"
    path.write_bytes(raw)
    with little():
        said = complaint(read_npz, str(path))
    assert sentence in said
    assert len(said) < 600


def test_a_damaged_name_does_not_hide_the_format(tmp_path):
    path = tmp_path / "f.npz"
    np.savez(path, **CSR, format=b"csc")
    raw = path.read_bytes()
    at = raw.rindex(b"format.npy")
    path.write_bytes(raw[:at] + b"formal" + raw[at + 6 :])
    said = complaint(read_npz, str(path))
    assert "is not a readable .npz file: File name in directory 'formal.npy' and header b'format.npy' differ" in said


CSR = {"data": [1.0, 2.0], "indices": [0, 2], "indptr": [0, 1, 2], "shape": [2, 3], "y": [1, -1]}


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        # Columns are 32 bits: 2^33 came out as column 0.
        ({"shape": [2, 2**40], "indices": [0, 2**33]}, "has 1099511627776 features, expected at most 2147483647"),
        ({"shape": [2**62, 3]}, "4611686018427387904 rows of features but 2 labels"),
        ({"shape": 5}, "shape must be a list of whole numbers"),
        ({"format": [b"csr", b"csr"]}, "holds a |S3 of 2 matrix, expected csr"),
        ({"format": 3}, "holds a int64 of 1 matrix, expected csr"),
        ({"format": b"\xff\n\x1b"}, "matrix, expected csr"),
        ({"indptr": [0, 1, 2**40]}, "indptr must rise from 0 to 2 in 3 numbers"),
        ({"indices": [-1, 2]}, "an index lies outside the 3 columns"),
        ({"indices": np.array([0, 2**64 - 1], np.uint64)}, "an index lies outside the 3 columns"),
    ],
)
def test_csr_arrays_that_lie(change, sentence, tmp_path):
    path = tmp_path / "f.npz"
    np.savez(path, **(CSR | change))
    assert sentence in complaint(read_npz, str(path))


# --- text ----------------------------------------------------------------------------------------------------------


def test_libsvm_columns_beyond_32_bits(tmp_path):
    path = tmp_path / "f"
    path.write_text("1 4294967297:1\n")
    assert "key 'n_features' must be from 1 to 2147483647" in complaint(read_libsvm, str(path), 2**40)
    assert "feature index 4294967297 is above n_features: 2147483647" in complaint(read_libsvm, str(path), 2**31 - 1)
    with pytest.raises(ConfigError, match="key 'n_features' must be from 1 to 2147483647, found 2147483648"):
        DataSpec(source="file", path=str(path), n_features=2**31)


def test_a_line_without_end_is_given_up(tmp_path, monkeypatch):
    from psopt.data import libsvm

    monkeypatch.setattr(libsvm, "LONGEST_LINE", 1 << 20)
    monkeypatch.setattr(libsvm, "BLOCK_NBYTES", 1 << 16)
    path = tmp_path / "f.gz"
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    path.write_bytes(b"".join(packer.compress(bytes(1 << 20)) for _ in range(200)) + packer.flush())
    with little(nbytes=resource.RLIM_INFINITY):
        assert complaint(read_libsvm, str(path)) == f"{path}: has a line of more than 1048576 bytes: is it LIBSVM text?"


@pytest.mark.parametrize(
    ("text", "options", "sentence"),
    [
        ("1,2\r3,4\n", {}, "{}:1: holds a carriage return: are lines ended by it alone?"),
        ("1,2\n3,4\r5\n", {}, "{}:2: holds a carriage return: are lines ended by it alone?"),
        (
            "1,2\n" + "9" * 140_000 + "x,1\n",
            {},
            "{}:2: cannot be split into cells: field larger than field limit (131072)",
        ),
        ("1,2\n١,3\n", {}, "{}:2: column 0: expected a number, found '١'"),
        ("1,2\n3," + "x" * 500 + "\n", {}, "{}:2: column 1: expected a number, found '" + "x" * 37 + "...'"),
        ("1,2\n", {"delimiter": ""}, "key 'delimiter' must be one character, found ''"),
        ("1,2\n", {"delimiter": "\n"}, "key 'delimiter' must be one character, found '\\n'"),
        ("1,2\n", {"delimiter": '"'}, "key 'delimiter' is '\"', which can be part of a number or a name"),
        ("1.5,2\n", {"delimiter": "."}, "key 'delimiter' is '.', which can be part of a number or a name"),
        ("1,2\n", {"delimiter": "é"}, "key 'delimiter' is 'é', which can be part of a number or a name"),
    ],
)
def test_csv_sentences(text, options, sentence, tmp_path):
    path = tmp_path / "f.csv"
    path.write_bytes(text.encode())
    assert complaint(read_csv, str(path), **options) == sentence.format(path)


def test_a_wide_header_is_not_told_whole(tmp_path):
    path = tmp_path / "f.csv"
    path.write_text(",".join(f"name{j}" for j in range(1000)) + "\n" + ",".join("1" * 1000) + "\n")
    assert len(complaint(read_csv, str(path), label="y")) < 700


# --- IDX -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lengths", [(2**32 - 1,) * 3, (2**31, 2), (0, 2**32 - 1)])
def test_idx_lengths_are_believed_as_far_as_the_bytes_go(lengths, tmp_path):
    path = tmp_path / "f"
    path.write_bytes(bytes([0, 0, 0x0E, len(lengths)]) + b"".join(n.to_bytes(4, "big") for n in lengths) + bytes(48))
    with little():
        complaint(read_idx, str(path))


def test_idx_has_at_most_eight_dimensions(tmp_path):
    path = tmp_path / "f"
    path.write_bytes(b"\0\0\x08\xff" + b"\xff" * 4 * 255)
    assert len(complaint(read_idx, str(path))) < 300


def test_little_idx_that_unpacks_to_much_is_not_unpacked(tmp_path):
    path = tmp_path / "f.gz"
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    head = b"\0\0\x08\1\0\0\0\2"
    path.write_bytes(
        packer.compress(head) + b"".join(packer.compress(bytes(1 << 24)) for _ in range(20)) + packer.flush()
    )
    assert complaint(read_idx, str(path)) == f"{path}: goes on behind its end, expected 10 for 2 values"
    path.write_bytes(gzip.compress(head + b"\3\4"))
    np.testing.assert_array_equal(read_idx(str(path)), [[3], [4]])


# --- numbers too large ---------------------------------------------------------------------------------------------


def opened(spec, table=None):
    return open_shards(spec, 1, 0, "float64", table).shard(0)


@pytest.mark.parametrize("keys", [{"noise": 1.7e308}, {"heterogeneity": 1e300}])
def test_synthetic_data_that_overflow(keys):
    spec = DataSpec(source="synthetic", synthetic=Synthetic(n_samples=40, n_features=3, **keys))
    with pytest.raises(ConfigError, match="synthetic data overflow: noise or heterogeneity is too large"):
        open_shards(spec, 2, 0)


def test_synthetic_data_larger_than_the_machine():
    spec = DataSpec(source="synthetic", synthetic=Synthetic(n_samples=2**31, n_features=2**31))
    with pytest.raises(
        ConfigError, match=r"n_samples x n_features would take 3\.69e\+19 bytes of memory, and this mach"
    ):
        open_shards(spec, 2, 0)


@pytest.mark.parametrize(
    ("scaling", "values"),
    [
        (Standardise("fixed", divide=5e-324), [1.0, 2.0]),
        (Standardise("min-max"), [-1.7e308, 1.7e308]),
        (Standardise("z-score"), [-1e200, 1e200]),  # an infinite deviation would make zeros of all
    ],
)
def test_scaling_that_overflows(scaling, values):
    table = Table(np.array(values)[:, None], np.ones(2))
    with pytest.raises(ConfigError, match=r"too large (for float64|to be standardised)"):
        opened(DataSpec(source="memory", standardise=scaling), table)
