"""IDX files: what is read equals what was written, a broken file gets one sentence; MNIST's pins; the config keys."""

import gzip
import hashlib
import struct
import sys
import tracemalloc
import types
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from psopt import config
from psopt.config import yaml_source
from psopt.config.sentences import Complaints
from psopt.data import DataSpec, HeldOut, Partition, Standardise, open_shards, published
from psopt.data.idx import find_pair, read_idx
from psopt.errors import ConfigError

MNISTS = Standardise("fixed", divide=255.0, mean=0.1307, scale=0.3081)
CODES = {"u1": 0x08, "i1": 0x09, "i2": 0x0B, "i4": 0x0C, "f4": 0x0D, "f8": 0x0E}


def idx_bytes(array):
    """The IDX file of an array, written from the format's description."""
    head = bytes([0, 0, CODES[array.dtype.str[1:]], array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    return head + array.astype(array.dtype.newbyteorder(">")).tobytes()


def images(samples=12, seed=0, shape=(4, 3)):
    return np.random.default_rng(seed).integers(0, 256, (samples, *shape), dtype=np.uint8)


def labels(samples=12):
    return (np.arange(samples) % 3).astype(np.uint8)


def written(folder, train=None, test=None, joint="-", end=""):
    """MNIST's four names in a folder; returns its path."""
    train, test = train or (images(), labels()), test or (images(5, 1), labels(5))
    for part, (x, y) in {"train": train, "t10k": test}.items():
        for name, array in ((f"{part}-images{joint}idx3-ubyte", x), (f"{part}-labels{joint}idx1-ubyte", y)):
            raw = idx_bytes(array)
            (folder / f"{name}{end}").write_bytes(gzip.compress(raw) if end else raw)
    return str(folder)


def complaint(act, *args, **options):
    with pytest.raises(ConfigError) as caught:
        act(*args, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# --- files ---------------------------------------------------------------------------------------------------------


@settings(deadline=None)
@given(
    st.sampled_from([*CODES]).flatmap(
        lambda kind: arrays.arrays(
            f"<{kind}",
            arrays.array_shapes(min_dims=1, max_dims=4, max_side=4),
            elements={"allow_nan": False} if kind[0] == "f" else None,
        )
    ),
    st.sampled_from(["", ".gz"]),
)
def test_round_trip(tmp_path_factory, array, end):
    path = tmp_path_factory.mktemp("idx") / f"drawn{end}"
    raw = idx_bytes(array)
    path.write_bytes(gzip.compress(raw) if end else raw)
    rows = read_idx(str(path), hashlib.sha256(raw).hexdigest())
    assert rows.dtype == array.dtype.newbyteorder("=")
    assert rows.flags.c_contiguous
    np.testing.assert_array_equal(rows, array.reshape(len(array), -1))


@pytest.mark.parametrize("end", ["", ".gz"])
@pytest.mark.parametrize("joint", ["-", "."])
def test_a_folder_of_four_files(tmp_path, joint, end):
    path = written(tmp_path, joint=joint, end=end)
    spec = DataSpec("idx", path, test=HeldOut("official"))
    shards = open_shards(spec, 2, 1, "float32")
    assert (shards.n_features, shards.total_samples, shards.source) == (12, 12, f"idx {path}")
    tables, parts = zip(*((shards.shard(m), shards.held_out(m)) for m in range(2)), strict=True)
    for found, (x, y) in ((tables, (images(), labels())), (parts, (images(5, 1), labels(5)))):
        np.testing.assert_array_equal(np.vstack([table.features for table in found]), x.reshape(len(x), -1))
        np.testing.assert_array_equal(np.concatenate([table.labels for table in found]), y)
    assert {table.features.dtype for table in (*tables, *parts)} == {np.dtype(np.float32)}
    assert [part.samples for part in parts] == [3, 2]


def test_the_plain_file_comes_before_the_compressed_one(tmp_path):
    written(tmp_path)
    written(tmp_path, end=".gz", joint=".")
    assert [path.rsplit("/", 1)[1] for path in find_pair(str(tmp_path), "t10k")] == [
        "t10k-images-idx3-ubyte",
        "t10k-labels-idx1-ubyte",
    ]


def test_positive_maps_the_labels_of_both_sets(tmp_path):
    spec = DataSpec("idx", written(tmp_path), positive=2.0, test=HeldOut("official"))
    shards = open_shards(spec, 1, 1)
    np.testing.assert_array_equal(shards.shard(0).labels, np.where(labels() == 2, 1, -1))
    np.testing.assert_array_equal(shards.held_out(0).labels, np.where(labels(5) == 2, 1, -1))
    said = complaint(open_shards, replace(spec, positive=7.0), 1, 1)
    assert said == f"{tmp_path}: no label equals positive: 7; the labels begin with 0, 1, 2"


@pytest.mark.parametrize("kind", ["min-max", "z-score", "max-abs"])
def test_statistics_are_those_of_the_training_files(tmp_path, kind):
    spec = DataSpec("idx", written(tmp_path), standardise=Standardise(kind), test=HeldOut("official"))
    shards = open_shards(spec, 1, 1)
    wide, wide_test = (x.reshape(len(x), -1).astype(float) for x in (images(), images(5, 1)))
    scale = Standardise(kind).fit(wide)
    np.testing.assert_allclose(shards.shard(0).features, scale(wide), rtol=1e-13, atol=1e-15)
    np.testing.assert_allclose(shards.held_out(0).features, scale(wide_test), rtol=1e-13, atol=1e-15)


@pytest.mark.parametrize(
    "partition",
    [Partition(), Partition("iid"), Partition("by_label", classes_per_worker=2), Partition("dirichlet", alpha=1.0)],
    ids=lambda partition: partition.kind,
)
def test_every_partition_deals_the_rows_of_a_folder(tmp_path, partition):
    x, y = images(60), labels(60)
    spec = DataSpec("idx", written(tmp_path, (x, y)), partition=partition, test=HeldOut(fraction=0.2))
    shards = open_shards(spec, 4, 1)
    tables = [shards.shard(m) for m in range(4)] + [shards.held_out(m) for m in range(4)]
    dealt = sorted((*row, label) for table in tables for row, label in zip(*vars(table).values(), strict=True))
    assert dealt == sorted((*row, label) for row, label in zip(x.reshape(60, -1), y, strict=True))
    assert [table.samples for table in tables[4:]] == [3, 3, 3, 3]


def test_a_worker_turns_only_its_own_rows_into_floats(tmp_path):
    path = written(tmp_path, (images(2000, shape=(25, 40)), labels(2000)))
    spec = DataSpec("idx", path, standardise=MNISTS, partition=Partition("iid"))
    open_shards(spec, 20, 1).shard(0)
    tracemalloc.start()
    shard = open_shards(spec, 20, 1).shard(0)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert shard.features.nbytes == 800_000
    assert 2_000_000 < peak < 8_000_000  # the bytes, a shuffled copy of them and one shard; as floats, all are 16 MB


# --- broken files --------------------------------------------------------------------------------------------------

GOOD = idx_bytes(images(2))
BROKEN = {
    b"": "is empty, expected an IDX file: 00 00, a type from 08 to 0e, the number of dimensions, at most 8",
    b"\0\0\x08": "begins with the bytes 00 00 08, expected an IDX file",
    b"\x89PNG....": "begins with the bytes 89 50 4e 47, expected an IDX file",
    b"\0\0\x0a\x01\0\0\0\1.": "begins with the bytes 00 00 0a 01, expected an IDX file",
    b"\0\0\x08\0.": "begins with the bytes 00 00 08 00, expected an IDX file",
    gzip.compress(GOOD): "is compressed with gzip, but its name does not end in .gz",
    GOOD[:9]: "is cut short: 9 bytes, but its header alone has 16",
    GOOD[:-1]: "is cut short: 39 bytes, expected 40 for 2 x 4 x 3 values",
    GOOD + b"\0": "goes on behind its end, expected 40 for 2 x 4 x 3 values",
    b"\0\0\x08\x02" + bytes(8): "holds no values: its header says 0 x 0",
    b"\0\0\x0e\x03" + b"\xff" * 12: "is cut short: 16 bytes, expected 633825299671392843082401579016 for 4294967295 x",
}


@pytest.mark.parametrize(("raw", "sentence"), BROKEN.items(), ids=range(len(BROKEN)))
def test_broken_files_get_one_sentence(tmp_path, raw, sentence):
    path = tmp_path / "images"
    path.write_bytes(raw)
    assert complaint(read_idx, str(path)).startswith(f"{path}: {sentence}")


@given(st.binary(max_size=40), st.integers(0, 12))
def test_no_bytes_at_all_raise_anything_else(tmp_path_factory, raw, at):
    path = tmp_path_factory.getbasetemp() / "any"
    path.write_bytes(GOOD[:at] + raw)
    try:
        rows = read_idx(str(path))
    except ConfigError:
        return
    assert rows.size


@pytest.mark.parametrize("cut", [3, 20, -4])
def test_a_gzip_file_that_is_cut_short(tmp_path, cut):
    path = tmp_path / "images.gz"
    path.write_bytes(gzip.compress(GOOD)[:cut])
    assert complaint(read_idx, str(path)).startswith(f"{path}: cannot be read: ")


def test_folders_that_do_not_fit(tmp_path):
    spec = DataSpec("idx", str(tmp_path / "none"))
    assert complaint(open_shards, spec, 1, 1) == (
        f"{tmp_path / 'none'}: there is no such folder, expected the folder that holds train-images-idx3-ubyte"
    )
    (tmp_path / "none").write_text("x")
    assert "is a file, expected the folder" in complaint(open_shards, spec, 1, 1)
    spec = DataSpec("idx", written(tmp_path), test=HeldOut("official"))
    (tmp_path / "t10k-labels-idx1-ubyte").unlink()
    said = complaint(open_shards, spec, 1, 1)
    assert said == f"{tmp_path}: holds no t10k-labels-idx1-ubyte, plain or with .gz"


def test_files_that_do_not_fit_together(tmp_path):
    path = written(tmp_path, (images(12), labels(11)))
    said = complaint(open_shards, DataSpec("idx", path), 1, 1)
    assert said == (
        f"{tmp_path / 'train-images-idx3-ubyte'}: holds 12 samples, but {tmp_path / 'train-labels-idx1-ubyte'} has 11 "
        "labels"
    )
    path = written(tmp_path, (images(12), images(12)))
    said = complaint(open_shards, DataSpec("idx", path), 1, 1)
    assert said == f"{tmp_path / 'train-labels-idx1-ubyte'}: holds 12 values a sample, expected one label"
    path = written(tmp_path, test=(images(5, shape=(2, 2)), labels(5)))
    said = complaint(open_shards, DataSpec("idx", path, test=HeldOut("official")), 1, 1)
    assert said == f"{path}: the test set has 4 features, expected 12 as for training"
    path = written(tmp_path, (np.full((12, 2), np.nan), labels()))
    assert "row 0, column 0 is nan, expected a finite" in complaint(open_shards, DataSpec("idx", path), 1, 1)


# --- MNIST and Fashion-MNIST ---------------------------------------------------------------------------------------


@pytest.fixture
def small_mnist(tmp_path, monkeypatch):
    """A folder of small .gz files in MNIST's place: their checksums are the pinned ones."""
    folder = tmp_path / "home"
    folder.mkdir()
    written(folder, end=".gz")

    def pinned(file):
        packed = (folder / f"{file.name}.gz").read_bytes()
        content = hashlib.sha256(gzip.decompress(packed)).hexdigest()
        return replace(file, content=content, packed=hashlib.sha256(packed).hexdigest())

    home = published.HOMES["mnist"]
    parts = {part: tuple(map(pinned, files)) for part, files in home.parts.items()}
    monkeypatch.setitem(published.HOMES, "mnist", replace(home, parts=parts))
    return folder


@pytest.fixture
def fake_pooch(tmp_path, monkeypatch, small_mnist):
    """Stands for pooch where there is a network: keeps what it was asked for, and checks as pooch does."""
    asked = []

    def retrieve(url, known_hash, fname, path):
        asked.append(url)
        packed = (small_mnist / fname).read_bytes()
        if known_hash != f"sha256:{hashlib.sha256(packed).hexdigest()}":
            raise ValueError("SHA256 hash of downloaded file\n does not match")
        path.mkdir(parents=True, exist_ok=True)
        (path / fname).write_bytes(packed)
        return str(path / fname)

    pooch = types.SimpleNamespace(retrieve=retrieve, os_cache=lambda project: tmp_path / "cache" / project)
    monkeypatch.setitem(sys.modules, "pooch", pooch)
    return asked


def test_the_pins_are_whole_and_all_different():
    files = [file for home in published.HOMES.values() for part in home.parts.values() for file in part]
    digests = {digest for file in files for digest in (file.content, file.packed)}
    assert len(digests) == 2 * len(files) == 16
    assert all(len(digest) == 64 and int(digest, 16) for digest in digests)
    assert set(published.HOMES) == set(published.DESCRIPTIONS)


def test_a_folder_of_the_published_files(small_mnist):
    shards = open_shards(DataSpec("mnist", str(small_mnist), test=HeldOut("official")), 1, 1)
    np.testing.assert_array_equal(shards.shard(0).features, images().reshape(12, -1))
    np.testing.assert_array_equal(shards.held_out(0).labels, labels(5))
    assert shards.source == f"mnist {small_mnist}"


def test_a_copy_that_was_packed_anew_or_not_at_all_is_as_good(small_mnist):
    written(small_mnist, joint=".")
    open_shards(DataSpec("mnist", str(small_mnist), test=HeldOut("official")), 1, 1)
    for path in small_mnist.glob("*ubyte.gz"):
        path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes()), 1))
    for path in small_mnist.glob("*ubyte"):
        path.unlink()
    open_shards(DataSpec("mnist", str(small_mnist), test=HeldOut("official")), 1, 1)


def test_other_files_under_its_names_are_refused(tmp_path):
    said = complaint(open_shards, DataSpec("mnist", written(tmp_path)), 1, 1)
    assert said == (
        f"{tmp_path / 'train-images-idx3-ubyte'}: is not the published file (its sha256 differs): use source 'idx' for "
        "your own files"
    )


def test_it_is_downloaded_into_the_cache(fake_pooch, tmp_path):
    shards = open_shards(DataSpec("mnist"), 2, 1)
    np.testing.assert_array_equal(shards.shard(0).features, images()[:6].reshape(6, -1))
    names = ["train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"]
    assert fake_pooch == [published.HOMES["mnist"].address + name for name in names]
    assert sorted(path.name for path in (tmp_path / "cache" / "psopt" / "mnist").iterdir()) == names
    open_shards(DataSpec("mnist", test=HeldOut("official")), 2, 1)
    assert [url.rsplit("/", 1)[1][:4] for url in fake_pooch[2:]] == ["trai", "trai", "t10k", "t10k"]


def test_a_broken_download_and_no_network_are_one_sentence(fake_pooch, small_mnist, monkeypatch):
    (small_mnist / "train-images-idx3-ubyte.gz").write_bytes(b"please log in")
    assert complaint(open_shards, DataSpec("mnist"), 1, 1) == (
        "train-images-idx3-ubyte.gz of mnist came with another sha256 than the published one: set `path` to a folder "
        "that holds the four files"
    )

    def unreachable(*_, **__):
        raise ConnectionError("no route to host")

    monkeypatch.setattr(sys.modules["pooch"], "retrieve", unreachable)
    assert complaint(open_shards, DataSpec("mnist"), 1, 1) == (
        "cannot download train-images-idx3-ubyte.gz of mnist: without a network set `path` to a folder that holds the "
        "four files (no route to host)"
    )


def test_without_pooch_it_says_what_to_do(monkeypatch):
    monkeypatch.setitem(sys.modules, "pooch", None)
    assert complaint(open_shards, DataSpec("fashion-mnist"), 1, 1) == (
        "downloading fashion-mnist needs pooch: pip install psopt[download], or set `path` to a folder that holds the "
        "four files"
    )


# --- in a config ---------------------------------------------------------------------------------------------------


def parsed(**data):
    return config.parse({"workers": 3, "problem": "logistic", "data": {"source": "housing", **data}})


@pytest.mark.parametrize(
    ("data", "spec"),
    [
        ({"standardise": "z-score"}, {"standardise": Standardise("z-score")}),
        ({"standardise": {"kind": "z-score"}}, {"standardise": Standardise("z-score")}),
        (
            {"standardise": {"kind": "fixed", "divide": 255, "mean": 0.1307, "scale": 0.3081}},
            {"standardise": MNISTS},
        ),
        ({"test": None}, {"test": None}),
        ({"test": {"fraction": 0.1}}, {"test": HeldOut(fraction=0.1)}),
        ({"source": "mnist", "test": "official"}, {"test": HeldOut("official")}),
        ({"source": "mnist", "test": {"split": "official"}}, {"test": HeldOut("official")}),
        ({"source": "idx", "path": "a", "positive": 3}, {"path": "a", "positive": 3.0}),
        ({"source": "file", "path": "a", "test": {"path": "b"}}, {"test": HeldOut(path="b")}),
        (
            {"partition": {"kind": "by_label", "classes_per_worker": 2}},
            {"partition": Partition("by_label", classes_per_worker=2)},
        ),
        (
            {"partition": {"kind": "dirichlet", "alpha": 1, "min_samples": 9}},
            {"partition": Partition("dirichlet", alpha=1.0, min_samples=9)},
        ),
    ],
)
def test_the_new_keys_survive_a_round_trip(data, spec):
    made = parsed(**data)
    assert {name: getattr(made.data, name) for name in spec} == spec
    assert config.parse(made.resolved()) == made
    assert config.parse(made.resolved()).sha256() == made.sha256()
    assert yaml_source.read(made.to_yaml(), "x", Complaints("x")) == made.resolved()


def test_all_of_them_in_one_file(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text("""\
workers: 3
problem: logistic
data:
  source: mnist
  positive: 3
  standardise: {kind: fixed, divide: 255, mean: 0.1307, scale: 0.3081}
  partition: {kind: dirichlet, alpha: 0.5}
  test: official
""")
    expected = DataSpec(
        "mnist",
        positive=3.0,
        standardise=MNISTS,
        partition=Partition("dirichlet", alpha=0.5),
        test=HeldOut("official"),
    )
    assert config.load(path).data == expected
    assert config.load(path, ["data.test.split=null", "data.test.fraction=0.1"]).data.test == HeldOut(fraction=0.1)


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        ({"standardise": "zscore"}, "standardise.kind: found the text 'zscore'; did you mean `z-score`?"),
        ({"standardise": 3}, "standardise: found 3, expected a mapping"),
        ({"standardise": {"kind": "fixed", "mena": 1}}, "standardise.mena: unknown key; did you mean `mean`?"),
        ({"standardise": {"divide": 255}}, "standardise.divide: key 'divide' belongs to standardise 'fixed', not to"),
        (
            {"standardise": {"kind": "fixed", "scale": 0}},
            "standardise.scale: key 'scale' must be a finite number above",
        ),
        ({"test": "offical"}, "test.split: found the text 'offical'; did you mean `official`?"),
        ({"test": "official"}, "test: key 'test': source 'housing' has no official test set, only"),
        ({"test": {"fraction": 2}}, "test.fraction: key 'fraction' must be between 0 and 1, found 2.0"),
        ({"test": {"fraction": "a"}}, "test.fraction: found the text 'a', expected a number"),
        ({"test": {}}, "test: a test set needs exactly one of split, fraction and path, found none of them"),
        (
            {"partition": "by_label"},
            "partition: key 'classes_per_worker' of partition 'by_label' must be a whole number",
        ),
        (
            {"partition": {"kind": "by_label", "classes_per_worker": 1.5}},
            "partition.classes_per_worker: found 1.5, exp",
        ),
        (
            {"partition": {"kind": "dirichlet", "alpha": 0}},
            "partition.alpha: key 'alpha' of partition 'dirichlet' must",
        ),
        ({"partition": {"kind": "iid", "alpha": 1}}, "partition.alpha: key 'alpha' belongs to partition 'dirichlet'"),
    ],
)
def test_complaints_name_the_key(data, sentence):
    assert complaint(parsed, **data).startswith(f"config: data.{sentence}")


def test_the_schema_knows_names_and_mappings():
    keys = config.json_schema()["properties"]["data"]["anyOf"][1]["properties"]
    name, mapping = keys["standardise"]["anyOf"]
    assert "fixed" in name["enum"]
    assert set(mapping["properties"]) == {"kind", "divide", "mean", "scale"}
    test, null = keys["test"]["anyOf"]
    assert null == {"type": "null"}
    assert set(test["anyOf"][1]["properties"]) == {"split", "fraction", "path", "labels_path"}
    assert {"classes_per_worker", "alpha", "min_samples"} < set(keys["partition"]["anyOf"][1]["properties"])
