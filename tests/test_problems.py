"""The contract of every problem: one row a problem, one column a kind of features, both dtypes."""

import itertools
import subprocess
import sys

import numpy as np
import pytest
from scipy.optimize import minimize

from psopt.data.table import CSR, Table
from psopt.errors import ConfigError, ProtocolError
from psopt.problems import PROBLEMS, build
from psopt.problems.base import Share
from psopt.problems.check import check_problem
from psopt.problems.optimum import newton
from psopt.problems.smoothness import largest_eigenvalue, power_iteration

DTYPES = ("float64", "float32")
ALONE = Share(0, 1, 1)
REQUIRED = {"softmax": {"classes": 3}, "perceptron": {"classes": 3, "hidden": [4], "activation": "tanh"}}
# torch needs PyTorch, and what has no data no labels and no l2: they have files of their own.
KINDS = [kind for kind, entry in PROBLEMS.items() if kind != "torch" and entry.data]
CURVED = [kind for kind in KINDS if kind != "perceptron"]  # the convex ones


def made(kind, table, share, dtype, options):
    return build(kind, table, share, dtype, {"reduction": "sum", **REQUIRED.get(kind, {}), **options})


def to_csr(X):
    rows, columns = np.nonzero(X)
    indptr = np.concatenate([[0], np.cumsum(np.count_nonzero(X, axis=1))]).astype(np.int64)
    return CSR(X[rows, columns], columns.astype(np.int32), indptr, X.shape)


def features(n, d, rng, ones=False):
    """About half zeros; some rows entirely."""
    X = rng.standard_normal((n, d)) * (rng.random((n, d)) < 0.5)
    X[rng.random(n) < 0.1] = 0.0
    return (X != 0).astype(np.float64) if ones else X


def shard(kind, layout, n=50, d=7, seed=0):
    rng = np.random.default_rng(seed)
    X = features(n, d, rng, ones=layout == "all-ones")
    if kind in REQUIRED:
        labels = rng.integers(0, 3, n).astype(np.float64)
    else:
        labels = np.where(rng.random(n) < 0.5, -1.0, 1.0) if kind == "logistic" else rng.standard_normal(n)
    return Table(X if layout == "dense" else to_csr(X), labels)


def array(table):
    return table.features.toarray() if isinstance(table.features, CSR) else table.features


def textbook(kind, table, theta, scale, l2, curved=False):
    """f_m, its gradient and, if it is convex and asked for, its Hessian in float64."""
    if kind in REQUIRED:
        return textbook_network(kind, table, theta, scale, l2, curved)
    X, y, theta = array(table).astype(np.float64), table.labels, theta.astype(np.float64)
    z = X @ theta
    if kind == "logistic":
        p = np.exp(-np.logaddexp(0.0, y * z))
        loss, slope, bend = np.logaddexp(0.0, -y * z), -y * p, y**2 * p * (1 - p)
    else:
        loss, slope, bend = 0.5 * (z - y) ** 2, z - y, np.ones(len(y))
    hessian = scale * (X.T * bend) @ X + l2 * np.eye(len(theta)) if curved else None
    return scale * loss.sum() + 0.5 * l2 * theta @ theta, scale * X.T @ slope + l2 * theta, hessian


def textbook_network(kind, table, theta, scale, l2, curved):
    X, theta = array(table).astype(np.float64), theta.astype(np.float64)
    d = X.shape[1]
    hot = np.eye(3)[table.labels.astype(int)]
    widths = [d, 4, 3] if kind == "perceptron" else [d, 3]
    below, layers, start = [X], [], 0
    for inputs, units in itertools.pairwise(widths):
        W = theta[start : start + inputs * units].reshape(units, inputs)
        b = theta[start + inputs * units : start + inputs * units + units]
        start += inputs * units + units
        layers.append(W)
        z = below[-1] @ W.T + b
        below.append(np.tanh(z))
    mass = np.logaddexp.reduce(z, axis=1)
    p = np.exp(z - mass[:, None])
    gradients, delta = [], p - hot
    for W, a in zip(layers[::-1], below[-2::-1], strict=True):
        gradients = [(delta.T @ a).ravel(), delta.sum(axis=0), *gradients]
        delta = (delta @ W) * (1 - a**2)
    value = scale * (mass.sum() - (z * hot).sum()) + 0.5 * l2 * theta @ theta
    hessian = None
    if kind == "softmax" and curved:
        hessian = l2 * np.eye(theta.size)
        for x, q in zip(X, p, strict=True):
            jacobian = np.hstack([np.kron(np.eye(3), x), np.eye(3)])  # of the scores over theta
            hessian += scale * jacobian.T @ (np.diag(q) - np.outer(q, q)) @ jacobian
    return value, scale * np.concatenate(gradients) + l2 * theta, hessian


def curvature_bound(kind, X):
    """What multiplies the scale in C_m."""
    if kind != "softmax":
        return (0.25 if kind == "logistic" else 1.0) * X.T @ X
    jacobians = np.concatenate([np.hstack([np.kron(np.eye(3), x), np.eye(3)]) for x in X])
    return 0.5 * jacobians.T @ jacobians


each_kind = pytest.mark.parametrize("kind", KINDS)
each_curved = pytest.mark.parametrize("kind", CURVED)
each_layout = pytest.mark.parametrize("layout", ["dense", "csr", "all-ones"])
each_dtype = pytest.mark.parametrize("dtype", DTYPES)


@each_kind
@each_layout
@each_dtype
@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_value_gradient_and_hessian_are_the_textbooks(kind, layout, dtype, reduction):
    rng = np.random.default_rng(3)
    tolerance = 1e-12 if dtype == "float64" else 2e-5
    for n, d in ((1, 1), (1, 5), (5, 1), (7, 3), (64, 7), (331, 20)):
        table = shard(kind, layout, n, d)
        problem = made(kind, table, Share(1, 4, 500), dtype, {"l2": 0.3, "reduction": reduction})
        assert problem.samples == n
        assert problem.dim == {"softmax": 3 * d + 3, "perceptron": 4 * d + 4 + 15}.get(kind, d)
        scale, l2 = (1.0, 0.3) if reduction == "sum" else (1 / 500, 0.3 / 4)
        theta = rng.standard_normal(problem.dim).astype(dtype)
        out = np.full(problem.dim, np.nan, dtype)
        value, gradient, hessian = textbook(kind, table, theta, scale, l2, curved=True)
        assert problem.value_and_gradient(theta, out) == pytest.approx(value, rel=tolerance)
        assert problem.value(theta) == pytest.approx(value, rel=tolerance)
        np.testing.assert_allclose(out, gradient, atol=tolerance * (1 + np.abs(gradient).max()))
        if hessian is None:
            assert not hasattr(problem, "hessian")
            continue
        np.testing.assert_allclose(problem.hessian(theta), hessian, atol=tolerance * (1 + hessian.max()))
        assert problem.hessian(theta).dtype == np.float64


@each_kind
@each_layout
@each_dtype
def test_finite_differences(kind, layout, dtype):
    for n, d in ((1, 1), (6, 4), (50, 7)):
        problem = made(kind, shard(kind, layout, n, d), ALONE, dtype, {"l2": 0.01})
        check_problem(problem, np.random.default_rng(0), dtype)


@each_curved
@each_layout
@each_dtype
def test_smoothness_bounds_the_gradients_change_and_is_tight(kind, layout, dtype):
    rng = np.random.default_rng(5)
    for n, d in ((1, 1), (1, 6), (50, 7), (40, 300)):
        table = shard(kind, layout, n, d)
        problem = made(kind, table, Share(0, 3, 150), dtype, {"l2": 0.2, "reduction": "mean"})
        X = array(table).astype(dtype).astype(np.float64)
        matrix = curvature_bound(kind, X) / 150
        expected = np.linalg.eigvalsh(matrix)[-1] + 0.2 / 3
        bound = problem.smoothness()
        assert bound == pytest.approx(expected, rel=1e-12)
        dim = problem.dim
        v, out = rng.standard_normal(dim), np.empty(dim)
        problem.curvature_product(v, out)
        np.testing.assert_allclose(out, matrix @ v + 0.2 / 3 * v, rtol=0, atol=1e-12 * dim)
        slack = 1 + (1e-12 if dtype == "float64" else 1e-4)
        for _ in range(20):
            a, b = rng.standard_normal((2, dim)).astype(dtype)
            at_a, at_b = np.empty(dim, dtype), np.empty(dim, dtype)
            problem.value_and_gradient(a, at_a)
            problem.value_and_gradient(b, at_b)
            assert np.linalg.norm(at_a - at_b) <= slack * bound * np.linalg.norm(a - b)


@each_kind
@each_layout
@each_dtype
def test_shards_sum_to_the_whole_mean(kind, layout, dtype):
    table = shard(kind, layout, 83, 9)
    options = {"l2": 0.5, "reduction": "mean"}
    problem = made(kind, table, Share(0, 1, 83), dtype, options)
    theta = np.random.default_rng(1).standard_normal(problem.dim).astype(dtype)
    whole, out, total = np.empty_like(theta), np.empty_like(theta), np.zeros(problem.dim)
    value, values = problem.value_and_gradient(theta, whole), 0.0
    for m, rows in enumerate((slice(0, 40), slice(40, 43), slice(43, 83))):
        part = made(kind, table.rows(rows), Share(m, 3, 83), dtype, options)
        values += part.value_and_gradient(theta, out)
        total += out
    tolerance = 1e-13 if dtype == "float64" else 1e-5
    assert values == pytest.approx(value, rel=tolerance)
    np.testing.assert_allclose(total, whole, atol=10 * tolerance)


@each_kind
@each_layout
@each_dtype
def test_inputs_stay_as_they_are_and_may_be_read_only(kind, layout, dtype):
    table = shard(kind, layout)
    arrays = [table.labels]
    arrays += [table.features] if layout == "dense" else [table.features.data, table.features.indices]
    before = [a.copy() for a in arrays]
    for a in arrays:
        a.flags.writeable = False
    problem = made(kind, table, ALONE, dtype, {"l2": 1.0})
    theta, rows = np.random.default_rng(1).standard_normal(problem.dim).astype(dtype), np.array([3, 0, 3])
    before += [theta.copy(), rows.copy()]
    problem.value_and_gradient(theta, np.empty_like(theta))
    problem.batch_value_and_gradient(theta, rows, np.empty_like(theta))
    problem.value(theta)
    if kind in CURVED:
        problem.smoothness()
        problem.hessian(theta)
    if kind != "least-squares":
        problem.score(theta, table)
    for a, b in zip((*arrays, theta, rows), before, strict=True):
        np.testing.assert_array_equal(a, b)


@each_kind
@each_layout
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_theta_that_is_not_finite_gives_nothing_finite(kind, layout, bad):
    for n, l2 in ((50, 0.0), (3, 0.1)):
        problem = made(kind, shard(kind, layout, n), ALONE, "float64", {"l2": l2})
        for j in range(problem.dim):
            theta, out = np.ones(problem.dim), np.empty(problem.dim)
            theta[j] = bad
            assert not np.isfinite(problem.value_and_gradient(theta, out))
            assert not np.isfinite(out).any()
            assert not np.isfinite(problem.value(theta))
            assert np.isnan(problem.batch_value_and_gradient(theta, np.array([1, 2]), out))
            assert np.isnan(out).all()
            if kind != "least-squares":
                loss, right = problem.score(theta, shard(kind, layout, n))
                assert np.isnan(loss)
                assert right == 0


def test_huge_theta_is_not_mistaken_for_an_infinite_one():
    table = Table(np.array([[1.0], [2.0]]), np.array([1.0, -1.0]))
    problem, out = build("logistic", table, ALONE, "float64", {}), np.empty(1)
    assert problem.value_and_gradient(np.array([1e300]), out) == 2e300
    assert out[0] == 2.0
    assert problem.value(np.array([-1e300])) == 1e300


@each_kind
@each_layout
def test_a_float32_problem_can_be_asked_in_float64(kind, layout):
    table = shard(kind, layout)
    problem = made(kind, table, ALONE, "float32", {})
    theta, out = np.random.default_rng(0).standard_normal(problem.dim), np.empty(problem.dim)
    rounded = Table(array(table).astype(np.float32), table.labels)
    value, gradient, _ = textbook(kind, rounded, theta, 1.0, 0.0)
    assert problem.value_and_gradient(theta, out) == pytest.approx(value, rel=1e-13)
    np.testing.assert_allclose(out, gradient, atol=1e-12)


# -- a batch of rows, the first iterate, other rows --


@each_kind
@each_layout
@each_dtype
def test_a_batch_is_the_same_problem_on_those_rows(kind, layout, dtype):
    rng = np.random.default_rng(4)
    tolerance = 1e-12 if dtype == "float64" else 2e-5
    for n, d in ((1, 1), (9, 5), (331, 20), (40, 900)):
        table = shard(kind, layout, n, d)
        problem = made(kind, table, Share(0, 2, 2 * n), dtype, {"l2": 0.3, "reduction": "mean"})
        theta = (rng.standard_normal(problem.dim) / np.sqrt(d)).astype(dtype)
        out, again = np.full(problem.dim, np.nan, dtype), np.empty(problem.dim, dtype)
        for size in {1, 2, min(n, 8), n, n + 3}:
            rows = rng.integers(0, n, size)
            value, gradient, _ = textbook(kind, table.rows(rows), theta, 1 / (2 * n) * n / size, 0.3 / 2)
            got = problem.batch_value_and_gradient(theta, rows, out)
            assert got == pytest.approx(value, rel=tolerance)
            np.testing.assert_allclose(out, gradient, atol=tolerance * (1 + np.abs(gradient).max()))
            assert problem.batch_value_and_gradient(theta.copy(), rows.copy(), again) == got
            assert again.tobytes() == out.tobytes()
        full = problem.value_and_gradient(theta, again)
        assert problem.batch_value_and_gradient(theta, np.arange(n), out) == pytest.approx(full, rel=tolerance)
        np.testing.assert_allclose(out, again, atol=tolerance * (1 + np.abs(again).max()))


@each_kind
@each_layout
def test_batches_of_equal_size_average_to_the_whole(kind, layout):
    table = shard(kind, layout, 60, 7)
    problem = made(kind, table, Share(0, 2, 100), "float64", {"l2": 0.3, "reduction": "mean"})
    rng = np.random.default_rng(0)
    theta = rng.standard_normal(problem.dim)
    whole, out, total = np.empty(problem.dim), np.empty(problem.dim), np.zeros(problem.dim)
    value = problem.value_and_gradient(theta, whole)
    for size in (1, 5, 20, 30):
        values, total[:] = 0.0, 0.0
        for rows in rng.permutation(60).reshape(-1, size):
            values += problem.batch_value_and_gradient(theta, rows, out) * size / 60
            total += out * size / 60
        assert values == pytest.approx(value, rel=1e-13)
        np.testing.assert_allclose(total, whole, atol=1e-13 * (1 + np.abs(whole).max()))


@each_kind
@each_layout
def test_rows_that_are_not_there_are_a_bug_of_the_caller(kind, layout):
    problem = made(kind, shard(kind, layout, 8), ALONE, "float64", {})
    theta = np.zeros(problem.dim)
    for rows in ([8], [0, -1], []):
        with pytest.raises(ProtocolError, match="one or more of the rows 0 to 7"):
            problem.batch_value_and_gradient(theta, np.array(rows, np.int64), theta.copy())


@each_kind
@each_dtype
def test_tensors_and_the_first_iterate(kind, dtype):
    problem = made(kind, shard(kind, "dense"), ALONE, dtype, {})
    first = problem.initial(np.random.default_rng(5))
    assert first.shape == (problem.dim,)
    assert first.dtype == dtype
    assert first.tobytes() == problem.initial(np.random.default_rng(5)).tobytes()
    assert first.any() == (kind == "perceptron")
    tensors = getattr(problem, "tensors", (("theta", (problem.dim,)),))
    assert sum(np.prod(shape) for _, shape in tensors) == problem.dim


@pytest.mark.parametrize("kind", ["least-squares", "logistic"])
@each_dtype
def test_a_random_first_iterate(kind, dtype):
    table, rng = shard(kind, "dense", 9, 4000), np.random.default_rng(5)
    first = made(kind, table, ALONE, dtype, {"initial_scale": 0.3}).initial(rng)
    assert first.dtype == dtype
    np.testing.assert_array_equal(first, (0.3 * np.random.default_rng(5).standard_normal(4000)).astype(dtype))
    before = rng.bit_generator.state
    assert not made(kind, table, ALONE, dtype, {"initial_scale": 0}).initial(rng).any()
    assert rng.bit_generator.state == before
    for wrong in (-1.0, np.inf, np.nan, True, "big"):
        with pytest.raises(ConfigError, match="but it has to be a finite number, zero or above") as caught:
            made(kind, table, ALONE, dtype, {"initial_scale": wrong})
        assert str(caught.value).startswith(f"initial_scale is {wrong!r}, ")


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "least-squares"])
@each_layout
@each_dtype
def test_the_score_of_other_rows(kind, layout, dtype):
    table, held_out = shard(kind, layout, 20, 7), shard(kind, layout, 300, 7, seed=9)
    problem = made(kind, table, Share(0, 5, 99), dtype, {"l2": 3.0, "reduction": "mean"})
    rng = np.random.default_rng(0)
    for other in (held_out, held_out, table):
        theta = rng.standard_normal(problem.dim).astype(dtype)
        loss, right = problem.score(theta, other)
        assert loss == pytest.approx(
            textbook(kind, other, theta, 1.0, 0.0)[0], rel=1e-12 if dtype == "float64" else 1e-5
        )
        alone = [problem.score(theta, other.rows([i]))[1] for i in range(len(other.labels))]
        assert right == sum(alone)
        assert 0 < right < len(other.labels)
    with pytest.raises(ConfigError, match="held-out rows have 6 features, but the problem has 7"):
        problem.score(theta, shard(kind, layout, 5, 6))
    wrong = Table(table.features, np.full(20, 7.0))
    with pytest.raises(ConfigError, match=r"^held-out row 0: the label is 7"):
        problem.score(theta, wrong)


def test_least_squares_has_no_score():
    assert not hasattr(made("least-squares", shard("least-squares", "dense"), ALONE, "float64", {}), "score")


def test_labels_that_logistic_cannot_use():
    table = Table(np.ones((3, 2)), np.array([1.0, -1.0, 0.0]))
    with pytest.raises(ConfigError, match=r"worker 4, row 2 .* label is 0, .* -1 or \+1; `data.positive: 1` maps"):
        build("logistic", table, Share(4, 9, 30), "float64", {})
    problem = build("logistic", table, ALONE, "float64", {"zero_labels": True})
    assert problem.value(np.zeros(2)) == pytest.approx(3 * np.log(2))
    table.labels[0] = np.nan
    with pytest.raises(ConfigError, match="label is nan"):
        build("logistic", table, ALONE, "float64", {"zero_labels": True})


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"l2": -1.0}, "l2 is -1.0, but it has to be a finite number, zero or above"),
        ({"l2": "big"}, "l2 is 'big'"),
        ({"l2": float("nan")}, "l2 is nan"),
        ({"reduction": "average"}, "reduction is 'average', but it has to be sum or mean"),
        ({"dtype": "float16"}, "dtype is 'float16', but it has to be float64 or float32"),
        ({"l2_": 1.0}, "unexpected keyword argument 'l2_'; did you mean 'l2'?"),
    ],
)
@each_kind
def test_options_that_are_refused(kind, options, sentence):
    with pytest.raises(ConfigError) as caught:
        made(kind, shard(kind, "dense"), ALONE, "float64", options)
    assert sentence in str(caught.value)


def test_importing_the_registry_imports_no_numba():
    code = "import sys, psopt.problems; assert 'numba' not in sys.modules; print(*psopt.problems.PROBLEMS)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.split() == list(PROBLEMS)


# -- the largest eigenvalue --


def spectrum(name, d, rng):
    if name == "close":
        return np.concatenate([[1.0, 1.0 - 1e-8], rng.random(d - 2) * (1 - 2e-8)])
    if name == "clustered":
        return 1.0 - 1e-3 * np.arange(d) / d
    return {"zero": np.zeros(d), "equal": np.full(d, 3.0), "even": np.linspace(0, 1, d)}[name]


@pytest.mark.parametrize("name", ["close", "clustered", "zero", "equal", "even"])
@pytest.mark.parametrize("d", [2, 41, 500])
def test_power_iteration_finds_the_top_of_any_spectrum(name, d):
    rng = np.random.default_rng(d)
    values = spectrum(name, d, rng)
    basis = np.linalg.qr(rng.standard_normal((d, d)))[0]
    matrix = (basis * values) @ basis.T
    found = power_iteration(lambda v, out: np.dot(matrix, v, out=out), d)
    assert found == pytest.approx(values.max(), rel=1e-12)
    assert largest_eigenvalue(matrix) == pytest.approx(values.max(), rel=1e-12)


def test_power_iteration_in_one_dimension_at_the_limit_and_on_nonsense():
    def triple(v, out):
        out[:] = 3 * v

    assert power_iteration(triple, 1) == 3.0
    diagonal = np.linspace(0, 1, 400)
    some = power_iteration(lambda v, out: np.multiply(diagonal, v, out=out), 400, max_iterations=20)
    assert 0.9 < some < 1.0
    with pytest.raises(ConfigError, match="not finite"):
        power_iteration(lambda v, out: out.fill(np.nan), 3)
    with pytest.raises(ConfigError, match="a curvature product is not finite, or its square"):
        power_iteration(lambda v, out: np.multiply(1e300, v, out=out), 3)
    with pytest.raises(ConfigError, match="X\\^T X is not finite"):
        largest_eigenvalue(np.array([[np.inf]]))


def test_power_iteration_ends_on_products_rounded_to_float32():
    matrix = np.random.default_rng(0).standard_normal((600, 400))
    matrix = (matrix.T @ matrix).astype(np.float32)
    calls = []

    def product(v, out):
        calls.append(1)
        out[:] = matrix @ v.astype(np.float32)

    assert power_iteration(product, 400) == pytest.approx(np.linalg.eigvalsh(matrix.astype(float))[-1], rel=1e-5)
    assert len(calls) < 500


# -- the reference optimum --


def summed(problems):
    d = problems[0].dim

    def value_and_gradient(theta):
        total, gradient, out = 0.0, np.zeros(d), np.empty(d)
        for problem in problems:
            total += problem.value_and_gradient(theta, out)
            gradient += out
        return total, gradient

    return value_and_gradient, lambda theta: sum(problem.hessian(theta) for problem in problems), d


@pytest.mark.parametrize("layout", ["dense", "csr"])
@pytest.mark.parametrize("kind", ["logistic", "softmax"])
def test_newton_agrees_with_scipy(kind, layout):
    tables = [shard(kind, layout, 60, 6, seed) for seed in range(3)]
    problems = [made(kind, t, Share(m, 3, 180), "float64", {"l2": 0.05}) for m, t in enumerate(tables)]
    value_and_gradient, hessian, d = summed(problems)
    theta, best = newton(value_and_gradient, hessian, d)
    other = minimize(value_and_gradient, np.zeros(d), jac=True, method="BFGS", options={"gtol": 1e-10, "maxiter": 500})
    assert best == pytest.approx(other.fun, rel=1e-12)
    assert np.abs(value_and_gradient(theta)[1]).max() < 1e-8
    rng = np.random.default_rng(0)
    assert all(value_and_gradient(theta + 1e-3 * rng.standard_normal(d))[0] > best for _ in range(100))


@pytest.mark.parametrize("rank", [7, 4], ids=["full", "deficient"])
def test_newton_solves_the_normal_equations(rank):
    rng = np.random.default_rng(2)
    X = rng.standard_normal((40, rank)) @ rng.standard_normal((rank, 7))
    y = rng.standard_normal(40)
    problem = build("least-squares", Table(X, y), ALONE, "float64", {})
    _, best = newton(*summed([problem]))
    residual = y - X @ np.linalg.lstsq(X, y, rcond=None)[0]
    assert best == pytest.approx(0.5 * residual @ residual, rel=1e-13)


def test_newton_where_the_minimum_is_zero():
    X = np.random.default_rng(0).standard_normal((5, 9))
    problem = build("least-squares", Table(X, np.arange(5.0)), ALONE, "float64", {})
    assert newton(*summed([problem]))[1] < 1e-25
    nothing = build("least-squares", Table(np.zeros((3, 2)), np.zeros(3)), ALONE, "float64", {})
    assert newton(*summed([nothing]))[1] == 0.0


@each_curved
def test_newton_in_float32_ends_at_float32_precision(kind):
    for n, d in ((5, 9), (60, 6)):
        problem = made(kind, shard(kind, "dense", n, d), ALONE, "float32", {"l2": 1e-3 * (kind != "least-squares")})

        def value_and_gradient(theta, problem=problem):
            out = np.empty(problem.dim, np.float32)
            return problem.value_and_gradient(theta.astype(np.float32), out), out.astype(np.float64)

        rough = newton(value_and_gradient, problem.hessian, problem.dim, eps=float(np.finfo(np.float32).eps))[1]
        assert rough == pytest.approx(newton(*summed([problem]))[1], rel=1e-5, abs=1e-10)


def test_newton_refuses_what_has_no_minimiser():
    table = Table(np.array([[1.0], [-2.0]]), np.array([1.0, -1.0]))
    with pytest.raises(ConfigError, match="separable data have no minimiser without l2"):
        newton(*summed([build("logistic", table, ALONE, "float64", {})]))
    assert newton(*summed([build("logistic", table, ALONE, "float64", {"l2": 1e-6})]))[1] > 0
    with pytest.raises(ConfigError, match="not finite"):
        newton(lambda theta: (np.nan, theta), lambda theta: np.eye(2), 2)
    with pytest.raises(ConfigError, match="the objective or a derivative is not finite"):
        newton(lambda theta: (1.0, theta + 1), lambda theta: np.full((2, 2), np.inf), 2)
