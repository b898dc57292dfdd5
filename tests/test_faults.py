"""What goes wrong in a real job ends it: soon, on every rank, non-zero, with one account of what happened."""

import json
import os
import signal
import sys
import time

import mpi_jobs
import pytest

from psopt import launch

pytestmark = pytest.mark.mpi
WITHIN_S = 5.0


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "fault.yaml"
    path.write_text(
        "{workers: 4, problem: 'mpi_problems:Quadratic', data: lag-increasing, algorithm: lag-wk, f_star: none,\n"
        " stop: {max_rounds: 5000}, timeouts: {round_s: 3}}\n"
    )
    return path


def run(config, tmp_path, kind, *options, ranks=3):
    arguments = ["--set", f"problem.kind=mpi_problems:{kind}", "--out", tmp_path / "run", "--ranks", ranks, "--quiet"]
    return mpi_jobs.psopt("run", config, *arguments, *options)


def status(tmp_path):
    return json.loads((tmp_path / "run" / "summary.json").read_text())["status"]


@pytest.mark.parametrize(
    "worker", [pytest.param(1, id="one worker", marks=pytest.mark.long), pytest.param(-1, id="all")]
)
def test_a_worker_raises(config, tmp_path, worker):
    stamp = tmp_path / "stamp"
    ended = run(config, tmp_path, "Raising", "--set", f"problem.worker={worker}", "--set", f"problem.stamp={stamp}")
    assert ended.code not in (0, 2)
    assert ended.ended_at - float(stamp.read_text()) < WITHIN_S
    headers = [line for line in ended.said if line.startswith("### ")]
    assert len(headers) == 1, ended
    assert "of 4, rank " in headers[0]
    assert ", round 2" in headers[0]
    assert sum("the moon is in the wrong phase" in line for line in ended.said) == 2, "source line and message, once"
    assert status(tmp_path).startswith("failed: ### worker")


def test_a_worker_raises_in_the_set_up(config, tmp_path):
    ended = run(config, tmp_path, "RaisingAtBirth")
    assert ended.code not in (0, 2)
    assert [line for line in ended.said if line.startswith("### worker 1 of 4, rank 2 on ")]
    assert sum(line == "OSError: no such licence server" for line in ended.said) == 1, ended


@pytest.mark.long
def test_a_contribution_is_not_finite(config, tmp_path):
    ended = run(config, tmp_path, "Poisoned")
    assert ended.code not in (0, 2)
    said = "round 31: the gradient of worker 2 is not finite in tensor `theta`: is the step size too large"
    assert sum(said in line for line in ended.said) == 1, ended
    assert "Traceback" not in ended.err, ended


@pytest.mark.long
def test_a_worker_rank_is_killed(config, tmp_path):
    ended = run(config, tmp_path, "Dying")
    assert ended.code != 0
    assert ended.seconds < 30


@pytest.mark.long
def test_a_worker_rank_is_frozen(config, tmp_path):
    """Of two ranks, the one that hosts the single worker asked in the round is named."""
    slow = ["--set", "problem.seconds=60", "--set", "problem.quick=0", "--set", "algorithm=cyc-iag"]
    ended = run(config, tmp_path, "Slow", *slow, "--set", "problem.only=1", "--set", "algorithm.step_size=0.001")
    assert ended.code not in (0, 2)
    expected = "no answer within 3 s (timeouts.round_s) from worker 1 (rank 2 on "
    assert sum(expected in line for line in ended.said) == 1, ended
    assert "worker 0" not in ended.err
    assert ended.seconds < 30


def test_a_long_account_in_another_script_arrives(config, tmp_path):
    ended = run(config, tmp_path, "Verbose")
    assert ended.code not in (0, 2)
    assert sum(line.startswith("### worker 1 of 4, rank 2") for line in ended.said) == 1, ended
    assert any(line.endswith("月月月") for line in ended.said), ended
    assert status(tmp_path).startswith("failed: ### worker 1")


@pytest.mark.parametrize("code", ["0", pytest.param("licence missing", marks=pytest.mark.long)])
def test_a_problem_that_exits_ends_the_job(config, tmp_path, code):
    ended = run(config, tmp_path, "Exiting", "--set", f"problem.code={json.dumps(code)}")
    assert ended.code not in (0, 2)
    assert ended.seconds < 25
    assert sum(line == f"SystemExit: {code}" for line in ended.said) == 1, ended


@pytest.mark.long
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "termination"])
def test_an_interrupt_ends_the_job_and_keeps_what_was_done(config, tmp_path, number):
    stamp = tmp_path / "stamp"
    options = ["--set", "problem.kind=mpi_problems:Slow", "--set", "problem.seconds=0.2"]
    options += ["--set", f"problem.stamp={stamp}", "--out", str(tmp_path / "run"), "--ranks", "3"]
    job = mpi_jobs.start([sys.executable, "-m", "psopt", "run", str(config), *options])
    while not stamp.exists() and job.poll() is None:
        time.sleep(0.05)
    time.sleep(0.5)
    began = time.time()
    job.send_signal(number)
    ended = mpi_jobs.finish(job, began, timeout_s=30)
    assert ended.code == 130, ended
    assert ended.seconds < WITHIN_S
    assert [line for line in ended.said if line == "psopt: interrupted"], ended
    assert not [line for line in ended.said if "Traceback" in line], ended
    assert status(tmp_path) == "stopped"
    assert (tmp_path / "run" / "theta.npy").stat().st_size > 0


@pytest.mark.long
def test_the_server_raises(tmp_path):
    stamp = tmp_path / "stamp"
    ended = mpi_jobs.mpiexec(3, "mpi_programs.py", "server_raises", stamp)
    assert ended.code != 0
    assert ended.ended_at - float(stamp.read_text()) < WITHIN_S
    assert sum(line == "RuntimeError: the server's hair is on fire" for line in ended.said) == 1, ended


def test_a_users_script_raises_on_one_rank():
    ended = mpi_jobs.mpiexec(3, "mpi_programs.py", "script_raises")
    assert ended.code != 0
    assert ended.seconds < 40
    assert sum(line == "ValueError: only rank 1 is unhappy" for line in ended.said) == 1, ended


@pytest.mark.parametrize(
    ("program", "sentence"),
    [
        ("wrong_start", "the first theta has shape (3,)"),
        ("other_data", "rank 1 was called with another config or other data than rank 0"),
    ],
)
def test_ranks_that_cannot_agree_are_told_once(program, sentence):
    ended = mpi_jobs.mpiexec(3, "mpi_programs.py", program)
    assert ended.code != 0
    assert ended.seconds < 30
    assert sum(sentence in line and "ConfigError" in line for line in ended.said) == 1, ended


def test_a_mistake_of_one_rank_only_is_told_and_ends_the_job():
    ended = mpi_jobs.mpiexec(3, "mpi_programs.py", "lone_mistake")
    assert ended.code != 0
    assert ended.seconds < 40
    assert sum("nowhere holds no finished run" in line and "ConfigError" in line for line in ended.said) == 1, ended


def test_a_second_run_does_not_read_the_first_ones_greetings(tmp_path):
    file = tmp_path / "file"
    file.write_text("")
    ended = mpi_jobs.mpiexec(3, "mpi_programs.py", "after_a_mistake", file)
    assert ended.code == 0, ended
    saw = ended.told()
    assert len(saw) == 3, ended
    assert saw.count(saw[0]) == 3, ended


def test_termination_of_all_ranks_at_once_as_by_a_scheduler(config, tmp_path):
    stamp = tmp_path / "stamp"
    options = ["--set", "problem.kind=mpi_problems:Slow", "--set", "problem.seconds=0.2"]
    options += ["--set", f"problem.stamp={stamp}", "--out", str(tmp_path / "run")]
    command = [launch.find_mpiexec(), "-n", "3", sys.executable, "-m", "psopt", "run", str(config), *options]
    job = mpi_jobs.start(command)
    while not stamp.exists() and job.poll() is None:
        time.sleep(0.05)
    for rank in mpi_jobs.ranks_of(tmp_path / "run"):
        os.kill(rank, signal.SIGTERM)
    ended = mpi_jobs.finish(job, timeout_s=30)
    assert ended.code != 0
    assert status(tmp_path) == "stopped"


def test_a_wrong_call_from_python_is_told_once():
    ended = mpi_jobs.mpiexec(3, "mpi_programs.py", "wrong_call")
    assert ended.code != 0
    told = [line for line in ended.said if "labels have shape (9,); expected (10,)" in line]
    assert 1 <= len(told) <= 3, ended


WRONG = {
    "a file that is not there": (
        ["data={source: file, path: nowhere.svm, n_features: 3}"],
        "nowhere.svm",
    ),
    "NaN in the data": (["data={source: file, path: NAN}"], "is nan, expected a finite number"),
    "a bad label": (["data={source: file, path: LABEL}", "problem=logistic"], "label"),
    "more workers than samples": (["data=housing", "workers=2000", "problem=least-squares"], "2000 workers"),
    "a class that is not there": (["problem.kind=mpi_problems:Missing"], "Missing"),
    "a gap without f*": (["stop.gap=1e-8"], "stop.gap"),
    "a step size that is none": (["algorithm.step_size=0"], "step"),
}


@pytest.mark.parametrize("what", WRONG)
def test_wrong_input_is_one_sentence(config, tmp_path, what):
    overrides, expected = WRONG[what]
    bad = tmp_path / "nan.csv"
    bad.write_text("a,b,y\n1,2,1\nnan,3,-1\n4,5,1\n6,7,-1\n8,9,1\n")
    label = tmp_path / "label.csv"
    label.write_text("a,b,y\n1,2,1\n2,3,7\n4,5,1\n6,7,-1\n8,9,1\n")
    options = []
    for override in overrides:
        options += ["--set", override.replace("NAN", str(bad)).replace("LABEL", str(label))]
    arguments = ["--out", tmp_path / "run", "--ranks", 3, "--quiet"]
    ended = mpi_jobs.psopt("run", config, *options, *arguments)
    assert ended.code == 2, ended
    assert len(ended.said) == 1, ended
    assert expected in ended.said[0]
    assert ended.seconds < 30


def test_one_rank_is_not_enough(config):
    ended = mpi_jobs.mpiexec(1, "-m", "psopt", "run", config)
    assert ended.code == 2, ended
    assert len(ended.said) == 1
    assert "needs at least 2 ranks" in ended.said[0]


def test_a_folder_that_holds_a_run_is_refused_and_left_alone(config, tmp_path):
    out = tmp_path / "run"
    out.mkdir()
    (out / "summary.json").write_text("{}")
    ended = mpi_jobs.mpiexec(3, "-m", "psopt", "run", config, "--out", out)
    assert ended.code == 2, ended
    assert len(ended.said) == 1
    assert "already holds a run" in ended.said[0]
    assert (out / "summary.json").read_text() == "{}"
