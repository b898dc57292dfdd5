"""Plans by their instants, local steps by their identities, and what they cost by the ledger."""

import math
from itertools import pairwise

import numpy as np
import pytest
from helpers import built_in, drive, own_problems, shards_for, tiny
from reference import local_sgd as loops

from psopt.algorithm import Algorithm
from psopt.config import parse
from psopt.errors import ConfigError, IncompatibleParts, WorkerFailed
from psopt.parts import local_work, plans
from psopt.parts.aggregators import FreshMean
from psopt.parts.batches import Batches
from psopt.parts.codecs import Overwrite
from psopt.parts.local_work import LocalAdamW, LocalMomentum, LocalSGD
from psopt.parts.schedules import Constant, Inverse
from psopt.parts.selections import Sampled
from psopt.parts.starts import Ones, Zero
from psopt.parts.triggers import Innovation, SameSample
from psopt.parts.updates import Descent, Momentum, Nesterov
from psopt.parts.work import FullGradient, Minibatch
from psopt.recipes import RECIPES
from psopt.runs.experiment import Plan, simulate


def instants(plan, steps, workers=9):
    rounds, found = plans.Rounds(plan, steps, workers), []
    while not rounds.over:
        entry = rounds.advance()
        found.append(entry.t_start + entry.local_steps)
    return found


@pytest.mark.parametrize(("steps", "rounds"), [(1000, 20), (1000, 9.457), (4096, 16), (8000, 256), (8000, 1), (7, 3)])
def test_growing_and_constant_rounds_are_the_papers(steps, rounds):
    whole = math.ceil(rounds)
    assert instants(plans.Growing(rounds), steps) == loops.growing(steps, whole)
    assert instants(plans.Fixed(rounds=rounds), steps) == loops.constant(steps, whole)


def test_256_growing_rounds_of_8000_steps_are_254_averagings():
    found = instants(plans.Growing(256), 8000)
    assert len(found) == 254
    assert (found[0], found[-1]) == (1, 8000)
    assert instants(plans.Growing("M"), 8000, 256) == found


def test_growing_by_name_is_as_many_rounds_as_workers():
    assert plans.Growing() == plans.Growing("M")
    assert plans.Growing(increment=2.0).rounds is None
    with pytest.raises(ConfigError, match="exactly one of `rounds` and `increment`"):
        plans.Growing(5, 2.0)


def test_rounds_as_formulas_in_the_number_of_workers():
    assert instants(plans.Growing("M**0.75"), 1000, 20) == loops.growing(1000, 10)
    assert instants(plans.Fixed(rounds="sqrt(M)"), 1000, 20) == loops.constant(1000, 5)
    for wrong in ("L", "M/L", "rounds", "sqrt(", 0, -3):
        for plan in (plans.Growing, plans.Decreasing, lambda rounds: plans.Fixed(rounds=rounds)):
            with pytest.raises(ConfigError, match=r"number of rounds|a formula in M"):
                plan(wrong)
    assert instants(plans.Growing("M-1"), 1000, 21) == loops.growing(1000, 20)


def test_as_many_rounds_as_steps_is_a_round_every_step():
    named = plans.Growing, plans.Decreasing, lambda rounds: plans.Fixed(rounds=rounds)
    for plan in (made(rounds) for made in named for rounds in (100, 101, 1e12, 1e300)):
        assert instants(plan, 100) == instants(plans.Every(), 100) == list(range(1, 101))
    assert instants(plans.Fixed(100), 100) == instants(plans.OneShot(), 100) == [100]
    assert instants(plans.Growing(1), 100) == instants(plans.Decreasing(1), 100) == [100]


def test_decreasing_is_growing_backwards():
    up, down = instants(plans.Growing(20), 1000), instants(plans.Decreasing(20), 1000)
    assert np.diff([0, *down]).tolist() == np.diff([0, *up]).tolist()[::-1]


def test_a_growing_increment_goes_on_until_the_run_ends():
    assert instants(plans.Growing(increment=2.0), 21) == [2, 6, 12, 20, 21]
    assert instants(plans.Growing(increment=0.3), 100)[-3:] == [90, 97, 100]  # 0.3 * 24 * 25 / 2, not 89
    assert instants(plans.Growing(increment=1e15), 100) == [100]
    endless = plans.Rounds(plans.Growing(increment=0.5), None, 3)
    assert [endless.advance() for _ in range(4)] == [(0, 1), (1, 2), (3, 2), (5, 2)]
    assert not endless.over


def test_a_list_is_cut_at_the_runs_end_and_not_filled_up():
    assert instants(plans.Listed((3, 1, 5)), 100) == [3, 4, 9]
    assert instants(plans.Listed((3, 1, 5)), 7) == [3, 4, 7]


class Rows:
    def __init__(self, samples):
        self.samples = samples


@pytest.mark.parametrize("replace", [True, False])
@pytest.mark.parametrize("samples", [1, 3, 10, 2**32])
@pytest.mark.parametrize("size", [1, 4, 17])
def test_many_batches_at_once_are_those_drawn_one_by_one(replace, samples, size):
    """So the samples of a run do not depend on its plan."""
    if samples > 1000 and not replace:
        return
    one, many = (Batches(Rows(samples), np.random.default_rng(5), size, replace) for _ in range(2))
    drawn = [one.draw().copy() for _ in range(31)]
    mark, first = many.mark(), []
    for count in (1, 7, 2, 21):
        rows, ends = many.draw_many(count)
        assert rows.dtype == ends.dtype == np.int64
        assert ends.size == count + 1
        first += [rows[a:b].tolist() for a, b in pairwise(ends)]
    assert first == [rows.tolist() for rows in drawn]
    again, ends = many.again(mark).draw_many(31)
    np.testing.assert_array_equal(again, np.concatenate(drawn))
    assert many.draw().tolist() == one.draw().tolist()  # where it was


def local(plan, **row):
    return Algorithm(**{"plan": plan, "start": Zero(), "work": LocalSGD(4), "aggregator": FreshMean(), **row})


def problems(workers=5, kind="logistic"):
    return built_in({"squares": "least-squares", "logistic": "logistic"}[kind], shards_for(kind, workers), l2=0.1)


STEP = Inverse(0.02, 1.0, 10.0)


@pytest.mark.parametrize("workers", [1, 4, 5])
def test_local_sgd_of_one_step_is_sgd(workers):
    """Up to rounding: the mean of M f_m's gradients instead of the sum of f_m's."""
    mine = drive(local(plans.Every(), step_size=STEP), problems(workers), 80)
    sgd = drive(Algorithm(work=Minibatch(4), step_size=STEP), problems(workers), 80)
    np.testing.assert_allclose(np.array(mine.thetas), np.array(sgd.thetas), rtol=1e-10, atol=1e-13)
    weighed = drive(local(plans.Fixed(1), step_size=STEP, aggregator=FreshMean("samples")), problems(workers), 80)
    np.testing.assert_allclose(np.array(weighed.thetas), np.array(sgd.thetas), rtol=1e-10, atol=1e-13)


def test_as_many_growing_rounds_as_steps_have_the_bits_of_every_step():
    every = drive(local(plans.Every(), step_size=STEP), problems(), 80, max_steps=80)
    for plan in (plans.Growing(80), plans.Fixed(rounds=80), plans.Fixed(1)):
        mine = drive(local(plan, step_size=STEP), problems(), 80, max_steps=80)
        np.testing.assert_array_equal(np.array(mine.thetas), np.array(every.thetas))


def test_one_shot_has_the_bits_of_one_round_of_all_steps():
    runs = [
        drive(local(plan, step_size=STEP), problems(), 80, max_steps=80)
        for plan in (plans.OneShot(), plans.Fixed(80), plans.Growing(1), plans.Listed((80,)))
    ]
    assert len({run.thetas[-1].tobytes() for run in runs}) == 1


@pytest.mark.parametrize("update", [Nesterov(0.0), Momentum(0.0), Descent(1.0)])
@pytest.mark.parametrize("work", [LocalSGD(4), LocalAdamW(4)])
def test_an_outer_step_of_one_without_momentum_is_the_average(update, work):
    """DiLoCo with beta = 0 and rate 1 is local SGD (or AdamW), to the last bit."""
    plain = drive(local(plans.Fixed(7), work=work, step_size=STEP), problems(), 12)
    outer = drive(local(plans.Fixed(7), work=work, update=update, step_size=STEP), problems(), 12)
    np.testing.assert_array_equal(np.array(outer.thetas), np.array(plain.thetas))


def test_without_momentum_local_momentum_is_local_sgd():
    plain = drive(local(plans.Fixed(7), step_size=STEP), problems(), 12)
    heavy = drive(local(plans.Fixed(7), work=LocalMomentum(4, momentum=0.0), step_size=STEP), problems(), 12)
    np.testing.assert_allclose(np.array(heavy.thetas), np.array(plain.thetas), rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("work", [LocalMomentum(4), LocalAdamW(4)])
def test_moments_are_kept_or_forgotten(work):
    rows = {kind: type(work)(4, moments=kind) for kind in ("keep", "reset")}
    courses = {
        kind: drive(local(plans.Fixed(5), work=part, step_size=STEP), problems(1), 3).thetas
        for kind, part in rows.items()
    }
    np.testing.assert_array_equal(courses["keep"][1], courses["reset"][1])
    assert not np.array_equal(courses["keep"][2], courses["reset"][2])
    alone = drive(local(plans.Fixed(15), work=rows["keep"], step_size=STEP), problems(1), 1).thetas
    np.testing.assert_allclose(courses["keep"][3], alone[1], rtol=1e-12)  # kept: as if never interrupted


def test_a_long_round_in_several_calls_is_the_same_round(monkeypatch):
    whole = drive(local(plans.OneShot(), step_size=STEP), problems(2), 1, max_steps=200).thetas[-1]
    monkeypatch.setattr(local_work, "MOST_ROWS", 30)
    parts = drive(local(plans.OneShot(), step_size=STEP), problems(2), 1, max_steps=200).thetas[-1]
    np.testing.assert_allclose(parts, whole, rtol=1e-12)


def test_the_users_own_problem_takes_python_steps_to_the_same_end():
    shards = shards_for("logistic", 3)
    mine = drive(local(plans.Fixed(7), step_size=STEP), built_in("logistic", shards, l2=0.1), 10).thetas
    own = drive(local(plans.Fixed(7), step_size=STEP), own_problems("logistic", shards), 10).thetas
    np.testing.assert_allclose(np.array(own), np.array(mine), rtol=1e-9, atol=1e-12)


def test_a_lazy_sum_of_pseudo_gradients_counts_each_once():
    """With `lazy` a worker's weight is one: its steps follow f_m, and one step each is a step along F."""
    mine = drive(Algorithm(plans.Every(), work=LocalSGD(4), step_size=STEP), problems(), 60)
    sgd = drive(Algorithm(work=Minibatch(4), step_size=STEP), problems(), 60)
    np.testing.assert_allclose(np.array(mine.thetas), np.array(sgd.thetas), rtol=1e-10, atol=1e-13)
    row = Algorithm(plans.Fixed(5), work=LocalSGD(100), trigger=Innovation(10, 0.5), step_size=Constant(1e-3))
    lazy = drive(row, problems(), 60)
    assert 5 <= lazy.uploads.sum() < 0.8 * lazy.uploads.size


def test_partial_participation_asks_as_many_as_it_says_and_everyone_in_the_end():
    row = local(plans.Fixed(3), selection=Sampled(0.4), step_size=STEP)
    uploads = drive(row, problems(), 100).uploads
    assert (uploads.sum(axis=1) == 2).all()
    assert (abs(uploads.sum(axis=0) - 40) < 20).all()


@pytest.mark.parametrize("downlink", ["theta", "changes"])
@pytest.mark.parametrize(("plan", "rounds"), [("one_shot", 1), ({"kind": "growing", "rounds": 4}, 4)])
def test_r_rounds_send_r_payloads_a_worker(downlink, plan, rounds):
    row = {"recipe": "local-sgd", "plan": plan, "step_size": 1e-3}
    config = parse(tiny(algorithm=row, stop={"max_steps": 300}, downlink=downlink))
    done = simulate(Plan(config, quiet=True))
    assert (done.rounds, done.local_steps, done.stop_reason) == (rounds, 300, "max_steps")
    assert done.summary["uploads"] == 3 * rounds
    assert done.payload_bytes_up == 3 * rounds * 4 * 8
    assert done.gradient_evaluations == 3 * 300
    if downlink == "theta":
        assert done.payload_bytes_down == 3 * rounds * 4 * 8


def test_both_downlinks_give_the_same_bits():
    for recipe in ("local-sgd", "diloco", "local-top-k", "adamw"):
        row = {"recipe": recipe, "step_size": 1e-3}
        if recipe != "adamw":
            row["plan"] = {"kind": "fixed", "local_steps": 5}
        runs = [
            simulate(Plan(parse(tiny(algorithm=row, stop={"max_rounds": 210}, downlink=downlink)), quiet=True))
            for downlink in ("theta", "changes")
        ]
        assert len({run.theta_sha256 for run in runs}) == 1


def test_a_plan_that_ends_by_itself_ends_the_run():
    row = {"recipe": "local-sgd", "plan": {"kind": "list", "local_steps": [5, 20]}, "step_size": 1e-3}
    done = simulate(Plan(parse(tiny(algorithm=row)), quiet=True))
    assert (done.rounds, done.local_steps, done.stop_reason) == (2, 25, "plan")
    assert done.trace["local_steps"].tolist() == [0, 5, 25]


def test_a_diverging_worker_is_told_by_its_pseudo_gradient():
    config = parse(tiny(algorithm={"recipe": "local-sgd", "step_size": 1e5}, stop={"max_steps": 3000}))
    with pytest.raises(WorkerFailed, match="round 1: the pseudo-gradient of worker 0 is not finite in tensor `theta`"):
        simulate(Plan(config, quiet=True))


@pytest.mark.parametrize(
    ("row", "sentence"),
    [
        ({"plan": plans.Fixed(5)}, "plan `fixed` cannot be used with work `full_gradient`"),
        ({"plan": plans.OneShot(), "work": Minibatch()}, "plan `one_shot` cannot be used with work `minibatch`"),
        ({"work": LocalSGD()}, "work `local_sgd` cannot be used with a step size that is a formula in L"),
        ({"work": LocalSGD(), "codec": Overwrite(scale="step"), "step_size": Constant(0.1)}, "holds the step sizes"),
        ({"aggregator": FreshMean(), "trigger": Innovation()}, "trigger `innovation` cannot be used with aggregator"),
        ({"aggregator": FreshMean(), "start": Ones()}, "start `ones` cannot be used with aggregator `fresh_mean`"),
        (
            {"work": LocalAdamW(), "trigger": SameSample(), "step_size": Constant(0.1)},
            "trigger `same_sample` cannot be used with work `local_adamw` that keeps its moments",
        ),
    ],
)
def test_rows_that_make_no_sense(row, sentence):
    with pytest.raises(IncompatibleParts, match=sentence):
        Algorithm(**{"work": FullGradient(), **row})


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (
            {"algorithm": "local-sgd", "stop": {"max_rounds": 5}},
            "algorithm.plan: `growing` needs the length of the run",
        ),
        ({"algorithm": "one-shot", "stop": None}, "algorithm.plan: `one_shot` needs the length of the run"),
        ({"algorithm": {"selection": {"kind": "sampled", "count": 4}}}, "found 4, but there are 3 workers"),
        ({"algorithm": {"plan": {"kind": "fixed", "local_steps": 0}}}, "expected a whole number above 0"),
        ({"algorithm": {"plan": {"kind": "growing", "rounds": "N"}}}, "such as M or sqrt(M)"),
        ({"algorithm": {"recipe": "local-sgd", "plan": {"rounds": "2-M"}}}, "comes out as -1.0; expected a positive"),
        ({"algorithm": {"recipe": "local-sgd", "plan": {"rounds": "M**4000"}}}, "comes out as nan"),
        (
            {"algorithm": "local-sgd", "stop": {"gradient_norm": 1e-3, "max_steps": 9}},
            "cannot be used with work `local_",
        ),
        ({"algorithm": {"step_size": {"kind": "inverse", "mu": 1e-200, "beta": 1e-200}}}, "mu and beta are too small"),
        (
            {"algorithm": "local-sgd", "problem": "noisy-kink", "data": "none", "stop": {"max_steps": 9}},
            "algorithm.work.draw: `epoch` cannot be used with problem `noisy-kink`",
        ),
        ({"stop": {"max_steps": 0}}, "stop.max_steps: found 0"),
    ],
)
def test_configs_that_make_no_sense(changes, sentence):
    with pytest.raises(ConfigError) as caught:
        parse(tiny(**changes))
    assert sentence in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("recipe", "changed", "expected"),
    [
        ("fedavg", {"selection": {"count": 2}}, Sampled(count=2)),
        ("local-sgd", {"plan": {"increment": 2.0}}, plans.Growing(increment=2.0)),
        ("diloco", {"plan": {"rounds": 8}}, plans.Fixed(rounds=8)),
        ("diloco", {"plan": {"local_steps": 8}}, plans.Fixed(8)),
    ],
)
def test_of_two_keys_the_one_that_is_given_takes_the_recipes_place(recipe, changed, expected):
    row = parse(tiny(algorithm={"recipe": recipe, **changed}, stop={"max_steps": 50})).algorithm
    assert expected in (row.selection, row.plan)


def test_recipes_are_rows_of_parts_alone():
    diloco = RECIPES["diloco"].row
    assert isinstance(diloco.update, Nesterov)
    assert diloco.update.rate == 0.7
    assert RECIPES["fedavg"].row.aggregator == FreshMean("samples")
