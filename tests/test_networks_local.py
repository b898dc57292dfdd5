"""Local steps of softmax regression and perceptrons in one call against a Python loop of batch gradients and steps."""

import itertools

import numpy as np
import pytest
from helpers import drive
from walks import RULES, SCALE, assert_same_walk, fresh, holed, parts, sparse_table, walk

from psopt.algorithm import Algorithm
from psopt.core.worker import Oracle
from psopt.errors import ProtocolError
from psopt.parts.aggregators import FreshMean
from psopt.parts.local_work import LocalAdamW, LocalSGD
from psopt.parts.plans import Fixed, PlanEntry
from psopt.parts.schedules import Constant
from psopt.parts.starts import Zero
from psopt.parts.work import Setting
from psopt.problems import build
from psopt.problems.base import Share
from psopt.problems.kernels import network
from psopt.problems.kernels.products import SKINNY
from psopt.problems.kernels.steps import Walk

NETS = {
    "softmax": ("softmax", {}),
    "no-bias": ("softmax", {"bias": False}),
    "relu": ("perceptron", {"hidden": [20], "activation": "relu"}),
    "tanh": ("perceptron", {"hidden": [9, 6], "activation": "tanh"}),
}
BATCHES = {"ones": [1], "sevens": [7], "ragged": [1, 16, 5, 70, 2, 300, 1]}  # blocks hold 64 rows, or 256

each_net = pytest.mark.parametrize("net", NETS)
each_layout = pytest.mark.parametrize("layout", ["dense", "csr", "all-ones"])
each_dtype = pytest.mark.parametrize("dtype", ["float64", "float32"])
each_rule = pytest.mark.parametrize("rule", RULES)


def table(layout, n=90, d=11, seed=0):
    rng = np.random.default_rng(seed)
    X = holed(rng, n, d)
    return sparse_table(X, rng.integers(0, 3, n).astype(np.float64), layout)


def made(net, layout="dense", dtype="float64", l2=0.1, **size):
    kind, options = NETS[net] if isinstance(net, str) else net
    shard = table(layout, **size)
    share = Share(0, 2, 2 * shard.samples)
    return build(kind, shard, share, dtype, {"classes": 3, "l2": l2, "reduction": "mean", **options})


def begin(problem, seed=2):
    return (0.4 * np.random.default_rng(seed).standard_normal(problem.dim)).astype(problem.dtype)


@each_net
@each_layout
@each_dtype
@each_rule
def test_the_steps_are_those_of_the_loop(net, layout, dtype, rule):
    for sizes, l2 in itertools.product(BATCHES.values(), (0.0, 0.3)):
        problem = made(net, layout, dtype, l2)
        mine = walk(problem, sizes, 25, step_size=0.02 if rule == "adamw" else 0.1)
        got = assert_same_walk(problem, rule, mine, begin(problem))
        assert np.abs(got - begin(problem)).max() > 1e-3


@each_net
@each_layout
def test_one_step_one_feature_and_one_row(net, layout):
    for n, d, number in ((90, 11, 1), (30, 1, 25), (1, 3, 5), (2, 1, 1)):
        for l2 in (0.0, 0.3):
            problem = made(net, layout, l2=l2, n=n, d=d)
            for sizes in BATCHES.values():
                assert_same_walk(problem, "descent", walk(problem, sizes, number), begin(problem))


@each_dtype
def test_a_gradient_may_be_added_to_theta_itself(dtype):
    rng = np.random.default_rng(3)
    widths = np.array([7, 20, 5, 3])
    dim = 7 * 20 + 20 + 20 * 5 + 5 + 5 * 3 + 3
    theta = (0.3 * rng.standard_normal(dim)).astype(dtype)
    for B in (1, 5, 12):
        X, labels = rng.standard_normal((B, 7)).astype(dtype), rng.integers(0, 3, B)
        up, down, unused = (np.empty(size, dtype) for size in (B * 28, B * 25, 20))
        g, moved = np.empty(dim, dtype), theta.copy()
        for out, source, fresh_one in ((g, theta, True), (moved, moved, False)):
            network.network_pass(1, widths, True, source, X, labels, -0.1, up, down, unused, out, fresh_one, X[:0])
        np.testing.assert_allclose(moved, theta + g, rtol=0, atol=20 * np.finfo(dtype).eps)


@each_net
@each_layout
@each_rule
def test_the_same_bits_in_one_call_or_two(net, layout, rule):
    problem = made(net, layout)
    mine = walk(problem, BATCHES["ragged"], 20)
    whole, pieces, own = begin(problem), begin(problem), fresh(rule, problem)
    problem.local_steps(fresh(rule, problem), whole, mine, SCALE)
    for part in parts(mine, 11):
        problem.local_steps(own, pieces, part, SCALE)
    assert whole.tobytes() == pieces.tobytes()


@each_net
@each_layout
@each_rule
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_stays_so(net, layout, rule, bad):
    for l2, sizes in itertools.product((0.0, 1.0), BATCHES.values()):
        problem = made(net, layout, l2=l2)
        mine = walk(problem, sizes, 8)
        for j in range(0, problem.dim, 13):
            theta = begin(problem)
            theta[j] = bad
            problem.local_steps(fresh(rule, problem), theta, mine, 1.0)
            assert not np.isfinite(theta).any()


@each_net
@each_rule
def test_a_walk_that_overflows_ends_in_nothing_finite(net, rule):
    problem = made(net, dtype="float32", l2=0.0)
    mine = walk(problem, [7], 20, step_size=3e40)
    theta = begin(problem)
    problem.local_steps(fresh(rule, problem), theta, mine, 1.0)
    assert not np.isfinite(theta).all()


@each_net
@each_layout
def test_inputs_stay_as_they_are(net, layout):
    shard = table(layout)
    kind, options = NETS[net]
    problem = build(kind, shard, Share(0, 1, shard.samples), "float64", {"classes": 3, **options})
    mine = walk(problem, [1, 3, 300], 9)
    arrays = [shard.labels, *mine]
    arrays += [shard.features] if layout == "dense" else [shard.features.data, shard.features.indices]
    before = [a.copy() for a in arrays]
    problem.local_steps(fresh("descent", problem), begin(problem), mine, SCALE)
    for a, b in zip(arrays, before, strict=True):
        np.testing.assert_array_equal(a, b)


@each_net
@each_layout
def test_rows_that_are_not_there_are_a_bug_of_the_caller(net, layout):
    problem = made(net, layout, n=8)
    for rows, ends, message in (
        ([8], [0, 1], "one or more of the rows 0 to 7"),
        ([-1], [0, 1], "one or more of the rows 0 to 7"),
        ([], [0, 0], "one or more of the rows 0 to 7"),
        ([1, 2], [0, 2, 2], "every local step has to have one sample or more"),
    ):
        theta = begin(problem)
        wrong = Walk(np.array(rows, int), np.array(ends), np.ones(len(ends) - 1))
        with pytest.raises(ProtocolError, match=message):
            problem.local_steps(fresh("descent", problem), theta, wrong, 1.0)
        np.testing.assert_array_equal(theta, begin(problem))


# -- who takes which way --


def calls(problem, size):
    """What a round of three steps of local SGD asks of the problem."""
    made_calls = []
    for name in ("local_steps", "batch_value_and_gradient"):
        inner = getattr(problem, name)

        def noted(*given, name=name, inner=inner):
            made_calls.append(name)
            return inner(*given)

        setattr(problem, name, noted)
    work = LocalSGD(size)
    state = work.init(Oracle(problem, problem.dtype), np.random.default_rng(0), Setting(Constant(0.1), 0.1, 1.0))
    work.contribute(state, begin(problem), PlanEntry(0, 3), np.empty(problem.dim))
    return made_calls


def test_large_products_go_by_blas_and_all_others_by_one_call():
    wide, narrow = ("perceptron", {"hidden": [40]}), ("perceptron", {"hidden": [SKINNY]})
    one, each = ["local_steps"], ["batch_value_and_gradient"] * 3
    assert calls(made(wide), SKINNY) == calls(made(narrow), 300) == calls(made("softmax"), 300) == one
    assert calls(made(wide), SKINNY + 1) == each
    assert calls(made(wide, n=SKINNY), 300) == one  # a batch is no larger than the shard


@pytest.mark.parametrize("work", [LocalSGD(7), LocalAdamW(7), LocalSGD(30)], ids=lambda work: f"{work.batch}")
@pytest.mark.parametrize("net", ["softmax", "wide"])
def test_both_ways_train_the_same(net, work):
    chosen = ("perceptron", {"hidden": [40]}) if net == "wide" else net
    row = Algorithm(Fixed(5), Zero(), work=work, aggregator=FreshMean(), step_size=Constant(0.01))
    runs = []
    for fused in (True, False):
        problems = [made(chosen, seed=seed) for seed in range(3)]
        for problem in problems:
            problem.fused_rows = 1000 if fused else 0
        runs.append(np.array(drive(row, problems, 6).thetas))
    assert np.abs(runs[0][-1] - runs[0][0]).max() > 1e-3
    np.testing.assert_allclose(runs[0], runs[1], rtol=1e-10, atol=1e-12)
