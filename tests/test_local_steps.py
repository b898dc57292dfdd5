"""Local steps in one call against a Python loop of batch gradients and steps."""

import itertools

import numpy as np
import pytest
from walks import RULES, SCALE, assert_same_walk, fresh, holed, one_step, parts, sparse_table, walk

from psopt.errors import ProtocolError
from psopt.problems import build
from psopt.problems.base import Share
from psopt.problems.kernels import links, local
from psopt.problems.kernels.steps import Walk

BATCHES = {"ones": [1], "threes": [3], "twenties": [20], "ragged": [1, 4, 1, 8, 2, 300, 1], "all": [90]}

each_kind = pytest.mark.parametrize("kind", ["least-squares", "logistic"])
each_layout = pytest.mark.parametrize("layout", ["dense", "csr", "all-ones"])
each_dtype = pytest.mark.parametrize("dtype", ["float64", "float32"])
each_rule = pytest.mark.parametrize("rule", RULES)


def table(kind, layout, n=90, d=11, seed=0):
    rng = np.random.default_rng(seed)
    X = holed(rng, n, d)
    labels = np.where(rng.random(n) < 0.5, -1.0, 1.0) if kind == "logistic" else rng.standard_normal(n)
    return sparse_table(X, labels, layout)


def made(kind, layout, dtype="float64", l2=0.1, **size):
    shard = table(kind, layout, **size)
    return build(kind, shard, Share(0, 2, 2 * shard.samples), dtype, {"l2": l2, "reduction": "mean"})


def begin(problem):
    return np.random.default_rng(2).standard_normal(problem.dim).astype(problem.dtype)


@each_kind
@each_layout
@each_dtype
@each_rule
def test_the_steps_are_those_of_the_loop(kind, layout, dtype, rule):
    for sizes, l2 in itertools.product(BATCHES.values(), (0.0, 0.3)):
        problem = made(kind, layout, dtype, l2)
        assert_same_walk(problem, rule, walk(problem, sizes, 40), begin(problem))


@each_kind
@each_layout
@each_rule
def test_one_step_one_feature_and_one_row(kind, layout, rule):
    for n, d, number in ((90, 11, 1), (30, 1, 25), (1, 3, 5), (1, 1, 1)):
        problem = made(kind, layout, n=n, d=d)
        for sizes in BATCHES.values():
            assert_same_walk(problem, rule, walk(problem, sizes, number), begin(problem))


@each_kind
@pytest.mark.parametrize("d", [2, 3, 4, 5, 7, 8, 15, 16, 17, 31, 33, 123, 500])
def test_every_remainder_of_a_dense_row(kind, d):
    problem = made(kind, "dense", d=d)
    assert_same_walk(problem, "descent", walk(problem, [1], 30, step_size=0.3 / d), begin(problem))


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
            mine = walk(problem, sizes, 12, step_size=0.02)
            mine.step_sizes[list(often)] = strong
            assert_same_walk(problem, "descent", mine, begin(problem))


@each_layout
def test_exactly_nothing_is_left_of_theta(layout):
    problem = made("logistic", layout, l2=2.0)  # half of it is the worker's, so that a step of 1 leaves nothing
    theta = begin(problem)
    problem.local_steps(fresh("descent", problem), theta, one_step([0]), 1.0)
    np.testing.assert_array_equal(theta, 0.0)  # row 0 is empty


@each_layout
@each_dtype
@pytest.mark.parametrize("step_size", [0.6, 12.0])
def test_a_long_walk_keeps_its_digits(layout, dtype, step_size):
    """theta's factor goes through 1e-6, or in growing through 1e6, many times."""
    problem = made("logistic", layout, dtype, l2=0.5)
    number = 200 if step_size < 1 else 60
    mine = walk(problem, [1], 200)._replace(step_sizes=np.full(200, step_size))
    assert_same_walk(problem, "descent", parts(mine, number)[0], np.zeros(problem.dim, dtype), scale=1.0)


@each_layout
@each_rule
def test_the_same_call_gives_the_same_bits_and_two_calls_are_one(layout, rule):
    problem = made("logistic", layout)
    whole = walk(problem, [1, 2, 9], 30)
    thetas = []
    for _ in range(2):
        theta = np.ones(problem.dim)
        problem.local_steps(fresh(rule, problem), theta, whole, SCALE)
        thetas.append(theta)
    assert thetas[0].tobytes() == thetas[1].tobytes()
    theta, own = np.ones(problem.dim), fresh(rule, problem)
    for part in parts(whole, 11):
        problem.local_steps(own, theta, part, SCALE)
    np.testing.assert_allclose(theta, thetas[0], rtol=1e-12)


@each_kind
@each_layout
@each_rule
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_stays_so(kind, layout, rule, bad):
    problem = made(kind, layout, l2=1.0)
    for sizes in ([1], [3], [20]):
        mine = walk(problem, sizes, 20)
        mine.step_sizes[7] = 2.0  # at a scale of 1, nothing is left of a finite theta
        for j in range(problem.dim):
            theta = np.ones(problem.dim)
            theta[j] = bad
            problem.local_steps(fresh(rule, problem), theta, mine, 1.0)
            assert not np.isfinite(theta).all()


@each_kind
@each_layout
@each_rule
def test_inputs_stay_as_they_are(kind, layout, rule):
    shard = table(kind, layout)
    arrays = [shard.labels]
    arrays += [shard.features] if layout == "dense" else [shard.features.data, shard.features.indices]
    problem = build(kind, shard, Share(0, 1, shard.samples), "float64", {"l2": 1.0})
    mine = walk(problem, [1, 3, 20], 20)
    arrays += mine
    before = [a.copy() for a in arrays]
    theta = np.zeros(problem.dim)
    problem.local_steps(fresh(rule, problem), theta, mine, SCALE)
    assert theta.any()
    for a, b in zip(arrays, before, strict=True):
        np.testing.assert_array_equal(a, b)


@each_layout
def test_rows_that_are_not_there_are_a_bug_of_the_caller(layout):
    problem = made("logistic", layout, n=8)
    for rows in ([8], [-1], []):
        with pytest.raises(ProtocolError, match="one or more of the rows 0 to 7"):
            problem.local_steps(fresh("descent", problem), np.zeros(11), one_step(rows), 1.0)
    nothing = Walk(np.array([1, 2]), np.array([0, 2, 2]), np.ones(2))
    with pytest.raises(ProtocolError, match="every local step has to have one sample or more"):
        problem.local_steps(fresh("descent", problem), np.zeros(11), nothing, 1.0)


@each_kind
def test_the_slope_is_that_of_the_loss(kind):
    link = links.LOGISTIC if kind == "logistic" else links.SQUARES
    for y, z in itertools.product((-1.0, 0.0, 1.0), (-800.0, -3.0, 0.0, 0.5, 40.0, 1e300)):
        with np.errstate(over="ignore"):
            expected = z - y if kind == "least-squares" else -y * np.exp(-np.logaddexp(0.0, y * z))
        for slope in (local.slope, local.slope.py_func):
            assert slope(link, z, y) == pytest.approx(expected, rel=1e-14, abs=1e-300)
