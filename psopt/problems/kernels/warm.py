"""Compile the kernels, or load them from Numba's cache, before any clock starts."""

from typing import TYPE_CHECKING

import numpy as np

from psopt.problems import kernels

if TYPE_CHECKING:
    from psopt.problems.kernels.steps import Rule

NETWORKS = ("softmax", "perceptron")
"""The kinds of problem that call the network's kernels."""

LINEAR = ("least-squares", "logistic")

NOISY = ("noisy-quadratic", "noisy-kink")
"""The kinds of problem that make their samples by themselves."""


def warm_vectors(dtype: str) -> None:
    """Make the vector kernels ready for theta of ``dtype`` that every rank calls."""
    a, b = np.zeros(1, dtype), np.zeros(1, dtype)
    kernels.vector.squared_distance(a, b)
    kernels.vector.squared_norm(a)
    kernels.vector.all_finite(a)


def warm_model(dtype: str) -> None:
    """Make ready what moves a model of theta of ``dtype``, the server's or a rank's copy of it, by the plain step."""
    kernels.steps.descend(np.zeros(1, dtype), np.zeros(1, dtype), 0.0)
    warm_rows(dtype, np.dtype(dtype))


def warm_calls() -> None:
    """Make ready what waits for messages."""
    calls = kernels.calls
    calls.watch.compile(calls.WATCH)
    calls.start.compile(calls.START)
    calls.collect.compile(calls.COLLECT)


def warm_rows(dtype: str, held: np.dtype) -> None:
    """Make sums of vectors that are held in dtype ``held`` ready for theta of ``dtype``."""
    rows, a, b = np.zeros((1, 1), held), np.zeros(1, dtype), np.zeros(1, dtype)
    kernels.vector.sum_rows(rows, 0, b)
    kernels.vector.weigh_rows(rows, 0, np.zeros(1, np.int64), np.ones(1, dtype), b)
    kernels.steps.descend_along_rows(a, rows, 0, b, 0.0)


def warm_steps(dtype: str) -> None:
    """Make steps by momentum and AdamW ready for theta of ``dtype``."""
    kernels.steps.move(*_descent(dtype), np.zeros(1, dtype), np.zeros(1, dtype), 0.0)


def warm_top_k(dtype: str, values: np.dtype) -> None:
    """Make the top-k kernels ready for theta of ``dtype`` and payload values of dtype ``values``."""
    x, offsets, counts, hints = np.ones(8, dtype), np.array([0, 8]), np.array([1]), np.zeros((1, 2))
    chosen = np.zeros(1, dtype)
    room, indices = kernels.topk.scratch(offsets, counts, x.dtype), np.zeros(1, np.int32)
    for _ in range(2):  # the second time with a hint
        kernels.topk.select(x, offsets, counts, hints, room, indices, chosen)
        kernels.topk.feed_back(x, x.copy(), 0.5, offsets, counts, hints, room, indices, chosen)
    kernels.topk.retain(x, indices, chosen, chosen)
    for numbers in (chosen, chosen if values.itemsize == 2 else chosen.astype(values)):
        kernels.topk.write_at(indices, numbers, x)
        kernels.topk.add_at(indices, numbers, x)
    kernels.topk.clear_at(indices, x)
    kernels.topk.check_indices(indices, 8)


def warm_packing() -> None:
    """Make packed indices ready, of either dtype."""
    kernels.gaps.most_words(1, 2)
    words = np.zeros(1, np.uint64)
    for dtype in (np.int32, np.int64):
        indices = np.zeros(1, dtype)
        used, parameter = kernels.gaps.pack(indices, 1, words)
        kernels.gaps.unpack(words[:used], parameter, 1, indices)


def warm_rounding(dtype: str) -> None:
    """Make numbers of ``dtype`` ready to be rounded."""
    kernels.rounding.narrow(np.zeros(1, dtype), np.zeros(1, np.float32))


def warm_up(
    dtype: str,
    sparse: bool,
    curvature: bool = False,
    kind: str = "logistic",
    batches: bool = True,
    local_steps: bool = True,
) -> None:
    """Make all kernels ready that a worker of a built-in problem calls: as `warm_problem`, and vectors and steps."""
    warm_vectors(dtype)
    warm_model(dtype)
    if local_steps:
        warm_steps(dtype)
    warm_problem(dtype, sparse, curvature, kind, batches, local_steps)


def warm_problem(dtype: str, sparse: bool, curvature: bool, kind: str, batches: bool, local_steps: bool) -> None:
    """Make the kernels ready that a built-in problem calls itself.

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
    if kind in NOISY:
        _warm_noisy(dtype, kind, curvature, local_steps)
        return
    for real in dict.fromkeys((dtype, "float64") if curvature else (dtype,)):
        if kind in NETWORKS:
            _warm_network(dtype, real, sparse)
        if kind == "softmax":
            _warm_classes(real, sparse)
        if kind not in NETWORKS or (kind == "softmax" and curvature):
            _warm_linear(dtype, real, sparse)
        theta, out = np.zeros(1, real), np.zeros(1, real)
        kernels.vector.squared_norm(theta)
        kernels.vector.regularise(theta, 1.0, 0.0, out)
    if kind not in NETWORKS and (batches or local_steps):
        _warm_batch(dtype, sparse, local_steps)
    if kind in NETWORKS and local_steps:
        _warm_network_steps(dtype, sparse)


def _warm_linear(dtype: str, real: str, sparse: bool) -> None:
    """Value and gradient of linear models for features of ``dtype`` and theta of ``real``."""
    labels, theta, out = np.zeros(1), np.zeros(1, real), np.zeros(1, real)
    if sparse:
        operands = (*_csr(dtype), np.empty(0, np.uint32), labels, theta)
        kernels.csr.csr_gradient(kernels.links.SQUARES, *operands, out, kernels.csr.scratch())
        kernels.csr.csr_value(kernels.links.SQUARES, *operands, kernels.csr.scratch())
        starts, named = np.zeros(2, operands[2].dtype), np.empty(0, np.uint16)
        columns = (starts, named, labels, theta, out, kernels.columns.scratch())
        kernels.columns.columns_gradient(kernels.links.SQUARES, *columns)
    else:
        X = np.ones((1, 1), dtype)
        kernels.dense.dense_gradient(kernels.links.SQUARES, X, labels, theta, out, kernels.dense.scratch(X))
        kernels.dense.dense_value(kernels.links.SQUARES, X, labels, theta, kernels.dense.scratch(X))


def _warm_batch(dtype: str, sparse: bool, local_steps: bool) -> None:
    """The gradient from chosen rows, local steps along it, and what `score` calls."""
    labels, theta, out = np.zeros(1), np.zeros(1, dtype), np.zeros(1, dtype)
    chosen = np.zeros(1, np.int64)
    kernels.rows.all_inside(chosen, 1)
    walk = (*_descent(dtype), theta, chosen, np.array([0, 1]), np.zeros(1), 1.0, 0.0, out)
    if sparse:
        own, z = kernels.csr.scratch(), kernels.csr.scratch()
        kernels.rows.csr_rows_gradient(kernels.links.SQUARES, *_csr(dtype), labels, chosen, theta, out, own, z)
        if local_steps:
            kernels.local.csr_local_steps(kernels.links.SQUARES, *_csr(dtype), labels, *walk, own, z)
    else:
        X = np.ones((1, 1), dtype)
        z = kernels.dense.scratch(X)
        panel, own = np.empty((z.size, 1), dtype), np.empty(z.size)
        kernels.rows.dense_rows_gradient(kernels.links.SQUARES, X, labels, chosen, theta, out, panel, own, z)
        if local_steps:
            kernels.local.dense_local_steps(kernels.links.SQUARES, X, labels, *walk, panel, own, z)
    kernels.links.settle(kernels.links.SQUARES, np.zeros(1), labels, 0, 1)


def _warm_noisy(dtype: str, kind: str, curvature: bool, local_steps: bool) -> None:
    """The gradient, which is the same function with and without noise; in float64 too, for `curvature`."""
    quadratic = kind == "noisy-quadratic"
    gradient = kernels.noisy.quadratic_gradient if quadratic else kernels.noisy.kink_gradient
    options = (np.ones(1), 1.0, 1.0) if quadratic else (1.0,)
    chosen, z = np.zeros(1, np.int64), np.empty(2)
    for real in dict.fromkeys((dtype, "float64") if curvature else (dtype,)):
        theta = np.zeros(1, real)
        gradient(theta, chosen, *options, 1.0, z, theta.copy())
        kernels.vector.all_finite(theta)
    kernels.rows.all_inside(chosen, 1)
    if local_steps:
        theta, walk = np.zeros(1, dtype), kernels.noisy.quadratic_steps if quadratic else kernels.noisy.kink_steps
        walk(*_descent(dtype), theta, chosen, np.array([0, 1]), np.zeros(1), *options, 1.0, z, theta.copy())


def _warm_network(dtype: str, real: str, sparse: bool) -> None:
    """A network of one unit, for features of ``dtype`` and theta of ``real``; and what is called by itself."""
    chosen, panel = np.zeros(1, np.int64), np.ones((1, 1), real)
    kernels.rows.all_inside(chosen, 1)
    if sparse:
        kernels.rows.take_csr(*_csr(dtype), chosen, panel)
    else:
        kernels.rows.take_dense(np.ones((1, 1), dtype), chosen, panel)
    theta, out, scratch = np.zeros(4, real), np.zeros(4, real), np.zeros((4, 2), real)
    widths, up, down, unused = np.ones(3, np.int64), scratch[0], scratch[1], scratch[2]
    kernels.network.network_blocks(
        kernels.layers.RELU, widths, True, theta, panel, chosen, 1.0, 1, up, down, unused, out, True
    )
    up, turned, packed = np.empty(64, real), np.empty(32, real), np.empty(256, real)
    scores, down = np.zeros((1, 1), real), np.empty((2, 32), real)
    room = scores, up, down, turned, packed, unused
    kernels.tiled_network.tiled_pass(kernels.layers.RELU, widths, True, theta, panel, chosen, 1.0, *room, out, True)
    kernels.products.rows_by_rows(panel, panel, scores, panel)
    kernels.softmax.softmax(scores, np.zeros(1, real))


def _warm_classes(real: str, sparse: bool) -> None:
    """Softmax regression of two classes over one row in the dtype of theta."""
    theta, X, labels = np.zeros(2, real), np.zeros((1, 1), real), np.zeros(1, np.int64)
    data, indices, indptr = _csr(real)
    rows = data, indices, indptr, labels, 1.0, kernels.sparse_classes.room(1, 2, theta.dtype), np.zeros_like(theta)
    kernels.sparse_classes.class_rows(np.int64(2), theta, theta, *rows)
    if sparse:
        return
    ends = np.zeros(2, np.int64)
    kernels.csr.count_stored(X, ends)
    kernels.csr.store(X, ends, data, np.zeros(1, np.int32))
    room = kernels.classes.room(1, 2, theta.dtype)
    operands = X, labels, 1.0, 1, room, np.zeros_like(theta), True
    kernels.classes.class_blocks(np.int64(2), theta, theta, *operands)


def _warm_network_steps(dtype: str, sparse: bool) -> None:
    """Local steps of the network of `_warm_network`."""
    chosen, theta, scratch = np.zeros(1, np.int64), np.zeros(4, dtype), np.zeros((3, 2), dtype)
    walk = (tuple(_descent(dtype)), theta, chosen, np.array([0, 1]), np.zeros(1), 1.0, 0.0, np.empty_like(theta))
    operands = (
        chosen,
        (kernels.layers.RELU, np.ones(3, np.int64), True),
        *walk,
        (np.ones((1, 1), dtype), chosen, *scratch),
    )
    if sparse:
        kernels.local_network.csr_network_steps(*_csr(dtype), *operands)
    else:
        kernels.local_network.dense_network_steps(np.ones((1, 1), dtype), *operands)


def _descent(dtype: str) -> "Rule":
    return kernels.steps.rule(kernels.steps.DESCENT, (), 1, np.dtype(dtype))


def _csr(dtype: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """One row with one value, as the kernels want it."""
    return np.ones(1, dtype), *kernels.csr.unsigned(np.zeros(1, np.int32), np.array([0, 1]))
