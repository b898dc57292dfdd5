"""Compile the kernels, or load them from Numba's cache, before any clock starts."""

import numpy as np

from psopt.problems.kernels import (
    csr,
    dense,
    gaps,
    layers,
    local,
    local_network,
    network,
    noisy,
    products,
    rounding,
    rows,
    softmax,
    steps,
    topk,
    vector,
)
from psopt.problems.kernels.links import SQUARES, settle

NETWORKS = ("softmax", "perceptron")
"""The kinds of problem that call the network's kernels."""

LINEAR = ("least-squares", "logistic")

NOISY = ("noisy-quadratic", "noisy-kink")
"""The kinds of problem that make their samples by themselves."""


def warm_vectors(dtype: str) -> None:
    """Make the vector kernels ready for theta of ``dtype``: all that the server needs."""
    a, b = np.zeros(1, dtype), np.zeros(1, dtype)
    vector.squared_distance(a, b)
    vector.squared_norm(a)
    vector.all_finite(a)
    steps.descend(a, b, 0.0)
    warm_rows(dtype, np.dtype(dtype))


def warm_rows(dtype: str, held: np.dtype) -> None:
    """Make sums of vectors that are held in dtype ``held`` ready for theta of ``dtype``."""
    rows, a, b = np.zeros((1, 1), held), np.zeros(1, dtype), np.zeros(1, dtype)
    vector.sum_rows(rows, 0, b)
    vector.weigh_rows(rows, 0, np.zeros(1, np.int64), np.ones(1, dtype), b)
    steps.descend_along_rows(a, rows, 0, b, 0.0)


def warm_steps(dtype: str) -> None:
    """Make steps by momentum and AdamW ready for theta of ``dtype``."""
    steps.move(*_descent(dtype), np.zeros(1, dtype), np.zeros(1, dtype), 0.0)


def warm_top_k(dtype: str, values: np.dtype) -> None:
    """Make the top-k kernels ready for theta of ``dtype`` and payload values of dtype ``values``."""
    x, offsets, counts, hints = np.ones(8, dtype), np.array([0, 8]), np.array([1]), np.zeros((1, 2))
    chosen = np.zeros(1, dtype)
    room, indices = topk.scratch(offsets, counts, x.dtype), np.zeros(1, np.int32)
    for _ in range(2):  # the second time with a hint
        topk.select(x, offsets, counts, hints, room, indices, chosen)
        topk.feed_back(x, x.copy(), 0.5, offsets, counts, hints, room, indices, chosen)
    topk.retain(x, indices, chosen, chosen)
    for numbers in (chosen, chosen if values.itemsize == 2 else chosen.astype(values)):
        topk.write_at(indices, numbers, x)
        topk.add_at(indices, numbers, x)
    topk.clear_at(indices, x)
    topk.check_indices(indices, 8)


def warm_packing() -> None:
    """Make packed indices ready, of either dtype."""
    words = np.zeros(1, np.uint64)
    for dtype in (np.int32, np.int64):
        indices = np.zeros(1, dtype)
        used, parameter = gaps.pack(indices, 1, words)
        gaps.unpack(words[:used], parameter, 1, indices)


def warm_rounding(dtype: str) -> None:
    """Make numbers of ``dtype`` ready to be rounded."""
    rounding.narrow(np.zeros(1, dtype), np.zeros(1, np.float32))


def warm_up(
    dtype: str,
    sparse: bool,
    curvature: bool = False,
    kind: str = "logistic",
    batches: bool = True,
    local_steps: bool = True,
) -> None:
    """Make all kernels ready that a worker's built-in problem calls.

    Parameters
    ----------
    dtype : 'float64' or 'float32'
        Of features and theta.
    sparse : bool
        Features are CSR.
    curvature : bool
        Also for float64 vectors against float32 features: what `smoothness`, `curvature_product` and the reference
        optimum use. Makes no difference for float64.
    kind : str
        The problem, one of `psopt.problems.PROBLEMS`.
    batches : bool
        Also what gradients of batches and scores of other rows call.
    local_steps : bool
        Also what local steps call.
    """
    warm_vectors(dtype)
    if local_steps:
        warm_steps(dtype)
    if kind in NOISY:
        _warm_noisy(dtype, kind, curvature, local_steps)
        return
    for real in dict.fromkeys((dtype, "float64") if curvature else (dtype,)):
        if kind in NETWORKS:
            _warm_network(dtype, real, sparse)
        if kind not in NETWORKS or (kind == "softmax" and curvature):
            _warm_linear(dtype, real, sparse)
        theta, out = np.zeros(1, real), np.zeros(1, real)
        vector.squared_norm(theta)
        vector.regularise(theta, 1.0, 0.0, out)
    if kind not in NETWORKS and (batches or local_steps):
        _warm_batch(dtype, sparse, local_steps)
    if kind in NETWORKS and local_steps:
        _warm_network_steps(dtype, sparse)


def _warm_linear(dtype: str, real: str, sparse: bool) -> None:
    """Value and gradient of linear models for features of ``dtype`` and theta of ``real``."""
    labels, theta, out = np.zeros(1), np.zeros(1, real), np.zeros(1, real)
    if sparse:
        operands = (*_csr(dtype), labels, theta)
        csr.csr_gradient(SQUARES, *operands, out, csr.scratch())
        csr.csr_value(SQUARES, *operands, csr.scratch())
    else:
        X = np.ones((1, 1), dtype)
        dense.dense_gradient(SQUARES, X, labels, theta, out, dense.scratch(X))
        dense.dense_value(SQUARES, X, labels, theta, dense.scratch(X))


def _warm_batch(dtype: str, sparse: bool, local_steps: bool) -> None:
    """The gradient from chosen rows, local steps along it, and what `score` calls."""
    labels, theta, out = np.zeros(1), np.zeros(1, dtype), np.zeros(1, dtype)
    chosen = np.zeros(1, np.int64)
    rows.all_inside(chosen, 1)
    walk = (*_descent(dtype), theta, chosen, np.array([0, 1]), np.zeros(1), 1.0, 0.0, out)
    if sparse:
        own, z = csr.scratch(), csr.scratch()
        rows.csr_rows_gradient(SQUARES, *_csr(dtype), labels, chosen, theta, out, own, z)
        if local_steps:
            local.csr_local_steps(SQUARES, *_csr(dtype), labels, *walk, own, z)
    else:
        X = np.ones((1, 1), dtype)
        z = dense.scratch(X)
        panel, own = np.empty((z.size, 1), dtype), np.empty(z.size)
        rows.dense_rows_gradient(SQUARES, X, labels, chosen, theta, out, panel, own, z)
        if local_steps:
            local.dense_local_steps(SQUARES, X, labels, *walk, panel, own, z)
    settle(SQUARES, np.zeros(1), labels, 0, 1)


def _warm_noisy(dtype: str, kind: str, curvature: bool, local_steps: bool) -> None:
    """The gradient, which is the same function with and without noise; in float64 too, for `curvature`."""
    quadratic = kind == "noisy-quadratic"
    gradient = noisy.quadratic_gradient if quadratic else noisy.kink_gradient
    options = (np.ones(1), 1.0, 1.0) if quadratic else (1.0,)
    chosen, z = np.zeros(1, np.int64), np.empty(2)
    for real in dict.fromkeys((dtype, "float64") if curvature else (dtype,)):
        theta = np.zeros(1, real)
        gradient(theta, chosen, *options, 1.0, z, theta.copy())
        vector.all_finite(theta)
    rows.all_inside(chosen, 1)
    if local_steps:
        theta, walk = np.zeros(1, dtype), noisy.quadratic_steps if quadratic else noisy.kink_steps
        walk(*_descent(dtype), theta, chosen, np.array([0, 1]), np.zeros(1), *options, 1.0, z, theta.copy())


def _warm_network(dtype: str, real: str, sparse: bool) -> None:
    """A network of one unit, for features of ``dtype`` and theta of ``real``; and each step by itself, as with BLAS."""
    chosen, panel = np.zeros(1, np.int64), np.ones((1, 1), real)
    rows.all_inside(chosen, 1)
    if sparse:
        rows.take_csr(*_csr(dtype), chosen, panel)
    else:
        rows.take_dense(np.ones((1, 1), dtype), chosen, panel)
    theta, out, scratch = np.zeros(4, real), np.zeros(4, real), np.zeros((4, 2), real)
    widths, up, down, unused = np.ones(3, np.int64), scratch[0], scratch[1], scratch[2]
    network.network_blocks(layers.RELU, widths, True, theta, panel, chosen, 1.0, 1, up, down, unused, out, True)
    z, b = np.zeros((1, 1), real), np.zeros(1, real)
    products.rows_by_rows(panel, panel, z)
    products.weighted_sums(z, panel, z.copy(), True)
    products.rows_by_columns(z, panel, z.copy())
    layers.activate(layers.RELU, z, b)
    layers.descend_layer(layers.RELU, z, z.copy(), b, True)
    softmax.settle_softmax(z, b, chosen, 1.0)
    softmax.softmax(z, b)


def _warm_network_steps(dtype: str, sparse: bool) -> None:
    """Local steps of the network of `_warm_network`."""
    chosen, theta, scratch = np.zeros(1, np.int64), np.zeros(4, dtype), np.zeros((3, 2), dtype)
    walk = (tuple(_descent(dtype)), theta, chosen, np.array([0, 1]), np.zeros(1), 1.0, 0.0, np.empty_like(theta))
    operands = (chosen, (layers.RELU, np.ones(3, np.int64), True), *walk, (np.ones((1, 1), dtype), chosen, *scratch))
    if sparse:
        local_network.csr_network_steps(*_csr(dtype), *operands)
    else:
        local_network.dense_network_steps(np.ones((1, 1), dtype), *operands)


def _descent(dtype: str) -> steps.Rule:
    return steps.rule(steps.DESCENT, (), 1, np.dtype(dtype))


def _csr(dtype: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """One row with one value, as the kernels want it."""
    return np.ones(1, dtype), *csr.unsigned(np.zeros(1, np.int32), np.array([0, 1]))
