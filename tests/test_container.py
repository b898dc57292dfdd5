"""The file that holds a part of a checkpoint: what goes in comes out, and no damage passes."""

import pickle

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from psopt.errors import ConfigError
from psopt.runs import container
from psopt.runs.container import Container

DTYPES = ("u1", "i1", "i4", "i8", "u4", "u8", "f2", "f4", "f8", "?")
arrays = st.sampled_from(DTYPES).flatmap(
    lambda name: hnp.arrays(name, hnp.array_shapes(min_dims=0, min_side=0, max_side=5))
)
leaves = st.none() | st.booleans() | st.integers(-(2**130), 2**130) | st.floats() | st.text(max_size=9) | arrays
keys = st.text(max_size=9).filter(lambda key: key != "#")
trees = st.recursive(
    leaves, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=4), max_leaves=20
)


def same(a, b):
    if isinstance(a, np.ndarray):
        return isinstance(b, np.ndarray) and (a.dtype, a.shape, a.tobytes()) == (b.dtype, b.shape, b.tobytes())
    if isinstance(a, dict):
        return isinstance(b, dict) and a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list):
        return isinstance(b, list) and len(a) == len(b) and all(map(same, a, b))
    return type(a) is type(b) and (a == b or (a != a and b != b))


def complaint(path, written):
    try:
        opened(path, written).check()
    except ConfigError as error:
        return str(error)
    return None


def opened(path, written):
    return Container(path, written.nbytes, written.sha256)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(trees)
def test_there_and_back(tmp_path, tree):
    path = tmp_path / "file"
    written = container.write(path, tree)
    assert path.stat().st_size == written.nbytes
    read = opened(path, written)
    read.check()
    assert same(read.load(read.tree), tree)


def test_arrays_are_read_one_by_one_and_need_not_be_contiguous(tmp_path):
    rows = np.arange(30.0).reshape(5, 6)
    path = tmp_path / "file"
    written = container.write(path, {"rows": list(rows), "turned": rows.T})
    read = opened(path, written)
    np.testing.assert_array_equal(read.load(read.tree["rows"][3]), rows[3])
    np.testing.assert_array_equal(read.load(read.tree["turned"]), rows.T)


def test_any_flipped_bit_and_any_cut_is_found(tmp_path):
    rng = np.random.default_rng(0)
    tree = {"theta": rng.standard_normal(50), "held": [rng.integers(9, size=7), "text", 1.5]}
    path = tmp_path / "file"
    written = container.write(path, tree)
    good = path.read_bytes()
    used = len(good) - (-7 * 8 % 64)  # what follows the last array only fills up
    for at in range(used):
        bad = good[:at] + bytes([good[at] ^ (1 << int(rng.integers(8)))]) + good[at + 1 :]
        path.write_bytes(bad)
        fault = complaint(path, written)
        if fault is None:  # a byte that fills up between two arrays
            assert good[at] == 0
            read = opened(path, written)
            assert same(read.load(read.tree), tree)
        else:
            assert str(path) in fault
            assert "\n" not in fault
    for at in (0, 7, 15, 16, 100, used // 2, len(good) - 1):
        path.write_bytes(good[:at])
        with pytest.raises(ConfigError, match="is damaged: it has"):
            opened(path, written)
    path.unlink()
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        opened(path, written)


def test_nothing_is_ever_executed(tmp_path):
    class Bomb:
        def __reduce__(self):
            return (open, (str(tmp_path / "boom"), "w"))

    with pytest.raises(TypeError, match="arrays of object"):
        container.write(tmp_path / "file", {"x": np.array([Bomb()], dtype=object)})
    path = tmp_path / "pickle"
    path.write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(ConfigError, match="is damaged"):
        Container(path, path.stat().st_size, "0" * 64)
    assert not (tmp_path / "boom").exists()


def test_what_cannot_be_written_is_no_tree(tmp_path):
    with pytest.raises(TypeError, match="not JSON serializable"):
        container.write(tmp_path / "file", {"x": object()})
