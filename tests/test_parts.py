"""One table a family: a new part joins by adding a row, and one without a row fails.

Every row is held to the promises of its family, those that `psopt check` holds a user's part to. Below that, what is
asked of psopt's own parts alone: their formulas, to the bit where that can be.
"""

import math
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from psopt import contract
from psopt.algorithm import Algorithm
from psopt.contract.clocks import entries_of
from psopt.contract.saying import conversation, said
from psopt.contract.serving import Asking
from psopt.contract.working import SETTING, Bowl, View, answers
from psopt.errors import ConfigError, IncompatibleParts, ProtocolError
from psopt.parts import (
    FAMILIES,
    aggregators,
    codecs,
    compressors,
    local_work,
    plans,
    schedules,
    selections,
    starts,
    triggers,
    updates,
    work,
)
from psopt.parts.thresholds import Threshold

ROWS = {
    "plan": {
        "every": [plans.Every()],
        "fixed": [plans.Fixed(7), plans.Fixed(rounds="sqrt(M)"), plans.Fixed(rounds=30.5)],
        "growing": [plans.Growing("M"), plans.Growing(12.3), plans.Growing(increment=0.3), plans.Growing(1e9)],
        "decreasing": [plans.Decreasing(), plans.Decreasing(12)],
        "one_shot": [plans.OneShot()],
        "list": [plans.Listed((3, 1, 500)), plans.Listed((2000,))],
    },
    "start": {
        "gradient": [starts.Gradient()],
        "zero": [starts.Zero(), starts.Zero(10)],
        "ones": [starts.Ones(), starts.Ones(10)],
    },
    "selection": {
        "all": [selections.All()],
        "cyclic": [selections.Cyclic()],
        "sampled": [selections.Sampled(0.4), selections.Sampled(count=3)],
        "by_smoothness": [selections.BySmoothness()],
        "smoothness_drift": [selections.SmoothnessDrift(), selections.SmoothnessDrift(2, (0.5, 0.1))],
    },
    "work": {
        "full_gradient": [work.FullGradient()],
        "minibatch": [work.Minibatch(3), work.Minibatch(4, "replace"), work.Minibatch(7)],
        "local_sgd": [local_work.LocalSGD(3), local_work.LocalSGD(1, "replace")],
        "local_momentum": [local_work.LocalMomentum(3), local_work.LocalMomentum(4, "replace", 0.5, True, "reset")],
        "local_adamw": [local_work.LocalAdamW(3), local_work.LocalAdamW(4, "replace", 0.5, moments="reset")],
    },
    "trigger": {
        "always": [triggers.Always()],
        "innovation": [triggers.Innovation(), triggers.Innovation(2, (0.5, 0.1))],
        "same_sample": [triggers.SameSample(), triggers.SameSample(2, (0.5, 0.1), 1, 3)],
        "snapshot": [triggers.Snapshot(), triggers.Snapshot(3, 1.0, 4)],
        "relative": [triggers.Relative(), triggers.Relative(1.1)],
        "max_age": [
            triggers.MaxAge(),
            triggers.MaxAge(triggers.Innovation(3, 1.0), 2),
            triggers.MaxAge(triggers.SameSample(), 3),
        ],
    },
    "codec": {
        "overwrite": [
            codecs.Overwrite(),
            codecs.Overwrite(scale="step"),
            codecs.Overwrite(compressors.TopK(0.3)),
            codecs.Overwrite(compressors.TopK(0.3), feedback=True),
            codecs.Overwrite(compressors.TopK(0.3, values="float16"), feedback=True, scale="step"),
            codecs.Overwrite(compressors.RandomK(0.3), feedback=True, scale="step"),
            codecs.Overwrite(compressors.RandomK(0.3, unbiased=True)),
            codecs.Overwrite(compressors.Cast()),
            codecs.Overwrite(compressors.Cast("float16"), feedback=True),
            codecs.Overwrite(compressors.TopK(0.3, indices="packed"), feedback=True, scale="step"),
        ],
        "increment": [
            codecs.Increment(),
            codecs.Increment(compressors.TopK(count=3)),
            codecs.Increment(compressors.RandomK(0.3, values="float32")),
            codecs.Increment(compressors.TopK(0.3, indices="packed")),
            codecs.Increment(compressors.Cast()),
        ],
    },
    "compressor": {
        "identity": [compressors.Identity()],
        "cast": [compressors.Cast(), compressors.Cast("float16")],
        "top_k": [
            compressors.TopK(),
            compressors.TopK(0.3, per="theta"),
            compressors.TopK(count=3),
            compressors.TopK(1.0),
            compressors.TopK(0.5, values="float32"),
            compressors.TopK(0.5, values="float16"),
            compressors.TopK(indices="packed"),
            compressors.TopK(0.3, values="float16", indices="packed"),
            compressors.TopK(1.0, values="float32", indices="packed"),
        ],
        "random_k": [
            compressors.RandomK(),
            compressors.RandomK(0.4),
            compressors.RandomK(count=3, values="float16"),
            compressors.RandomK(0.4, unbiased=True),
            compressors.RandomK(0.1, indices="packed"),
        ],
    },
    "aggregator": {
        "lazy": [aggregators.Lazy(), aggregators.Lazy(mapped_in=str(Path(__file__).parent))],
        "fresh_mean": [
            aggregators.FreshMean(),
            aggregators.FreshMean("samples", mapped_in=str(Path(__file__).parent)),
        ],
    },
    "update": {
        "descent": [updates.Descent(), updates.Descent(0.5)],
        "momentum": [updates.Momentum(), updates.Momentum(0.5, 0.7)],
        "nesterov": [updates.Nesterov(), updates.Nesterov(0.5, 0.7)],
        "adamw": [updates.AdamW(), updates.AdamW(0.8, 0.9, 1e-3, 0.0, 0.5)],
    },
    "step_size": {
        "constant": [schedules.Constant(), schedules.Constant(0.5)],
        "decaying": [schedules.Decaying(), schedules.Decaying(0.5, 10.0, 0.5)],
        "inverse": [schedules.Inverse(), schedules.Inverse(3.0, 0.5, 10.0)],
        "multi_step": [schedules.MultiStep(), schedules.MultiStep(0.5, (10, 30), 0.2)],
        "polynomial": [schedules.Polynomial("1/L", 50), schedules.Polynomial(0.5, 50, 2.0, 0.1)],
        "cosine": [schedules.Cosine("1/L", 50), schedules.Cosine(0.5, 50, 0.1)],
        "capped": [schedules.Capped(schedules.Inverse(), 0.5)],
        "warm_up": [schedules.WarmUp(), schedules.WarmUp(schedules.Cosine(0.5, 50), 10)],
    },
}
UPLOADS_WHEN_SILENCED = {"always", "max_age"}
"""Triggers that may upload though the threshold is infinite."""

each_dtype = pytest.mark.parametrize("dtype", [np.float64, np.float32])


def members(family, name="part"):
    rows = [(kind, part) for kind, parts in ROWS[family].items() for part in parts]
    return pytest.mark.parametrize(name, [p for _, p in rows], ids=[f"{kind}-{i}" for i, (kind, _) in enumerate(rows)])


def test_every_part_has_a_row_and_nothing_else_has():
    assert {family: set(kinds) for family, kinds in ROWS.items()} == {f: set(kinds) for f, kinds in FAMILIES.items()}
    for family, kinds in ROWS.items():
        for kind, parts in kinds.items():
            assert all(type(part) is FAMILIES[family][kind] for part in parts)


EVERY = [
    pytest.param(part, promise, id=f"{kind}-{i}-{promise.sentence}")
    for family, kinds in ROWS.items()
    for kind, parts in kinds.items()
    for i, part in enumerate(parts)
    for promise in contract.promises_of(family)
]


@pytest.mark.parametrize(("part", "promise"), EVERY)
def test_every_promise_is_kept(part, promise):
    promise.check(part)


def test_every_family_promises_something_of_its_own():
    for family in FAMILIES:
        sentences = [promise.sentence for promise in contract.promises_of(family)]
        assert len(sentences) == len(set(sentences)) >= 3


@pytest.mark.parametrize("family", FAMILIES)
def test_parts_say_what_they_are(family):
    for part in (part for parts in ROWS[family].values() for part in parts):
        assert not type(part).__doc__.startswith(f"{type(part).__name__}(")  # what a dataclass says by itself
        with pytest.raises(AttributeError):
            part.anything = 1


@members("selection")
def test_under_an_infinite_threshold_nobody_is_selected(part):
    if part.threshold is not None:
        state = part.init(np.arange(1.0, 10.0), None)
        assert part.select(state, Asking(99, 9, math.inf, [1e300] * 9)).size == 0


def test_the_turn_of_the_lost_is_the_next_ones():
    part = selections.Cyclic()
    turns = [part.select(None, Asking(k, 4, present=[0, 2])).tolist() for k in range(1, 6)]
    assert turns == [[2], [2], [0], [0], [2]]


def test_cyclic_takes_turns():
    part = selections.Cyclic()
    assert [part.select(None, Asking(k, 3)).tolist() for k in range(1, 8)] == [[1], [2], [0], [1], [2], [0], [1]]


def test_by_smoothness_draws_in_proportion_and_from_its_seed_alone():
    part, smoothness = selections.BySmoothness(), np.array([1.0, 2.0, 0.0, 5.0])

    def draws(seed, n=4000):
        state = part.init(smoothness, np.random.default_rng(seed))
        return [int(part.select(state, Asking(k, 4))[0]) for k in range(n)]

    assert draws(1) == draws(1) != draws(2)
    counts = np.bincount(draws(1), minlength=4)
    assert counts[2] == 0
    np.testing.assert_allclose(counts / 4000, smoothness / 8, atol=4 * math.sqrt(0.25 / 4000))


def test_smoothness_drift_is_strict():
    part = selections.SmoothnessDrift()
    state = part.init(np.array([1.0, 2.0, 3.0]), None)
    assert part.select(state, Asking(5, 3, 4.0, [4.0, 1.0, 0.5])).tolist() == [2]  # 4, 4 and 4.5 against 4


@members("trigger")
@each_dtype
def test_who_is_silent_and_when(part, dtype):
    kind = next(kind for kind, cls in FAMILIES["trigger"].items() if type(part) is cls)
    silenced = list(answers(part, [-math.inf] + [math.inf] * 40, np.dtype(dtype)))
    if kind == "max_age":  # one skip more after the forced round than after any other upload
        due = [0, *range(part.rounds + 2, 41, part.rounds + 1)]
        assert [k for k, said in enumerate(silenced) if said] == due
    else:
        assert silenced == [True] + [kind in UPLOADS_WHEN_SILENCED] * 40
    mixed = list(answers(part, np.random.default_rng(2).uniform(2, 15, 60).tolist(), np.dtype(dtype)))
    assert part.lazy == (not all(mixed))
    assert any(mixed)


def test_innovation_compares_with_the_mirror_and_is_strict():
    part, x, mirror = triggers.Innovation(), np.array([3.0, 4.0]), np.zeros(2)
    assert not part.decide(None, View(25.0, x, x, mirror))
    assert part.decide(None, View(np.nextafter(25.0, 0), x, x, mirror))
    assert not part.decide(None, View(0.0, x, x, x.copy()))


def test_threshold_formula_over_a_window_that_fills():
    part = Threshold(3, (0.5, 0.25, 0.125))
    weights = part.weights().tolist()
    assert weights == [0.5, 0.25, 0.125]
    assert Threshold(3, 0.1).weights().tolist() == [0.1] * 3
    assert part.limit([], weights, 0.1, 9) == 0.0
    assert part.limit([8.0], weights, 0.1, 3) == pytest.approx(4.0 / (0.01 * 9), rel=1e-15)
    assert part.limit([8.0, 4.0, 16.0], weights, 0.1, 3) == pytest.approx(7.0 / (0.01 * 9), rel=1e-15)
    with pytest.raises(ConfigError, match="the step size 1e-300 is too small for a threshold: its power 2 is zero"):
        part.limit([8.0], weights, 1e-300, 3)
    other = Threshold(3, (0.5, 0.25, 0.125), 1, 3)  # SASG, in psopt's sum
    assert other.limit([8.0, 4.0, 16.0], weights, 0.1, 3) == pytest.approx(7.0 / (0.1 * 27), rel=1e-15)


@members("codec")
@each_dtype
@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), decisions=st.lists(st.booleans(), max_size=20))
def test_codecs_keep_both_ends_equal_and_lose_nothing(part, dtype, seed, decisions):
    """What was said and what is still to be said add up to what there was to say."""
    conversation(part, np.dtype(dtype), seed, decisions)


@members("compressor")
@each_dtype
def test_compressors_say_the_numbers_that_they_keep(part, dtype):
    rng, dtype = np.random.default_rng(0), np.dtype(dtype)
    for sizes in ([1], [7], [1000], [5, 1, 300]):
        dim = sum(sizes)
        state = part.init(sizes, dtype, rng)
        for x in (np.zeros(dim, dtype), np.ones(dim, dtype), rng.standard_normal(dim).astype(dtype)):
            payload = part.compress(state, x).copy()
            capacity = part.capacity(sizes, dtype)
            packed = getattr(part, "indices", "plain") == "packed"
            assert payload.nbytes <= capacity if packed else payload.nbytes == capacity
            out = said(part, payload, x)
            if part.exact:
                np.testing.assert_array_equal(out, x)
            else:
                short = {"float16": 1e-3, "float32": 1e-7}.get(part.values, 0.0)
                sent = np.flatnonzero(out)
                assert sent.size or not x.any()
                factor = dim / part.kept(dim) if getattr(part, "unbiased", False) else 1.0
                np.testing.assert_allclose(out[sent], factor * x[sent], rtol=max(short, 2 * np.finfo(dtype).eps))
                assert sent.size <= (sum(map(part.kept, part.groups(sizes))) if part.sparse else dim)


def test_top_k_keeps_the_largest_of_each_tensor_and_the_lower_index():
    part, x = compressors.TopK(0.34), np.array([0.0, 3.0, -3.0, 9.0, -7.0, 7.0, 1.0, 0.5, 0.0])
    out = np.empty(9)
    part.decompress(part.compress(part.init([3, 6], x.dtype, None), x), out)
    assert out.tolist() == [0, 3, 0, 9, -7, 0, 0, 0, 0]
    whole = compressors.TopK(0.34, per="theta")
    whole.decompress(whole.compress(whole.init([3, 6], x.dtype, None), x), out)
    assert out.tolist() == [0, 0, 0, 9, -7, 7, 0, 0, 0]


def test_what_float16_cannot_hold_stays_in_the_residual():
    part = codecs.Overwrite(compressors.TopK(count=2, values="float16"), feedback=True)
    state, mirror = part.init([4], np.dtype(np.float64), None), np.zeros(4)
    part.commit(state, np.array([1e6, 1.0001, 0.5, 0.0]), mirror, 1.0)
    assert mirror.tolist() == [65504.0, 1.0, 0.0, 0.0]
    np.testing.assert_allclose(state.residual, [1e6 - 65504.0, 1e-4, 0.5, 0.0], rtol=1e-10)


def test_a_payload_that_is_no_sparse_message_is_refused():
    part, out = compressors.TopK(0.5), np.zeros(8, np.float32)
    payload = part.compress(part.init([8], out.dtype, None), np.arange(8, dtype=np.float32)).copy()
    with pytest.raises(ProtocolError, match="no whole number of entries"):
        part.decompress(payload[:-1], out)
    payload[:4].view(np.int32)[0] = 99
    with pytest.raises(ProtocolError):
        part.decompress(payload, out)


def literal(part, held, spoke, samples):
    """What the aggregate is, row by row: of everyone's last words, or of those who spoke, by weight."""
    expected = np.zeros(held.shape[1], held.dtype)
    if isinstance(part, aggregators.Lazy):
        for row in held:
            expected = expected + row
        return expected
    weights = np.ones(len(held)) / len(held) if part.weigh_by == "equal" else np.array(samples) / sum(samples)
    for m in sorted(spoke):
        expected = expected + held.dtype.type(weights[m] / weights[sorted(spoke)].sum()) * held[m]
    return expected


@pytest.mark.parametrize("codec", [codecs.Overwrite(), codecs.Overwrite(compressors.TopK(count=2))])
@pytest.mark.parametrize("fill", [0.0, 1.0])
def test_what_is_dropped_leaves_the_sum(codec, fill):
    """Whether it is held whole or as sparse messages, and before or after it was summed."""
    part, theta = aggregators.Lazy(), np.dtype(np.float64)
    state = part.init(6, theta, fill, codec, [5, 5, 5])
    rng = np.random.default_rng(0)
    for m in range(3):
        inner = codec.init([6], theta, rng)
        payload, _ = codec.commit(inner, rng.standard_normal(6), np.full(6, fill), 1.0)
        part.absorb(state, m, payload)
    part.total(state)
    part.drop(state, 1)
    assert not part.stale(state, 1).any()
    np.testing.assert_array_equal(part.total(state), part.stale(state, 0) + part.stale(state, 2))
    assert part.total(state).any()


@members("aggregator")
@members("codec", "codec")
@each_dtype
@pytest.mark.parametrize("fill", [0.0, 1.0])
def test_aggregators(part, codec, dtype, fill):
    """The literal sum or mean in worker order, bit for bit, whatever form is held."""
    rng, dtype = np.random.default_rng(0), np.dtype(dtype)
    for workers, sizes in ((1, [1]), (4, [1, 2]), (9, [3000, 2000])):
        dim, samples = sum(sizes), [3 * m + 1 for m in range(workers)]
        state = part.init(dim, dtype, fill, codec, samples)
        held = np.full((workers, dim), fill, dtype)
        codecs_ = [codec.init(sizes, dtype, np.random.default_rng(m)) for m in range(workers)]
        for _ in range(6):
            part.open(state)
            spoke = rng.permutation(workers)[: rng.integers(0, workers + 1)].tolist()
            for m in spoke:
                payload, held[m] = codec.commit(codecs_[m], rng.standard_normal(dim).astype(dtype), held[m].copy(), 0.1)
                part.absorb(state, m, np.ascontiguousarray(payload))
                np.testing.assert_array_equal(part.stale(state, m), held[m])
            expected = literal(part, held, spoke, samples)
            np.testing.assert_array_equal(part.total(state), expected)
            np.testing.assert_array_equal(part.total(state), expected)
        assert sum(part.weights(samples)) == pytest.approx(workers if isinstance(part, aggregators.Lazy) else 1.0)


def literal_steps(part, theta, aggregates, step):
    """The iterates, by the formulas of the docstrings."""
    thetas, v, m, s = [theta], 0.0, 0.0, 0.0
    for t, g in enumerate(aggregates, 1):
        theta, a = thetas[-1], part.rate * step
        match part:
            case updates.Descent():
                thetas.append(theta - a * g)
            case updates.Momentum():
                v = part.momentum * v + g
                thetas.append(theta - a * v)
            case updates.Nesterov():
                v = part.momentum * v + g
                thetas.append(theta - a * (g + part.momentum * v))
            case updates.AdamW():
                m, s = part.beta1 * m + (1 - part.beta1) * g, part.beta2 * s + (1 - part.beta2) * g * g
                m_hat, s_hat = m / (1 - part.beta1**t), s / (1 - part.beta2**t)
                decayed = theta - a * part.weight_decay * theta
                thetas.append(decayed - a * m_hat / (np.sqrt(s_hat) + part.epsilon))
    return thetas[1:]


@members("update")
@each_dtype
def test_updates_by_their_formulas(part, dtype):
    rng, dtype = np.random.default_rng(0), np.dtype(dtype)
    for dim in (1, 5, 5000):
        theta, *aggregates = rng.standard_normal((6, dim)).astype(dtype)
        state, before = part.init(dim, dtype), theta.copy()
        exact = [g.astype(np.float64) for g in aggregates]
        near = {"rtol": 1e-5, "atol": 1e-5} if dtype == np.float32 else {"rtol": 1e-12, "atol": 1e-13}
        for aggregate, expected in zip(aggregates, literal_steps(part, before.astype(float), exact, 0.3), strict=True):
            old = theta.astype(np.float64)
            moved = part.step(state, theta, aggregate, 0.3)
            np.testing.assert_allclose(theta, expected, **near)
            change = theta - old
            assert moved == pytest.approx(float(change @ change), rel=1e-6 if dtype == np.float32 else 1e-12)


def test_descent_is_numpys_to_the_last_bit():
    theta, aggregate = np.random.default_rng(0).standard_normal((2, 5000))
    expected = theta - 0.3 * aggregate
    updates.Descent().step(None, theta, aggregate, 0.3)
    np.testing.assert_array_equal(theta, expected)


@pytest.mark.parametrize("part", [updates.Momentum(0.0), updates.Nesterov(0.0)])
def test_without_momentum_it_is_descent_to_the_last_bit(part):
    theta, aggregate = np.random.default_rng(0).standard_normal((2, 5000))
    expected, state = theta.copy(), part.init(5000, theta.dtype)
    for _ in range(3):
        updates.Descent().step(None, expected, aggregate, 0.3)
        part.step(state, theta, aggregate, 0.3)
        np.testing.assert_array_equal(theta, expected)


@members("plan")
@pytest.mark.parametrize("workers", [1, 9])
@pytest.mark.parametrize("steps", [1, 2, 100, 1000, None])
def test_plans_fill_the_run(part, steps, workers):
    """Exactly T local steps, unless the plan itself is shorter."""
    if steps is None and part.needs_steps:
        return
    lengths = [entry.local_steps for entry in entries_of(part, steps, workers)]
    t = sum(lengths)
    if isinstance(part, plans.Listed):
        assert t == min(sum(part.local_steps), steps or 10**9)
    elif steps is not None:
        assert t == steps
    if isinstance(part, plans.Growing | plans.Decreasing) and steps == 1000 and len(lengths) < 40:
        down = isinstance(part, plans.Decreasing)
        assert all((b - a if not down else a - b) >= -1 for a, b in pairwise(lengths[: -1 if not down else None]))


@members("work")
def test_work_counts_a_gradient_a_step(part):
    state, out = part.init(Bowl(), np.random.default_rng(0), SETTING), np.empty(3)
    for k in range(5):
        entry = plans.PlanEntry(3 * k, 3 if part.local else 1)
        assert part.contribute(state, np.arange(3.0), entry, out) == entry.local_steps
    assert part.whole == np.allclose(out, np.arange(3.0))


def test_an_epoch_meets_every_sample_once_in_an_order_of_its_own():
    part = work.Minibatch(4)
    state = part.init(Bowl(10), np.random.default_rng(1), SETTING)
    epochs = [[state.draw().copy() for _ in range(3)] for _ in range(20)]
    assert all([rows.size for rows in epoch] == [4, 4, 2] for epoch in epochs)
    orders = {tuple(np.concatenate(epoch)) for epoch in epochs}
    assert all(sorted(order) == list(range(10)) for order in orders)
    assert len(orders) == 20
    drawn = work.Minibatch(4, "replace").init(Bowl(10), np.random.default_rng(1), SETTING)
    assert np.concatenate([drawn.draw() for _ in range(500)]).mean() == pytest.approx(4.5, abs=0.2)


def test_milestones_multiply_from_their_round_on():
    part = schedules.MultiStep(1.0, (3, 5), 0.5)
    assert [part.at(1.0, k) for k in range(1, 7)] == [1.0, 1.0, 0.5, 0.5, 0.25, 0.25]


@members("step_size")
def test_schedules_fall(part):
    """Falling but for a warm-up, from the initial one."""
    k = np.arange(1, 200)
    initial = 0.7 if isinstance(part.initial, str) else part.initial
    values = [float(part.at(initial, int(one))) for one in k]
    first = part.steps if isinstance(part, schedules.WarmUp) else 0
    assert all(b <= a for a, b in pairwise(values[first:]))
    assert all(a < b for a, b in pairwise(values[: first // 2]))
    if not isinstance(part, schedules.Capped | schedules.WarmUp):
        assert values[0] == pytest.approx(initial, rel=1e-15)


@pytest.mark.parametrize(
    ("part", "formula"),
    [
        (schedules.Inverse(2.0, 0.5, 3.0), lambda t: 2 / (0.5 * (t + 3))),
        (schedules.Capped(schedules.Inverse(), 0.5), lambda t: min(2 / (t + 1), 0.5)),
        (schedules.Polynomial(0.5, 50, 2.0, 0.1), lambda t: 0.1 + 0.4 * max(0.0, 1 - t / 50) ** 2),
        (schedules.Cosine(0.5, 50, 0.1), lambda t: 0.3 + 0.2 * math.cos(math.pi * min(t / 50, 1.0))),
        (schedules.WarmUp(schedules.Constant(0.5), 10), lambda t: 0.5 * min((t + 1) / 10, 1.0)),
        (schedules.Decaying(0.5, 4.0, 0.5), lambda t: 0.5 * math.sqrt(4 / (4 + t))),
    ],
)
def test_schedules_by_their_formulas(part, formula):
    t = np.arange(120)
    expected = [formula(one) for one in t]
    np.testing.assert_allclose(np.broadcast_to(part.at(part.initial, t + 1), t.shape), expected, rtol=1e-14, atol=1e-17)


drift, innovation, age = selections.SmoothnessDrift, triggers.Innovation, triggers.MaxAge


@pytest.mark.parametrize(
    ("row", "sentence"),
    [
        ({"selection": drift(10, 1.0), "trigger": innovation(10, 0.1)}, "one threshold a round"),
        ({"selection": drift(5, 0.1), "trigger": age(innovation(10, 0.1))}, "trigger `max_age` of another window"),
        ({"trigger": innovation(3, (0.1, 0.1))}, "lists 2 weights and cannot fill a `window` of 3"),
        ({"trigger": innovation(3, -0.1)}, "cannot be negative"),
        ({"selection": drift(2, (0.1, -0.1))}, "cannot be negative"),
        ({"trigger": age(triggers.Always())}, "cannot wrap `always`"),
        ({"trigger": innovation(), "start": starts.Zero()}, "start `zero` without forced rounds"),
        ({"selection": drift(), "start": starts.Zero(0)}, "start `zero` without forced rounds"),
    ],
)
def test_rows_that_make_no_sense(row, sentence):
    with pytest.raises(IncompatibleParts, match=sentence):
        Algorithm(**row)


def test_rows_that_do():
    both = Algorithm(selection=drift(10, 0.1), trigger=age(innovation(10, 0.1)), start=starts.Zero(1))
    assert both.threshold == Threshold(10, 0.1)
    assert Algorithm(start=starts.Zero()).threshold is None
    assert Algorithm().name("trigger") == "always"
    assert Algorithm().needs_joint_smoothness
    assert not Algorithm(step_size=schedules.Constant("1/M")).needs_joint_smoothness
