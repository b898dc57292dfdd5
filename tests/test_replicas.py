"""`repeat`: the replicas are ordinary runs, and what is told of them together is their mean and its standard error."""

import json
import math
from dataclasses import replace

import mpi_jobs
import numpy as np
import pytest
from click.testing import CliRunner
from helpers import tiny

import psopt
from psopt.cli import cli
from psopt.config import parse
from psopt.errors import ConfigError, WorkerFailed
from psopt.runs.experiment import Plan, simulate
from psopt.runs.folder import load_run
from psopt.runs.replicas import mean_records

NOISY = tiny(
    problem={"kind": "noisy-kink", "copies": 2},
    data="none",
    algorithm={"recipe": "local-sgd", "work": {"batch": 1, "draw": "replace"}, "step_size": 0.05},
    stop={"max_steps": 40},
    f_star=0.0,
)


def test_replicas_have_the_bits_of_runs_with_their_seeds(tmp_path):
    config = parse({**NOISY, "repeat": 4})
    done = simulate(Plan(config, tmp_path / "r", quiet=True))
    alone = [simulate(Plan(parse({**NOISY, "seed": seed}), quiet=True)) for seed in (3, 4, 5, 6)]
    assert len({run.theta_sha256 for run in alone}) == 4
    np.testing.assert_array_equal(done.theta, [run.theta for run in alone])
    for number, run in enumerate(alone):
        kept = load_run(tmp_path / "r" / f"replica-00{number}")
        assert (kept.theta_sha256, kept.config_sha256) == (run.theta_sha256, run.config_sha256)
        assert kept.theta.tobytes() == run.theta.tobytes()
        np.testing.assert_array_equal(kept.uploads, run.uploads)
        for name in set(run.trace) - {"compute_s", "serialise_s", "wait_s", "rest_s"}:
            np.testing.assert_array_equal(kept.trace[name], run.trace[name])
        assert parse(kept.config) == parse(run.config)
        np.testing.assert_array_equal(done.replicas[number].theta, run.theta)
    assert [path.name for path in sorted((tmp_path / "r").glob("replica-*"))] == [f"replica-00{n}" for n in range(4)]


def test_means_and_standard_errors(tmp_path):
    done = simulate(Plan(parse({**NOISY, "repeat": 5}), tmp_path / "r", quiet=True))
    gaps = np.array([run.trace["gap"] for run in done.replicas])
    np.testing.assert_allclose(done.trace["gap"], gaps.mean(axis=0), rtol=1e-14)
    np.testing.assert_allclose(done.trace["gap_se"], gaps.std(axis=0, ddof=1) / math.sqrt(5), rtol=1e-14)
    assert done.gap == pytest.approx(gaps[:, -1].mean(), rel=1e-14)
    assert done.gap_se == pytest.approx(done.trace["gap_se"][-1], rel=1e-14)
    assert (done.repeat, done.seed, done.rounds, done.status, done.stop_reason) == (5, 3, 3, "ok", "max_steps")
    assert done.summary["uploads"] == 9
    assert done.summary["uploads_se"] == 0.0
    assert done.test_accuracy is None
    assert done.uploads.tolist() == [[1.0] * 3] * 3
    again = load_run(tmp_path / "r")
    assert again.summary == done.summary
    np.testing.assert_array_equal(again.theta, done.theta)
    np.testing.assert_array_equal(again.trace["gap_se"], done.trace["gap_se"])
    np.testing.assert_array_equal(again.uploads, done.uploads)
    assert [run.gap for run in again.replicas] == [run.gap for run in done.replicas]
    assert [run.config for run in again.replicas] == [run.config for run in done.replicas]
    assert np.isnan(again.trace["test_loss_se"]).all()


def test_a_standard_error_that_overflows_is_none():
    traces = [{"round": np.array([0]), "objective": np.array([value])} for value in (1e200, 3e200)]
    assert mean_records(traces) == [{"round": 0, "objective": 2e200, "objective_se": None}]


def test_the_standard_error_shrinks_as_it_should():
    """Over many replicas it is the spread of single runs over the root of their number."""
    done = simulate(Plan(parse({**NOISY, "repeat": 60}), quiet=True))
    gaps = np.array([run.gap for run in done.replicas])
    assert done.gap_se == pytest.approx(gaps.std(ddof=1) / math.sqrt(60))
    halves = [gaps[:30].mean(), gaps[30:].mean()]
    assert abs(halves[0] - halves[1]) < 5 * 2 * done.gap_se


def test_a_replica_that_stopped_early_counts_with_its_last_record():
    short = {"round": np.array([0, 2, 3]), "gap": np.array([8.0, 4.0, 2.0])}
    long = {"round": np.array([0, 2, 4, 6]), "gap": np.array([6.0, 5.0, 3.0, 1.0])}
    records = mean_records([short, long])
    assert [record["round"] for record in records] == [0, 2, 3, 4, 6]
    assert [record["gap"] for record in records] == [7.0, 4.5, 3.5, 2.5, 1.5]
    assert records[0]["gap_se"] == pytest.approx(1.0)
    config = parse(tiny(stop={"gap": 1e-3, "max_rounds": 400}, repeat=3))
    done = simulate(Plan(config, quiet=True))
    rounds = [run.rounds for run in done.replicas]
    assert len(set(rounds)) > 1  # other data for each seed
    assert done.uploads.shape == (max(rounds), 3)
    assert done.rounds == pytest.approx(np.mean(rounds))
    assert done.uploads.sum() == pytest.approx(done.summary["uploads"])


def test_data_that_does_not_depend_on_the_seed_is_read_once(monkeypatch):
    from psopt.data import shards

    reads, bundled = [], shards.named.bundled
    monkeypatch.setattr(shards.named, "bundled", lambda *names: reads.append(names) or bundled(*names))
    config = tiny(data={"source": "ionosphere", "partition": "iid"}, problem="logistic", repeat=3)
    done = simulate(Plan(parse(config), quiet=True))
    assert len(reads) == 1
    alone = simulate(Plan(parse({**config, "repeat": 1, "seed": 5}), quiet=True))
    assert done.replicas[2].theta_sha256 == alone.theta_sha256


def test_a_failing_replica_is_named_and_the_others_stay(tmp_path):
    config = parse({**NOISY, "repeat": 3, "problem": {"kind": "noisy-quadratic"}, "stop": {"max_steps": 4000}})
    hot = replace(config.algorithm, step_size=replace(config.algorithm.step_size, initial=1e3))
    with pytest.raises(WorkerFailed, match=r"^replica 0 of 3, seed 3: ### worker 0 of 3"):
        simulate(Plan(replace(config, algorithm=hot), tmp_path / "r", quiet=True))
    summary = json.loads((tmp_path / "r" / "summary.json").read_text())
    assert summary["status"].startswith("failed: replica 0 of 3, seed 3")
    assert summary["replicas_done"] == 0
    with pytest.raises(ConfigError, match="already holds a run"):
        simulate(Plan(config, tmp_path / "r", quiet=True))


class Half:
    """Rank 0 of a job of two, whose other rank has just told ``other``; what rank 0 tells is kept."""

    rank, size, host = 0, 2, "here"

    def __init__(self, *others):
        self.others, self.told = list(others), []

    def gather(self, value, timeout_s):
        self.told.append((value, timeout_s))
        return [value, self.others.pop(0)]


def test_what_other_ranks_finished_in_a_wave_is_kept_when_one_fails(tmp_path, monkeypatch):
    from psopt.runs import replicas

    config = parse({**NOISY, "repeat": 2})
    other = simulate(Plan(replicas.replica_config(config, 1), quiet=True))
    plan = Plan(config, tmp_path / "r", quiet=True)
    create = replicas.run_folder.create
    monkeypatch.setattr(
        replicas, "_create", lambda plan, link, done, held: create(plan.folder, config.to_yaml(), {}) or {}
    )
    monkeypatch.setattr(replicas, "_prepared", lambda *ignored: 0.0)

    def fails(plan):
        raise ConfigError("broken")

    link = Half([replicas._told(other), None])
    with pytest.raises(ConfigError, match=r"^replica 0 of 2, seed 3: broken"):
        replicas.run_replicas(plan, link, fails, None, None)
    assert link.told == [([None, ["ConfigError", "replica 0 of 2, seed 3: broken"]], config.timeouts.replica_s)]
    assert load_run(tmp_path / "r" / "replica-001").theta_sha256 == other.theta_sha256
    assert json.loads((tmp_path / "r" / "summary.json").read_text())["replicas_done"] == 1


def test_a_run_that_went_wrong_is_warned_of_once(capsys):
    hot = {"recipe": "local-sgd", "work": {"batch": 1, "draw": "replace"}, "step_size": 0.9}
    config = parse({**NOISY, "repeat": 3, "algorithm": hot})
    done = simulate(Plan(config, quiet=True))
    assert done.objective > done.trace["objective"][0]
    assert capsys.readouterr().err.count("psopt: WARNING: the objective ended at") == 1


def test_from_the_command_line_and_from_python(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text(json.dumps({**NOISY, "repeat": 3}))
    ended = CliRunner().invoke(cli, ["simulate", str(path), "--out", str(tmp_path / "r")], standalone_mode=False)
    assert ended.return_value == 0
    assert "3: means, and standard errors of them" in ended.output
    assert "+-" in ended.output
    row = {"recipe": "sgd", "step_size": 0.01}
    rng = np.random.default_rng(0)
    data = rng.standard_normal((40, 3)), np.where(rng.random(40) < 0.5, 1.0, -1.0)
    run = psopt.minimize("logistic", data, row, 2, stop={"max_rounds": 5}, repeat=4)
    assert run.theta.shape == (4, 3)
    assert run.objective_se > 0


def test_wrong_numbers_of_replicas():
    for wrong in (0, -1, 1.5, "many"):
        with pytest.raises(ConfigError, match="repeat: found"):
            parse({**NOISY, "repeat": wrong})


@pytest.mark.mpi
@pytest.mark.parametrize("ranks", [2, 4])
def test_the_same_bits_on_any_number_of_ranks(tmp_path, ranks):
    path = tmp_path / "c.yaml"
    path.write_text(json.dumps({**NOISY, "repeat": 5}))
    here = simulate(Plan(parse({**NOISY, "repeat": 5}), quiet=True))
    ended = mpi_jobs.psopt("run", path, "--ranks", ranks, "--out", tmp_path / "r", timeout_s=60)
    assert ended.code == 0, ended.err
    assert "+-" in ended.out
    there = load_run(tmp_path / "r")
    assert there.theta_sha256 == here.theta_sha256
    assert (there.ranks, there.gap, there.gap_se) == (ranks, here.gap, here.gap_se)
    assert len(list((tmp_path / "r").glob("replica-*/summary.json"))) == 5
    np.testing.assert_array_equal(there.trace["gap_se"], here.trace["gap_se"])


@pytest.mark.mpi
def test_a_failing_replica_ends_every_rank_with_its_sentence(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text(json.dumps({**NOISY, "repeat": 5, "stop": {"max_steps": 4000}, "problem": "noisy-quadratic"}))
    command = ["-m", "psopt", "run", path, "--set", "algorithm.step_size=1000.0", "--out", tmp_path / "r"]
    ended = mpi_jobs.mpiexec(3, *command, timeout_s=60)
    assert ended.code == 1
    assert "replica 0 of 5, seed 3: ### worker 0 of 3" in ended.err
    assert "pseudo-gradient of worker 0 is not finite" in ended.err
