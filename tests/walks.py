"""Walks of many local steps, and the loop of one Python call a step that they are compared with."""

import itertools

import numpy as np

from psopt.data.table import CSR, Table
from psopt.problems.kernels import steps
from psopt.problems.kernels.steps import Walk

RULES = {
    "descent": (steps.DESCENT, ()),
    "momentum": (steps.MOMENTUM, (0.9, 0.0)),
    "nesterov": (steps.MOMENTUM, (0.9, 1.0)),
    "adamw": (steps.ADAMW, (0.9, 0.999, 1e-8, 0.05)),
}
SCALE = 0.7


def sparse_table(X, labels, layout):
    """The rows as ``dense``, as ``csr``, or as ``all-ones`` in CSR."""
    X = (X != 0).astype(np.float64) if layout == "all-ones" else X
    if layout == "dense":
        return Table(X, labels)
    rows, columns = np.nonzero(X)
    indptr = np.concatenate([[0], np.cumsum(np.count_nonzero(X, axis=1))]).astype(np.int64)
    return Table(CSR(X[rows, columns], columns.astype(np.int32), indptr, X.shape), labels)


def holed(rng, n, d):
    """About a third of the values are zero, and every tenth row holds nothing else."""
    X = rng.standard_normal((n, d)) * (rng.random((n, d)) < 0.7)
    X[::10] = 0.0
    return X


def walk(problem, sizes, number, seed=1, step_size=0.3):
    """``number`` steps; in larger batches some rows come twice."""
    rng = np.random.default_rng(seed)
    ends = np.concatenate([[0], np.cumsum(list(itertools.islice(itertools.cycle(sizes), number)))])
    rows = rng.integers(0, problem.samples, ends[-1])
    return Walk(rows, ends, step_size / np.sqrt(1.0 + np.arange(number)))


def parts(whole, cut):
    """The first ``cut`` steps of a walk, and the others."""
    rows, ends, step_sizes = whole
    middle = ends[cut]
    return Walk(rows[:middle], ends[: cut + 1], step_sizes[:cut]), Walk(
        rows[middle:], ends[cut:] - middle, step_sizes[cut:]
    )


def one_step(rows, step_size=1.0):
    return Walk(np.array(rows, np.int64), np.array([0, len(rows)]), np.array([step_size]))


def fresh(rule, problem):
    return steps.rule(*RULES[rule], problem.dim, problem.dtype)


def literally(problem, rule, theta, walk, scale):
    """One Python call a step."""
    g = np.empty_like(theta)
    for (first, last), step_size in zip(itertools.pairwise(walk.ends), walk.step_sizes, strict=True):
        problem.batch_value_and_gradient(theta, walk.rows[first:last], g)
        steps.move(*rule, theta, theta.dtype.type(scale) * g, step_size)


def assert_same_walk(problem, rule, walk, start, scale=SCALE, single=1e-4, double=1e-10):
    """In one call as one by one: theta, moments and count; returns where theta ends."""
    expected, got = start.copy(), start.copy()
    theirs, ours = fresh(rule, problem), fresh(rule, problem)
    literally(problem, theirs, expected, walk, scale)
    assert problem.local_steps(ours, got, walk, scale) is None
    tolerance = double if problem.dtype == np.float64 else single
    assert got.dtype == problem.dtype
    assert np.isfinite(expected).all()
    for a, b in ((got, expected), (ours.moments, theirs.moments)):
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * np.abs(b).max(initial=0.0))
    assert ours.count == theirs.count == len(walk.step_sizes)
    return got
