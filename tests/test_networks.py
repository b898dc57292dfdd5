"""Softmax regression and the perceptron: their kernels, options and layouts beyond the contract of every problem."""

import math

import numpy as np
import pytest

from psopt.data.table import Table
from psopt.errors import ConfigError
from psopt.problems import build
from psopt.problems.base import Share
from psopt.problems.check import check_problem
from psopt.problems.kernels import fetching, layers, network, products, rows, softmax
from psopt.problems.kernels.warm import warm_up

DTYPES = ("float64", "float32")
ALONE = Share(0, 1, 1)
NETS = [
    ("softmax", {}),
    ("softmax", {"bias": False}),
    ("perceptron", {"hidden": []}),
    ("perceptron", {"hidden": [1]}),
    ("perceptron", {"hidden": [20], "activation": "relu"}),
    ("perceptron", {"hidden": [40, 33], "activation": "tanh"}),
    ("perceptron", {"hidden": [18, 5, 21]}),
]
each_dtype = pytest.mark.parametrize("dtype", DTYPES)
each_net = pytest.mark.parametrize(("kind", "options"), NETS, ids=lambda value: str(value))


def table(n, d=7, classes=3, seed=0):
    rng = np.random.default_rng(seed)
    return Table(rng.standard_normal((n, d)), rng.integers(0, classes, n).astype(np.float64))


def made(kind, options, shard, dtype="float64", share=ALONE, **more):
    return build(kind, shard, share, dtype, {"classes": 3, **options, **more})


def spread(problem, rng, dtype="float64"):
    return (0.5 * rng.standard_normal(problem.dim)).astype(dtype)


def eps(dtype):
    return float(np.finfo(dtype).eps)


# -- the kernels --


@each_dtype
@pytest.mark.parametrize("compiled", [True, False], ids=["compiled", "plain"])
def test_products_at_every_remainder(dtype, compiled):
    rng = np.random.default_rng(0)
    functions = (products.rows_by_rows, products.weighted_sums, products.rows_by_columns)
    forward, sums, back = functions if compiled else (f.py_func for f in functions)
    sizes = (1, 2, 4, 5, 6, 10, 13) if compiled else (1, 5, 6)
    for B in sizes:
        for H in sizes:
            for d in (1, 7, 33, 850) if compiled else (3,):  # 850: by pieces
                X, W, D = (rng.standard_normal(shape).astype(dtype) for shape in ((B, d), (H, d), (B, H)))
                bound = 30 * eps(dtype) * math.sqrt(d + B + H)
                out = np.full((B, H), np.nan, dtype)
                forward(X, W, out, X)
                np.testing.assert_allclose(out, X.astype(float) @ W.T.astype(float), atol=bound * 4)
                out = np.full((H, d), np.nan, dtype)
                sums(D, X, out, True, X)
                np.testing.assert_allclose(out, D.T.astype(float) @ X.astype(float), atol=bound * 4)
                once = out.copy()
                sums(D, X, out, False, X[:0])
                np.testing.assert_allclose(out, 2 * once, atol=bound * 4)
                out = np.full((B, d), np.nan, dtype)
                back(D, W, out)
                np.testing.assert_allclose(out, D.astype(float) @ W.astype(float), atol=bound * 4)


@each_dtype
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_products_skip_nothing(dtype, bad):
    for B, H in ((10, 10), (1, 1), (6, 3)):
        for h in range(H):
            W, X = np.ones((H, 4), dtype), np.zeros((B, 4), dtype)
            W[h, 2] = bad
            out, back = np.empty((B, H), dtype), np.empty((B, 4), dtype)
            products.rows_by_rows(X, W, out, X[:0])
            assert not np.isfinite(out[:, h]).any()
            products.rows_by_columns(np.zeros((B, H), dtype), W, back)
            assert not np.isfinite(back[:, 2]).any()


@each_dtype
def test_what_is_fetched_changes_nothing(dtype):
    X, W = np.random.default_rng(2).standard_normal((2, 10, 850)).astype(dtype)
    kept, results = X.copy(), []
    for ahead in (X[:0], X[5:], X, np.ones((70, 850), dtype)):
        out, sums = np.empty((10, 10), dtype), np.empty_like(W)
        products.rows_by_rows(X, W, out, ahead)
        products.weighted_sums(out, X, sums, True, ahead)
        results.append((out.tobytes(), sums.tobytes()))
    for start, stop in ((0, 10**6), (8499, 8500), (8500, 9000), (5, 5), (9, 3)):
        fetching.fetch(X, start, stop)
    assert len(set(results)) == 1
    assert X.tobytes() == kept.tobytes()


def test_tanh_to_the_last_digits():
    z = np.concatenate(
        [np.linspace(-30, 30, 20001), np.geomspace(1e-300, 1, 5001), -np.geomspace(1e-12, 1, 999), [0.0]]
    )
    got = np.array([layers.tanh(value) for value in z])
    np.testing.assert_allclose(got, np.tanh(z), rtol=2.5e-15)
    assert [layers.tanh(value) for value in (np.inf, -np.inf)] == [1.0, -1.0]
    assert np.isnan(layers.tanh(np.nan))


@each_dtype
@pytest.mark.parametrize("compiled", [True, False], ids=["compiled", "plain"])
def test_layers(dtype, compiled):
    up = layers.activate if compiled else layers.activate.py_func
    down = layers.descend_layer if compiled else layers.descend_layer.py_func
    rng = np.random.default_rng(1)
    z, d = rng.standard_normal((2, 6, 19)).astype(dtype)
    b = rng.standard_normal(19).astype(dtype)
    a_relu, a_tanh = z.copy(), z.copy()
    assert up(layers.RELU, a_relu, b) == up(layers.TANH, a_tanh, b) == 0.0
    np.testing.assert_array_equal(a_relu, np.maximum(z + b, 0))
    np.testing.assert_allclose(a_tanh, np.tanh(z + b), rtol=20 * eps(dtype))
    for kind, a, slope in (
        (layers.RELU, a_relu, a_relu > 0),
        (layers.TANH, a_tanh, 1 - a_tanh**2),
        (layers.LINEAR, z, np.ones_like(z)),
    ):
        got, out = d.copy(), np.full(19, np.nan, dtype)
        down(kind, a, got, out, True)
        np.testing.assert_allclose(got, d * slope, atol=20 * eps(dtype))
        np.testing.assert_allclose(out, (d * slope).sum(axis=0), atol=60 * eps(dtype))
        down(kind, a, d.copy(), out, False)
        np.testing.assert_allclose(out, 2 * (d * slope).sum(axis=0), atol=120 * eps(dtype))
    for kind in (layers.RELU, layers.TANH):
        for bad in (np.nan, np.inf, -np.inf):
            broken = z.copy()
            broken[3, 17] = bad
            with np.errstate(invalid="ignore"):
                assert np.isnan(up(kind, broken, b))


@each_dtype
@pytest.mark.parametrize("compiled", [True, False], ids=["compiled", "plain"])
def test_settle_softmax(dtype, compiled):
    settle = softmax.settle_softmax if compiled else softmax.settle_softmax.py_func
    soft = softmax.softmax if compiled else softmax.softmax.py_func
    rng = np.random.default_rng(2)
    for B, K in ((1, 2), (7, 3), (12, 10)):
        z, b = 4 * rng.standard_normal((B, K)).astype(dtype), rng.standard_normal(K).astype(dtype)
        labels = rng.integers(0, K, B)
        scores = (z + b).astype(np.float64)
        mass = np.logaddexp.reduce(scores, axis=1)
        p = np.exp(scores - mass[:, None])
        got, q = z.copy(), z.copy()
        loss, right = settle(got, b, labels, 0.25)
        assert loss == pytest.approx((mass - scores[np.arange(B), labels]).sum(), rel=1e-13)
        assert right == np.count_nonzero(scores.argmax(axis=1) == labels)
        np.testing.assert_allclose(got, 0.25 * (p - np.eye(K)[labels]), atol=4 * eps(dtype))
        soft(q, b)
        np.testing.assert_allclose(q, p, atol=8 * eps(dtype))


def test_settle_softmax_with_huge_scores_ties_and_what_is_not_a_number():
    zero = np.zeros(3)
    z = np.array([[1e300, 0.0, -1e300], [0.0, 1e300, 1e300]])
    loss, right = softmax.settle_softmax(z, zero, np.array([1, 2]), 1.0)
    assert (loss, right) == (1e300, 0)
    np.testing.assert_allclose(z, [[1, -1, 0], [0, 0.5, -0.5]], atol=1e-15)
    assert softmax.settle_softmax(np.zeros((2, 3)), zero, np.array([0, 1]), 1.0)[1] == 1
    for bad in (np.nan, np.inf, -np.inf):
        for k in range(3):
            z = np.zeros((1, 3))
            z[0, k] = bad
            assert np.isnan(softmax.settle_softmax(z, zero, np.array([1]), 1.0)[0])


def test_the_pass_uncompiled_says_the_same():
    rng = np.random.default_rng(3)
    for bias in (True, False):
        widths = np.array([4, 6, 3])
        theta = rng.standard_normal(24 + 18 + 9 * bias)
        X, labels = rng.standard_normal((5, 4)), rng.integers(0, 3, 5)
        for compute in (network.network_pass, network.network_pass.py_func):
            out = np.full(theta.size, np.nan)
            scratch = np.empty(45), np.empty(45), np.empty(6)
            got = compute(layers.TANH, widths, bias, theta, X, labels, 0.5, *scratch, out, True, X[:0])
            alone = compute(layers.TANH, widths, bias, theta, X, labels, 0.5, *scratch, np.empty(0), True, X)
            assert alone == got
            if compute is network.network_pass:
                expected, gradient = got, out
        assert got == pytest.approx(expected, rel=1e-13)
        np.testing.assert_allclose(out, gradient, atol=1e-13)


@pytest.mark.parametrize("compiled", [True, False], ids=["compiled", "plain"])
def test_blocks_of_rows_are_the_passes_one_after_the_other(compiled):
    rng = np.random.default_rng(4)
    widths, blocks = np.array([4, 3]), network.network_blocks
    theta, X, labels = rng.standard_normal(15), rng.standard_normal((7, 4)), rng.integers(0, 3, 7)
    scratch, each, out = (np.empty(9), np.empty(0), np.empty(3)), np.empty(15), np.full(15, np.nan)
    loss = right = 0
    for start in (0, 3, 6):
        rows_of = X[start : start + 3], labels[start : start + 3]
        part, hits = network.network_pass(0, widths, True, theta, *rows_of, 0.5, *scratch, each, start == 0, X[:0])
        loss, right = loss + part, right + hits
    got = (blocks if compiled else blocks.py_func)(0, widths, True, theta, X, labels, 0.5, 3, *scratch, out, True)
    assert got == (loss, right)
    assert out.tobytes() == each.tobytes()


def test_rows_are_taken_and_checked():
    X = np.arange(12.0).reshape(4, 3)
    for take in (rows.take_dense, rows.take_dense.py_func):
        out = np.full((3, 3), np.nan, np.float32)
        take(X, np.array([3, 0]), out)
        np.testing.assert_array_equal(out[:2], X[[3, 0]])
        assert np.isnan(out[2]).all()
    for inside in (rows.all_inside, rows.all_inside.py_func):
        assert inside(np.array([3, 0]), 4)
        assert not inside(np.array([3, 4]), 4)
        assert not inside(np.array([-1]), 4)


@pytest.mark.parametrize("kind", ["logistic", "softmax", "perceptron"])
@pytest.mark.parametrize("sparse", [False, True])
def test_warm_up_knows_each_kind(kind, sparse):
    warm_up("float32", sparse, curvature=True, kind=kind)


# -- the problems --


@each_net
@each_dtype
def test_finite_differences_of_every_shape(kind, options, dtype):
    for n in (1, 40, 300):  # one row; both sides of where BLAS takes over; more than one block
        problem = made(kind, options, table(n), dtype, l2=0.01, reduction="sum")
        check_problem(problem, np.random.default_rng(1), dtype)


@each_net
@each_dtype
def test_batches_large_and_small_are_the_same_sums(kind, options, dtype):
    rng = np.random.default_rng(2)
    shard = table(700)
    problem = made(kind, options, shard, dtype, Share(0, 2, 900), l2=0.1)
    theta = spread(problem, rng, dtype)
    tolerance = 1e-12 if dtype == "float64" else 1e-4
    for size in (1, 10, 16, 17, 64, 256, 257, 600):
        chosen = rng.integers(0, 700, size)
        out, expected = np.full(problem.dim, np.nan, dtype), np.empty(problem.dim, dtype)
        # the same rows as a shard of their own, of which n_m / B times as many would be the whole
        alone = made(kind, options, shard.rows(chosen), dtype, Share(0, 2, 900 * size / 700), l2=0.1)
        value = alone.value_and_gradient(theta, expected)
        assert problem.batch_value_and_gradient(theta, chosen, out) == pytest.approx(value, rel=tolerance)
        np.testing.assert_allclose(out, expected, atol=tolerance * (1 + np.abs(expected).max()))
        again = np.empty_like(out)
        problem.batch_value_and_gradient(theta, chosen, again)
        assert again.tobytes() == out.tobytes()


@each_net
def test_tensors_are_the_layers_in_order(kind, options):
    problem = made(kind, options, table(5))
    if kind == "softmax":
        names = ["weight", "bias"][: 1 + options.get("bias", True)]
        assert problem.tensors == tuple(zip(names, [(3, 7), (3,)], strict=False))
    else:
        widths = [7, *options["hidden"], 3]
        expected = []
        for number in range(1, len(widths)):
            units, inputs = widths[number], widths[number - 1]
            expected += [(f"layer{number}.weight", (units, inputs)), (f"layer{number}.bias", (units,))]
        assert problem.tensors == tuple(expected)
    assert sum(math.prod(shape) for _, shape in problem.tensors) == problem.dim


def test_theta_is_read_where_tensors_says():
    shard = table(9)
    problem = made("perceptron", {"hidden": [5]}, shard)
    theta = spread(problem, np.random.default_rng(0))
    parts, start = {}, 0
    for name, shape in problem.tensors:
        parts[name] = theta[start : start + math.prod(shape)].reshape(shape)
        start += math.prod(shape)
    hidden = np.maximum(shard.features @ parts["layer1.weight"].T + parts["layer1.bias"], 0)
    z = hidden @ parts["layer2.weight"].T + parts["layer2.bias"]
    losses = np.logaddexp.reduce(z, axis=1) - z[np.arange(9), shard.labels.astype(int)]
    assert problem.value(theta) == pytest.approx(losses.sum(), rel=1e-13)  # Share(0, 1, 1): n counts one
    loss, right = problem.score(theta, shard)
    assert loss == pytest.approx(losses.sum(), rel=1e-13)
    assert right == np.count_nonzero(z.argmax(axis=1) == shard.labels)


def test_a_perceptron_without_hidden_layers_is_softmax_regression():
    shard, rng = table(80), np.random.default_rng(0)
    one, other = made("softmax", {}, shard, l2=0.1), made("perceptron", {"hidden": []}, shard, l2=0.1)
    theta = spread(one, rng)
    at_one, at_other = np.empty(one.dim), np.empty(one.dim)
    assert one.value_and_gradient(theta, at_one) == pytest.approx(other.value_and_gradient(theta, at_other), rel=1e-13)
    np.testing.assert_allclose(at_one, at_other, atol=1e-13)


@each_dtype
def test_softmax_without_bias_is_the_one_whose_biases_are_zero(dtype):
    shard = table(30)
    problem, biased = made("softmax", {"bias": False}, shard, dtype), made("softmax", {}, shard, dtype)
    theta = spread(problem, np.random.default_rng(0), dtype)
    padded, out, whole = np.append(theta, np.zeros(3, dtype)), np.empty(21, dtype), np.empty(24, dtype)
    for _ in range(2):
        assert problem.value_and_gradient(theta, out) == biased.value_and_gradient(padded, whole)
        np.testing.assert_array_equal(out, whole[:21])
        assert problem.value(theta) == biased.value(padded)
    np.testing.assert_allclose(problem.hessian(theta), biased.hessian(padded)[:21, :21], atol=1e-12)
    assert problem.smoothness() <= biased.smoothness()
    v, product = np.random.default_rng(1).standard_normal(21), np.empty(21)
    problem.curvature_product(v, product)
    X = shard.features.astype(dtype).astype(float)
    np.testing.assert_allclose(product, (0.5 * v.reshape(3, 7) @ X.T @ X).ravel(), rtol=1e-12)


def test_the_first_iterate_of_a_perceptron_is_within_its_bounds():
    for dtype in DTYPES:
        problem = made("perceptron", {"hidden": [50, 9]}, table(5, 100), dtype)
        theta, start = problem.initial(np.random.default_rng(7)), 0
        assert theta.tobytes() == problem.initial(np.random.default_rng(7)).tobytes()
        assert theta.tobytes() != problem.initial(np.random.default_rng(8)).tobytes()
        for (_, shape), fan_in in zip(problem.tensors, [100, 100, 50, 50, 9, 9], strict=True):
            part = theta[start : start + math.prod(shape)]
            start += part.size
            assert np.abs(part).max() <= (1 + 1e-7) / math.sqrt(fan_in)
            if part.size > 100:
                assert np.abs(part).max() > 0.9 / math.sqrt(fan_in)
                assert np.std(part) == pytest.approx(1 / math.sqrt(3 * fan_in), rel=0.1)


@each_net
def test_one_class_may_be_missing_in_a_shard(kind, options):
    shard = table(20)
    shard.labels[shard.labels == 1] = 2
    check_problem(made(kind, options, shard, reduction="sum"), np.random.default_rng(0))
    shard.labels[:] = 0
    check_problem(made(kind, options, shard, reduction="sum"), np.random.default_rng(0))


@each_net
@each_dtype
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_bad_element_anywhere_comes_out(kind, options, dtype, bad):
    shard = table(40)
    shard.features[:] = np.abs(shard.features)  # -inf then makes -inf of every sum, which relu would call 0
    shard.features[:, 3] = 0.0
    problem = made(kind, options, shard, dtype)
    rng = np.random.default_rng(0)
    out = np.empty(problem.dim, dtype)
    for j in {*range(0, problem.dim, 7), problem.dim - 1}:
        theta = spread(problem, rng, dtype)
        theta[j] = bad
        assert np.isnan(problem.value(theta))
        for compute in (
            problem.value_and_gradient,
            lambda theta, out: problem.batch_value_and_gradient(theta, np.arange(10), out),
            lambda theta, out: problem.batch_value_and_gradient(theta, np.arange(30), out),
        ):
            out[:] = 0.0
            assert np.isnan(compute(theta, out))
            assert np.isnan(out).all()
        assert problem.score(theta, shard)[1] == 0


@pytest.mark.parametrize("kind", ["softmax", "perceptron"])
@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"classes": 1}, "classes is 1, but it has to be a whole number, 2 or above"),
        ({"classes": 2.0}, "classes is 2.0"),
        ({"classes": True}, "classes is True"),
        ({"classes": 2}, "but with classes: 2 it has to be a whole number from 0 to 1"),
        ({"clases": 3}, "did you mean 'classes'?"),
    ],
)
def test_classes_that_are_refused(kind, options, sentence):
    labels = np.array([0.0, 1.0, 2.0])
    with pytest.raises(ConfigError) as caught:
        build(kind, Table(np.ones((3, 2)), labels), ALONE, "float64", options)
    assert sentence in str(caught.value)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"hidden": 5}, "hidden is 5, but it has to be a list of whole numbers, each 1 or above"),
        ({"hidden": [5, 0]}, "hidden is [5, 0]"),
        ({"hidden": [5.0]}, "hidden is [5.0]"),
        ({"activation": "gelu"}, "activation is 'gelu', but it has to be relu or tanh"),
    ],
)
def test_layers_that_are_refused(options, sentence):
    with pytest.raises(ConfigError) as caught:
        made("perceptron", options, table(5))
    assert sentence in str(caught.value)


def test_a_bias_that_is_refused():
    with pytest.raises(ConfigError, match="bias is 1, but it has to be true or false"):
        made("softmax", {"bias": 1}, table(5))


@pytest.mark.parametrize("kind", ["softmax", "perceptron"])
@pytest.mark.parametrize(("label", "shown"), [(-1.0, "-1"), (3.0, "3"), (0.5, "0.5"), (np.nan, "nan"), (np.inf, "inf")])
def test_labels_that_are_refused(kind, label, shown):
    shard = table(6)
    shard.labels[4] = label
    with pytest.raises(ConfigError) as caught:
        made(kind, {}, shard, share=Share(2, 3, 20))
    sentence = f"the label is {shown}, but with classes: 3 it has to be a whole number from 0 to 2"
    assert str(caught.value) == f"worker 2, row 4 of its shard: {sentence}"


def test_the_last_held_out_table_is_remembered():
    shard, held_out = table(9), table(12, seed=1)
    problem = made("softmax", {}, shard)
    theta = spread(problem, np.random.default_rng(0))
    first = problem.score(theta, held_out)
    kept = problem._held_out[1]
    assert problem.score(theta, held_out) == first
    assert problem._held_out[1] is kept
    problem.score(theta, Table(held_out.features, held_out.labels))
    assert problem._held_out[1] is not kept


# -- what is said of a user's class with optional members --


class Quadratic:
    """f = ||theta - c||^2 / 2, and every optional member that is checked."""

    tensors = (("a", (2, 2)), ("b", (1,)))

    def __init__(self, shard, share):
        self.dim, self.samples = 5, shard.samples

    def value_and_gradient(self, theta, out):
        out[:] = theta - 1
        return self.value(theta)

    def value(self, theta):
        return 0.5 * float(((theta - 1) ** 2).sum())

    def batch_value_and_gradient(self, theta, rows, out):
        return self.value_and_gradient(theta, out)

    def initial(self, rng):
        return rng.standard_normal(5)


class FourNumbers(Quadratic):
    tensors = (("a", (2, 2)),)


class ShortStart(Quadratic):
    def initial(self, rng):
        return np.zeros(4)


class HalfBatch(Quadratic):
    def batch_value_and_gradient(self, theta, rows, out):
        value = self.value_and_gradient(theta, out)
        out *= 0.5
        return value


class SortsRows(Quadratic):
    def batch_value_and_gradient(self, theta, rows, out):
        rows[:] = rows[::-1].copy()
        return self.value_and_gradient(theta, out)


@pytest.mark.parametrize(
    ("cls", "sentence"),
    [
        (FourNumbers, "the sizes of tensors add up to 4, but dim is 5"),
        (ShortStart, "initial has to return 5 finite numbers of dtype float64"),
        (HalfBatch, "batch_value_and_gradient with all rows has to agree with value_and_gradient"),
        (SortsRows, "theta and rows have to stay as they are"),
    ],
)
def test_optional_members_that_break_their_promise(cls, sentence):
    check_problem(Quadratic(table(6), ALONE), np.random.default_rng(0))
    with pytest.raises(ConfigError) as caught:
        check_problem(cls(table(6), ALONE), np.random.default_rng(0))
    assert sentence in str(caught.value)
    assert f":{cls.__name__}: " in str(caught.value)
