"""Shards of ones, column by column."""

import numpy as np
import pytest

from psopt.data.table import CSR, Table
from psopt.problems import build
from psopt.problems.base import Share
from psopt.problems.kernels import columns, csr, links


def ones_case(n, d, density, seed=0):
    """A 0/1 matrix of rows of many lengths, one column always and one never named, dense and as CSR."""
    rng = np.random.default_rng(seed)
    dense = rng.random((n, d)) < density * rng.random((n, 1)) * 2
    dense[:, 0], dense[:, d - 1] = True, False
    indptr = np.concatenate([[0], np.cumsum(dense.sum(axis=1))])
    indices = np.nonzero(dense)[1].astype(np.int32)
    return dense.astype(float), CSR(np.ones(indices.size), indices, indptr, (n, d)), rng


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("link", [links.SQUARES, links.LOGISTIC], ids=["squares", "logistic"])
@pytest.mark.parametrize("n", [40, columns._BLOCK, 2 * columns._BLOCK + 777])
def test_value_and_gradient_of_ones(link, dtype, n):
    """Within a block, at its end and over several, as NumPy has it; without a gradient the same value."""
    dense, matrix, rng = ones_case(n, 37, 0.3)
    y, theta = np.where(rng.random(n) < 0.5, -1.0, 1.0), rng.standard_normal(37).astype(dtype) / 4
    indices, indptr = csr.unsigned(matrix.indices, matrix.indptr)
    starts, rows = columns.by_column(indices, indptr, 37)
    assert (starts.size, rows.size) == (37 * -(-n // columns._BLOCK) + 1, len(matrix.indices))
    out = np.full(37, np.nan, dtype)
    value = columns.columns_gradient(link, starts, rows, y, theta, out, columns.scratch())
    assert value == columns.columns_gradient(link, starts, rows, y, theta, out[:0], columns.scratch())
    z = dense @ theta.astype(float)
    if link == links.SQUARES:
        loss, slope = 0.5 * (z - y) ** 2, z - y
    else:
        loss, slope = np.log1p(np.exp(-y * z)), -y / (1 + np.exp(y * z))
    bound = 1e-12 if dtype == "float64" else 1e-5
    assert value == pytest.approx(loss.sum(), rel=bound)
    np.testing.assert_allclose(out, slope @ dense, rtol=bound, atol=bound * n)


def test_a_part_of_a_shard_counts_its_own_rows():
    dense, matrix, _ = ones_case(100, 9, 0.9)
    indices, indptr = csr.unsigned(matrix.indices, matrix.indptr)
    starts, rows = columns.by_column(indices, indptr[60:], 9)
    assert rows.max() == 39
    for j in range(9):
        np.testing.assert_array_equal(rows[starts[j] : starts[j + 1]], np.nonzero(dense[60:, j])[0])


def test_short_columns_are_left_to_rows():
    _, matrix, _ = ones_case(50, 400, 0.05)
    starts, rows = columns.by_column(*csr.unsigned(matrix.indices, matrix.indptr), 400)
    assert starts.size == rows.size == 0
    nothing = columns.by_column(np.empty(0, np.uint32), np.zeros(1, np.uint32), 3)
    assert all(part.size == 0 for part in nothing)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_no_number_comes_out_again(bad):
    _, matrix, rng = ones_case(64, 9, 0.9)
    starts, rows = columns.by_column(*csr.unsigned(matrix.indices, matrix.indptr), 9)
    theta, out = rng.standard_normal(9), np.empty(9)
    theta[3] = bad
    value = columns.columns_gradient(links.SQUARES, starts, rows, np.ones(64), theta, out, columns.scratch())
    assert not np.isfinite(value)
    assert not np.isfinite(out[0])


@pytest.mark.parametrize("ones", [True, False])
def test_batches_of_a_shard_agree_with_passes_over_it(ones):
    """Rows that are chosen go by row, all rows by column where these are ones: one gradient to rounding."""
    _, matrix, rng = ones_case(300, 12, 0.5)
    data = matrix.data if ones else rng.standard_normal(matrix.data.size)
    table = Table(CSR(data, matrix.indices, matrix.indptr, matrix.shape), np.where(rng.random(300) < 0.5, -1.0, 1.0))
    problem = build("logistic", table, Share(0, 1, 300), "float64", {})
    assert bool(problem._features._columns) == ones
    theta, whole, rows = rng.standard_normal(12), np.empty(12), np.empty(12)
    value = problem.value_and_gradient(theta, whole)
    assert problem.batch_value_and_gradient(theta, np.arange(300), rows) == pytest.approx(value, rel=1e-12)
    np.testing.assert_allclose(rows, whole, rtol=0, atol=1e-10)
    theta.setflags(write=False)
    assert problem.value(theta) == value
