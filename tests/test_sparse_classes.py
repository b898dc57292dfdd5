"""Softmax regression by the elements that are not zero."""

import gc

import numpy as np
import pytest

from psopt.data.table import CSR, Table
from psopt.problems import build, stored
from psopt.problems.base import Share
from psopt.problems.kernels import classes, csr, sparse_classes


def sparse_rows(n, d, dtype, seed=0, share=0.2):
    """Rows with a fifth of their elements, one of them empty."""
    rng = np.random.default_rng(seed)
    X = (rng.random((n, d)) * (rng.random((n, d)) < share)).astype(dtype)
    X[n // 2] = 0
    return X, rng


def as_csr(X):
    ends = np.empty(len(X) + 1, np.int64)
    csr.count_stored(X, ends)
    data, columns = np.empty(ends[-1], X.dtype), np.empty(ends[-1], np.int32)
    csr.store(X, ends, data, columns)
    return data, columns, ends


def test_what_is_not_zero_is_found():
    X, _ = sparse_rows(7, 5, "float64")
    X[0, 1], X[1, 0] = np.nan, -0.0
    data, columns, ends = as_csr(X)
    rows, expected = np.nonzero(X)
    np.testing.assert_array_equal(columns, expected)
    np.testing.assert_array_equal(data, X[rows, expected])
    np.testing.assert_array_equal(np.diff(ends), np.bincount(rows, minlength=7))


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("K", [2, 3, 4, 5, 8, 10, 16])
def test_the_gradient_is_that_of_all_elements(K, dtype):
    """For one to four vectors of classes, over several blocks, with and without constants."""
    n, d = 2 * sparse_classes._ROWS + 11, 21
    X, rng = sparse_rows(n, d, dtype)
    labels = rng.integers(0, K, n)
    data, columns, ends = as_csr(X)
    pattern = data, *csr.unsigned(columns, ends)
    bound = 1e-12 if dtype == "float64" else 1e-4
    for constants in (K, 0):
        theta = (0.3 * rng.standard_normal(K * d + constants)).astype(dtype)
        bias = theta[K * d :] if constants else np.zeros(K, dtype)
        out, expected = np.full_like(theta, np.nan), np.empty_like(theta)
        room = sparse_classes.room(d, K, np.dtype(dtype))
        found = sparse_classes.class_rows(K, theta, bias, *pattern, labels, 0.5, room, out)
        dense = classes.room(d, K, np.dtype(dtype))
        rows = classes.rows_of(d, X.itemsize)
        loss, right = classes.class_blocks(K, theta, bias, X, labels, 0.5, rows, dense, expected, True)
        assert found[1] == right
        assert found[0] == pytest.approx(loss, rel=1e-12 if dtype == "float64" else 1e-6)
        np.testing.assert_allclose(out, expected, rtol=0, atol=bound * n)
        alone = sparse_classes.class_rows(K, theta, bias, *pattern, labels, 0.5, room, out[:0])
        assert alone == found


def test_ones_need_not_be_held():
    X, rng = sparse_rows(50, 9, "float64")
    X[X != 0] = 1
    theta, labels = rng.standard_normal(30), rng.integers(0, 3, 50)
    data, columns, ends = as_csr(X)
    room = sparse_classes.room(9, 3, theta.dtype)
    found = []
    for values in (data, np.ones(1)):
        out = np.empty_like(theta)
        pattern = csr.unsigned(columns, ends)
        found.append(sparse_classes.class_rows(3, theta, theta[27:], values, *pattern, labels, 1.0, room, out))
        found.append(out)
    assert found[0] == found[2]
    np.testing.assert_array_equal(found[1], found[3])


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_no_number_comes_out_again(bad):
    X, rng = sparse_rows(40, 6, "float64", share=0.3)
    problem = build("softmax", Table(X, rng.integers(0, 3, 40)), Share(0, 1, 40), "float64", {"classes": 3})
    theta, out = rng.standard_normal(problem.dim), np.empty(problem.dim)
    theta[2] = bad
    assert not np.isfinite(problem.value_and_gradient(theta, out))
    assert not np.isfinite(out).any()


@pytest.mark.parametrize("ones", [True, False])
def test_dense_and_csr_shards_give_the_same(ones):
    """Whole passes by what is stored, of batches by dense rows: one gradient to rounding, one loss for one shard."""
    X, rng = sparse_rows(150, 12, "float64")
    if ones:
        X[X != 0] = 1
    data, columns, ends = as_csr(X)
    labels, found = rng.integers(0, 4, 150), []
    for features in (X, CSR(data, columns, ends, X.shape)):
        problem = build("softmax", Table(features, labels), Share(0, 1, 150), "float64", {"classes": 4})
        theta, out, batch = np.linspace(-1, 1, problem.dim), np.empty(problem.dim), np.empty(problem.dim)
        value = problem.value_and_gradient(theta, out)
        assert problem.value(theta) == value
        assert problem.batch_value_and_gradient(theta, np.arange(150), batch) == pytest.approx(value, rel=1e-12)
        np.testing.assert_allclose(batch, out, rtol=0, atol=1e-12)
        found.append((value, out))
    assert found[0][0] == found[1][0]
    np.testing.assert_array_equal(found[0][1], found[1][1])


def test_rows_are_searched_once_and_forgotten_with_their_problems():
    """Workers of one table share what was found; rows with many elements keep their own way."""
    X, rng = sparse_rows(64, 8, "float32")
    table = Table(X, rng.integers(0, 2, 64))
    problems = [build("softmax", table, Share(m, 2, 128), "float32", {"classes": 2}) for m in range(2)]
    theta = np.zeros(problems[0].dim, np.float32)
    for problem in problems:
        problem.value(theta)
    one, other = (problem._features.stored(X.dtype) for problem in problems)
    assert one is other
    assert one.rows is X
    assert problems[0]._features.stored(np.dtype("float64")) is None
    place = X.ctypes.data, X.shape, X.dtype.str
    assert place in stored._found
    del one, other, problem, problems
    gc.collect()
    assert place not in stored._found
    assert stored.find(np.ones((4, 4))) is None
