"""Products by register tiles, and a network through them and back."""

import itertools

import numpy as np
import pytest

from psopt.lines import LINE_NBYTES
from psopt.problems.kernels import layers, network, tiled_network, tiles

DTYPES = ("float64", "float32")
each_dtype = pytest.mark.parametrize("dtype", DTYPES)
each_way = pytest.mark.parametrize("compiled", [True, False], ids=["compiled", "plain"])


def ceil(number, line):
    return -(-number // line) * line


@each_dtype
@each_way
def test_strips_hold_every_number_where_it_belongs(dtype, compiled):
    line = LINE_NBYTES // np.dtype(dtype).itemsize
    columns, rows = tiles.strips_of_columns, tiles.strips_of_rows
    if not compiled:
        columns, rows = columns.py_func, rows.py_func
    for B, d in ((1, 1), (3, 7), (line, line), (line + 1, 2 * line + 5), (2 * line + 6, 3)):
        X = np.arange(1, B * d + 1).reshape(B, d).astype(dtype)
        out = np.full(B * ceil(d, line), np.nan, dtype)
        columns(X, out)
        padded = np.zeros((B, ceil(d, line)), dtype)
        padded[:, :d] = X
        np.testing.assert_array_equal(out.reshape(-1, B, line), padded.reshape(B, -1, line).swapaxes(0, 1))
        out = np.full(ceil(B, line) * d, np.nan, dtype)
        rows(X, out)
        repeated = X[np.minimum(np.arange(ceil(B, line)), B - 1)]
        np.testing.assert_array_equal(out.reshape(-1, d, line), repeated.reshape(-1, line, d).swapaxes(1, 2))


@each_dtype
def test_products_at_every_remainder(dtype):
    rng = np.random.default_rng(0)
    line = LINE_NBYTES // np.dtype(dtype).itemsize
    for rows in (1, 2, 5, 6, 7, 12, 17):
        for strips, terms in ((1, 1), (2, 3), (3, 50)):
            A, P = rng.standard_normal((rows, terms)).astype(dtype), rng.standard_normal((strips, terms, line))
            P = P.astype(dtype)
            expected = np.einsum("ik,skc->sic", A.astype(float), P.astype(float))
            for matrix, apart, step in ((A, terms, 1), (np.ascontiguousarray(A.T), 1, rows)):
                C = np.full((strips, rows + 1, line), np.nan, dtype)
                sizes = rows, terms, P.ravel(), strips, C.ravel(), line, C[0].size
                tiles.multiply(matrix.ravel(), apart, step, *sizes, True)
                bound = 20 * np.finfo(dtype).eps * terms
                np.testing.assert_allclose(C[:, :rows], expected, atol=bound)
                assert np.isnan(C[:, rows]).all()  # nothing is written beyond
                once = C[:, :rows].copy()
                tiles.multiply(matrix.ravel(), apart, step, *sizes, False)
                np.testing.assert_array_equal(C[:, :rows], 2 * once)


def room(widths, B, dtype):
    line = LINE_NBYTES // np.dtype(dtype).itemsize
    length, widest = ceil(B, line), max(widths[1:])
    sizes = length * sum(widths[1:]), (2, length * widest), length * widest, length * ceil(max(widths[:-1]), line)
    return [np.full(size, np.nan, dtype) for size in ((B, widths[-1]), *sizes, widest)]


def small(dtype, B, bias, hidden=(20, 9)):
    rng = np.random.default_rng(B)
    widths = [13, *hidden, 3]
    dim = sum(a * b + b * bias for a, b in itertools.pairwise(widths))
    theta = (0.4 * rng.standard_normal(dim)).astype(dtype)
    return widths, theta, rng.standard_normal((B, 13)).astype(dtype), rng.integers(0, 3, B)


@each_dtype
@each_way
def test_the_pass_is_that_of_the_kernels_for_few_rows(dtype, compiled):
    tiled = tiled_network.tiled_pass if compiled else tiled_network.tiled_pass.py_func
    bound = 100 * float(np.finfo(dtype).eps)
    for B in (1, 7, 16, 17, 40):
        for kind, bias, hidden in ((layers.RELU, True, (20, 9)), (layers.TANH, False, (20, 9)), (0, True, ())):
            widths, theta, X, labels = small(dtype, B, bias, hidden)
            sizes = kind, np.array(widths), bias
            up, expected = np.empty(B * 40, dtype), np.empty_like(theta)
            few = up, up.copy(), np.empty(20, dtype)
            loss, right = network.network_pass(*sizes, theta, X, labels, 0.5, *few, expected, True, X[:0])
            out = np.full_like(theta, np.nan)
            got = tiled(*sizes, theta, X, labels, 0.5, *room(widths, B, dtype), out, True)
            assert got == (pytest.approx(loss, rel=bound), right)
            np.testing.assert_allclose(out, expected, atol=bound * B)
            once = out.copy()
            assert tiled(*sizes, theta, X, labels, 0.5, *room(widths, B, dtype), out, False) == got
            np.testing.assert_allclose(out, 2 * once, atol=bound * B)
            assert tiled(*sizes, theta, X, labels, 0.5, *room(widths, B, dtype), theta[:0], True) == got
            moved = theta.copy()
            tiled(*sizes, moved, X, labels, 0.5, *room(widths, B, dtype), moved, False)
            np.testing.assert_allclose(moved, theta + once, atol=bound * B)


@each_dtype
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_told(dtype, bad):
    for B in (1, 17):
        for kind in (layers.RELU, layers.TANH):
            widths, theta, X, labels = small(dtype, B, True)
            sizes, scratch = (kind, np.array(widths), True), room(widths, B, dtype)
            for place in (0, 13 * 20 + 3, theta.size - 1):
                broken = theta.copy()
                broken[place] = bad
                assert np.isnan(tiled_network.tiled_pass(*sizes, broken, X, labels, 1.0, *scratch, theta[:0], True)[0])
            X[B - 1, 12] = bad
            assert np.isnan(tiled_network.tiled_pass(*sizes, theta, X, labels, 1.0, *scratch, theta[:0], True)[0])
