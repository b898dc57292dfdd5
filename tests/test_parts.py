"""One contract table a family: a new part joins by adding a row, and one without a row fails."""

import math
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from psopt.algorithm import Algorithm
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
        ],
        "increment": [
            codecs.Increment(),
            codecs.Increment(compressors.TopK(count=3)),
            codecs.Increment(compressors.RandomK(0.3, values="float32")),
        ],
    },
    "compressor": {
        "identity": [compressors.Identity()],
        "top_k": [
            compressors.TopK(),
            compressors.TopK(0.3, per="theta"),
            compressors.TopK(count=3),
            compressors.TopK(1.0),
            compressors.TopK(0.5, values="float32"),
            compressors.TopK(0.5, values="float16"),
        ],
        "random_k": [
            compressors.RandomK(),
            compressors.RandomK(0.4),
            compressors.RandomK(count=3, values="float16"),
            compressors.RandomK(0.4, unbiased=True),
        ],
    },
    "aggregator": {
        "lazy": [aggregators.Lazy()],
        "fresh_mean": [aggregators.FreshMean(), aggregators.FreshMean("samples")],
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


@pytest.mark.parametrize("family", FAMILIES)
def test_parts_are_frozen_and_comparable(family):
    for parts in ROWS[family].values():
        for part in parts:
            assert replace(part) == part
            assert hash(replace(part)) == hash(part)
            assert type(part).__doc__
            with pytest.raises(AttributeError):
                part.anything = 1


class View:
    def __init__(self, k, workers, threshold=0.0, drifts=(), living=None):
        self.round, self.workers, self.threshold, self._drifts = k, workers, threshold, drifts
        self.living = np.arange(workers) if living is None else np.array(living)

    def drifts(self):
        return self._drifts

    def compare(self, left, right):
        return left > right


@members("selection")
def test_selections(part):
    rng = np.random.default_rng(0)
    for workers in (1, 2, 9):
        smoothness = rng.random(workers) + 0.1
        state = part.init(smoothness, np.random.default_rng(1))
        for k in range(1, 50):
            view = View(k, workers, rng.random(), rng.random(workers).tolist())
            chosen = part.select(state, view)
            if chosen is None:
                assert part.everyone
                continue
            assert not part.everyone
            assert chosen.dtype.kind == "i"
            assert (np.diff(chosen) > 0).all()  # ascending, nobody twice
            assert all(0 <= m < workers for m in chosen)
        forced = View(99, workers, -math.inf, [0.0] * workers)
        if part.threshold is not None:
            assert part.select(state, forced).tolist() == list(range(workers))
            assert part.select(state, View(99, workers, math.inf, [1e300] * workers)).size == 0


@members("selection")
@pytest.mark.parametrize("living", [[0, 2, 5, 8], [4]])
def test_selections_choose_among_the_living(part, living):
    rng = np.random.default_rng(0)
    state = part.init(rng.random(9) + 0.1, np.random.default_rng(1))
    seen = set()
    for k in range(1, 200):
        chosen = part.select(state, View(k, 9, 1e-9, rng.random(9).tolist(), living))
        if chosen is None:
            assert part.everyone
            return
        assert set(chosen.tolist()) <= set(living)
        assert (np.diff(chosen) > 0).all()
        seen |= set(chosen.tolist())
    assert seen == set(living)


def test_the_turn_of_the_lost_is_the_next_ones():
    part = selections.Cyclic()
    turns = [part.select(None, View(k, 4, living=[0, 2])).tolist() for k in range(1, 6)]
    assert turns == [[2], [2], [0], [0], [2]]


def test_cyclic_takes_turns():
    part = selections.Cyclic()
    assert [part.select(None, View(k, 3)).tolist() for k in range(1, 8)] == [[1], [2], [0], [1], [2], [0], [1]]


def test_by_smoothness_draws_in_proportion_and_from_its_seed_alone():
    part, smoothness = selections.BySmoothness(), np.array([1.0, 2.0, 0.0, 5.0])

    def draws(seed, n=4000):
        state = part.init(smoothness, np.random.default_rng(seed))
        return [int(part.select(state, View(k, 4))[0]) for k in range(n)]

    assert draws(1) == draws(1) != draws(2)
    counts = np.bincount(draws(1), minlength=4)
    assert counts[2] == 0
    np.testing.assert_allclose(counts / 4000, smoothness / 8, atol=4 * math.sqrt(0.25 / 4000))


def test_smoothness_drift_is_strict():
    part = selections.SmoothnessDrift()
    state = part.init(np.array([1.0, 2.0, 3.0]), None)
    assert part.select(state, View(5, 3, 4.0, [4.0, 1.0, 0.5])).tolist() == [2]  # 4, 4 and 4.5 against 4


class Seen(NamedTuple):
    """What a trigger sees of its worker; the contribution of the same samples elsewhere is ``there(theta)``."""

    limit: float
    theta: np.ndarray
    contribution: np.ndarray
    mirror: np.ndarray
    round: int = 1
    there: Callable = np.copy

    def replay(self, theta, out):
        out[:] = self.there(theta)

    def compare(self, left, right):
        return left > right


def steps(part, limits, seed=0, dtype=np.float64):
    """Runs a trigger as a worker does, asking twice; yields what it said."""
    rng, mirror = np.random.default_rng(seed), np.zeros(5, dtype)
    state = part.init(5, np.dtype(dtype))
    for k, limit in enumerate(limits, start=1):
        theta, noise = rng.standard_normal((2, 5)).astype(dtype)
        contribution = theta + noise
        kept = contribution.copy(), mirror.copy()
        view = Seen(limit, theta, contribution, mirror, k, lambda at, noise=noise: at + noise)
        said = part.decide(state, view)
        assert part.decide(state, view) is said  # asking changes nothing
        assert np.array_equal(contribution, kept[0])
        assert np.array_equal(mirror, kept[1])
        part.commit(state, view, said)
        if said:
            mirror[:] = contribution
        yield said


@members("trigger")
@each_dtype
def test_triggers(part, dtype):
    kind = next(kind for kind, cls in FAMILIES["trigger"].items() if type(part) is cls)
    assert all(steps(part, [-math.inf] * 20, dtype=dtype))  # forced
    silenced = list(steps(part, [-math.inf] + [math.inf] * 40, dtype=dtype))
    if kind == "max_age":  # one skip more after the forced round than after any other upload
        due = [0, *range(part.rounds + 2, 41, part.rounds + 1)]
        assert [k for k, said in enumerate(silenced) if said] == due
    else:
        assert silenced == [True] + [kind in UPLOADS_WHEN_SILENCED] * 40
    mixed = list(steps(part, np.random.default_rng(2).uniform(2, 15, 60), dtype=dtype))
    assert part.lazy == (not all(mixed))
    assert any(mixed)
    assert (part.threshold is not None) <= part.lazy


def test_innovation_compares_with_the_mirror_and_is_strict():
    part, x, mirror = triggers.Innovation(), np.array([3.0, 4.0]), np.zeros(2)
    assert not part.decide(None, Seen(25.0, x, x, mirror))
    assert part.decide(None, Seen(np.nextafter(25.0, 0), x, x, mirror))
    assert not part.decide(None, Seen(0.0, x, x, x.copy()))


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


SIZES = (1, 7, 32)
DIM = sum(SIZES)


@members("codec")
@each_dtype
@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), decisions=st.lists(st.booleans(), max_size=20))
def test_codecs_keep_both_ends_equal_and_lose_nothing(part, dtype, seed, decisions):
    """What was said and what is still to be said add up to what there was to say."""
    rng, dtype = np.random.default_rng(seed), np.dtype(dtype)
    state, mirror, stale = part.init(SIZES, dtype, rng), np.ones(DIM, dtype), np.ones(DIM, dtype)
    feedback, step = getattr(part, "feedback", False), 0.3 if part.scaled else 1.0
    given, said = np.zeros(DIM), np.zeros(DIM)
    for uploads in decisions:
        contribution = (rng.standard_normal(DIM) * 10.0 ** rng.integers(-3, 4)).astype(dtype)
        before = contribution.copy()
        if uploads:
            payload, mirror = part.commit(state, contribution, mirror, step)
            assert payload.flags.c_contiguous
            assert payload.nbytes <= part.capacity(SIZES, dtype)
            part.absorb(stale, payload)
            np.testing.assert_array_equal(mirror, stale)
            given += step * before
            said += stale
            if part.compressor.exact:
                np.testing.assert_allclose(stale, step * before, rtol=1e-6, atol=1e4 * np.finfo(dtype).eps)
        np.testing.assert_array_equal(contribution, before)
    if feedback:
        scale = np.abs(given).max() + np.abs(said).max() + 1
        np.testing.assert_allclose(said + state.residual, given, atol=40 * np.finfo(dtype).eps * scale)


@members("compressor")
@each_dtype
def test_compressors(part, dtype):
    rng, dtype = np.random.default_rng(0), np.dtype(dtype)
    for sizes in ([1], [7], [1000], [5, 1, 300]):
        dim = sum(sizes)
        state = part.init(sizes, dtype, rng)
        for x in (np.zeros(dim, dtype), np.ones(dim, dtype), rng.standard_normal(dim).astype(dtype)):
            kept = x.copy()
            payload = part.compress(state, x).copy()
            assert payload.nbytes == part.capacity(sizes, dtype)
            out = np.full(dim, np.nan, dtype)
            part.decompress(payload, out)
            assert np.isfinite(out).all()  # all of it was written
            if part.contraction:
                assert np.linalg.norm(out - x) <= np.linalg.norm(x) * (1 + 1e-3)
            np.testing.assert_array_equal(x, kept)
            twice = out.copy()
            part.add(payload, twice)
            np.testing.assert_array_equal(twice, out + out)
            if part.exact:
                np.testing.assert_array_equal(out, x)
            else:
                short = {"float16": 1e-3, "float32": 1e-7}.get(part.values, 0.0)
                sent = np.flatnonzero(out)
                factor = dim / part.kept(dim) if getattr(part, "unbiased", False) else 1.0
                np.testing.assert_allclose(out[sent], factor * x[sent], rtol=max(short, 2 * np.finfo(dtype).eps))
                assert sent.size <= sum(map(part.kept, part.groups(sizes)))


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


def test_random_k_is_unbiased_over_its_draws():
    part, rng, x = compressors.RandomK(0.25, unbiased=True), np.random.default_rng(5), np.arange(1.0, 9.0)
    state, total = part.init([8], x.dtype, rng), np.zeros(8)
    for _ in range(4000):
        part.add(part.compress(state, x), total)
    np.testing.assert_allclose(total / 4000, x, rtol=0.15)


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
def test_updates(part, dtype):
    rng, dtype = np.random.default_rng(0), np.dtype(dtype)
    for dim in (1, 5, 5000):
        theta, *aggregates = rng.standard_normal((6, dim)).astype(dtype)
        state, before = part.init(dim, dtype), theta.copy()
        exact = [g.astype(np.float64) for g in aggregates]
        near = {"rtol": 1e-5, "atol": 1e-5} if dtype == np.float32 else {"rtol": 1e-12, "atol": 1e-13}
        for aggregate, expected in zip(aggregates, literal_steps(part, before.astype(float), exact, 0.3), strict=True):
            kept, old = aggregate.copy(), theta.copy()
            moved = part.step(state, theta, aggregate, 0.3)
            np.testing.assert_allclose(theta, expected, **near)
            np.testing.assert_array_equal(aggregate, kept)
            change = theta.astype(np.float64) - old
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


@members("start")
def test_starts(part):
    assert math.isfinite(part.fill)
    assert min(part.forced_rounds, part.silent_rounds) == 0  # never both
    assert max(part.forced_rounds, part.silent_rounds) >= 0


@members("plan")
@pytest.mark.parametrize("workers", [1, 9])
@pytest.mark.parametrize("steps", [1, 2, 100, 1000, None])
def test_plans_number_local_steps_across_the_run(part, steps, workers):
    """Without a gap, every round one step at least, and exactly T of them unless the plan itself is shorter."""
    if steps is None and part.needs_steps:
        return
    rounds, t, lengths = plans.Rounds(part, steps, workers), 0, []
    while not rounds.over and len(lengths) < 1001:
        entry = rounds.advance()
        assert entry.t_start == t
        assert entry.local_steps >= 1
        t += entry.local_steps
        lengths.append(entry.local_steps)
    if isinstance(part, plans.Listed):
        assert t == min(sum(part.local_steps), steps or 10**9)
    elif steps is not None:
        assert t == steps
    if rounds.over:
        assert rounds.advance() is None
    if part.single:
        assert set(lengths) == {1}
    if isinstance(part, plans.Growing | plans.Decreasing) and steps == 1000 and len(lengths) < 40:
        down = isinstance(part, plans.Decreasing)
        assert all((b - a if not down else a - b) >= -1 for a, b in pairwise(lengths[: -1 if not down else None]))


class Bowl:
    """f(theta) = ||theta||^2 / 2 by 10 samples, each of which pulls towards its own number."""

    dim, samples, dtype = 3, 10, np.dtype(np.float64)

    def value_and_gradient(self, theta, out):
        return self.batch_value_and_gradient(theta, np.arange(10), out)

    def batch_value_and_gradient(self, theta, rows, out):
        out[:] = theta + (rows**3 - 202.5).mean()
        return float(theta @ theta)


SETTING = work.Setting(schedules.Constant(0.1), 0.1)


@members("work")
def test_work_replays_without_randomness(part):
    rng = np.random.default_rng(0)
    state, theta, out, again = part.init(Bowl(), rng, SETTING), np.arange(3.0), np.empty(3), np.empty(3)
    for k in range(5):
        entry = plans.PlanEntry(3 * k, 3 if part.local else 1)
        assert part.contribute(state, theta, entry, out) == entry.local_steps
        drawn = rng.bit_generator.state
        if part.replays:
            part.replay(state, theta, again)
            np.testing.assert_array_equal(again, out)
            part.replay(state, theta + 1, again)
            assert not np.array_equal(again, out)
        assert rng.bit_generator.state == drawn
        assert theta.tolist() == [0.0, 1.0, 2.0]
    assert part.whole == np.allclose(out, theta)
    assert all(hasattr(Bowl, name) for name in part.needs)


def test_an_epoch_meets_every_sample_once_in_an_order_of_its_own():
    part = work.Minibatch(4)
    state = part.init(Bowl(), np.random.default_rng(1), SETTING)
    epochs = [[state.draw().copy() for _ in range(3)] for _ in range(20)]
    assert all([rows.size for rows in epoch] == [4, 4, 2] for epoch in epochs)
    orders = {tuple(np.concatenate(epoch)) for epoch in epochs}
    assert all(sorted(order) == list(range(10)) for order in orders)
    assert len(orders) == 20
    drawn = work.Minibatch(4, "replace").init(Bowl(), np.random.default_rng(1), SETTING)
    assert np.concatenate([drawn.draw() for _ in range(500)]).mean() == pytest.approx(4.5, abs=0.2)


def test_milestones_multiply_from_their_round_on():
    part = schedules.MultiStep(1.0, (3, 5), 0.5)
    assert [part.at(1.0, k) for k in range(1, 7)] == [1.0, 1.0, 0.5, 0.5, 0.25, 0.25]


@members("step_size")
def test_schedules(part):
    """Number by number as many at once; never negative, and falling but for a warm-up."""
    k = np.arange(1, 200)
    initial = 0.7 if isinstance(part.initial, str) else part.initial
    values = [float(part.at(initial, int(one))) for one in k]
    np.testing.assert_array_equal(np.broadcast_to(part.at(initial, k), k.shape), values)
    assert all(value >= 0 for value in values)
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
