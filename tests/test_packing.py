"""Packed indices: what goes in comes out, in few bits, and nothing from the wire is believed."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from psopt.errors import ProtocolError
from psopt.parts import sparse_payload
from psopt.parts.compressors import RandomK, TopK
from psopt.problems.kernels import gaps, topk
from psopt.problems.kernels.rounding import narrow

DIMS = (1, 2, 63, 64, 65, 1000, 407_050, 2**31 - 1, 2**31, 2**40, 2**62)
FLOAT32 = np.dtype(np.float32)


def packed(indices, dim):
    """The words, in room that holds other bits before and has none to spare; and b."""
    room = np.full(gaps.most_words(indices.size, dim), 2**64 - 1, np.uint64)
    used, b = gaps.pack(indices, dim, room)
    return room[:used].copy(), b


def came_out(words, b, dim, k):
    out = np.full(k, -7, topk.index_dtype(dim))
    gaps.unpack(words, b, dim, out)
    return out


def kinds_of_indices(rng, dim):
    """None, all that go, the last ones, a run in the middle, evenly spread, clustered, and both ends."""
    most = min(dim, 300)
    yield np.arange(0)
    yield np.arange(most)
    yield np.arange(dim - most, dim)
    yield dim // 2 + np.arange(min(most, dim - dim // 2))
    yield np.unique(rng.integers(0, dim, most))
    yield np.unique(np.minimum(dim - 1, (dim * rng.random(most) ** 9).astype(np.int64)))
    yield np.unique([0, dim - 1])


@pytest.mark.parametrize("dim", DIMS)
def test_what_goes_in_comes_out(dim):
    for seed in range(20):
        for indices in kinds_of_indices(np.random.default_rng(seed), dim):
            indices = indices.astype(topk.index_dtype(dim))
            words, b = packed(indices, dim)
            np.testing.assert_array_equal(came_out(words, b, dim, indices.size), indices)


@settings(max_examples=300, deadline=None)
@given(st.sets(st.integers(0, 5000), max_size=200), st.integers(1, 10**6))
def test_any_set_comes_out(chosen, more):
    indices = np.array(sorted(chosen), np.int32)
    dim = 5000 + more
    words, b = packed(indices, dim)
    np.testing.assert_array_equal(came_out(words, b, dim, indices.size), indices)


def test_kernels_equal_their_python_functions():
    rng = np.random.default_rng(0)
    indices = np.sort(rng.choice(3000, 40, replace=False)).astype(np.int32)
    words, b = packed(indices, 3000)
    again, out = np.zeros(gaps.most_words(40, 3000), np.uint64), np.zeros(40, np.int32)
    with np.errstate(over="ignore"):
        assert gaps.pack.py_func(indices, 3000, again) == (words.size, b)
        assert gaps._unpack.py_func(words, b, 3000, out) == 0
    np.testing.assert_array_equal(again[: words.size], words)
    np.testing.assert_array_equal(out, indices)


@pytest.mark.parametrize(("fraction", "most"), [(0.01, 1.01), (0.001, 1.03), (0.1, 1.03), (0.5, 1.3)])
def test_bits_an_index_are_near_the_entropy(fraction, most):
    dim = 407_050
    k = int(fraction * dim)
    indices = np.sort(np.random.default_rng(1).choice(dim, k, replace=False)).astype(np.int32)
    entropy = -(math.log2(fraction) + (1 - fraction) / fraction * math.log2(1 - fraction))
    assert 64 * packed(indices, dim)[0].size / k < most * entropy


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 2**32), st.integers(0, 62), st.integers(0, 40), st.integers(0, 30))
def test_words_that_are_no_code_are_refused_and_nothing_else_is_touched(seed, b, k, size):
    """Whatever the words hold, indices come out ascending and in range, or an error."""
    rng = np.random.default_rng(seed)
    dim = int(rng.choice(DIMS))
    room = rng.integers(0, 2**64, size, dtype=np.uint64)
    out = np.full(k + 2, -7, topk.index_dtype(dim))
    try:
        gaps.unpack(room, b, dim, out[1 : k + 1])
    except ProtocolError:
        pass
    else:
        topk.check_indices(out[1 : k + 1], dim)
    assert out[0] == out[-1] == -7


@pytest.mark.parametrize("values", ["theta", "float32", "float16"])
@pytest.mark.parametrize("kind", [TopK, RandomK])
def test_packed_payloads_say_what_plain_ones_say(kind, values):
    sizes, x = [700, 5, 300], np.random.default_rng(2).standard_normal(1005)
    said = {}
    for indices in ("plain", "packed"):
        part = kind(0.05, values=values, indices=indices)
        state = part.init(sizes, x.dtype, np.random.default_rng(3))
        residual = np.zeros_like(x)
        for _ in range(3):
            payload = part.feed_back(state, residual, x, 0.5)
            told = np.empty_like(x)
            part.decompress(payload.copy(), told)
            said.setdefault(indices, []).append((told, residual.copy(), payload.nbytes))
    for (told, left, plain), (other, other_left, short) in zip(said["plain"], said["packed"], strict=True):
        np.testing.assert_array_equal(told, other)
        np.testing.assert_array_equal(left, other_left)
        assert short < plain


def payload_of(k, dim):
    buffer = sparse_payload.PackedBuffer(k, dim, FLOAT32)
    buffer.indices[:] = np.arange(k) * (dim // k)
    return buffer.payload().copy()


@settings(max_examples=400, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 8), st.integers(-24, 24))
def test_payloads_that_were_changed_are_read_in_range_or_refused(seed, changes, cut):
    rng = np.random.default_rng(seed)
    payload = payload_of(50, 9000)
    for at in rng.integers(0, payload.size, changes):
        payload[at] = rng.integers(0, 256)
    payload = payload[:cut] if cut < 0 else np.concatenate([payload, np.zeros(cut, np.uint8)])
    try:
        indices, values = sparse_payload.read_packed(payload, 9000, FLOAT32)
    except ProtocolError:
        return
    topk.check_indices(indices, 9000)
    assert indices.size == values.size


def test_each_refusal_has_its_sentence():
    read = sparse_payload.read_packed
    good = payload_of(50, 9000)
    read(good, 9000, FLOAT32)
    with pytest.raises(ProtocolError, match="no whole number of words"):
        read(good[:-1], 9000, FLOAT32)
    with pytest.raises(ProtocolError, match="no whole number of words"):
        read(good[:0], 9000, FLOAT32)
    with pytest.raises(ProtocolError, match="names 50 indices and holds fewer"):
        read(good[:-8], 9000, FLOAT32)
    with pytest.raises(ProtocolError, match="has bits left behind its last index"):
        read(np.concatenate([good, np.zeros(8, np.uint8)]), 9000, FLOAT32)
    with pytest.raises(ProtocolError, match="has an index beyond 99"):
        read(good, 100, FLOAT32)
    with pytest.raises(ProtocolError, match="announces 50 entries"):
        read(good, 49, FLOAT32)
    good[7] = 63
    with pytest.raises(ProtocolError, match="parameter 63"):
        read(good, 9000, FLOAT32)


def test_rounding_saturates():
    x = np.array([1e300, -1e300, 1e-320, 0.1, -70000.0, 0.0])
    for dtype in (np.float32, np.float16):
        out, limit = np.empty(6, dtype), np.finfo(dtype).max
        narrow(x, out)
        np.testing.assert_array_equal(out, np.clip(x, -float(limit), float(limit)).astype(dtype))
        assert np.isfinite(out).all()
