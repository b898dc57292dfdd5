"""What `failure.policy` promises: the run goes on without the workers it lost, with the same bits in process and over
MPI, and ends as it should; where MPI cannot do that, it is refused.
"""

import json
import os
import signal
import uuid
from contextlib import suppress
from dataclasses import replace

import mpi_jobs
import numpy as np
import pytest
from conftest import is_open_mpi

import psopt
from psopt.config import parse
from psopt.errors import ConfigError, WorkerFailed
from psopt.runs.experiment import Plan, simulate
from psopt.runs.resume import going_on

SHORT = ("lag-ps, in an evaluation", "sasg")
"""The cases that the default suite has; all of them: ``pytest -m long``, which ``make test-failures`` runs first."""
TOKEN = "PSOPT_TEST_TOKEN"
WHOLE = {
    "data": "lag-increasing",
    "f_star": "none",
    "trace": {"objective": False},
    "timeouts": {"round_s": 3, "idle_s": 8},
}
SPARSE = {"kind": "overwrite", "feedback": True, "scale": "step", "compressor": {"kind": "top_k", "count": 7}}
ROWS = {
    "lag-wk": "lag-wk",
    "lag-ps": {"recipe": "lag-ps", "step_size": 0.01},
    "cyc-iag": {"recipe": "cyc-iag", "step_size": 0.001},
    "num-iag": {"recipe": "num-iag", "step_size": 0.001},
    "ef21": {"recipe": "ef21", "step_size": 0.002, "codec": {"kind": "increment", "compressor": SPARSE["compressor"]}},
    "sasg": {"recipe": "sasg", "step_size": 0.002, "codec": SPARSE},
    "fedavg": {"recipe": "fedavg", "step_size": 0.0005, "selection": {"kind": "sampled", "count": 2}},
}
"""What runs in each recipe's name here."""


def config(recipe="lag-wk", policy="continue_stale", rounds=60, workers=3, **changes):
    """As data. The step sizes are numbers, so that the first gradient is that of round 1."""
    problem = {"kind": "mpi_problems:Leaving", **{key: changes.pop(key) for key in ("who", "when") if key in changes}}
    row = {"recipe": "lag-wk", "step_size": 0.005} if recipe == "lag-wk" else ROWS[recipe]
    base = {"workers": workers, "problem": problem, "algorithm": row, "stop": {"max_rounds": rounds}}
    return {**WHOLE, **base, "failure": {"policy": policy}, **changes}


def here(made, how="lose"):
    made = {**made, "problem": {**made["problem"], "how": how}}
    return simulate(Plan(parse(made), quiet=True))


def there(made, folder, how="die", ranks=4, code=0, **options):
    """Runs over MPI, and sees that it ends in time and leaves nobody behind."""
    path = folder / "config.yaml"
    path.write_text(json.dumps({**made, "problem": {**made["problem"], "how": how}}))
    token = uuid.uuid4().hex
    ended = mpi_jobs.psopt("run", path, "--ranks", ranks, "--out", folder / "run", **{TOKEN: token}, **options)
    assert ended.code == code, ended
    assert left_behind(token) == []
    return ended


def left_behind(token):
    """The processes of a job that are still there, which are ended."""
    found = mpi_jobs.bearing(token)
    for process in found:
        with suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)
    return list(found.values())


def same(one, other):
    assert one.theta_sha256 == other.theta_sha256
    assert (one.uploads == other.uploads).all()
    for name in ("rounds", "downloads", "skips", "payload_bytes_up", "payload_bytes_down", "gradient_evaluations"):
        assert one.summary[name] == other.summary[name], name
    assert [(lost["worker"], lost["round"]) for lost in one.lost] == [
        (lost["worker"], lost["round"]) for lost in other.lost
    ]


CASES = {
    "lag-wk, in a round": config("lag-wk", who="1", when="gradient:20"),
    "lag-wk, in round 1": config("lag-wk", "drop", who="2", when="gradient:1"),
    "lag-wk, in the last round": config("lag-wk", who="0", when="gradient:60"),
    "lag-wk, in an evaluation": config("lag-wk", "drop", who="1", when="gradient:20", trace={"every": 1}),
    "lag-ps, in an evaluation": config("lag-ps", "drop", who="1", when="value:20", trace={"every": 1}),
    "lag-ps": config("lag-ps", who="2", when="gradient:2"),
    "cyc-iag": config("cyc-iag", "drop", who="1", when="gradient:5"),
    "num-iag": config("num-iag", who="2", when="gradient:3"),
    "ef21": config("ef21", "drop", who="1", when="gradient:20"),
    "sasg": config("sasg", "drop", who="0", when="gradient:40"),
    "fedavg": config("fedavg", who="1", when="gradient:70"),
    "two in different rounds": config("lag-wk", "drop", who="0,2", when="gradient:20,gradient:30"),
    "two in one round": config("lag-wk", who="0,2", when="gradient:25"),
    "a rank of three workers": config("lag-wk", workers=6, who="1,3,5", when="gradient:20"),
}


@pytest.mark.mpi
@pytest.mark.open_mpi
@pytest.mark.parametrize(
    "case",
    [pytest.param(made, marks=() if name in SHORT else pytest.mark.long, id=name) for name, made in CASES.items()],
)
def test_same_bits_in_process_and_over_mpi(case, tmp_path):
    """SIGKILL to the rank of a worker about to answer, against the same worker lost in one process."""
    alone = here(case)
    several = case["workers"] == 6
    ended = there(case, tmp_path, ranks=3 if several else 4)
    done = psopt.load_run(tmp_path / "run")
    same(done, alone)
    assert (done.status, done.stop_reason) == ("ok", "max_rounds")
    lost = sorted(lost["worker"] for lost in done.lost)
    assert lost == [int(m) for m in case["problem"]["who"].split(",")]
    assert {lost["why"] for lost in done.lost} == {"its process died"}
    told = [line for line in ended.said if "lost: its process died; " in line]
    assert len(told) == (1 if several else len(lost)), ended
    assert all(line.startswith("psopt: round ") and line.endswith(" (failure.policy)") for line in told)
    assert "Traceback" not in ended.err, ended


@pytest.mark.parametrize("name", CASES)
def test_the_lost_neither_answer_nor_are_asked(name):
    """And what they said stays in the sum, or leaves it."""
    case = CASES[name]
    done, whole = here(case), here({**case, "problem": {**case["problem"], "when": "never:0"}})
    assert whole.lost == []
    assert "objective_full" not in whole.summary
    for lost in done.lost:
        before = lost["round"] - 1
        np.testing.assert_array_equal(done.uploads[: min(before, 9)], whole.uploads[: min(before, 9)])
        assert not done.uploads[lost["round"] :, lost["worker"]].any()
    assert sorted(lost["worker"] for lost in done.lost) == [int(m) for m in case["problem"]["who"].split(",")]
    assert done.theta_sha256 != whole.theta_sha256 or name == "lag-wk, in the last round"
    assert (done.objective_full is not None) == case["trace"].get("objective", True)
    assert done.downloads <= whole.downloads


def optimum(made, workers):
    """f* and the minimiser of the sum of some f_m, by NumPy from the shards."""
    from psopt.data import open_shards

    read = parse(made)
    shards = open_shards(read.data, read.workers, read.seed, "float64")
    x = np.vstack([shards.shard(m).features for m in workers])
    y = np.concatenate([shards.shard(m).labels for m in workers])
    theta = np.linalg.lstsq(x, y, rcond=None)[0]
    return theta, 0.5 * float(((x @ theta - y) ** 2).sum())


def test_drop_reaches_the_optimum_of_the_rest_and_both_gaps_are_told():
    changes = {"f_star": "auto", "stop": {"gap": 1e-8, "max_rounds": 5000}, "trace": {"every": 1}}
    made = config("lag-wk", "drop", who="1", when="gradient:20", **changes)
    done = here({**made, "algorithm": "lag-wk"})
    assert done.stop_reason == "gap"
    theta, f_rest = optimum(made, [0, 2])
    np.testing.assert_allclose(done.theta, theta, atol=1e-4)
    assert done.f_star == pytest.approx(f_rest, rel=1e-10)
    assert 0 <= done.gap <= 1e-8
    _, f_all = optimum(made, [0, 1, 2])
    assert done.gap_full == pytest.approx(done.objective_full - f_all, rel=1e-9)
    assert done.gap_full > 1e-3
    before = done.trace["gap"][:5]
    assert before[0] == pytest.approx(done.trace["objective"][0] - f_all, rel=1e-9)


def test_continue_stale_stays_nearer_to_the_whole_optimum_than_drop():
    changes = {"f_star": "auto", "stop": {"max_rounds": 1500}, "trace": {"every": 1}}
    stale, dropped = (
        here({**config("lag-wk", policy, who="1", when="gradient:200", **changes), "algorithm": "lag-wk"})
        for policy in ("continue_stale", "drop")
    )
    assert stale.gap_full < 0.1 * dropped.gap_full
    assert dropped.gap < 1e-6 < stale.gap


def test_without_f_star_of_the_rest_a_gap_alone_cannot_stop_the_run(capfd):
    made = config("lag-wk", who="1", when="gradient:20", f_star=1.0, trace={"every": 1})
    made["problem"]["kind"] = "mpi_problems:LeavingWithoutHessian"
    with pytest.raises(
        ConfigError, match=r"f\* of the workers that are left cannot be found, and nothing but `stop.gap`"
    ):
        here({**made, "stop": {"gap": 1e-8}})
    done = here({**made, "stop": {"gap": 1e-8, "max_rounds": 40}})
    assert (done.stop_reason, done.gap, done.f_star) == ("max_rounds", None, None)
    assert "cannot be found: the run stops by max_rounds" in capfd.readouterr().err


def test_with_stop_a_loss_ends_the_run():
    with pytest.raises(WorkerFailed, match=r"### worker 1 of 3, rank 0 on .*, round 20\nits process died"):
        here(config("lag-wk", "stop", who="1", when="gradient:20"))


def test_nobody_left_in_process():
    with pytest.raises(WorkerFailed, match=r"round 20: worker 2 .* is lost: its process died; no worker is left"):
        here(config("lag-wk", who="0,1,2", when="gradient:20"))


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"downlink": "changes"}, "failure.policy: `drop` cannot be used with `downlink: changes`, because the ranks'"),
        ({"repeat": 2}, "failure.policy: `drop` cannot be used with `repeat`, because a replica lives in one process"),
        ({"failure": {"policy": "go_on"}}, "found the text 'go_on', expected one of stop, continue_stale, drop"),
    ],
)
def test_what_makes_no_sense_is_refused(changes, sentence):
    with pytest.raises(ConfigError) as caught:
        parse({**config("lag-wk", "drop"), **changes})
    assert sentence in str(caught.value)


def lines_with(ended, words):
    return [line for line in ended.said if words in line]


@pytest.mark.mpi
@pytest.mark.open_mpi
@pytest.mark.parametrize(
    "how",
    [
        pytest.param("freeze", id="for good", marks=pytest.mark.long),
        pytest.param("freeze:4.5", id="and wakes while the run goes on", marks=pytest.mark.long),
    ],
)
def test_a_frozen_rank_is_lost_by_deadline(tmp_path, how):
    made = config("lag-wk", who="1", when="gradient:20", stop={"max_seconds": 7})
    ended = there(made, tmp_path, how=how)
    done = psopt.load_run(tmp_path / "run")
    assert [(lost["worker"], lost["round"]) for lost in done.lost] == [(1, 20)]
    assert done.lost[0]["why"] == "no answer within 3 s (timeouts.round_s)"
    assert done.rounds > 100
    assert len(lines_with(ended, "round 20: worker 1 (rank 2 on ")) == 1, ended
    assert len(lines_with(ended, "the server gave this rank up")) == (how != "freeze"), ended
    assert ended.seconds < 60


@pytest.mark.mpi
@pytest.mark.open_mpi
def test_a_worker_that_raises_is_lost_and_its_traceback_told_once(tmp_path):
    made = config("lag-wk", "drop", who="1", when="gradient:20")
    ended = there(made, tmp_path, how="raise")
    done = psopt.load_run(tmp_path / "run")
    same(done, here(made, how="raise"))
    assert done.lost[0]["why"] == "it raised ArithmeticError: the moon is in the wrong phase"
    assert len(lines_with(ended, "### worker 1 of 3, rank 2 on ")) == 1, ended
    assert len(lines_with(ended, "Traceback (most recent call last)")) == 1, ended


@pytest.mark.mpi
@pytest.mark.open_mpi
@pytest.mark.parametrize(
    ("how", "who", "code", "sentence"),
    [
        pytest.param("diverge", "1", 1, "nothing is finite any longer", marks=pytest.mark.long),
        ("die", "0,1,2", 1, "is lost: its process died; no worker is left"),
    ],
)
def test_what_no_policy_outlives(tmp_path, how, who, code, sentence):
    ended = there(config("lag-wk", who=who, when="gradient:20"), tmp_path, how=how, code=code)
    assert len(lines_with(ended, sentence)) == 1, ended
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["status"].startswith("failed: ")
    assert "Traceback" not in ended.err, ended


@pytest.mark.mpi
@pytest.mark.open_mpi
def test_the_server_dies(tmp_path):
    ended = there(config("lag-wk", who="1", when="gradient:20"), tmp_path, how="server", code=1)
    assert len(lines_with(ended, "psopt: the job died without a word")) == 1, ended
    assert ended.seconds < 60
    assert not (tmp_path / "run" / "summary.json").exists()


@pytest.mark.mpi
@pytest.mark.open_mpi
def test_a_loss_before_round_1_ends_the_job(tmp_path):
    made = config("lag-wk", who="1", when="gradient:1", f_star="auto", trace={})  # looked for before round 1
    ended = there(made, tmp_path, code=1)
    assert len(lines_with(ended, "worker 1 (rank 2 on ")) == 1, ended
    assert len(lines_with(ended, "(`failure.policy` holds from round 1 on)")) == 1, ended


@pytest.mark.mpi
def test_a_job_that_was_not_started_for_it_is_refused(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text(json.dumps(config("lag-wk")))
    ended = mpi_jobs.mpiexec(3, "-m", "psopt", "run", path, "--out", tmp_path / "run")
    assert ended.code == 2, ended
    assert len(ended.said) == 1, ended
    why = (
        "this job was not started with `mpiexec --with-ft ulfm`"
        if is_open_mpi()
        else "ends the job when a process dies"
    )
    assert why in ended.said[0]
    assert not (tmp_path / "run").exists()


@pytest.mark.mpi
def test_a_users_script_is_refused():
    ended = mpi_jobs.mpiexec(3, "mpi_programs.py", "minimize_outliving")
    assert ended.code != 0
    assert (
        len(lines_with(ended, "ConfigError: `failure.policy: drop` cannot be used with `minimize` under mpiexec")) == 1
    )


@pytest.mark.mpi
@pytest.mark.other_mpi
def test_another_mpi_is_refused(tmp_path):
    ended = there(config("lag-wk"), tmp_path, code=2)
    assert len(ended.said) == 1, ended
    assert (
        "`failure.policy: continue_stale` needs ranks that outlive each other, as those of Open MPI 5" in ended.said[0]
    )
    assert not (tmp_path / "run").exists()


def killed(rounds, policy="continue_stale"):
    """A run of 3 workers that loses worker 1 in round 12."""
    base = {"workers": 3, "problem": "least-squares", "algorithm": "lag-wk", "stop": {"max_rounds": rounds}}
    fault = {"kind": "kill", "worker": 1, "round": 12}
    failing = {"failure": {"policy": policy}, "faults": [fault], "checkpoint": {"every_rounds": 10, "keep": 9}}
    return {**base, "data": "lag-increasing", "timeouts": {"round_s": 5}, **failing}


@pytest.mark.parametrize("policy", ["continue_stale", "drop"])
def test_a_checkpoint_knows_of_the_lost(policy, tmp_path):
    whole = simulate(Plan(parse(killed(50, policy)), quiet=True))
    assert [(lost["worker"], lost["round"]) for lost in whole.lost] == [(1, 12)]
    simulate(Plan(parse(killed(30, policy)), tmp_path / "run", quiet=True))
    done = simulate(replace(going_on(parse(killed(50, policy)), tmp_path / "run"), quiet=True))
    same(done, whole)
    for name in ("objective", "f_star", "gap", "objective_full", "gap_full"):
        assert done.summary[name] == whole.summary[name], name
    other = "drop" if policy == "continue_stale" else "continue_stale"
    with pytest.raises(
        ConfigError, match=f"failure.policy was {policy} and is {other}, but the run has lost workers 1"
    ):
        going_on(parse(killed(50, other)), tmp_path / "run")


@pytest.mark.mpi
@pytest.mark.open_mpi
def test_a_run_that_lost_a_rank_goes_on_from_its_checkpoint(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text(json.dumps(killed(30)))
    ended = mpi_jobs.psopt("run", path, "--ranks", 4, "--out", tmp_path / "run", "--quiet")
    assert ended.code == 0, ended
    ended = mpi_jobs.psopt("resume", tmp_path / "run", "--set", "stop.max_rounds=50", "--quiet")
    assert ended.code == 0, ended
    same(psopt.load_run(tmp_path / "run"), simulate(Plan(parse(killed(50)), quiet=True)))
