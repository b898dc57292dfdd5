"""The top-k kernels against a stable sort, at every kind of tie and with every kind of wrong hint."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from psopt.errors import ConfigError, ProtocolError
from psopt.problems.kernels import topk

DTYPES = ("float64", "float32")
NOTHING_KNOWN = (0.0, 0.0)


def largest(x, offsets, counts):
    """Indices by a stable sort of each tensor by falling magnitude: of equal ones the lower index comes first."""
    chosen = []
    for first, stop, k in zip(offsets, offsets[1:], counts, strict=False):
        order = np.argsort(-np.abs(x[first:stop]), kind="stable")
        chosen.append(first + np.sort(order[:k]))
    return np.concatenate(chosen)


class Arrays:
    """What a caller allocates once for tensors of ``sizes`` that keep ``counts`` entries."""

    def __init__(self, sizes, counts, dtype, sent=None, hint=NOTHING_KNOWN):
        self.offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
        self.counts = np.array(counts, dtype=np.int64)
        self.hints = np.full((len(sizes), 2), hint)
        self.room = topk.scratch(self.offsets, self.counts, np.dtype(dtype))
        for array in self.room[1:]:
            array[:] = 77  # what lies there must not matter
        self.indices = np.full(self.counts.sum(), -1, topk.index_dtype(int(self.offsets[-1])))
        self.values = np.full(self.counts.sum(), np.nan, sent or dtype)

    def select(self, x):
        before = x.tobytes(), self.offsets.tobytes(), self.counts.tobytes()
        topk.select(x, self.offsets, self.counts, self.hints, self.room, self.indices, self.values)
        assert before == (x.tobytes(), self.offsets.tobytes(), self.counts.tobytes())

    def feed_back(self, residual, gradient, scale):
        before = gradient.tobytes(), self.offsets.tobytes(), self.counts.tobytes()
        operands = (self.offsets, self.counts, self.hints, self.room, self.indices, self.values)
        topk.feed_back(residual, gradient, scale, *operands)
        assert before == (gradient.tobytes(), self.offsets.tobytes(), self.counts.tobytes())


def assert_chosen(arrays, x):
    expected = largest(x, arrays.offsets, arrays.counts)
    np.testing.assert_array_equal(arrays.indices, expected)
    assert arrays.values.tobytes() == x[expected].astype(arrays.values.dtype).tobytes()
    assert np.isfinite(arrays.hints[:, 0]).all()


def numbers(kind, size, dtype, rng):
    """One hard vector of each kind."""
    tiny = np.finfo(dtype).smallest_subnormal
    x = rng.standard_normal(size).astype(dtype)
    if kind == "equal":
        x[:] = 0.5
    elif kind == "zeros":
        x = np.where(rng.random(size) < 0.5, 0.0, -0.0).astype(dtype)
    elif kind == "few levels":
        x = np.round(x).astype(dtype)
    elif kind == "mostly zeros":
        x[rng.random(size) < 0.95] = 0
    elif kind == "denormals":
        x = (np.round(4 * x) * tiny).astype(dtype)
    elif kind == "infinities":
        x[rng.random(size) < 0.3] = np.inf
        x[rng.random(size) < 0.1] = -np.inf
    elif kind == "rising":
        x = np.sort(np.abs(x))
    elif kind == "falling":
        x = -np.sort(-np.abs(x))
    elif kind == "every scale":
        x = (x * 10.0 ** rng.uniform(-30, 30, size)).astype(dtype)
    return x


KINDS = (
    "normal",
    "equal",
    "zeros",
    "few levels",
    "mostly zeros",
    "denormals",
    "infinities",
    "rising",
    "falling",
    "every scale",
)
HINTS = (0.0, -0.0, -1.0, 0.5, 1.7, 3.0, 1e-320, 1e300, np.inf, -np.inf, np.nan)
hints = st.tuples(st.sampled_from(HINTS), st.sampled_from(HINTS))
edges = st.sampled_from([1, 2, 7, 8, 9, 1023, 1024, 1025, 4096, 6001])


@st.composite
def shapes(draw):
    """Sizes and counts of one to four tensors; some fill the room for candidates many times over."""
    sizes = draw(st.lists(st.one_of(st.integers(1, 60), edges, st.integers(1, 20000)), min_size=1, max_size=4))
    counts = [draw(st.one_of(st.just(1), st.just(n), st.integers(1, n), st.integers(1, 1 + n // 50))) for n in sizes]
    return sizes, counts


seeds = st.integers(0, 2**32 - 1)


@pytest.mark.parametrize("dtype", DTYPES)
@settings(max_examples=200, deadline=None)
@given(shape=shapes(), kind=st.sampled_from(KINDS), hint=hints, seed=seeds)
def test_select_is_a_stable_sort(dtype, shape, kind, hint, seed):
    rng = np.random.default_rng(seed)
    arrays = Arrays(*shape, dtype, hint=hint)
    for _ in range(3):  # the second and third with the kernel's own hint
        x = numbers(kind, sum(shape[0]), dtype, rng)
        arrays.select(x)
        assert_chosen(arrays, x)


@pytest.mark.parametrize("dtype", DTYPES)
@settings(max_examples=200, deadline=None)
@given(data=st.data(), hint=hints)
def test_select_of_any_numbers(dtype, data, hint):
    floats = st.floats(allow_nan=False, width=64 if dtype == "float64" else 32)
    x = np.array(data.draw(st.lists(floats, min_size=1, max_size=80)), dtype=dtype)
    arrays = Arrays([len(x)], [data.draw(st.integers(1, len(x)))], dtype, hint=hint)
    arrays.select(x)
    assert_chosen(arrays, x)


@pytest.mark.parametrize("dtype", DTYPES)
@settings(max_examples=200, deadline=None)
@given(shape=shapes(), kind=st.sampled_from(KINDS), hint=hints, seed=seeds, scale=st.floats(-3, 3))
def test_feed_back_is_numpys_pass_bit_for_bit(dtype, shape, kind, hint, seed, scale):
    rng = np.random.default_rng(seed)
    arrays = Arrays(*shape, dtype, hint=hint)
    residual = np.zeros(sum(shape[0]), dtype)
    for _ in range(3):
        gradient = numbers(kind, residual.size, dtype, rng)
        if scale == 0:
            gradient[np.isinf(gradient)] = 1  # 0 * inf is no number
        with np.errstate(invalid="ignore", over="ignore", under="ignore"):
            u = residual + np.dtype(dtype).type(scale) * gradient
        if np.isnan(u).any():  # inf - inf: the caller would have refused it
            return
        arrays.feed_back(residual, gradient, scale)
        assert_chosen(arrays, u)
        expected = u.copy()
        expected[arrays.indices] = 0
        assert residual.tobytes() == expected.tobytes()
        whole = residual.copy()
        topk.add_at(arrays.indices, arrays.values, whole)
        np.testing.assert_array_equal(whole, u)


@pytest.mark.parametrize("dtype", DTYPES)
def test_results_do_not_depend_on_the_hint(dtype):
    rng = np.random.default_rng(3)
    start, gradient = rng.standard_normal((2, 30000)).astype(dtype)
    outcomes = set()
    for hint in HINTS:
        for before in HINTS:
            arrays, residual = Arrays([20000, 10000], [200, 9999], dtype, hint=(hint, before)), start.copy()
            arrays.feed_back(residual, gradient, 0.1)
            outcomes.add((residual.tobytes(), arrays.indices.tobytes(), arrays.values.tobytes()))
    assert len(outcomes) == 1


@pytest.mark.parametrize("dtype", DTYPES)
def test_product_and_sum_are_rounded_one_by_one(dtype):
    # (1 + eps)^2 - 1 - 2 eps is eps^2 if fused, 0 if the product is rounded first
    eps = np.finfo(dtype).eps
    residual = np.full(100, -(1 + 2 * eps), dtype)
    Arrays([100], [1], dtype).feed_back(residual, np.full(100, 1 + eps, dtype), float(1 + eps))
    assert not residual.any()


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_sample_that_misleads(dtype):
    # Everything that the sample sees is large and nothing else is: its floor lets fewer than k entries pass.
    x = np.random.default_rng(0).random(40000).astype(dtype)
    x[np.arange(4096) * 40000 // 4096] += 2
    for hint in (NOTHING_KNOWN, (9.0, 9.0)):
        arrays = Arrays([40000], [5000], dtype, hint=hint)
        arrays.select(x)
        assert_chosen(arrays, x)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("pattern", ["rising", "falling", "there and back", "saw", "two levels"])
def test_patterns_that_are_hard_to_partition(dtype, pattern):
    i = np.arange(50000)
    x = {
        "rising": i,
        "falling": i[::-1],
        "there and back": np.minimum(i, i[::-1]),
        "saw": i % 97,
        "two levels": 1 + (i % 2),
    }[pattern].astype(dtype)
    for k in (1, 500, 24999, 25000, 25001, 49999, 50000):
        arrays = Arrays([x.size], [k], dtype, hint=(-1.0, 0.0))
        for _ in range(2):
            arrays.select(x)
            assert_chosen(arrays, x)


@pytest.mark.parametrize("dtype", DTYPES)
def test_one_entry(dtype):
    for value in (0.0, -0.0, -3.0, np.inf, -np.inf, np.finfo(dtype).smallest_subnormal):
        x = np.array([value], dtype)
        arrays = Arrays([1], [1], dtype)
        arrays.select(x)
        assert_chosen(arrays, x)
        residual = np.zeros(1, dtype)
        arrays.feed_back(residual, x, 1.0)
        assert arrays.values[0] == value
        assert residual[0] == 0


def test_hints_settle_a_little_above_k():
    # What makes the next pass cheap: neither a second pass (fewer than k candidates) nor many too many.
    rng = np.random.default_rng(5)
    arrays, residual = Arrays([100000], [1000], "float32"), np.zeros(100000, np.float32)
    shares = []
    for k in range(150):
        gradient = rng.standard_normal(residual.size, np.float32)
        shares.append(np.sum(np.abs(residual + np.float32(0.1) * gradient) > arrays.hints[0, 0]) / 1000)
        arrays.feed_back(residual, gradient, 0.1)
        if k == 75:
            residual[:] = 0  # as after a restart of the memory
    assert min(shares[1:75]) >= 1
    assert 1 <= np.median(shares[120:]) <= 1.25


@pytest.mark.parametrize("rate", [0.99, 0.97])
def test_hints_follow_gradients_that_shrink(rate):
    rng = np.random.default_rng(6)
    arrays = Arrays([100000], [1000], "float64")
    enough = []
    for k in range(60):
        x = rate**k * rng.standard_normal(100000)
        enough.append(np.sum(np.abs(x) > arrays.hints[0, 0]) >= 1000)
        arrays.select(x)
        assert_chosen(arrays, x)
    assert np.mean(enough[2:]) > 0.9


def test_rounded_to_float32_the_rest_stays_in_the_residual():
    rng = np.random.default_rng(7)
    arrays, residual = Arrays([5000, 700], [50, 700], "float64", sent="float32"), rng.standard_normal(5700)
    for _ in range(4):
        gradient = rng.standard_normal(5700)
        u = residual + 0.3 * gradient
        arrays.feed_back(residual, gradient, 0.3)
        assert_chosen(arrays, u)
        assert residual[arrays.indices].any()
        topk.add_at(arrays.indices, arrays.values, whole := residual.copy())
        assert whole.tobytes() == u.tobytes()
    arrays.select(u)
    assert_chosen(arrays, u)


def test_what_float32_cannot_hold():
    arrays, residual = Arrays([3], [3], "float64", sent="float32"), np.zeros(3)
    arrays.feed_back(residual, np.array([np.inf, -1e300, 1e-300]), 1.0)
    np.testing.assert_array_equal(arrays.values, np.array([np.inf, -np.inf, 0], np.float32))
    np.testing.assert_array_equal(residual, [0, np.inf, 1e-300])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("wire", ["float16", "float32"])
def test_retain_keeps_what_a_later_rounding_lost(dtype, wire):
    rng = np.random.default_rng(8)
    arrays, residual = Arrays([4000], [300], dtype), rng.standard_normal(4000).astype(dtype)
    gradient = rng.standard_normal(4000).astype(dtype)
    u = residual + np.dtype(dtype).type(0.1) * gradient
    arrays.feed_back(residual, gradient, 0.1)
    sent = arrays.values.astype(wire).astype(dtype)
    before = arrays.indices.tobytes(), arrays.values.tobytes(), sent.tobytes()
    topk.retain(residual, arrays.indices, arrays.values, sent)
    assert before == (arrays.indices.tobytes(), arrays.values.tobytes(), sent.tobytes())
    np.testing.assert_array_equal(residual[arrays.indices], arrays.values - sent)
    topk.add_at(arrays.indices, sent, residual)
    np.testing.assert_array_equal(residual, u)


def test_retain_of_an_infinity_that_was_sent():
    residual = np.ones(3)
    sent = np.array([np.inf, -2.0])
    topk.retain(residual, np.array([0, 2], np.int32), sent.copy(), sent)
    np.testing.assert_array_equal(residual, [0, 1, 0])


@pytest.mark.parametrize("dtype", ["float32", pytest.param("float64", marks=pytest.mark.long)])
def test_wide_indices(dtype):
    x = np.random.default_rng(9).standard_normal(9000).astype(dtype)
    arrays = Arrays([5000, 4000], [60, 1], dtype)
    flags, places, values, magnitudes = arrays.room
    arrays.room = flags, places.astype(np.int64), values, magnitudes
    arrays.indices = arrays.indices.astype(np.int64)
    arrays.select(x)
    assert_chosen(arrays, x)
    residual = np.zeros_like(x)
    arrays.feed_back(residual, x, 1.0)
    assert_chosen(arrays, x)
    topk.add_at(arrays.indices, arrays.values, residual)
    np.testing.assert_array_equal(residual, x)
    topk.check_indices(arrays.indices, 9000)


def test_index_dtype():
    assert topk.index_dtype(1) == topk.index_dtype(2**31 - 1) == np.int32
    assert topk.index_dtype(2**31) == np.int64


@pytest.mark.parametrize(("counts", "found"), [([0, 1], "cannot keep 0"), ([5, 4], "tensor 1 has 3 entries")])
def test_counts_outside_a_tensor_are_refused(counts, found):
    with pytest.raises(ConfigError, match=found):
        topk.scratch(np.array([0, 5, 8]), np.array(counts), np.dtype("float64"))


@pytest.mark.parametrize("offsets", [[0, 8], [1, 5, 8], [0, 5, 6, 8]])
def test_offsets_that_do_not_fit_the_counts_are_refused(offsets):
    with pytest.raises(ConfigError, match="expected 3, from 0 to the last end"):
        topk.scratch(np.array(offsets), np.array([1, 1]), np.dtype("float64"))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("wire", DTYPES)
def test_messages_written_into_a_vector(dtype, wire):
    rng = np.random.default_rng(10)
    out, expected = rng.standard_normal((2, 500)).astype(dtype)
    previous = np.empty(0, np.int32)
    for k in (500, 1, 0, 77):
        indices = np.sort(rng.choice(500, k, replace=False)).astype(np.int32)
        values = rng.standard_normal(k).astype(wire)
        before = indices.tobytes(), values.tobytes()
        expected[:] = 0
        expected[indices] = values
        topk.clear_at(previous, out)
        assert k == 500 or not out.any()
        topk.write_at(indices, values, out)
        assert out.tobytes() == expected.tobytes()
        total, plain = np.ones(500, dtype), np.ones(500, dtype)
        topk.add_at(indices, values, total)
        plain[indices] += values.astype(dtype)
        assert total.tobytes() == plain.tobytes()
        topk.write_at(indices, values, total)
        assert total.tobytes() == expected.tobytes()
        assert before == (indices.tobytes(), values.tobytes())
        previous = indices


@pytest.mark.parametrize("width", [np.int32, np.int64])
def test_indices_from_the_wire_are_looked_at(width):
    for good in ([], [0], [9], [0, 9], list(range(10))):
        topk.check_indices(np.array(good, width), 10)
    for bad, said in (
        ([10], "index 10; expected one from 0 to 9"),
        ([-1], "index -1; expected one from 0 to 9"),
        ([-3, 2, 11], "index -3"),
        ([2, 2], "index 2 after 2"),
        ([0, 5, 4, 9], "index 4 after 5"),
        ([*range(9), 0], "index 0 after 8"),
    ):
        with pytest.raises(ProtocolError, match=said):
            topk.check_indices(np.array(bad, width), 10)
