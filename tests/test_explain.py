"""`psopt explain` and what it reads: both sides of every lazy decision."""

import json
import math
import shutil

import numpy as np
import pytest
from click.testing import CliRunner
from helpers import drive, joint_smoothness, own_problems, shards_for, tiny

from psopt.algorithm import Algorithm
from psopt.cli import cli
from psopt.config import parse
from psopt.errors import ConfigError
from psopt.parts.codecs import Overwrite
from psopt.parts.schedules import Constant
from psopt.parts.selections import SmoothnessDrift
from psopt.parts.starts import Zero
from psopt.parts.triggers import Innovation, MaxAge, Relative, SameSample, Snapshot
from psopt.parts.work import Minibatch
from psopt.recipes import RECIPES
from psopt.runs.decisions import DECISIONS, Recorder, asked_in, read_decisions, record_dtype
from psopt.runs.experiment import Plan, simulate
from psopt.views.explain import Decisions, report

WORKERS = 4
MINI = {"work": Minibatch(5), "start": Zero(forced_rounds=1), "codec": Overwrite(), "step_size": Constant(0.002)}


def recorded(row, rounds=60):
    """T^k, left sides and masks as the server has them after each round, and the course itself."""
    limits, lefts = [], []

    def each(course):
        limits.append(course.server.threshold)
        lefts.append(course.server.left.copy())

    shards = shards_for("squares", WORKERS)
    known = joint_smoothness("squares", shards)
    course = drive(row, own_problems("squares", shards), rounds, smoothness=known, each=each)
    return np.array(limits), np.array(lefts), course


def squared(x):
    return float(x @ x)


def test_left_sides_of_lag_wk_are_those_of_the_paper():
    """Recomputed from the iterates alone: ||grad f_m(anchor_m) - grad f_m(theta^k)||^2 and T^k, LAG (7a)."""
    limits, lefts, course = recorded(RECIPES["lag-wk"].row)
    problems, a = own_problems("squares", shards_for("squares", WORKERS)), course.server.step_size
    for m, problem in enumerate(problems):
        anchor, now, then = course.thetas[0], np.empty(problem.dim), np.empty(problem.dim)
        for k in range(1, len(course.thetas)):
            theta = course.thetas[k - 1]
            problem.value_and_gradient(theta, now)
            problem.value_and_gradient(anchor, then)
            if k > 1:
                np.testing.assert_allclose(lefts[k - 1, m], squared(now - then), rtol=1e-6, atol=1e-18)
                steps = [squared(course.thetas[k - d] - course.thetas[k - d - 1]) for d in range(1, min(10, k - 1) + 1)]
                np.testing.assert_allclose(limits[k - 1], 0.1 * sum(steps) / (a * WORKERS) ** 2, rtol=1e-9)
            if course.masks[k - 1][m]:
                anchor = theta
    assert limits[0] == -math.inf
    assert 0 < course.uploads[1:].sum() < course.uploads[1:].size


def test_left_sides_of_lag_ps_are_those_of_the_paper():
    """L_m^2 ||anchor_m - theta^k||^2, LAG (7b), of everyone, asked or not."""
    limits, lefts, course = recorded(RECIPES["lag-ps"].row)
    squares = course.server.smoothness**2
    for m in range(WORKERS):
        anchor = course.thetas[0]
        for k in range(2, len(course.thetas)):
            theta = course.thetas[k - 1]
            np.testing.assert_allclose(lefts[k - 1, m], squares[m] * squared(anchor - theta), rtol=1e-9)
            if course.masks[k - 1][m]:
                anchor = theta
    assert np.isnan(lefts[0]).all()
    np.testing.assert_array_equal(lefts[1:] > limits[1:, None], course.uploads[1:])


ROWS = {
    "innovation": Algorithm(trigger=Innovation()),
    "same_sample": Algorithm(trigger=SameSample(), **MINI),
    "snapshot": Algorithm(trigger=Snapshot(refresh=4), **MINI),
    "relative": RECIPES["clag"].row,
    "relative, zeta 0": Algorithm(trigger=Relative(0.0)),
    "max_age": Algorithm(trigger=MaxAge(Innovation(xi=1.0), rounds=5)),
    "lag-ps, due by age": Algorithm(selection=SmoothnessDrift(max_age=5)),
}


@pytest.mark.parametrize("name", ROWS)
def test_what_is_noted_is_what_was_decided(name):
    """Wherever sides were compared, who spoke is who exceeded; where none was, it was a forced round or due by age."""
    row = ROWS[name]
    limits, lefts, course = recorded(row)
    due = isinstance(row.trigger, MaxAge)
    by_ratio = row.trigger.lazy and row.threshold is None
    right = np.broadcast_to(1.0 if by_ratio else limits[:, None], lefts.shape)
    compared = ~np.isnan(lefts)
    if name == "lag-ps, due by age":
        assert (course.uploads | ~compared)[lefts > right].all()
        assert (course.uploads & compared & (lefts <= right)).any()
    else:
        np.testing.assert_array_equal((lefts > right)[compared], course.uploads[compared])
        assert course.uploads[~compared].all()
    assert (~compared[2:]).any() == due
    if name != "relative, zeta 0":
        assert not course.uploads.all()


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    made = tmp_path_factory.mktemp("explained")
    for recipe in ("lag-wk", "lag-ps", "cyc-iag", "gd"):
        config = parse(tiny(algorithm=recipe, name=recipe, stop={"max_rounds": 40}))
        simulate(Plan(config, made / recipe, quiet=True))
    config = parse(tiny(algorithm="lag-wk", trace={"decisions": False}))
    simulate(Plan(config, made / "untold", quiet=True))
    simulate(Plan(parse(tiny(repeat=2)), made / "repeated", quiet=True))
    return made


def test_every_decision_of_a_folder(folders):
    found = Decisions(folders / "lag-wk")
    for k in range(1, 41):
        for m in range(3):
            told = found.of(k, m)
            assert told.uploaded == found.uploads[k - 1, m]
            last = [j for j in range(1, k) if found.uploads[j - 1, m]]
            assert told.age == (k - last[-1] if last else None)
            if k == 1:
                assert (told.at_half, told.at_double, told.ratio) == (True, True, None)
                assert told.why == "everyone uploads in round 1"
                continue
            assert told.uploaded == (told.left > told.right)
            assert told.ratio == told.left / told.right
            assert told.at_half == (told.left > told.right / 2)
            assert told.at_double == (told.left > told.right * 2)
            assert told.why == ("left > right" if told.uploaded else "left <= right")


def test_whom_the_server_did_not_ask(folders):
    found = Decisions(folders / "lag-ps")
    told = [found.of(k, m) for k in range(2, 41) for m in range(3)]
    assert {one.why for one in told} == {"asked: left > right", "not asked: left <= right"}
    assert all(one.asked == one.uploaded == (one.left > one.right) for one in told)
    turns = Decisions(folders / "cyc-iag")
    assert [turns.of(k, k % 3).why for k in range(2, 9)] == ["asked by selection `cyclic`"] * 7
    assert turns.of(5, 0).why == "not asked: selection `cyclic`"
    assert turns.of(5, 0).at_half is None
    assert Decisions(folders / "gd").of(9, 1).why == "everyone uploads in every round"


def test_whom_the_server_had_to_ask_by_age(tmp_path):
    """Ages as the selection counts them: who is due is asked whatever the threshold."""
    most, workers = 3, 3
    row = {"recipe": "lag-ps", "selection": {"max_age": most}}
    simulate(Plan(parse(tiny(algorithm=row, stop={"max_rounds": 60})), tmp_path / "run", quiet=True))
    found, ages, seen = Decisions(tmp_path / "run"), np.zeros(workers, int), []
    for k in range(2, 61):
        for m in range(workers):
            told, due = found.of(k, m), ages[m] > most
            assert told.asked == (due or told.left > told.right)
            assert told.at_half == (due or told.left > told.right / 2)
            assert told.at_double == (due or told.left > told.right * 2)
            assert told.why == (
                "asked: due by age" if due else "asked: left > right" if told.asked else "not asked: left <= right"
            )
            ages[m] = 1 if told.asked else ages[m] + 1
            seen.append((due, told.left > told.right))
    assert {(True, False), (False, True), (False, False)} <= set(seen)


def test_a_run_that_was_cut_off_in_a_round(folders, tmp_path):
    for name in ("config.yaml", "uploads.bin"):
        (tmp_path / name).write_bytes((folders / "lag-wk" / name).read_bytes())
    whole = (folders / "lag-wk" / DECISIONS).read_bytes()
    size = record_dtype(3).itemsize
    assert len(whole) == 40 * size
    (tmp_path / DECISIONS).write_bytes(whole[: 17 * size + 5])
    told = report(tmp_path, None, None)
    assert (told["round"], told["rounds"]) == (17, 17)
    assert told["state"] == "cut off"
    assert told["decisions"] == report(folders / "lag-wk", 17, None)["decisions"]
    assert typed(tmp_path).startswith("lag-wk, round 17 of 17 so far (the run was cut off): 3 of 3 workers asked, ")


@pytest.mark.parametrize(
    ("name", "change", "sentence"),
    [
        (DECISIONS, lambda was: was[:1000], "decisions.bin holds 30 of 40 rounds"),
        ("uploads.bin", lambda was: was[:10], "uploads.bin holds 10 of 40 rounds"),
        (
            DECISIONS,
            lambda was: bytes(reversed(was)),
            "decisions.bin, uploads.bin and config.yaml do not belong together",
        ),
        ("config.yaml", lambda was: was.replace(b"workers: 3", b"workers: 2"), "is damaged"),
    ],
)
def test_a_run_that_is_damaged(folders, tmp_path, name, change, sentence):
    shutil.copytree(folders / "lag-wk", tmp_path / "run")
    path = tmp_path / "run" / name
    path.write_bytes(change(path.read_bytes()))
    said = typed(tmp_path / "run")
    assert "is damaged: " in said
    assert sentence in said


@pytest.mark.parametrize("workers", [1, 8, 9, 200])
def test_records_there_and_back(workers, tmp_path):
    rng = np.random.default_rng(workers)
    recorder, rounds = Recorder(workers), 5
    lefts, limits = rng.random((rounds, workers)), rng.random(rounds)
    asked = rng.random((rounds, workers)) < 0.5
    asked[0] = True
    chosen = [None, *[np.flatnonzero(row) for row in asked[1:]]]
    rows = [bytes(recorder.packed(*each)) for each in zip(limits, chosen, lefts, strict=True)]
    (tmp_path / "d.bin").write_bytes(b"".join(rows))
    found = read_decisions(tmp_path / "d.bin", workers)
    np.testing.assert_array_equal(found["limit"], limits)
    np.testing.assert_array_equal(found["left"], lefts)
    np.testing.assert_array_equal(asked_in(found, workers), asked)


def typed(*arguments):
    done = CliRunner().invoke(cli, ["explain", *map(str, arguments)])
    if isinstance(done.exception, ConfigError):
        return str(done.exception)
    assert done.exit_code == 0, done.output
    return done.output


def test_on_the_terminal(folders):
    table = typed(folders / "lag-wk", "--round", 12)
    assert table.startswith("lag-wk, round 12 of 40: 3 of 3 workers asked, ")
    assert "trigger `innovation`: Upload when ||contribution - mirror||^2 > T^k, LAG (7a)" in table
    found = Decisions(folders / "lag-wk")
    for m in range(3):
        assert f"{found.of(12, m).left:.6g}" in table
    k = next(k for k in range(10, 41) if found.uploads[k - 1, 1])
    told = found.of(k, 1)
    one = " ".join(typed(folders / "lag-wk", "--round", k, "--worker", 1).split())
    assert f"worker 1 uploaded in round {k}: left > right ({told.left:.6g} against {told.right:.6g}" in one
    assert f"Its last upload was {told.age} round" in one
    assert f"at double: it {'uploads' if told.at_double else 'stays silent'}." in one
    assert typed(folders / "gd", "--round", 9).splitlines() == [
        "gd, round 9 of 40: 3 of 3 workers asked, 3 uploaded",
        "everyone uploads in every round: there is no rule to explain",
    ]
    plain = json.loads(typed(folders / "lag-wk", "--round", k, "--worker", 1, "--json"))
    assert len(plain["decisions"]) == 9
    assert plain["decisions"][-1]["left"] == told.left
    assert plain["uploads_of_worker"] == (1 + np.flatnonzero(found.uploads[:, 1])).tolist()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["nowhere"], "nowhere: there is no such folder"),
        (["."], "holds no run: config.yaml is missing"),
        (["lag-wk", "--round", 41], "--round 41: the run has rounds 1 to 40"),
        (["lag-wk", "--round", 0], "--round 0: the run has rounds 1 to 40"),
        (["lag-wk", "--worker", 3], "--worker 3: the run has workers 0 to 2"),
        (["untold"], "holds no decisions.bin: the run was made with `trace.decisions: false`"),
        (["repeated"], "holds means over replicas: name one, as "),
    ],
)
def test_wrong_input(folders, arguments, sentence):
    folder, *rest = arguments
    assert sentence in typed(folders / folder, *rest)
