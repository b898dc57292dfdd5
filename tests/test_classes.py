"""Softmax regression over many rows, by vectors whose sums stay in registers."""

import numpy as np
import pytest

from psopt.lines import VECTOR_NBYTES
from psopt.problems.kernels import classes, pairs

DTYPES = ("float64", "float32")
each_dtype = pytest.mark.parametrize("dtype", DTYPES)


def lanes_of(dtype):
    return VECTOR_NBYTES // np.dtype(dtype).itemsize


@each_dtype
@pytest.mark.parametrize("step", [0, 3, 1000])
def test_scores_of_whole_vectors(dtype, step):
    rng, lanes = np.random.default_rng(0), lanes_of(dtype)
    for rows, vectors, couples in ((1, 1, 1), (5, 4, 2), (6, 7, 1), (13, 9, 3)):
        d, length = vectors * lanes, -(-rows // pairs.ROWS) * pairs.ROWS
        X = rng.standard_normal((rows, d + 3)).astype(dtype)
        W = rng.standard_normal((2 * couples, d)).astype(dtype)
        P = np.ascontiguousarray(W.reshape(couples, 2, vectors, lanes).swapaxes(1, 2)).ravel()
        S = np.full(2 * couples * length * lanes, np.nan, dtype)
        ahead = np.ones(50, dtype)
        pairs.scores(X.ravel(), d + 3, rows, P, vectors, couples, S, length, True, ahead, step, 2)
        found = S.reshape(2 * couples, length, lanes)[:, :rows]
        expected = W.astype(float) @ X[:, :d].astype(float).T
        np.testing.assert_allclose(found.sum(2), expected, atol=50 * d * np.finfo(dtype).eps)
        once = found.copy()
        pairs.scores(X.ravel(), d + 3, rows, P, vectors, couples, S, length, False, ahead, 0, 0)
        np.testing.assert_array_equal(S.reshape(2 * couples, length, lanes)[:, :rows], 2 * once)


@each_dtype
@pytest.mark.parametrize("step", [0, 3, 1000])
def test_gradient_of_whole_strips(dtype, step):
    rng, width = np.random.default_rng(1), pairs.VECTORS * lanes_of(dtype)
    for rows, strips, units in ((1, 1, 1), (4, 2, 2), (7, 3, 5)):
        X = rng.standard_normal((rows, strips * width + 2)).astype(dtype)
        D = rng.standard_normal((units + 1, rows + 1)).astype(dtype)
        G = np.full((units + 1, strips * width + 1), np.nan, dtype)
        sizes = G.shape[1], strips
        operands = X.ravel(), X.shape[1], rows, D.ravel(), rows + 1, units, G.ravel(), *sizes
        pairs.gradient(*operands, True, np.ones(50, dtype), step, 2)
        found = G[:units, :-1]
        expected = D[:units, :rows].astype(float) @ X[:, :-2].astype(float)
        np.testing.assert_allclose(found, expected, atol=50 * rows * np.finfo(dtype).eps)
        assert np.isnan(G[units]).all()
        assert np.isnan(G[:, -1]).all()
        once = found.copy()
        pairs.gradient(*operands, False, np.ones(50, dtype), 0, 0)
        np.testing.assert_array_equal(G[:units, :-1], 2 * once)


def by_numpy(K, theta, X, y, weight, bias):
    """Summed losses, right predictions and gradient in float64."""
    n, d = X.shape
    theta, X = theta.astype(float), X.astype(float)
    Z = X @ theta[: K * d].reshape(K, d).T + (theta[K * d :] if bias else 0)
    E = np.exp(Z - Z.max(1, keepdims=True))
    p = E / E.sum(1, keepdims=True)
    loss, right = -np.log(p[np.arange(n), y]).sum(), int((Z.argmax(1) == y).sum())
    p[np.arange(n), y] -= 1
    p *= weight
    return loss, right, np.concatenate([(p.T @ X).ravel(), p.sum(0) if bias else ()])


@each_dtype
@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])
@pytest.mark.parametrize("K", [2, 3, 10, 16])
@pytest.mark.parametrize("d", [1, 8, 31, 32, 100, 784, 1001])
def test_losses_predictions_and_gradient_are_those_of_numpy(dtype, bias, K, d):
    block = classes.rows_of(d, np.dtype(dtype).itemsize)
    room = classes.room(d, K, np.dtype(dtype))
    for n in (1, 2 * block, 2 * block + 7):
        rng = np.random.default_rng(n)
        X, y = rng.standard_normal((n, d)).astype(dtype), rng.integers(0, K, n)
        theta = (rng.standard_normal(K * d + bias * K) / np.sqrt(d)).astype(dtype)
        constants = theta[K * d :] if bias else np.zeros(K, dtype)
        loss, right, expected = by_numpy(K, theta, X, y, 0.5, bias)
        for scratch in room[:3]:
            scratch[:] = np.nan  # all is written before it is read
        out = np.full_like(theta, np.nan)
        operands = K, theta, constants, X, y, 0.5, block, room
        found = classes.class_blocks(*operands, out, True)
        bound = 200 * float(np.finfo(dtype).eps)
        assert abs(found[0] - loss) <= bound * max(1, loss)
        assert found[1] == right
        np.testing.assert_allclose(out, expected, atol=bound * max(1, np.abs(expected).max()))
        once = out.copy()
        classes.class_blocks(*operands, out, False)
        np.testing.assert_allclose(out, 2 * once, atol=bound * max(1, np.abs(expected).max()))
        assert classes.class_blocks(*operands, out[:0], True) == found


@each_dtype
def test_what_is_not_a_number_comes_out_again(dtype):
    n, d, K = 30, 50, 3
    room, block = classes.room(d, K, np.dtype(dtype)), classes.rows_of(d, np.dtype(dtype).itemsize)
    rng = np.random.default_rng(2)
    y = rng.integers(0, K, n)
    for wrong in (np.nan, np.inf, -np.inf):
        for place in ((0, 0), (n - 1, d - 1), (7, 40)):
            X = rng.standard_normal((n, d)).astype(dtype)
            theta = np.ones(K * d + K, dtype)
            X[place] = wrong
            out = np.zeros_like(theta)
            loss, _ = classes.class_blocks(K, theta, theta[K * d :], X, y, 1.0, block, room, out, True)
            assert np.isnan(loss)
            theta[place[1]], X[place] = wrong, 0.0  # 0 times an infinity
            loss, _ = classes.class_blocks(K, theta, theta[K * d :], X, y, 1.0, block, room, out, True)
            assert np.isnan(loss)


def test_blocks_grow_with_short_rows_and_never_vanish():
    assert classes.rows_of(784, 8) == 24
    assert classes.rows_of(784, 4) == 48
    assert classes.rows_of(1, 4) == classes.rows_of(8, 8) == 96
    assert classes.rows_of(10**6, 8) == 12


@each_dtype
def test_huge_scores_and_ties(dtype):
    K, X = 3, np.ones((1, 1), dtype)
    room = classes.room(1, K, np.dtype(dtype))
    theta = np.array([1e4, 1e4, 0], dtype)
    out = np.empty_like(theta)
    for label, right in ((0, 1), (1, 0)):  # of equal scores the first counts
        found = classes.class_blocks(K, theta, np.zeros(K, dtype), X, np.array([label]), 1.0, 12, room, out, True)
        assert found == (pytest.approx(np.log(2)), right)
        np.testing.assert_allclose(out, np.array([0.5, 0.5, 0]) - (np.arange(K) == label))
