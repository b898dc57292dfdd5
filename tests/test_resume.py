"""`psopt resume`, as typed: on other numbers of ranks, after a kill, after Ctrl-C; and what it refuses."""

import json
import os
import random
import shutil
import signal
import sys
import time

import mpi_jobs
import pytest

from psopt import commands, launch
from psopt.config import load
from psopt.runs.checkpoint import existing, round_of
from psopt.runs.experiment import Plan, simulate
from psopt.runs.folder import load_run
from psopt.runs.occupancy import occupant

pytestmark = pytest.mark.mpi
WITHIN_S = 5.0
SAME = ("theta_sha256", "uploads", "skips", "rounds", "payload_bytes_up", "payload_bytes_down", "control_bytes_up")


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    path = tmp_path_factory.mktemp("resume") / "sasg.yaml"
    path.write_text(
        "{workers: 6, problem: logistic, data: lag-logistic, algorithm: {recipe: sasg, step_size: 0.001},\n"
        " f_star: none, stop: {max_rounds: 120}, checkpoint: {every_rounds: 30, keep: 9}, seed: 4}\n"
    )
    return path


@pytest.fixture(scope="module")
def whole(config, tmp_path_factory):
    return simulated(config, tmp_path_factory.mktemp("whole") / "run")


def simulated(config, folder, *overrides):
    simulate(Plan(load(config, overrides), folder, quiet=True))
    return folder


def same(folder, whole):
    mine, other = load_run(folder), load_run(whole)
    assert mine.status == "ok"
    assert {key: mine.summary[key] for key in SAME} == {key: other.summary[key] for key in SAME}
    assert (mine.uploads == other.uploads).all()
    assert (folder / "decisions.bin").read_bytes() == (whole / "decisions.bin").read_bytes()
    return mine


def start(config, folder, *options):
    """A run over MPI; returns once it is in its rounds."""
    arguments = ["run", str(config), "--out", str(folder), "--ranks", "3", *map(str, options)]
    job = mpi_jobs.start([sys.executable, "-m", "psopt", *arguments])
    until = time.time() + 60
    while time.time() < until and job.poll() is None:
        if (folder / "uploads.bin").is_file() and occupant(folder) is not None:
            return job
        time.sleep(0.02)
    raise AssertionError(mpi_jobs.finish(job, timeout_s=1))


def slowed(tmp_path, seconds=0.05, **sections):
    """A config whose every round takes its time."""
    path = tmp_path / "slow.yaml"
    given = {
        "workers": 4,
        "problem": {"kind": "mpi_problems:Slow", "seconds": seconds},
        "data": "lag-increasing",
        "algorithm": "lag-wk",
        "f_star": "none",
        "stop": {"max_rounds": 40},
        "trace": {"objective": False},
        "checkpoint": {"every_rounds": 5},
        **sections,
    }
    path.write_text(json.dumps(given))
    return path


@pytest.mark.parametrize(("before", "after"), [(1, 4), pytest.param(4, 2, marks=pytest.mark.long)])
def test_on_another_number_of_ranks(before, after, config, whole, tmp_path):
    folder = tmp_path / "run"
    short = "stop.max_rounds=60"
    if before == 1:
        simulated(config, folder, short)
    else:
        options = ["--set", short, "--out", folder, "--quiet", "--ranks", before]
        assert mpi_jobs.psopt("run", config, *options).code == 0
    ended = mpi_jobs.psopt("resume", folder, "--ranks", after, "--set", "stop.max_rounds=120")
    assert ended.code == 0, ended
    assert "psopt: goes on after round 60" in ended.err
    assert "ok (max_rounds)" in ended.out
    assert same(folder, whole).ranks == after


def test_after_a_kill_at_any_moment(tmp_path):
    """Of one rank, server or worker: what is there is enough. Fifty kills: ``make test-kills``."""
    path = slowed(tmp_path, 0.01)
    whole = simulated(path, tmp_path / "whole", "problem.seconds=0")
    draw = random.Random(3)
    for number in range(1):
        folder = tmp_path / f"run-{number}"
        job = start(path, folder, "--quiet")
        time.sleep(0.3 + 0.7 * draw.random())
        victims = [pid for pid in mpi_jobs.ranks_of(folder) if pid != job.pid]
        os.kill(draw.choice(victims), signal.SIGKILL)
        ended = mpi_jobs.finish(job, timeout_s=30)
        assert ended.code != 0, ended
        shown = [line for line in ended.said if "to go on from there: psopt resume" in line]
        points = existing(folder)
        assert len(shown) == bool(points), ended
        if points:
            assert f"the last checkpoint is of round {round_of(points[-1])};" in shown[0]
            ended = mpi_jobs.psopt("resume", folder, "--quiet", "--ranks", draw.choice([1, 2, 3]))
            assert ended.code == 0, ended
            same(folder, whole)


@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.long)])
def test_an_interrupt_ends_after_the_round_with_a_checkpoint(number, tmp_path):
    path, folder = slowed(tmp_path, checkpoint={}), tmp_path / "run"
    job = start(path, folder)
    time.sleep(0.5)
    began = time.time()
    job.send_signal(number)
    ended = mpi_jobs.finish(job, began, timeout_s=30)
    assert ended.code == 130, ended
    assert ended.seconds < WITHIN_S
    assert not [line for line in ended.said if "Traceback" in line], ended
    summary = json.loads((folder / "summary.json").read_text())
    assert (summary["status"], summary["stop_reason"]) == ("stopped", "interrupted")
    [point] = existing(folder)
    assert round_of(point) == summary["rounds"] > 0
    assert f"the last checkpoint is of round {summary['rounds']};" in ended.err
    again = mpi_jobs.psopt("resume", folder, "--quiet")
    assert again.code == 0, again
    same(folder, simulated(path, tmp_path / "whole", "problem.seconds=0"))


def test_termination_of_one_worker_rank_alone_is_passed_on(tmp_path):
    folder = tmp_path / "run"
    job = start(slowed(tmp_path), folder)
    time.sleep(0.5)
    server = occupant(folder).pid
    began = time.time()
    os.kill(next(pid for pid in mpi_jobs.ranks_of(folder) if pid not in (server, job.pid)), signal.SIGTERM)
    ended = mpi_jobs.finish(job, began, timeout_s=30)
    assert ended.code != 0, ended
    assert ended.seconds < WITHIN_S
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["status"] == "stopped"
    assert round_of(existing(folder)[-1]) == summary["rounds"]


@pytest.mark.long
def test_whoever_asks_twice_does_not_wait(tmp_path):
    folder = tmp_path / "run"
    job = start(slowed(tmp_path, 8.0), folder)
    time.sleep(0.5)
    began = time.time()
    for _ in range(2):
        job.send_signal(signal.SIGINT)
        time.sleep(0.5)
    ended = mpi_jobs.finish(job, began, timeout_s=30)
    assert ended.code == 130, ended
    assert ended.seconds < WITHIN_S


def test_a_run_under_way_is_not_resumed(tmp_path):
    folder = tmp_path / "run"
    job = start(slowed(tmp_path), folder, "--set", "checkpoint.every_rounds=1")
    while not existing(folder):
        time.sleep(0.05)
    ended = mpi_jobs.psopt("resume", folder, "--ranks", 1)
    job.send_signal(signal.SIGTERM)
    mpi_jobs.finish(job, timeout_s=30)
    assert ended.code == 2, ended
    assert len(ended.said) == 1
    assert "is being written by process" in ended.said[0]


def test_what_cannot_be_resumed_is_one_sentence(config, whole, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(whole, folder)
    wrong = {
        ("nowhere",): "nowhere holds no run: there is no config.yaml",
        (folder, "--set", "seed=9"): "  seed: 4 at the checkpoint, 9 now",
        (folder, "--set", "stop.max_round=9"): "did you mean `max_rounds`?",
    }
    for arguments, sentence in wrong.items():
        ended = mpi_jobs.psopt("resume", *arguments)
        assert ended.code == 2, ended
        assert sentence in ended.said[-1]
        assert len(ended.said) <= 2
    ended = mpi_jobs.psopt("resume", folder)
    assert ended.code == 0, ended
    assert "nothing to do: the run ended by max_rounds" in ended.out
    shutil.rmtree(folder / "checkpoints")
    (folder / "summary.json").unlink()
    ended = mpi_jobs.psopt("resume", folder)
    assert ended.code == 2, ended
    assert ended.said == [f"{folder} holds no checkpoint, so there is nothing to resume"]


def test_a_sweep_goes_on_with_the_point_that_was_cut_off(config, tmp_path):
    arguments = ["sweep", config, "--grid", "seed=4,5", "--out", tmp_path / "sweep", "--point", 0]
    options = ["--set", "stop.max_rounds=120"]
    assert mpi_jobs.psopt(*arguments, *options).code == 0
    folder = tmp_path / "sweep" / "point-000"
    (folder / "summary.json").unlink()
    ended = mpi_jobs.psopt(*arguments, *options)
    assert ended.code == 0, ended
    assert "psopt: goes on after round 120" in ended.err
    assert not list((tmp_path / "sweep").glob("*.cut-off-*"))


def test_a_job_does_not_outlive_its_launcher(tmp_path):
    folder = tmp_path / "run"
    job = start(slowed(tmp_path), folder)
    job.kill()
    ended = mpi_jobs.finish(job, timeout_s=15)  # until nobody holds the other end of its pipes
    until = time.time() + 10
    while mpi_jobs.ranks_of(folder) and time.time() < until:  # with MPICH they outlive their pipes for a moment
        time.sleep(0.05)
    assert not mpi_jobs.ranks_of(folder), ended
    assert json.loads((folder / "summary.json").read_text())["status"] == "stopped"


def test_a_warning_in_the_start_up_is_heeded_after_the_first_round(config, tmp_path):
    folder = tmp_path / "run"
    slow = ["--set", "faults=[{kind: delay, worker: 0, seconds: 0.03}]"]
    job = mpi_jobs.start(
        [sys.executable, "-m", "psopt", "run", str(config), "--out", str(folder), "--ranks", "2", *slow]
    )
    until = time.time() + 60
    while len(mpi_jobs.ranks_of(folder)) < 2 and time.time() < until:  # they are being started, and hear nothing yet
        time.sleep(0.01)
    os.kill(job.pid, signal.SIGUSR1)
    ended = mpi_jobs.finish(job)
    assert ended.code == 75, ended
    assert json.loads((folder / "summary.json").read_text())["rounds"] < 60


def test_run_with_resume_begins_goes_on_and_finds_nothing_to_do(config, whole, tmp_path):
    """What a batch script calls, whatever the folder holds; and a warning, SIGUSR1, in between."""
    folder = tmp_path / "run"
    slow = ("--resume", "--set", "faults=[{kind: delay, worker: 0, seconds: 0.03}]")
    job = start(config, folder, *slow)
    for _ in range(3):  # several do no harm
        os.kill(job.pid, signal.SIGUSR1)
    ended = mpi_jobs.finish(job)
    assert ended.code == 75, ended
    k = json.loads((folder / "summary.json").read_text())["rounds"]
    assert f"psopt: ended after round {k}, before its time is over, to go on later" in ended.err
    again = ("run", config, "--out", folder, "--ranks", 2, *slow, "--quiet")
    ended = mpi_jobs.psopt(*again)
    assert ended.code == 0, ended
    assert [one["round"] for one in same(folder, whole).manifest["resumed"]] == [k]
    ended = mpi_jobs.psopt(*again)
    assert ended.code == 0, ended
    assert "nothing to do" in ended.out
    assert "died" not in ended.err
    ended = mpi_jobs.psopt("run", config, "--out", folder, "--resume", "--set", "seed=99")
    assert ended.code == 2, ended
    assert "already holds a run of another config" in ended.err
    assert "died" not in ended.err


@pytest.mark.parametrize(("status", "code"), [("stopped", 1), ("ok", 0)])
def test_an_mpiexec_that_says_0_of_a_run_that_did_not_end(status, code, config, whole, tmp_path, monkeypatch):
    """As it does under Slurm, when its daemons get the same signal as the job."""

    def said_0(*arguments):
        shutil.copytree(whole, tmp_path / "run")
        summary = json.loads((whole / "summary.json").read_text())
        (tmp_path / "run" / "summary.json").write_text(json.dumps({**summary, "status": status}))
        return 0

    monkeypatch.setattr(launch, "mpiexec", said_0)
    assert commands.start(3, ["run"], tmp_path / "run", load(config)) == code
