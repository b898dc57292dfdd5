"""The kernels against plain NumPy, at every remainder, dtype and alignment."""

import hashlib
import re
from pathlib import Path

import numpy as np
import pytest

from psopt.data.table import CSR
from psopt.problems import kernels
from psopt.problems.kernels import csr, dense, links, steps, vector

LINKS = {"squares": links.SQUARES, "logistic": links.LOGISTIC}
DTYPES = ("float64", "float32")


def plain(link, X, y, theta):
    """Value and gradient in float64, by the textbook's formulas."""
    X, theta = X.astype(np.float64), theta.astype(np.float64)
    z = X @ theta
    if link == links.SQUARES:
        return 0.5 * np.sum((z - y) ** 2), X.T @ (z - y)
    return np.sum(np.logaddexp(0.0, -y * z)), X.T @ (-y * np.exp(-np.logaddexp(0.0, y * z)))


def dense_case(n, d, dtype, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, d)).astype(dtype)
    return X, np.where(rng.random(n) < 0.5, -1.0, 1.0), rng.standard_normal(d).astype(dtype)


def csr_case(n, d, dtype, ones=False, seed=0):
    """Rows of every length from nothing to d, so that the unrolled loops meet each remainder."""
    rng = np.random.default_rng(seed)
    lengths = np.arange(n) % (d + 1)
    columns = [np.sort(rng.choice(d, k, replace=False)) for k in lengths]
    indices = np.concatenate([*columns, np.empty(0, int)]).astype(np.int32)
    data = np.ones(len(indices)) if ones else rng.standard_normal(len(indices))
    matrix = CSR(data.astype(dtype), indices, np.concatenate([[0], np.cumsum(lengths)]), (n, d))
    return matrix, np.where(rng.random(n) < 0.5, -1.0, 1.0), rng.standard_normal(d).astype(dtype)


def run_dense(link, X, y, theta, compiled=True):
    gradient = dense.dense_gradient if compiled else dense.dense_gradient.py_func
    value = dense.dense_value if compiled else dense.dense_value.py_func
    out, labels = np.full(X.shape[1], np.nan, theta.dtype), dense.sweep_order(y)
    total = gradient(link, X, labels, theta, out, dense.scratch(X))
    assert value(link, X, labels, theta, dense.scratch(X)) == pytest.approx(total, rel=1e-6, abs=1e-12)
    return total, out


def run_csr(link, matrix, y, theta, ones=False, compiled=True):
    gradient = csr.csr_gradient if compiled else csr.csr_gradient.py_func
    value = csr.csr_value if compiled else csr.csr_value.py_func
    data = np.empty(0, matrix.data.dtype) if ones else matrix.data
    found = []
    for order in (csr.visits(matrix.indptr), np.empty(0, np.uint32), by_length(matrix.indptr)):
        operands = (data, *csr.unsigned(matrix.indices, matrix.indptr), order, y, theta)
        out = np.full(matrix.shape[1], np.nan, theta.dtype)
        total = gradient(link, *operands, out, csr.scratch())
        assert value(link, *operands, csr.scratch()) == pytest.approx(total, rel=1e-6, abs=1e-12)
        assert not found or total == found[0][0]  # the order of visits is that of the gradient's sums alone
        found.append((total, out))
        assert_near(found[-1], found[0], theta.dtype, len(y))
    return found[0]


def by_length(indptr):
    """Rows of the blocks of 256 that kernels take, the shortest first."""
    lengths = np.diff(indptr)
    blocks = range(0, len(lengths), 256)
    order = [first + np.argsort(lengths[first : first + 256], kind="stable") for first in blocks]
    return np.concatenate(order).astype(np.uint32) if order else np.empty(0, np.uint32)


def assert_near(got, expected, dtype, size):
    tolerance = 60 * np.finfo(dtype).eps * np.sqrt(size)
    assert abs(got[0] - expected[0]) <= tolerance * max(1.0, abs(expected[0]))
    assert got[1].dtype == dtype
    np.testing.assert_allclose(got[1], expected[1], rtol=0, atol=tolerance * max(1.0, np.abs(expected[1]).max()))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("link", LINKS.values(), ids=LINKS)
@pytest.mark.parametrize("d", [1, 3, 4, 17, 64, 123, 2600])
def test_dense_at_every_remainder_of_rows(link, dtype, d):
    for n in (1, 2, 7, 8, 9, 15, *range(240, 248)) if d < 2000 else (1, 7, 8, 19):
        X, y, theta = dense_case(n, d, dtype)
        theta /= theta.dtype.type(np.sqrt(d))
        assert_near(run_dense(link, X, y, theta), plain(link, X, y, theta), dtype, n * d)


@pytest.mark.parametrize("ones", [False, True], ids=["values", "all-ones"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("link", LINKS.values(), ids=LINKS)
def test_csr_at_every_row_length_and_block_edge(link, dtype, ones):
    for n, d in ((1, 1), (2, 1), (40, 11), (255, 9), (256, 9), (257, 9), (600, 30)):
        matrix, y, theta = csr_case(n, d, dtype, ones)
        expected = plain(link, matrix.toarray(), y, theta)
        assert_near(run_csr(link, matrix, y, theta, ones), expected, dtype, n * d)


def test_csr_without_rows_or_without_values():
    for n in (0, 3):
        empty = CSR(np.empty(0), np.empty(0, np.int32), np.zeros(n + 1, np.int64), (n, 2))
        total, out = run_csr(links.LOGISTIC, empty, np.ones(n), np.ones(2))
        assert total == pytest.approx(n * np.log(2))
        assert not out.any()


@pytest.mark.parametrize("link", LINKS.values(), ids=LINKS)
def test_the_uncompiled_function_says_the_same(link):
    X, y, theta = dense_case(27, 5, "float64")
    assert_near(run_dense(link, X, y, theta, compiled=False), run_dense(link, X, y, theta), "float64", 27)
    matrix, y, theta = csr_case(30, 7, "float64")
    assert_near(run_csr(link, matrix, y, theta, compiled=False), run_csr(link, matrix, y, theta), "float64", 30)
    z, again = X @ X[0], X @ X[0]
    total = links.settle(link, z, np.ones(27), 0, 27)
    squares, logistic = links.settle_squares.py_func, links.settle_logistic.py_func
    plain_total = (logistic if link == links.LOGISTIC else squares)(again, np.ones(27), 0, 27)
    assert total == pytest.approx(plain_total, rel=1e-14)
    np.testing.assert_allclose(z, again, rtol=1e-14)


def test_exponential_and_logarithm_to_the_last_digits():
    t = -np.concatenate([np.linspace(0, 40, 20001), np.linspace(40, 707.9, 2001), [0.0, 1e-300, 1e-17]])
    got = np.array([links.exp_negative(x) for x in t])
    np.testing.assert_allclose(got, np.exp(t), rtol=4 * np.finfo(float).eps)
    assert links.exp_negative(-709.0) == links.exp_negative(-np.inf) == 0.0
    assert np.isnan(links.exp_negative(np.nan))
    m = np.concatenate([np.linspace(-60, 60, 20001), [-700.0, 700.0, 0.0]])
    z = m.copy()
    losses = np.array([links.settle_logistic(m[i : i + 1].copy(), np.ones(1), 0, 1) for i in range(len(m))])
    links.settle_logistic(z, np.ones(len(m)), 0, len(m))
    np.testing.assert_allclose(losses, np.logaddexp(0, -m), rtol=2e-15)
    # -1 / (1 + exp(m)) by the branch that does not cancel
    e = np.exp(-np.abs(m))
    np.testing.assert_allclose(z, -np.where(m >= 0, e, 1.0) / (1.0 + e), rtol=2e-15)


def test_huge_margins_and_what_is_not_a_number():
    m = np.array([1e300, -1e300, 745.0, -745.0, 0.0, np.inf, -np.inf, np.nan])
    for i, expected in enumerate([0.0, 1e300, 0.0, 745.0, np.log(2), 0.0, np.inf, np.nan]):
        z = m[i : i + 1].copy()
        assert links.settle_logistic(z, np.ones(1), 0, 1) == pytest.approx(expected, rel=1e-15, abs=1e-300, nan_ok=True)
        slope = [0.0, -1.0, 0.0, -1.0, -0.5, 0.0, -1.0, np.nan][i]
        assert z[0] == pytest.approx(slope, abs=1e-300, nan_ok=True)
    z = np.tile(m, 4)  # the same through the vector loop
    assert np.isnan(links.settle_logistic(z, np.ones(32), 0, 32))
    np.testing.assert_allclose(z, np.tile([0.0, -1.0, 0.0, -1.0, -0.5, 0.0, -1.0, np.nan], 4), atol=1e-300)


def test_rows_of_uneven_length_are_visited_by_length_within_a_block():
    rng = np.random.default_rng(0)
    uneven = np.concatenate([[0], np.cumsum(rng.integers(0, 9, 600))])
    np.testing.assert_array_equal(csr.visits(uneven), by_length(uneven))
    mostly = np.full(600, 5)
    mostly[::10] = 4
    assert csr.visits(np.concatenate([[0], np.cumsum(mostly)])).size == 0
    for lengths in ([], [3], [0, 0]):
        assert csr.visits(np.concatenate([[0], np.cumsum(lengths)]).astype(np.uint32)).size == 0


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("link", LINKS.values(), ids=LINKS)
def test_nan_and_infinity_come_out_again(link, bad):
    X, y, theta = dense_case(40, 9, "float64")
    matrix, labels, weights = csr_case(40, 9, "float64")
    for j in range(9):
        broken = theta.copy()
        broken[j] = bad
        out = np.empty(9)
        assert not np.isfinite(dense.dense_gradient(link, X, dense.sweep_order(y), broken, out, dense.scratch(X)))
        if link == links.SQUARES or np.isnan(bad):
            assert not np.isfinite(out).any()
        broken = weights.copy()
        broken[j] = bad
        out = np.empty(9)
        pattern = csr.unsigned(matrix.indices, matrix.indptr)
        operands = (matrix.data, *pattern, np.empty(0, np.uint32), labels, broken)
        assert not np.isfinite(csr.csr_gradient(link, *operands, out, csr.scratch()))


def test_label_zero_adds_log_two_and_no_gradient():
    X, y, theta = dense_case(21, 6, "float64")
    zeroed = y.copy()
    zeroed[[0, 9, 20]] = 0.0
    kept = zeroed != 0
    value, gradient = run_dense(links.LOGISTIC, X, zeroed, theta)
    expected = plain(links.LOGISTIC, X[kept], y[kept], theta)
    assert value == pytest.approx(expected[0] + 3 * np.log(2), rel=1e-14)
    np.testing.assert_allclose(gradient, expected[1], rtol=1e-12)


def shifted(a, by):
    """A copy of ``a`` that starts ``by`` elements after where NumPy would have put it."""
    room = np.empty(a.size + by, a.dtype)
    room[by:] = a.ravel()
    return room[by:].reshape(a.shape)


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_same_bits_wherever_the_arrays_lie(dtype):
    X, y, theta = dense_case(333, 37, dtype)
    matrix, labels, weights = csr_case(333, 37, dtype)
    a, b = np.random.default_rng(1).standard_normal((2, 5001)).astype(dtype)
    value, gradient = run_dense(links.LOGISTIC, X, y, theta)
    sparse_value, sparse_gradient = run_csr(links.LOGISTIC, matrix, labels, weights)
    for by in range(1, 9):
        got = run_dense(links.LOGISTIC, shifted(X, by), y, shifted(theta, 9 - by))
        assert got[0] == value
        assert got[1].tobytes() == gradient.tobytes()
        moved = CSR(shifted(matrix.data, by), shifted(matrix.indices, by), matrix.indptr, matrix.shape)
        got = run_csr(links.LOGISTIC, moved, labels, shifted(weights, by))
        assert got[0] == sparse_value
        assert got[1].tobytes() == sparse_gradient.tobytes()
        assert vector.squared_distance(shifted(a, by), shifted(b, 9 - by)) == vector.squared_distance(a, b)
        assert vector.squared_norm(shifted(a, by)) == vector.squared_norm(a)


SIZES = (1, 3, 16, 2047, 2048, 2049, 9001)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("d", SIZES)
def test_norms(dtype, d):
    a, b = np.random.default_rng(d).standard_normal((2, d)).astype(dtype)
    wide_a, wide_b = a.astype(np.float64), b.astype(np.float64)
    assert vector.squared_distance(a, b) == pytest.approx(np.sum((wide_a - wide_b) ** 2), rel=1e-13)
    assert vector.squared_norm(a) == pytest.approx(np.sum(wide_a**2), rel=1e-13)
    assert vector.squared_distance(a, a.copy()) == 0.0


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("d", SIZES)
@pytest.mark.parametrize("workers", [1, 2, 4, 5, 9])
def test_sum_rows_is_the_literal_loop_bit_for_bit(dtype, d, workers):
    stale = np.random.default_rng(d).standard_normal((workers, d)).astype(dtype)
    stale[:, 0] = -0.0
    out = np.full(d, np.nan, dtype)
    vector.sum_rows(stale, 0, out)
    expected = np.zeros(d, dtype)
    for m in range(workers):
        expected += stale[m]
    assert out.tobytes() == expected.tobytes()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("d", SIZES)
def test_descend_is_numpys_update_bit_for_bit(dtype, d):
    theta, aggregate = np.random.default_rng(d).standard_normal((2, d)).astype(dtype)
    before, aggregate_before = theta.copy(), aggregate.copy()
    norm = steps.descend(theta, aggregate, 0.1)
    assert theta.tobytes() == (before - 0.1 * aggregate).tobytes()
    assert norm == pytest.approx(np.sum((theta - before).astype(np.float64) ** 2), rel=1e-13)
    np.testing.assert_array_equal(aggregate, aggregate_before)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("d", "workers", "first"), [(1, 1, 0), (5, 3, 2), (2049, 4, 6), (5000, 9, 12)])
def test_descend_along_rows_has_the_bits_of_two_passes(dtype, d, workers, first):
    rng = np.random.default_rng(d)
    stale, theta = rng.standard_normal((workers, first + d)).astype(dtype), rng.standard_normal(d).astype(dtype)
    total, expected, moved = np.empty(d, dtype), np.empty(d, dtype), theta.copy()
    vector.sum_rows(np.ascontiguousarray(stale[:, first:]), 0, expected)
    length = steps.descend(moved, expected, 0.3)
    assert steps.descend_along_rows(theta, stale, first, total, 0.3) == length
    np.testing.assert_array_equal(total, expected)
    np.testing.assert_array_equal(theta, moved)


def test_descend_measures_the_change_that_was_made():
    theta = np.full(5, 1e16)
    assert steps.descend(theta, np.full(5, 0.1), 1.0) == 0.0


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("d", SIZES)
def test_all_finite_finds_one_bad_element_anywhere(dtype, d):
    a = np.full(d, np.finfo(dtype).max, dtype)
    assert vector.all_finite(a)
    for j in {0, d // 2, d - 1}:
        for bad in (np.nan, np.inf, -np.inf):
            broken = a.copy()
            broken[j] = bad
            assert not vector.all_finite(broken)


def test_regularise():
    theta, out = np.array([1.0, -2.0, 3.0]), np.array([1.0, 1.0, 1.0])
    assert vector.regularise(theta, 0.5, 2.0, out) == 14.0
    np.testing.assert_array_equal(out, [2.5, -3.5, 6.5])


@pytest.mark.parametrize("path", sorted(Path(kernels.__file__).parent.glob("*.py")), ids=lambda path: path.stem)
def test_kernels_quote_the_checksum_of_what_they_inline(path):
    # Numba's cache would go on using code compiled from the old file.
    text = path.read_text()
    if "@njit" not in text:
        return
    for name in sorted(set(re.findall(r"^from psopt\.problems\.kernels\.(\w+) import", text, re.MULTILINE))):
        digits = hashlib.sha256((path.parent / f"{name}.py").read_bytes()).hexdigest()[:12]
        assert f"# {name}.py {digits}\n" in text, f"write it into {path.name}"
