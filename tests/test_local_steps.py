"""Local steps in one call against a Python loop of batch gradients and steps."""

import itertools

import numpy as np
import pytest

from psopt.data.table import CSR, Table
from psopt.errors import ProtocolError
from psopt.problems import build
from psopt.problems.base import Share
from psopt.problems.kernels import links, local, steps

RULES = {
    "descent": (steps.DESCENT, ()),
    "momentum": (steps.MOMENTUM, (0.9, 0.0)),
    "nesterov": (steps.MOMENTUM, (0.9, 1.0)),
    "adamw": (steps.ADAMW, (0.9, 0.999, 1e-8, 0.05)),
}
BATCHES = {"ones": [1], "threes": [3], "twenties": [20], "ragged": [1, 4, 1, 8, 2, 300, 1], "all": [90]}
SCALE = 0.7

each_kind = pytest.mark.parametrize("kind", ["least-squares", "logistic"])
each_layout = pytest.mark.parametrize("layout", ["dense", "csr", "all-ones"])
each_dtype = pytest.mark.parametrize("dtype", ["float64", "float32"])
each_rule = pytest.mark.parametrize("rule", RULES)


def table(kind, layout, n=90, d=11, seed=0):
    """About a third of the values are zero, and every tenth row holds nothing else."""
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, d)) * (rng.random((n, d)) < 0.7)
    X[::10] = 0.0
    X = (X != 0).astype(np.float64) if layout == "all-ones" else X
    labels = np.where(rng.random(n) < 0.5, -1.0, 1.0) if kind == "logistic" else rng.standard_normal(n)
    if layout == "dense":
        return Table(X, labels)
    rows, columns = np.nonzero(X)
    indptr = np.concatenate([[0], np.cumsum(np.count_nonzero(X, axis=1))]).astype(np.int64)
    return Table(CSR(X[rows, columns], columns.astype(np.int32), indptr, X.shape), labels)


def made(kind, layout, dtype="float64", l2=0.1, **size):
    shard = table(kind, layout, **size)
    return build(kind, shard, Share(0, 2, 2 * shard.samples), dtype, {"l2": l2, "reduction": "mean"})


def walk(problem, sizes, number, seed=1, step_size=0.3):
    """Rows, ends and step sizes of ``number`` steps; in larger batches some rows come twice."""
    rng = np.random.default_rng(seed)
    ends = np.concatenate([[0], np.cumsum(list(itertools.islice(itertools.cycle(sizes), number)))])
    return rng.integers(0, problem.samples, ends[-1]), ends, step_size / np.sqrt(1.0 + np.arange(number))


def fresh(rule, problem):
    return steps.rule(*RULES[rule], problem.dim, problem.dtype)


def literally(problem, rule, theta, rows, ends, step_sizes, scale):
    """One Python call a step."""
    g = np.empty_like(theta)
    for s, step_size in enumerate(step_sizes):
        problem.batch_value_and_gradient(theta, rows[ends[s] : ends[s + 1]], g)
        steps.move(*rule, theta, theta.dtype.type(scale) * g, step_size)


def assert_same_walk(problem, rule, *numbers, scale=SCALE, start=None):
    if start is None:
        start = np.random.default_rng(2).standard_normal(problem.dim).astype(problem.dtype)
    expected, got = start.copy(), start.copy()
    theirs, ours = fresh(rule, problem), fresh(rule, problem)
    literally(problem, theirs, expected, *numbers, scale)
    assert problem.local_steps(ours, got, *numbers, scale) is None
    tolerance = 1e-10 if problem.dtype == np.float64 else 1e-4
    assert got.dtype == problem.dtype
    assert np.isfinite(expected).all()
    for a, b in ((got, expected), (ours.moments, theirs.moments)):
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance * np.abs(b).max(initial=0.0))
    assert ours.count == theirs.count == len(numbers[2])
    return got


@each_kind
@each_layout
@each_dtype
@each_rule
def test_the_steps_are_those_of_the_loop(kind, layout, dtype, rule):
    for sizes, l2 in itertools.product(BATCHES.values(), (0.0, 0.3)):
        problem = made(kind, layout, dtype, l2)
        assert_same_walk(problem, rule, *walk(problem, sizes, 40))


@each_kind
@each_layout
@each_rule
def test_one_step_one_feature_and_one_row(kind, layout, rule):
    for n, d, number in ((90, 11, 1), (30, 1, 25), (1, 3, 5), (1, 1, 1)):
        problem = made(kind, layout, n=n, d=d)
        for sizes in BATCHES.values():
            assert_same_walk(problem, rule, *walk(problem, sizes, number))


@each_kind
@pytest.mark.parametrize("d", [2, 3, 4, 5, 7, 8, 15, 16, 17, 31, 33, 123, 500])
def test_every_remainder_of_a_dense_row(kind, d):
    problem = made(kind, "dense", d=d)
    assert_same_walk(problem, "descent", *walk(problem, [1], 30, step_size=0.3 / d))


@each_kind
@each_layout
@each_dtype
@pytest.mark.parametrize("shrink", [1e-7, 0.0, -0.5, -1.0, -3.0])
def test_theta_may_shrink_to_nothing_or_change_its_sign(kind, layout, dtype, shrink):
    """1 - step_size * scale * l2 is ``shrink``, once, twice in a row, and in every step."""
    problem = made(kind, layout, dtype, l2=40.0)  # so that the loss's curvature plays no part in what grows
    strong = (1.0 - shrink) / (SCALE * 20.0)
    for often in ([5], [5, 6], range(12)):
        for sizes in ([1], [3], [1, 2, 20]):
            rows, ends, step_sizes = walk(problem, sizes, 12, step_size=0.02)
            step_sizes[list(often)] = strong
            assert_same_walk(problem, "descent", rows, ends, step_sizes)


@each_layout
def test_exactly_nothing_is_left_of_theta(layout):
    problem = made("logistic", layout, l2=2.0)  # half of it is the worker's, so that a step of 1 leaves nothing
    theta = np.random.default_rng(2).standard_normal(problem.dim)
    problem.local_steps(fresh("descent", problem), theta, np.array([0]), np.array([0, 1]), np.array([1.0]), 1.0)
    np.testing.assert_array_equal(theta, 0.0)  # row 0 is empty


@each_layout
@each_dtype
@pytest.mark.parametrize("step_size", [0.6, 12.0])
def test_a_long_walk_keeps_its_digits(layout, dtype, step_size):
    """theta's factor goes through 1e-6, or in growing through 1e6, many times."""
    problem = made("logistic", layout, dtype, l2=0.5)
    rows, ends, _ = walk(problem, [1], 200)
    start = np.zeros(problem.dim, dtype)
    number = 200 if step_size < 1 else 60
    assert_same_walk(
        problem, "descent", rows[:number], ends[: number + 1], np.full(number, step_size), scale=1.0, start=start
    )


@each_layout
@each_rule
def test_the_same_call_gives_the_same_bits_and_two_calls_are_one(layout, rule):
    problem = made("logistic", layout)
    rows, ends, step_sizes = walk(problem, [1, 2, 9], 30)
    thetas = []
    for _ in range(2):
        theta = np.ones(problem.dim)
        problem.local_steps(fresh(rule, problem), theta, rows, ends, step_sizes, SCALE)
        thetas.append(theta)
    assert thetas[0].tobytes() == thetas[1].tobytes()
    theta, own, cut = np.ones(problem.dim), fresh(rule, problem), 11
    problem.local_steps(own, theta, rows[: ends[cut]], ends[: cut + 1], step_sizes[:cut], SCALE)
    problem.local_steps(own, theta, rows[ends[cut] :], ends[cut:] - ends[cut], step_sizes[cut:], SCALE)
    np.testing.assert_allclose(theta, thetas[0], rtol=1e-12)


@each_kind
@each_layout
@each_rule
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_stays_so(kind, layout, rule, bad):
    problem = made(kind, layout, l2=1.0)
    for sizes in ([1], [3], [20]):
        rows, ends, step_sizes = walk(problem, sizes, 20)
        step_sizes[7] = 2.0  # at a scale of 1, nothing is left of a finite theta
        for j in range(problem.dim):
            theta = np.ones(problem.dim)
            theta[j] = bad
            problem.local_steps(fresh(rule, problem), theta, rows, ends, step_sizes, 1.0)
            assert not np.isfinite(theta).all()


@each_kind
@each_layout
@each_rule
def test_inputs_stay_as_they_are(kind, layout, rule):
    shard = table(kind, layout)
    arrays = [shard.labels]
    arrays += [shard.features] if layout == "dense" else [shard.features.data, shard.features.indices]
    problem = build(kind, shard, Share(0, 1, shard.samples), "float64", {"l2": 1.0})
    arrays += walk(problem, [1, 3, 20], 20)
    before = [a.copy() for a in arrays]
    theta = np.zeros(problem.dim)
    problem.local_steps(fresh(rule, problem), theta, *arrays[-3:], SCALE)
    assert theta.any()
    for a, b in zip(arrays, before, strict=True):
        np.testing.assert_array_equal(a, b)


@each_layout
def test_rows_that_are_not_there_are_a_bug_of_the_caller(layout):
    problem = made("logistic", layout, n=8)
    for rows in ([8], [-1], []):
        ends = np.array([0, len(rows)])
        with pytest.raises(ProtocolError, match="one or more of the rows 0 to 7"):
            problem.local_steps(fresh("descent", problem), np.zeros(11), np.array(rows, int), ends, np.ones(1), 1.0)


@each_kind
def test_the_slope_is_that_of_the_loss(kind):
    link = links.LOGISTIC if kind == "logistic" else links.SQUARES
    for y, z in itertools.product((-1.0, 0.0, 1.0), (-800.0, -3.0, 0.0, 0.5, 40.0, 1e300)):
        with np.errstate(over="ignore"):
            expected = z - y if kind == "least-squares" else -y * np.exp(-np.logaddexp(0.0, y * z))
        for slope in (local.slope, local.slope.py_func):
            assert slope(link, z, y) == pytest.approx(expected, rel=1e-14, abs=1e-300)
