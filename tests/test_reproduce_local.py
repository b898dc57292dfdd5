"""The Local SGD paper's experiments: their tables against theory, a plain simulation and what was published."""

import json
import shutil
import sys

import mpi_jobs
import numpy as np
import pytest
from helpers import Alone

from psopt import commands
from psopt.__main__ import guarded
from psopt.config import parse
from psopt.errors import ConfigError
from psopt.parts import plans
from psopt.runs import local_experiments as experiments
from psopt.runs import reproduce_local as tables
from psopt.runs.experiment import simulate
from psopt.runs.local_experiments import PLANS, SINGLE, Cell, settle

KEYS = [
    "experiment",
    "plan",
    "workers",
    "steps",
    "rounds",
    "error",
    "standard_error",
    "speed_up",
    "speed_up_standard_error",
    "repetitions",
    "uploads",
    "payload_bytes_up",
    "wall_s",
]


@pytest.fixture
def ran(monkeypatch):
    """The folders of the runs that `reproduce` makes, in process instead of over MPI."""
    folders = []

    def run(plan, link):
        folders.append(plan.folder.name)
        return simulate(plan)

    monkeypatch.setattr(tables, "run", run)
    return folders


def reproduce(out, experiment, **given):
    table = tables.reproduce(Alone(), settle(experiment, given), out)
    assert table == json.loads((out / "table.json").read_text())
    assert table["schema"] == 1
    assert all(list(row) == KEYS for row in table["rows"])
    return {(row["plan"], row["workers"]): row for row in table["rows"]}


@pytest.fixture(scope="module")
def adult(tmp_path_factory):
    """Rows like those of a9a: 14 of 123 features, coded 1, and a label that depends on them."""
    rng = np.random.default_rng(3)
    path = tmp_path_factory.mktemp("data") / "a9a"
    truth = rng.standard_normal(124)
    lines = []
    for _ in range(300):
        features = np.sort(rng.choice(np.arange(1, 124), 14, replace=False))
        label = "+1" if truth[features].sum() + rng.standard_normal() > 0 else "-1"
        lines.append(" ".join([label, *(f"{j}:1" for j in features)]))
    path.write_text("\n".join(lines) + "\n")
    return path


# What is run.


@pytest.mark.parametrize("experiment", ["quadratic", "speedup"])
@pytest.mark.parametrize("plan", [*PLANS, SINGLE])
def test_the_noisy_experiments_are_the_papers(experiment, plan):
    wanted = settle(experiment, {})
    config = parse(experiments.config_of(wanted, Cell(plan, 20, 0, 7)))
    row, t = config.algorithm, np.arange(1000)
    sizes = 3 / (t + 1) if experiment == "quadratic" else np.minimum(2 / (t + 1), 0.5)
    np.testing.assert_allclose(row.step_size.at(row.step_size.initial, t + 1), sizes, rtol=1e-15)
    assert (config.workers, config.stop.max_steps, row.work.batch, row.work.draw) == (20, 1000, 1, "replace")
    assert config.problem.options["copies"] == 7
    rounds, count = plans.Rounds(row.plan, 1000, 20), 0
    while rounds.advance():
        count += 1
    expected = {"every": 1000, "constant": 20, "growing": 20, "growing-3/4": 10, "growing-1/2": 5, "one-shot": 1}
    assert count == {**expected, SINGLE: 1}[plan]


def test_a9a_is_the_papers():
    wanted = settle("a9a", {"data": "somewhere", "rounds": 5})
    config = parse(experiments.config_of(wanted, Cell("growing", 64, 3, 1)))
    row = config.algorithm
    assert (config.workers, config.seed, config.stop.max_steps, row.plan) == (64, 3, 4096, plans.Growing(5))
    assert row.step_size.at(row.step_size.initial, 6) == 0.5
    assert (config.problem.options["l2"], config.f_star, config.data.partition.kind) == (1, 0.5930221808, "replicated")
    assert [(cell.workers, cell.seed) for cell in experiments.cells(wanted)] == [
        (n, seed) for n in (1, 8, 64, 256) for seed in range(1, 11)
    ]


def test_repetitions_go_down_as_steps_go_up():
    assert settle("speedup", {"steps": 1000}).repetitions == 8000
    assert settle("speedup", {"steps": 8000}).repetitions == 1000
    assert settle("speedup", {"steps": 10**8}).repetitions == 1
    assert settle("quadratic", {}).repetitions == 400
    wanted = settle("speedup", {"workers": "4,2,4", "plans": "one-shot, growing", "repetitions": 3})
    assert [(cell.plan, cell.workers, cell.copies) for cell in experiments.cells(wanted)] == [
        (SINGLE, 1, 60),
        ("one-shot", 4, 3),
        ("growing", 4, 3),
        ("one-shot", 2, 3),
        ("growing", 2, 3),
    ]


# What comes out.


def test_rows_of_every_plan_and_nothing_is_run_twice(tmp_path, ran):
    given = {"steps": 60, "workers": "3,5", "repetitions": 30}
    rows = reproduce(tmp_path, "quadratic", **given)
    assert list(rows) == [(SINGLE, 1), *((plan, n) for n in (3, 5) for plan in PLANS)]
    assert len(ran) == len(set(ran)) == 13
    single = rows[SINGLE, 1]
    assert (single["speed_up"], single["speed_up_standard_error"], single["repetitions"]) == (1.0, 0.0, 600)
    for (plan, workers), row in rows.items():
        assert row["uploads"] == row["rounds"] * workers
        assert row["payload_bytes_up"] == row["uploads"] * 8 * 3 * row["repetitions"]
        assert row["speed_up"] == single["error"] / row["error"]
        assert (plan == SINGLE) or row["repetitions"] == 30
    assert [rows[plan, 5]["rounds"] for plan in PLANS] == [60, 5, 5, 4, 3, 1]

    made = dict.fromkeys(ran)
    assert reproduce(tmp_path, "quadratic", **given) == rows
    assert len(ran) == len(made)
    more = reproduce(tmp_path, "quadratic", **{**given, "workers": "3,6", "plans": "growing"})
    assert ran[13:] == ["quadratic-growing-6"]
    assert more["growing", 3] == rows["growing", 3]
    with pytest.raises(ConfigError, match="another config"):
        reproduce(tmp_path, "quadratic", **{**given, "steps": 61})


def test_a_cut_off_run_goes_on_or_is_made_again(tmp_path, ran):
    given = {"steps": 20, "workers": "2", "repetitions": 3, "plans": "one-shot"}
    first = reproduce(tmp_path, "speedup", **given)
    for _ in range(2):
        (tmp_path / "speedup-one-shot-2" / "summary.json").unlink()
        second = reproduce(tmp_path, "speedup", **given)
        assert second["one-shot", 2]["error"] == first["one-shot", 2]["error"]
        shutil.rmtree(tmp_path / "speedup-one-shot-2" / "checkpoints")
    assert ran == ["speedup-single-1", *["speedup-one-shot-2"] * 3]
    assert [path.name for path in tmp_path.glob("*.cut-off-1")] == ["speedup-one-shot-2.cut-off-1"]


def simulated(instants, workers, steps, repetitions, rng):
    """The errors of ``repetitions`` averages on the kink, by the paper's formulas alone."""
    x = np.full((workers, repetitions), 2.0)
    for t in range(steps):
        gradient = np.where(x >= 0, 2 * x, x) + 8 * rng.standard_normal(x.shape)
        x = x - min(2 / (t + 1), 0.5) * gradient
        if t + 1 in instants:
            x = np.broadcast_to(x.mean(axis=0), x.shape)
    end = x.mean(axis=0)
    return np.where(end >= 0, end**2, end**2 / 2)


def test_the_kink_is_as_a_plain_simulation_has_it(tmp_path, ran):
    workers, steps, rng = 8, 200, np.random.default_rng(1)
    rows = reproduce(tmp_path, "speedup", steps=steps, workers="8", repetitions=6000, plans="growing,one-shot,every")
    growing = [200 * i * (i + 1) // 72 for i in range(1, 9)]
    for plan, number, instants in (
        (SINGLE, 1, [steps]),
        ("growing", workers, growing),
        ("one-shot", workers, [steps]),
        ("every", workers, range(1, steps + 1)),
    ):
        row, errors = rows[plan, number], simulated(instants, number, steps, 20000 if plan == SINGLE else 6000, rng)
        spread = np.hypot(row["standard_error"], errors.std(ddof=1) / np.sqrt(errors.size))
        assert abs(row["error"] - errors.mean()) < 4 * spread, (row, errors.mean())
        assert spread < 0.03 * row["error"]
    assert rows["one-shot", 8]["speed_up"] < rows["growing", 8]["speed_up"] < 8


def test_speed_ups_as_published(tmp_path, ran):
    rows = reproduce(tmp_path, "speedup", workers="20", repetitions=4000, plans="growing,one-shot")
    assert rows[SINGLE, 1]["error"] == pytest.approx(0.0403, rel=0.1)
    for plan in ("growing", "one-shot"):
        assert rows[plan, 20]["speed_up"] == pytest.approx(experiments.SPEED_UPS[plan, 20], rel=0.1)
        assert rows[plan, 20]["speed_up_standard_error"] < 0.04 * rows[plan, 20]["speed_up"]


def test_a9a_has_a_run_a_seed_and_a_slope(tmp_path, ran, adult, capsys):
    given = {"steps": 300, "workers": "4,1,16", "seeds": "1,2,3", "rounds": 6, "data": str(adult)}
    rows = reproduce(tmp_path, "a9a", **given)
    assert ran == [f"a9a-{n}-{seed}" for n in (4, 1, 16) for seed in (1, 2, 3)]
    assert list(rows) == [("growing", 4), ("growing", 1), ("growing", 16)]
    table = json.loads((tmp_path / "table.json").read_text())
    for (_, workers), row in rows.items():
        assert (row["rounds"], row["repetitions"], row["uploads"]) == (6, 3, 6 * workers)
        assert row["payload_bytes_up"] == row["uploads"] * 8 * 123
        assert row["speed_up"] == rows["growing", 1]["error"] / row["error"]
        gaps = [json.loads((tmp_path / f"a9a-{workers}-{s}" / "summary.json").read_text())["gap"] for s in (1, 2, 3)]
        assert row["error"] == pytest.approx(np.mean(gaps), rel=1e-12)
        assert row["standard_error"] == pytest.approx(np.std(gaps, ddof=1) / np.sqrt(3), rel=1e-12)
    logs = np.log([(row["workers"], row["error"]) for row in table["rows"]])
    x, y = (logs - logs.mean(axis=0)).T
    assert table["slope"] == pytest.approx((x @ y) / (x @ x))
    tables.show(table)
    assert f"slope of log error in log N: {table['slope']:.2f}" in capsys.readouterr().out


def test_what_is_not_known_is_left_out(tmp_path, ran, adult, capsys):
    given = {"steps": 50, "workers": "2", "seeds": "1", "rounds": 2, "data": str(adult)}
    (row,) = reproduce(tmp_path, "a9a", **given).values()
    assert (row["standard_error"], row["speed_up"], row["speed_up_standard_error"]) == (None, None, None)
    table = json.loads((tmp_path / "table.json").read_text())
    assert table["slope"] is None
    tables.show(table)
    assert "slope" not in capsys.readouterr().out
    kink = {"steps": 5, "workers": "2", "repetitions": 1, "plans": "every"}
    with pytest.raises(ConfigError, match=r"already holds another experiment's table\.json: choose another folder"):
        reproduce(tmp_path, "speedup", **kink)
    assert json.loads((tmp_path / "table.json").read_text()) == table
    rows = reproduce(tmp_path / "kink", "speedup", **kink)
    assert rows["every", 2]["standard_error"] is rows["every", 2]["speed_up_standard_error"] is None
    assert rows["every", 2]["speed_up"] > 0


def test_published_values_are_shown_where_there_are_any(capsys):
    def found(error):
        return tables.Found(np.array([error, error]), 1, 1, 8, 0.5)

    wanted = settle("speedup", {})
    table = tables.table_of(wanted, {(SINGLE, 1): found(0.04), ("growing", 16): found(0.003), ("every", 16): found(1)})
    tables.show(table)
    lines = capsys.readouterr().out.splitlines()
    assert sum("0.0403" in line for line in lines) == 1
    assert sum("13.7" in line and "13.33" in line for line in lines) == 1
    for experiment, steps in (("quadratic", 999), ("speedup", 8000), ("a9a", 4095)):
        assert experiments.published(experiment, steps, "growing", 20) == (None, None)
    assert experiments.published("quadratic", 1000, "every", 20) == (3.16e-5, None)
    assert experiments.published("a9a", 4096, "growing", 8) == (6.3e-5, None)


# What is refused.


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("quadratic --plans every,never", "--plans 'every,never': expected a list of every, constant, growing,"),
        ("quadratic --plans ,", "expected a list of"),
        ("quadratic --workers 4,0", "--workers '4,0': expected whole numbers, 1 or above"),
        ("speedup --workers four", "--workers 'four': expected whole numbers"),
        ("speedup --steps 0", "--steps 0: expected a whole number, 1 or above"),
        ("speedup --repetitions -2", "--repetitions -2: expected a whole number, 1 or above"),
        ("quadratic --seeds 1", "--seeds belongs to experiment a9a, not to quadratic"),
        ("speedup --data a9a", "--data belongs to experiment a9a, not to speedup"),
        ("a9a --data a9a --repetitions 3", "--repetitions belongs to experiment quadratic and speedup, not to a9a"),
        ("a9a --data a9a --seeds 1,-1", "--seeds '1,-1': expected whole numbers, 0 or above"),
        ("a9a --data a9a --seeds 1,x", "--seeds '1,x': expected whole numbers"),
        ("a9a --data a9a --rounds 0", "--rounds 0: expected a whole number, 1 or above"),
        ("a9a", "experiment a9a needs --data"),
    ],
)
def test_wrong_input_is_one_sentence_before_mpi_starts(monkeypatch, capsys, tmp_path, arguments, said):
    def never(*arguments):
        raise AssertionError("mpiexec would be started")

    monkeypatch.setattr(commands, "start", never)
    line = ["psopt", "reproduce", "local-sgd", "--experiment", *arguments.split(), "--out", str(tmp_path / "t")]
    monkeypatch.setattr(sys, "argv", line)
    assert guarded() == 2
    (sentence,) = capsys.readouterr().err.splitlines()
    assert said in sentence
    assert not (tmp_path / "t").exists()


def test_the_job_is_started_with_what_was_given(monkeypatch, tmp_path):
    started = []
    monkeypatch.setattr(commands, "start", lambda ranks, arguments: started.append((ranks, arguments)) or 0)
    given = {"steps": 7, "workers": "1", "plans": None, "repetitions": 5, "seeds": None, "rounds": None, "data": None}
    assert commands.reproduce_local("speedup", given, None, tmp_path) == 0
    expected = ["reproduce", "local-sgd", "--experiment", "speedup", "--out", str(tmp_path)]
    assert started == [(2, [*expected, "--steps", "7", "--workers", "1", "--repetitions", "5"])]


@pytest.mark.mpi
def test_the_quadratic_over_mpi_has_the_error_of_the_theory(tmp_path):
    """Per coordinate c the variance is a^2 sigma^2 / (2 a c - 1) / (N T): a = 3, sigma = 1/2, c = 1, 2, 3."""
    options = ["--steps", 1000, "--workers", 4, "--repetitions", 2000, "--plans", "constant,growing,one-shot"]
    command = ("reproduce", "local-sgd", "--experiment", "quadratic", *options, "--ranks", 3)
    ended = mpi_jobs.psopt(*command, "--out", tmp_path / "t", timeout_s=60)
    assert ended.code == 0, ended
    rows = json.loads((tmp_path / "t" / "table.json").read_text())["rows"]
    assert [row["plan"] for row in rows] == [SINGLE, "constant", "growing", "one-shot"]
    for row in rows:
        theory = sum(c / 2 * 9 / 4 / (6 * c - 1) for c in (1, 2, 3)) / (row["workers"] * 1000)
        assert abs(row["error"] - theory) < 4 * row["standard_error"] + 0.01 * theory, row
        assert row["standard_error"] < 0.03 * row["error"]
    assert "averaging is free" in ended.out
