"""Data files: what is read equals what was written, and every wrong file gets one sentence saying where it is wrong."""

import bz2
import gzip
import lzma

import numpy as np
import pytest
import scipy.sparse
from hypothesis import given, settings
from hypothesis import strategies as st

from psopt.data import libsvm
from psopt.data.arrays import read_npy, read_npz
from psopt.data.delimited import read_csv
from psopt.data.libsvm import parse_block, parse_lines, read_libsvm
from psopt.errors import ConfigError


def written(folder, name, content):
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return str(path)


def complaint(read, *args, **options):
    with pytest.raises(ConfigError) as caught:
        read(*args, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# --- LIBSVM text ---------------------------------------------------------------------------------------------------

finite = st.floats(-1e300, 1e300)
rows = st.lists(
    st.tuples(finite, st.lists(st.tuples(st.integers(1, 12), finite), max_size=6)),
    min_size=1,
    max_size=8,
)


@settings(deadline=None)
@given(rows, st.sampled_from([" ", "\t", "  "]), st.sampled_from(["\n", "\r\n", "\n\n", " # why\n"]))
def test_libsvm_round_trip(tmp_path_factory, drawn, gap, end):
    text = "".join(gap.join([repr(y), *(f"{j}:{x!r}" for j, x in entries)]) + end for y, entries in drawn)
    path = written(tmp_path_factory.mktemp("libsvm"), "drawn", text)
    dense = np.zeros((len(drawn), 12))
    for i, (_, entries) in enumerate(drawn):
        for j, x in entries:
            dense[i, j - 1] += x
    table = read_libsvm(path, n_features=12)
    assert table.features.shape == (len(drawn), 12)
    assert table.features.data.dtype == table.labels.dtype == np.float64
    assert table.features.indices.dtype == np.int32
    assert table.features.indptr.dtype == np.int64
    assert [float(y) for y, _ in drawn] == table.labels.tolist()
    np.testing.assert_allclose(table.features.toarray(), dense, rtol=1e-12, atol=1e-12 * np.abs(dense).max())
    for row in range(len(drawn)):
        inside = table.features.indices[slice(*table.features.indptr[row : row + 2])]
        assert np.all(np.diff(inside) > 0)


@settings(deadline=None, max_examples=300)
@given(st.text(alphabet="0123 \t\n:.+-eEinfaq_x\r\x00", max_size=30))
def test_bulk_and_line_parsers_agree(text):
    """Whatever the bulk parser accepts, the careful one accepts with the same result."""
    bulk = parse_block(text.encode()) if text else None
    if bulk is not None:
        careful = parse_lines(text.encode(), "f", 1)
        for name in ("labels", "lines", "counts", "indices", "values"):
            np.testing.assert_array_equal(getattr(bulk, name), getattr(careful, name))


def test_libsvm_sorts_and_sums_like_scipy(tmp_path):
    rng = np.random.default_rng(3)
    i, j = rng.integers(0, 40, 300), rng.integers(0, 9, 300)
    x = rng.integers(-5, 6, 300).astype(float)
    lines = [
        " ".join(["1", *(f"{b + 1}:{v:g}" for a, b, v in zip(i, j, x, strict=True) if a == row)]) for row in range(40)
    ]
    table = read_libsvm(written(tmp_path, "f", "\n".join(lines)), 9)
    theirs = scipy.sparse.coo_matrix((x, (i, j)), shape=(40, 9)).tocsr()
    theirs.sum_duplicates()
    np.testing.assert_array_equal(table.features.toarray(), theirs.toarray())
    np.testing.assert_array_equal(table.features.indices, theirs.indices)
    np.testing.assert_array_equal(table.features.indptr, theirs.indptr)
    take = np.array([39, 0, 0, 17])
    np.testing.assert_array_equal(table.rows(take).features.toarray(), theirs[take].toarray())
    np.testing.assert_array_equal(table.rows(slice(3, 9)).features.toarray(), theirs[3:9].toarray())


@pytest.mark.parametrize(
    ("suffix", "compress"), [("", bytes), (".gz", gzip.compress), (".bz2", bz2.compress), (".xz", lzma.compress)]
)
def test_libsvm_compressed(tmp_path, suffix, compress):
    table = read_libsvm(written(tmp_path, "a" + suffix, compress(b"-1 2:0.5\n+1 1:2 3:-1e-3\n-1\n")))
    np.testing.assert_array_equal(table.features.toarray(), [[0, 0.5, 0], [2, 0, -1e-3], [0, 0, 0]])
    np.testing.assert_array_equal(table.labels, [-1, 1, -1])


def test_libsvm_in_blocks(tmp_path, monkeypatch):
    text = "".join(f"{i} {i % 5 + 1}:{i}\n" for i in range(200)) + "7 5:7"
    path = written(tmp_path, "f", text)
    whole = read_libsvm(path)
    monkeypatch.setattr(libsvm, "BLOCK_NBYTES", 7)
    pieces = read_libsvm(path)
    np.testing.assert_array_equal(whole.features.toarray(), pieces.features.toarray())
    np.testing.assert_array_equal(whole.labels, pieces.labels)
    bad = written(tmp_path, "bad", text.replace("\n150 1:150", "\n150 1;150"))
    assert complaint(read_libsvm, bad) == f"{bad}:151: expected index:value, found '1;150'"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("1 1:1\n1 2:x\n", "{}:2: expected index:value, found '2:x'"),
        ("1 1:1\n\n# note\n1 2 3:1\n", "{}:4: expected index:value, found '2'"),
        ("1 1:2:3 4\n", "{}:1: expected index:value, found '1:2:3'"),
        ("1 -1:2\n", "{}:1: expected index:value, found '-1:2'"),
        ("1 1:\n", "{}:1: expected index:value, found '1:'"),
        ("1 1: 2\n", "{}:1: expected index:value, found '1:'"),
        ("1:1 2:1\n", "{}:1: expected a number as the label, found '1:1'"),
        ("good 2:1\n", "{}:1: expected a number as the label, found 'good'"),
        ("1 1_0:2\n", "{}:1: expected index:value, found '1_0:2'"),
        ("1,2 3:1\n", "{}:1: expected a number as the label, found '1,2'"),
        ("1 qid:3 1:1\n", "{}:1: found a qid: ranking data is not supported"),
        ("1 1:1\n1 0:1\n", "{}:2: feature index 0: LIBSVM indices start at 1"),
        ("1 1:1\n1 5:1\n", "{}:2: feature index 5 is above n_features: 4"),
        ("1 1:1\n1 3:nan\n", "{}:2: feature 3 is nan, expected a finite number"),
        ("1 1:1\n1\n1 3:1 4:-inf\n", "{}:3: feature 4 is -inf, expected a finite number"),
        ("1 1:1\ninf 1:1\n", "{}:2: the label is inf, expected a finite number"),
        ("", "{}: holds no samples"),
        ("\n# nothing\n \n", "{}: holds no samples"),
    ],
)
def test_libsvm_sentences(tmp_path, text, sentence):
    path = written(tmp_path, "f", text)
    assert complaint(read_libsvm, path, n_features=4) == sentence.format(path)


def test_libsvm_other_sentences(tmp_path):
    path = written(tmp_path, "f", "1 99999999999:1\n")
    assert "is above the largest one supported, 2147483647" in complaint(read_libsvm, path)
    path = written(tmp_path, "g", "1\n-1\n")
    assert "holds labels but no features" in complaint(read_libsvm, path)
    assert read_libsvm(path, 3).features.toarray().shape == (2, 3)
    assert complaint(read_libsvm, str(tmp_path / "none")) == f"{tmp_path / 'none'}: there is no such file"
    path = written(tmp_path, "h", "1 2:1e308 2:1e308\n")
    assert complaint(read_libsvm, path) == f"{path}: row 0, column 1 is inf, expected a finite number"
    assert "is a folder" in complaint(read_libsvm, str(tmp_path))
    assert "cannot be read" in complaint(read_libsvm, written(tmp_path, "f.gz", b"1 1:1\n"))
    assert "cannot be read" in complaint(read_libsvm, written(tmp_path, "g.gz", gzip.compress(b"1 1:1\n" * 99)[:-9]))
    assert "cannot be read" in complaint(read_libsvm, written(tmp_path, "h.xz", b"1 1:1\n"))


def test_ordinary_libsvm_text_is_parsed_in_bulk(tmp_path, monkeypatch):
    """The line-by-line reader is several times slower: only text that is wrong may reach it."""

    def never(*_):
        raise AssertionError("fell back to the line-by-line reader")

    monkeypatch.setattr(libsvm, "parse_lines", never)
    line = "-1 " + " ".join(f"{j}:1" for j in range(3, 70, 5)) + " \n"
    text = line * 2000 + "\n+1 1:-1.5e-3 2:.5\t3:1. # note\r\n0.25\n1e3 0000000007:+2"
    table = read_libsvm(written(tmp_path, "f", text), 123)
    assert len(table.features.data) == 2000 * 14 + 4
    assert table.labels[-3:].tolist() == [1, 0.25, 1000]


# --- CSV -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "text", "options"),
    [
        ("a.csv", "1,2,7\n3,4.5,8\n", {}),
        ("a.csv", 'a,"b",y\n1,2,7\n\n3,4.5,8', {}),
        ("a.csv", "a,y,b\n1,7,2\n3,8,4.5\n", {"label": "y"}),
        ("a.csv", "7;1;2\r\n8;3;4.5\r\n", {"label": 0, "delimiter": ";"}),
        ("a.csv", "0,1,2\n1,2,7\n3,4.5,8\n", {"header": True, "label": -1}),
        ("a.tsv", "a\tb\ty\n1\t2\t7\n3\t4.5\t8\n", {}),
        ("a.csv.gz", gzip.compress(b"1,2,7\n3,4.5,8\n", mtime=0), {}),
        ("a.csv.bz2", bz2.compress(b"\xef\xbb\xbf1,2,7\n3,4.5,8\n"), {}),
    ],
)
def test_csv(tmp_path, name, text, options):
    table = read_csv(written(tmp_path, name, text), **options)
    np.testing.assert_array_equal(table.features, [[1, 2], [3, 4.5]])
    np.testing.assert_array_equal(table.labels, [7, 8])
    assert table.features.flags.c_contiguous
    assert table.features.dtype == table.labels.dtype == np.float64


@pytest.mark.parametrize(
    ("text", "options", "sentence"),
    [
        ("a,b,y\n1,2,3\n1,x,3\n", {}, "{}:3: column 1 (b): expected a number, found 'x'"),
        ("1,2,3\n\n1,,3\n", {}, "{}:3: column 1: expected a number, found an empty cell"),
        ("1,2,3\n1,2\n", {}, "{}:2: expected 3 cells, found 2"),
        ("a,b,y\n1,2,3\n1,nan,3\n", {}, "{}:3: row 1, column 1 (b) is nan, expected a finite number"),
        ("1,2,inf\n", {}, "{}:1: row 0, column 2 is inf, expected a finite number"),
        ("a,b\n1,2\n", {"label": "y"}, "{}: label column 'y' does not exist: the columns are a, b"),
        ("1,2\n", {"label": "y"}, "{}: label column 'y' is a name, but the file has no header: give its position"),
        ("1,2\n", {"label": 2}, "{}: label column 2 does not exist: there are 2 columns"),
        ("1;2\n", {}, "{}: holds a header but no samples"),
        ("1\n2\n", {}, "{}: has one column, expected features and a label: is ',' its delimiter?"),
        ("1,2\n", {"delimiter": ", "}, "key 'delimiter' must be one character, found ', '"),
        (" \n", {}, "{}: is empty"),
        ("a,b\n", {}, "{}: holds a header but no samples"),
        (b"1,\xff\n", {}, "{}: is not UTF-8 text: invalid start byte at byte 2"),
    ],
)
def test_csv_sentences(tmp_path, text, options, sentence):
    path = written(tmp_path, "f.csv", text)
    assert complaint(read_csv, path, **options) == sentence.format(path)


# --- NumPy files ---------------------------------------------------------------------------------------------------


def test_npz_dense_and_csr(tmp_path):
    x = np.array([[0, 2, 0], [1, 0, 3]], dtype=np.int16)
    np.savez(tmp_path / "d.npz", X=np.asfortranarray(x), y=np.array([True, False]))
    table = read_npz(str(tmp_path / "d.npz"))
    np.testing.assert_array_equal(table.features, x)
    np.testing.assert_array_equal(table.labels, [1, 0])
    assert table.features.flags.c_contiguous
    assert table.features.dtype == table.labels.dtype == np.float64

    scipy.sparse.save_npz(tmp_path / "s.npz", scipy.sparse.csr_matrix(x))
    with np.load(tmp_path / "s.npz") as saved:
        parts = dict(saved)
    np.savez(tmp_path / "s.npz", **parts, y=[1, -1])
    table = read_npz(str(tmp_path / "s.npz"))
    np.testing.assert_array_equal(table.features.toarray(), x)
    assert table.features.data.dtype == np.float64
    assert table.features.indices.dtype == np.int32


def test_npy_pair(tmp_path):
    x, y = np.arange(6.0).reshape(3, 2), np.array([1, 2, 3])
    np.save(tmp_path / "x.npy", x)
    np.save(tmp_path / "y.npy", y)
    table = read_npy(str(tmp_path / "x.npy"), str(tmp_path / "y.npy"))
    np.testing.assert_array_equal(table.features, x)
    np.testing.assert_array_equal(table.labels, y)
    assert "3 rows of features but 2 labels" in complaint(_pair, tmp_path, x, y[:2])
    assert "labels must be one number a row, found shape (3, 1)" in complaint(_pair, tmp_path, x, y[:, None])
    assert "features must have shape (samples, features), found (3,)" in complaint(_pair, tmp_path, x[:, 0], y)
    assert "holds no samples" in complaint(_pair, tmp_path, x[:0], y[:0])
    x[2, 1] = np.nan
    assert "row 2, column 1 is nan" in complaint(_pair, tmp_path, x, y)
    assert "labels must hold real numbers, found dtype <U1" in complaint(_pair, tmp_path, x, np.array(["a"] * 3))


def _pair(folder, x, y):
    np.save(folder / "x.npy", x)
    np.save(folder / "y.npy", y)
    return read_npy(str(folder / "x.npy"), str(folder / "y.npy"))


GOOD = {"data": [1.0, 2.0], "indices": [0, 2], "indptr": [0, 1, 2], "shape": [2, 3], "y": [1, -1]}


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"y": [1]}, "2 rows of features but 1 labels"),
        ({"indices": [0, 3]}, "an index lies outside the 3 columns"),
        ({"indices": [0]}, "1 indices but data of shape (2,)"),
        ({"indices": [0.0, 2.0]}, "indices must be a list of whole numbers"),
        ({"indptr": [0, 2, 1]}, "indptr must rise from 0 to 2 in 3 numbers"),
        ({"shape": [2, 3, 1]}, "shape must be (samples, features), found (2, 3, 1)"),
        ({"data": [1.0, np.inf]}, "row 1, column 2 is inf, expected a finite number"),
        ({"y": [1, np.nan]}, "row 1: the label is nan, expected a finite number"),
        ({"format": b"csc"}, "holds a csc matrix, expected csr: convert it with .tocsr() before saving"),
    ],
)
def test_npz_csr_sentences(tmp_path, change, sentence):
    path = tmp_path / "f.npz"
    np.savez(path, **(GOOD | change))
    assert complaint(read_npz, str(path)) == f"{path}: {sentence}"


def test_npz_sentences(tmp_path):
    path = str(tmp_path / "f.npz")
    np.savez(path, X=np.eye(2), labels=[1, 2])
    assert "expected the keys X, y or data, indices, indptr, shape, y; found X, labels" in complaint(read_npz, path)
    np.savez(path, X=np.array([[None]]), y=[1])
    assert complaint(read_npz, path) == f"{path}: X holds Python objects, which psopt never unpickles: save numbers"
    written(tmp_path, "f.npz", b"not a zip")
    assert "is not a readable .npz file" in complaint(read_npz, path)
    written(tmp_path, "f.npz", b"")
    assert "is not a readable .npz file" in complaint(read_npz, path)
    assert "there is no such file" in complaint(read_npz, str(tmp_path / "g.npz"))
