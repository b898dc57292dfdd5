"""Eight rows at a time: every number of columns, of either dtype and of float32 features with a float64 theta."""

import numpy as np
import pytest

from psopt.problems.kernels import dense, links, streams

DTYPES = (("float64", "float64"), ("float32", "float32"), ("float32", "float64"))
each_pair = pytest.mark.parametrize(("features", "real"), DTYPES)


def made(features, real, d, q):
    rng = np.random.default_rng(d)
    X = rng.standard_normal((8 * q, d)).astype(features)
    return X, rng.standard_normal(d).astype(real), np.arange(8 * q).reshape(8, q).T.ravel()


@each_pair
@pytest.mark.parametrize("fetching", [False, True])
def test_margins_and_axpys_at_every_number_of_columns(features, real, fetching):
    """What a vector's width leaves over is counted once; rows outside of the tile are not."""
    bound = 1e-13 if real == "float64" else 1e-5
    for d in (*range(1, 42), 123, 784):
        X, theta, order = made(features, real, d, 5)
        z = np.full(8 * 3, np.nan)
        streams.margins(X, theta, 5, 1, 4, z, fetching)
        rows = X[order[8:32]].astype(float)
        np.testing.assert_allclose(z, rows @ theta.astype(float), rtol=0, atol=bound * d)
        out = np.arange(d).astype(real)
        guarded = np.concatenate([out, np.full(9, 7.0, real)])
        streams.axpys(X, 5, 1, 4, z, guarded[:d], fetching)
        np.testing.assert_allclose(guarded[:d], out + z @ rows, rtol=0, atol=bound * 100 * d)
        assert np.all(guarded[d:] == 7.0)


def test_what_is_no_number_comes_out_again():
    for bad in (np.nan, np.inf):
        for place in (0, 49):
            X, theta, _ = made("float64", "float64", 50, 2)
            theta[place] = bad
            z = np.empty(16)
            streams.margins(X, theta, 2, 0, 2, z, False)
            assert not np.isfinite(z).any()


@pytest.mark.parametrize("d", [50, 300, 784, 5000])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_tiles_of_every_kind(d, dtype):
    """Many short rows, one row of each stream with memory asked for ahead, and rows too long for that: one gradient."""
    X, theta, _ = made(dtype, dtype, d, 9)
    theta /= np.sqrt(d)
    y, out = np.where(X[:, 0] > 0, 1.0, -1.0), np.empty_like(theta)
    value = dense.dense_gradient(links.LOGISTIC, X, dense.sweep_order(y), theta, out, dense.scratch(X))
    m = y * (X.astype(float) @ theta.astype(float))
    expected = X.T.astype(float) @ (-y / (1 + np.exp(m)))
    bound = 1e-12 if dtype == "float64" else 1e-4
    assert abs(value - np.log1p(np.exp(-m)).sum()) < bound * len(X)
    np.testing.assert_allclose(out, expected, rtol=0, atol=bound * len(X))
