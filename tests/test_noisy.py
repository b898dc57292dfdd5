"""Problems that are noisy by themselves, the normals they are made of, and the data source `none`."""

import numpy as np
import pytest
from scipy import stats
from walks import RULES, assert_same_walk, fresh, one_step

import psopt
from psopt import config
from psopt.data import DataSpec, HeldOut, Partition, Standardise, Table, open_shards
from psopt.errors import ConfigError, ProtocolError
from psopt.problems import PROBLEMS, build
from psopt.problems.base import Share
from psopt.problems.check import check_problem
from psopt.problems.kernels import noise, noisy, steps
from psopt.problems.kernels.steps import Walk
from psopt.problems.kernels.warm import NOISY, warm_up
from psopt.problems.optimum import newton

EMPTY = Table(np.empty((0, 0)), np.empty(0))
OPTIONS = {
    "noisy-quadratic": {"curvature": (0.5, 1.0, 4.0), "multiplicative": 0.7, "additive": 1.5, "copies": 3},
    "noisy-kink": {"noise": 3.0, "copies": 7},
}
DTYPES = ("float64", "float32")
each_kind = pytest.mark.parametrize("kind", NOISY)
each_dtype = pytest.mark.parametrize("dtype", DTYPES)
TOLERANCE = {"float64": 1e-12, "float32": 1e-5}


def made(kind, dtype="float64", workers=4, **options):
    return build(kind, EMPTY, Share(1, workers, 0), dtype, {**OPTIONS[kind], **options})


def normals(rows, pairs):
    """The two normals of each pair, one array each, shape (B, pairs)."""
    both = np.empty((2, len(rows), pairs))
    for b in range(len(rows)):
        noise.sum_normals(rows[b : b + 1], both[0, b], both[1, b])
    return both


def textbook(kind, problem, theta):
    """F and its gradient, float64."""
    x = theta.astype(np.float64)
    if kind == "noisy-kink":
        return np.where(x >= 0, x**2, x**2 / 2).sum(), np.where(x >= 0, 2 * x, x)
    c = np.tile(OPTIONS[kind]["curvature"], problem.copies)
    return (c / 2 * x**2).sum(), c * x


def textbook_batch(kind, problem, theta, rows):
    """The mean of f(x, z) over the rows, and of its gradient, float64, from the kernel's normals."""
    x = theta.astype(np.float64)
    value, gradient = textbook(kind, problem, theta)
    options = OPTIONS[kind]
    if kind == "noisy-kink":
        z1, z2 = normals(rows, (x.size + 1) // 2)
        push = options["noise"] * np.hstack([z1, z2])[:, : x.size].mean(axis=0)
        return value + x @ push, gradient + push
    z1, z2 = normals(rows, x.size)
    tilt = options["multiplicative"] * gradient * z1.mean(axis=0)
    push = options["additive"] * z2.mean(axis=0)
    return value + x @ (tilt / 2 + push), gradient + tilt + push


def drawn(rng, size):
    return rng.integers(2**32, size=size)


# -- the normals --


def draws(layout):
    """1e6 normals in an order in which neighbours are neighbouring samples, coordinates or pairs."""
    if layout == "coordinates of one sample":
        first, second = normals(np.array([5]), 500_000)
        return np.stack([first[0], second[0]], axis=1).ravel()
    if layout == "the first and the second of pairs":
        return np.concatenate([*normals(np.arange(500), 1000)]).ravel()
    rows = np.arange(125_000) + (2**32 - 125_000 if layout == "the last samples" else 0)
    return np.hstack(list(normals(rows, 4))).T.ravel()


LAYOUTS = ("coordinates of one sample", "the first and the second of pairs", "the first samples", "the last samples")


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_normals_are_normal_and_independent(layout):
    z = draws(layout)
    n = z.size
    assert n == 1_000_000
    assert stats.kstest(z, "norm").pvalue > 1e-3
    for power, moment, variance in ((1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96)):
        assert abs(np.mean(z**power) - moment) < 4 * np.sqrt(variance / n)
    for lag in (1, 2, 3, 4, 8, 64, 1000):
        assert abs(np.mean(z[lag:] * z[:-lag])) < 4.5 / np.sqrt(n)
        assert abs(np.mean((z[lag:] ** 2 - 1) * (z[:-lag] ** 2 - 1))) < 4.5 * 2 / np.sqrt(n)
    assert np.abs(z).max() < 6.77


def test_the_two_of_a_pair_are_independent():
    first, second = (z.ravel() for z in normals(np.arange(1000), 1000))
    for one, other in ((first, second), (first**2 - 1, second**2 - 1), (first, second**2 - 1), (first**2 - 1, second)):
        assert abs(np.mean(one * other)) < 4.5 * one.std() * other.std() / 1000
    turn = np.arctan2(second, first) / (2 * np.pi) + 0.5
    assert stats.kstest(turn, "uniform").pvalue > 1e-3
    assert stats.kstest(np.exp(-(first**2 + second**2) / 2), "uniform").pvalue > 1e-3


def test_neighbouring_samples_and_the_corners_of_their_range_differ_everywhere():
    rows = np.array([0, 1, 2, 2**31, 2**32 - 2, 2**32 - 1])
    both = np.hstack(list(normals(rows, 500)))
    assert len(np.unique(both)) == both.size
    assert np.abs(np.corrcoef(both) - np.eye(len(rows))).max() < 0.15


def test_the_logarithm_and_the_circle():
    u = (np.concatenate([np.arange(2000), np.arange(2**32 - 2000, 2**32), 2 ** np.arange(32)]) + 0.5) / 2**32
    got = np.array([noise.minus_two_log(one) for one in u])
    np.testing.assert_allclose(got, -2 * np.log(u), rtol=1e-9)
    assert (got > 0).all()
    for state in (0, 1, 2**63, 2**64 - 1, *np.random.default_rng(0).integers(2**63, size=1000).tolist()):
        state = np.uint64(state)
        with np.errstate(over="ignore"):
            bits = int(noise.mix.py_func(state))
        radius = np.sqrt(-2 * np.log(((bits >> 32) + 0.5) / 2**32))
        angle = np.pi * (((bits & 0x7FFFFFFF) + 0.5) / 2**31 - 0.5)
        sign = -1.0 if bits & 0x80000000 else 1.0
        got = noise.pair(state)
        np.testing.assert_allclose(got, sign * radius * np.array([np.cos(angle), np.sin(angle)]), atol=3e-9)


def test_a_pair_is_the_same_in_any_company():
    rows = np.array([123456789, 7])
    whole = np.empty((2, 103))
    noise.sum_normals(rows, *whole)
    for pairs in (1, 2, 3, 4, 5, 8, 15, 64, 102):
        part = np.empty((2, pairs))
        noise.sum_normals(rows, *part)
        np.testing.assert_allclose(part, whole[:, :pairs], rtol=0, atol=1e-14)
    np.testing.assert_allclose(whole, normals(rows, 103).sum(axis=1), atol=1e-14)


# -- the contract of problems --


@each_kind
@each_dtype
def test_value_gradient_and_hessian_are_the_textbooks(kind, dtype):
    rng = np.random.default_rng(0)
    for copies in (1, 2, 33):
        problem = made(kind, dtype, copies=copies)
        assert problem.dim == copies * len(OPTIONS[kind].get("curvature", [1]))
        assert (problem.samples, problem.endless) == (2**32, True)
        theta = rng.standard_normal(problem.dim).astype(dtype)
        value, gradient = textbook(kind, problem, theta)
        out = np.full(problem.dim, np.nan, dtype)
        assert problem.value_and_gradient(theta, out) == pytest.approx(value / 4, rel=1e-12)
        assert problem.value(theta) == pytest.approx(value / 4, rel=1e-12)
        np.testing.assert_allclose(out, gradient / 4, rtol=TOLERANCE[dtype])
        errors = problem.errors(theta)
        assert (errors.shape, errors.dtype) == ((copies,), np.float64)
        alone = made(kind, copies=1, workers=1)
        each = theta.astype(np.float64).reshape(copies, -1)
        np.testing.assert_allclose(errors, [alone.value(one) for one in each], rtol=1e-12)
        hessian = problem.hessian(theta)
        assert hessian.dtype == np.float64
        wide = theta.astype(np.float64)
        np.testing.assert_allclose(hessian @ wide, gradient / 4, rtol=1e-12)
        np.testing.assert_array_equal(hessian, np.diag(np.diag(hessian)))


def test_the_hessian_of_the_kink_is_the_right_hand_one_at_zero():
    problem = made("noisy-kink", workers=2, copies=3)
    np.testing.assert_array_equal(problem.hessian(np.array([0.0, -1e-300, 1.0])), np.diag([1.0, 0.5, 1.0]))


@each_kind
@each_dtype
def test_finite_differences(kind, dtype):
    for copies in (1, 20):
        check_problem(made(kind, dtype, copies=copies), np.random.default_rng(0), dtype)


@each_kind
def test_smoothness_bounds_the_gradients_change(kind):
    problem, rng = made(kind), np.random.default_rng(0)
    top = {"noisy-quadratic": 4.0, "noisy-kink": 2.0}[kind] / 4
    assert problem.smoothness() == top
    v, out = rng.standard_normal(problem.dim), np.empty(problem.dim)
    problem.curvature_product(v, out)
    assert v @ out <= top * (v @ v)
    bound = np.diag([problem.curvature_product(e, out) or out.copy() for e in np.eye(problem.dim)])
    for _ in range(20):
        a, b = rng.standard_normal((2, problem.dim))
        at_a, at_b = np.empty_like(a), np.empty_like(b)
        problem.value_and_gradient(a, at_a)
        problem.value_and_gradient(b, at_b)
        assert np.linalg.norm(at_a - at_b) <= top * np.linalg.norm(a - b)
        assert (bound - np.diag(problem.hessian(a)) >= 0).all()


@each_kind
@each_dtype
def test_a_batch_is_the_mean_of_its_samples(kind, dtype):
    rng = np.random.default_rng(1)
    for copies, size in ((1, 1), (1, 4), (2, 1), (7, 3), (40, 20), (701, 2)):
        problem = made(kind, dtype, copies=copies)
        theta, rows = rng.standard_normal(problem.dim).astype(dtype), drawn(rng, size)
        rows[-1] = rows[0]
        out, again = np.full(problem.dim, np.nan, dtype), np.empty(problem.dim, dtype)
        value, gradient = textbook_batch(kind, problem, theta, rows)
        got = problem.batch_value_and_gradient(theta, rows, out)
        assert isinstance(got, float)
        assert got == pytest.approx(value / 4, rel=1e-11)
        np.testing.assert_allclose(out, gradient / 4, atol=TOLERANCE[dtype] * np.abs(gradient).max())
        other = made(kind, dtype, copies=copies)
        assert other.batch_value_and_gradient(theta.copy(), rows.copy(), again) == got
        assert again.tobytes() == out.tobytes()


@each_kind
def test_batches_are_unbiased(kind):
    problem, rng = made(kind, workers=1), np.random.default_rng(2)
    theta = rng.standard_normal(problem.dim)
    exact, out = np.empty(problem.dim), np.empty(problem.dim)
    value = problem.value_and_gradient(theta, exact)
    n = 100_000
    rows = drawn(rng, n)
    mean = problem.batch_value_and_gradient(theta, rows, out)
    options = OPTIONS[kind]
    if kind == "noisy-kink":
        deviations = np.full(problem.dim, options["noise"])
        of_value = options["noise"] * np.linalg.norm(theta)
    else:
        a, b = options["multiplicative"], options["additive"]
        deviations = np.hypot(a * exact, b)
        of_value = np.linalg.norm(np.hypot(a * exact * theta / 2, b * theta))
    assert (np.abs(out - exact) < 5 * deviations / np.sqrt(n)).all()
    assert abs(mean - value) < 5 * of_value / np.sqrt(n)
    single = np.empty((2000, problem.dim))
    for i in range(2000):
        problem.batch_value_and_gradient(theta, rows[i : i + 1], single[i])
    np.testing.assert_allclose(single.std(axis=0), deviations, rtol=0.1)


@each_kind
def test_without_noise_a_batch_is_the_whole(kind):
    silent = {"noise": 0.0} if kind == "noisy-kink" else {"multiplicative": 0.0, "additive": 0.0}
    problem = made(kind, **silent)
    theta = np.random.default_rng(0).standard_normal(problem.dim)
    exact, out = np.empty(problem.dim), np.empty(problem.dim)
    value = problem.value_and_gradient(theta, exact)
    assert problem.batch_value_and_gradient(theta, np.array([3, 9]), out) == value
    np.testing.assert_array_equal(out, exact)


@each_kind
@each_dtype
def test_inputs_stay_as_they_are_and_may_be_read_only(kind, dtype):
    problem = made(kind, dtype)
    theta = np.random.default_rng(1).standard_normal(problem.dim).astype(dtype)
    rows, ends, step_sizes = np.array([3, 0, 3]), np.array([0, 1, 3]), np.array([0.1, 0.2])
    inputs = (theta, rows, ends, step_sizes)
    before = [a.copy() for a in inputs]
    for a in inputs:
        a.flags.writeable = False
    problem.value_and_gradient(theta, np.empty_like(theta))
    problem.batch_value_and_gradient(theta, rows, np.empty_like(theta))
    problem.value(theta)
    problem.errors(theta)
    problem.hessian(theta)
    problem.curvature_product(theta, np.empty_like(theta))
    moved = theta.copy()
    problem.local_steps(steps.rule(0, (), problem.dim, theta.dtype), moved, Walk(rows, ends, step_sizes), 1.0)
    assert (moved != theta).all()
    for a, b in zip(inputs, before, strict=True):
        np.testing.assert_array_equal(a, b)


@each_kind
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_theta_that_is_not_finite_gives_nothing_finite(kind, bad):
    problem = made(kind)
    for j in range(problem.dim):
        theta, out = np.ones(problem.dim), np.empty(problem.dim)
        theta[j] = bad
        for value in (
            problem.value_and_gradient(theta, out),
            problem.batch_value_and_gradient(theta, np.array([1, 2]), out.copy()),
            problem.value(theta),
        ):
            assert np.isnan(value)
        assert np.isnan(out).all()
        assert problem.batch_value_and_gradient(theta, np.array([1]), out) != 0
        assert np.isnan(out).all()
        problem.local_steps(steps.rule(0, (), problem.dim, theta.dtype), theta, one_step([4]), 1.0)
        assert not np.isfinite(theta[j])


@each_kind
def test_huge_theta_is_not_mistaken_for_an_infinite_one(kind):
    problem = made(kind)
    theta, out = np.full(problem.dim, 1e200), np.empty(problem.dim)
    assert problem.value_and_gradient(theta, out) == np.inf
    assert np.isfinite(out).all()
    assert problem.value(theta) == np.inf


@each_kind
def test_rows_that_are_not_there_are_a_bug_of_the_caller(kind):
    problem = made(kind)
    theta = np.zeros(problem.dim)
    rule = steps.rule(0, (), problem.dim, theta.dtype)
    for rows in ([2**32], [0, -1], []):
        rows = np.array(rows, np.int64)
        with pytest.raises(ProtocolError, match="one or more of the rows 0 to 4294967295"):
            problem.batch_value_and_gradient(theta, rows, theta.copy())
        with pytest.raises(ProtocolError, match="one or more of the rows 0 to 4294967295"):
            problem.local_steps(rule, theta, one_step(rows), 1.0)
    with pytest.raises(ProtocolError, match="every local step has to have one sample or more"):
        problem.local_steps(rule, theta, Walk(np.array([1, 2]), np.array([0, 2, 2]), np.ones(2)), 1.0)


@each_kind
@each_dtype
def test_the_first_iterate(kind, dtype):
    first = made(kind, dtype, start=-1.5).initial(np.random.default_rng(0))
    assert first.dtype == dtype
    np.testing.assert_array_equal(first, np.full(first.size, -1.5))
    assert made(kind).initial(np.random.default_rng(0))[0] == {"noisy-quadratic": 1.0, "noisy-kink": 2.0}[kind]


@each_kind
def test_newton_finds_the_optimum_at_zero(kind):
    problem = made(kind)

    def value_and_gradient(theta):
        out = np.empty_like(theta)
        return problem.value_and_gradient(theta, out), out

    theta, value = newton(value_and_gradient, problem.hessian, problem.dim)
    assert value == 0.0
    assert not theta.any()


# -- many steps in one call --


@each_kind
@each_dtype
@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("batch", [1, 3, "ragged"])
def test_local_steps_are_a_loop_of_batches(kind, dtype, rule, batch):
    rng = np.random.default_rng(3)
    problem = made(kind, dtype, copies=101)
    sizes = rng.integers(1, 6, size=25) if batch == "ragged" else np.full(25, batch)
    ends = np.concatenate([[0], np.cumsum(sizes)])
    mine = Walk(drawn(rng, ends[-1]), ends, 0.02 / np.arange(1, 26))
    start = rng.standard_normal(problem.dim).astype(dtype)
    got = assert_same_walk(problem, rule, mine, start, scale=2.5, single=2e-5, double=1e-12)
    again = start.copy()
    problem.local_steps(fresh(rule, problem), again, mine, 2.5)
    assert again.tobytes() == got.tobytes()


def test_steps_settle_where_theory_says():
    # x <- (1 - eta c) x - eta (a c x z1 + b z2): Var = eta^2 b^2 / (1 - (1 - eta c)^2 - eta^2 a^2 c^2)
    problem = made("noisy-quadratic", workers=1, curvature=(1.0,), multiplicative=1.0, additive=0.5, copies=2000)
    theta, n, eta = problem.initial(np.random.default_rng(0)), 300, 0.1
    rows = drawn(np.random.default_rng(4), n)
    rule = steps.rule(0, (), problem.dim, theta.dtype)
    problem.local_steps(rule, theta, Walk(rows, np.arange(n + 1), np.full(n, eta)), 1.0)
    variance = eta**2 * 0.25 / (1 - (1 - eta) ** 2 - eta**2)
    assert np.mean(2 * problem.errors(theta)) == pytest.approx(variance, rel=0.2)
    assert np.mean(theta) == pytest.approx(0.0, abs=5 * np.sqrt(variance / 2000))


# -- options --

REFUSED = {
    "noisy-quadratic": [
        ({"curvature": ()}, "curvature is (), but it has to be a list of finite numbers above zero"),
        ({"curvature": [1.0, 0.0]}, "curvature is [1.0, 0.0]"),
        ({"curvature": (1.0, float("inf"))}, "curvature is (1.0, inf)"),
        ({"curvature": (True,)}, "curvature is (True,)"),
        ({"curvature": 2.0}, "curvature is 2.0"),
        ({"multiplicative": -1.0}, "multiplicative is -1.0, but it has to be a finite number, zero or above"),
        ({"additive": "big"}, "additive is 'big'"),
        ({"noise": 1.0}, "unexpected keyword argument 'noise'"),
    ],
    "noisy-kink": [
        ({"noise": float("nan")}, "noise is nan, but it has to be a finite number, zero or above"),
        ({"noise": -1}, "noise is -1"),
    ],
}
SHARED = [
    ({"start": float("inf")}, "start is inf, but it has to be a finite number"),
    ({"start": None}, "start is None"),
    ({"copies": 0}, "copies is 0, but it has to be a whole number, 1 or above"),
    ({"copies": 2.0}, "copies is 2.0"),
    ({"copies": True}, "copies is True"),
    ({"dtype": "float16"}, "dtype is 'float16', but it has to be float64 or float32"),
    ({"copie": 1}, "did you mean 'copies'?"),
]


@pytest.mark.parametrize(
    ("kind", "options", "sentence"),
    [(kind, *case) for kind, cases in REFUSED.items() for case in [*cases, *SHARED]],
)
def test_options_that_are_refused(kind, options, sentence):
    with pytest.raises(ConfigError) as caught:
        build(kind, EMPTY, Share(0, 1, 0), "float64", options)
    assert sentence in str(caught.value)


@each_dtype
def test_the_warm_up_compiles_all_that_is_called(dtype):
    for kind in NOISY:
        warm_up(dtype, False, curvature=True, kind=kind)
        problem = made(kind, dtype)
        theta = np.ones(problem.dim, dtype)
        kernels = [getattr(noisy, f"{kind.removeprefix('noisy-')}_{name}") for name in ("gradient", "steps")]
        before = [len(kernel.signatures) for kernel in kernels]
        for real in (theta, theta.astype(np.float64)):
            problem.value_and_gradient(real, np.empty_like(real))
        problem.batch_value_and_gradient(theta, np.array([1, 2]), np.empty_like(theta))
        for rule in RULES.values():
            made_rule = steps.rule(*rule, problem.dim, theta.dtype)
            problem.local_steps(made_rule, theta, one_step([1, 2]), 1.0)
        assert [len(kernel.signatures) for kernel in kernels] == before


# -- no data --


def test_none_gives_every_worker_an_empty_table():
    for dtype in DTYPES:
        shards = open_shards(DataSpec("none"), 5, 1, dtype)
        assert (shards.source, shards.workers, shards.n_features, shards.total_samples) == ("none", 5, 0, 0)
        for m in range(5):
            shard = shards.shard(m)
            assert (shard.features.shape, shard.labels.shape, shard.features.dtype) == ((0, 0), (0,), dtype)
            assert shards.held_out(m) is None
        with pytest.raises(ConfigError, match="there is no worker 5"):
            shards.shard(5)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("path", "x"),
        ("format", "csv"),
        ("positive", 1.0),
        ("labels", "authors"),
        ("standardise", Standardise("z-score")),
        ("partition", Partition("iid")),
        ("test", HeldOut(fraction=0.5)),
    ],
)
def test_none_has_no_other_key(key, value):
    with pytest.raises(ConfigError, match=f"key '{key}' is not used by source 'none': remove it"):
        DataSpec("none", **{key: value})
    assert DataSpec("none", **{key: getattr(DataSpec("none"), key)}) == DataSpec("none")


LEAST = {"workers": 3, "problem": "noisy-kink", "data": "none"}


def complaint(data):
    with pytest.raises(ConfigError) as caught:
        config.parse(data)
    return str(caught.value)


@pytest.mark.parametrize("data", ["data: none", "data: {source: none}", "data:\n  source: none\n  partition: null"])
@each_kind
def test_both_ways_to_say_none_in_yaml(tmp_path, kind, data):
    path = tmp_path / "c.yaml"
    path.write_text(f"workers: 3\nproblem: {kind}\n{data}\n")
    made = config.load(path)
    assert made.data == DataSpec("none")
    again = tmp_path / "again.yaml"
    again.write_text(made.to_yaml())
    for copy in (config.parse(made.resolved()), config.load(again)):
        assert copy.problem == made.problem
        assert copy.data == made.data


def test_null_is_not_none():
    assert "data: missing" in complaint({**LEAST, "data": None})


@pytest.mark.parametrize("kind", [kind for kind, entry in PROBLEMS.items() if entry.data])
def test_problems_that_need_data_refuse_none(kind):
    options = {"softmax": {"classes": 3}, "perceptron": {"classes": 3}, "torch": {"build": "a:B"}}.get(kind, {})
    sentence = f"config: data: `none` cannot be used with problem `{kind}`, because that learns from data"
    assert sentence in complaint({**LEAST, "problem": {"kind": kind, **options}})


@each_kind
@pytest.mark.parametrize("source", ["lag-linear", "memory", "synthetic"])
def test_noisy_problems_refuse_data(kind, source):
    assert complaint({**LEAST, "problem": kind, "data": source}) == (
        f"config: data: `{source}` cannot be used with problem `{kind}`, because that draws samples of its own: "
        "set `data: none`"
    )


@pytest.mark.parametrize("data", ["none", "lag-linear"])
def test_a_class_may_have_data_or_none(data):
    assert config.parse({**LEAST, "problem": "a:B", "data": data}).data.source == data


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"kind": "noisy-quadratic", "curvature": [1, 0]}, "curvature.1: found 0, expected a number above 0"),
        ({"kind": "noisy-quadratic", "curvature": 3}, "curvature: found 3, expected a list"),
        ({"kind": "noisy-quadratic", "additive": -1}, "additive: found -1, expected a number of at least 0"),
        ({"kind": "noisy-kink", "noise": -0.5}, "noise: found -0.5, expected a number of at least 0"),
        ({"kind": "noisy-kink", "copies": 0}, "copies: found 0, expected a whole number of at least 1"),
        ({"kind": "noisy-kink", "curvature": [1]}, "curvature: unknown key of problem `noisy-kink`"),
    ],
)
def test_options_are_checked_with_their_place(options, sentence):
    assert f"problem.{sentence}" in complaint({**LEAST, "problem": options})


# -- whole runs --


@each_kind
@each_dtype
def test_a_run_over_noise(kind, dtype):
    work = {"kind": "minibatch", "batch": 2, "draw": "replace"}
    run = psopt.minimize(
        {"kind": kind, "dtype": dtype, "copies": 50},
        "none",
        {"recipe": "sgd", "step_size": 0.02, "work": work},
        workers=3,
        stop={"max_rounds": 40},
    )
    assert run.summary["f_star"] == 0.0
    assert run.summary["samples"] == 3 * 2**32
    assert run.theta.shape == (50 * (3 if kind == "noisy-quadratic" else 1),)
    assert run.theta.dtype == dtype
    assert run.objective > 0


@each_kind
def test_exact_descent_reaches_zero(kind):
    run = psopt.minimize({"kind": kind, "copies": 2}, "none", {"step_size": "1/L"}, workers=3, stop={"gap": 1e-12})
    assert run.summary["stop_reason"] == "gap"
    assert run.summary["smoothness"] == pytest.approx({"noisy-quadratic": 3.0, "noisy-kink": 2.0}[kind])


def test_an_epoch_without_end_is_refused():
    with pytest.raises(ConfigError, match="`epoch` cannot be used with problem `noisy-kink`"):
        psopt.minimize("noisy-kink", "none", "sgd", workers=3, stop={"max_rounds": 3})


class Endless:
    """A user's own: x^2 / (2 M), with the sample's number, scaled, as noise."""

    dim, samples, endless = 2, 2**40, True

    def __init__(self, shard, share):
        assert shard.samples == share.total_samples == 0
        self.workers = share.workers

    def value(self, theta):
        return float(theta @ theta) / (2 * self.workers)

    def value_and_gradient(self, theta, out):
        out[:] = theta / self.workers
        return self.value(theta)

    def batch_value_and_gradient(self, theta, rows, out):
        out[:] = (theta + np.mean(rows / self.samples - 0.5)) / self.workers
        return self.value(theta)


def test_a_class_of_ones_own_may_be_endless():
    work = {"kind": "minibatch", "batch": 4, "draw": "replace"}
    row = {"recipe": "sgd", "step_size": 0.1, "work": work}
    run = psopt.minimize(Endless, "none", row, workers=2, stop={"max_rounds": 5})
    assert np.isfinite(run.theta).all()

    class Changing(Endless):
        def batch_value_and_gradient(self, theta, rows, out):
            rows[:] = 0
            return super().batch_value_and_gradient(theta, rows, out)

    with pytest.raises(ConfigError, match="but batch_value_and_gradient changed them"):
        psopt.minimize(Changing, "none", row, workers=2, stop={"max_rounds": 5})
