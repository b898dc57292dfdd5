"""`psopt submit` on a real Slurm: several (virtual) nodes, an array, a requeue, scancel; by srun with MPICH's wheel."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import mpi_jobs
import pytest
import slurm_lab
from conftest import is_open_mpi

from psopt import launch
from psopt.config import load
from psopt.runs.experiment import Plan, simulate
from psopt.runs.folder import load_run
from psopt.views.watching.queue import submitted

why = slurm_lab.lacking()
pytestmark = [pytest.mark.mpi, pytest.mark.skipif(why is not None, reason=str(why))]

CONFIG = """\
{workers: 6, problem: {kind: logistic, l2: 1e-2}, data: lag-logistic, seed: 3, f_star: none, stop: {max_rounds: 150},
 algorithm: {recipe: sasg, step_size: 0.001}}
"""
SLOW = "faults=[{kind: delay, worker: 0, seconds: 0.05}]"
OFTEN = "checkpoint.every_rounds=10"
RUNS_THAT_WAIT = ("run", "sweep/point-000", "sweep/point-001")
SAME = ("theta_sha256", "uploads", "payload_bytes_up", "payload_bytes_down", "rounds")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    slurm = slurm_lab.Slurm(tmp_path_factory.mktemp("slurm"), nodes=4, cpus=16)
    yield slurm
    slurm.down()


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    path = tmp_path_factory.mktemp("config") / "six.yaml"
    path.write_text(CONFIG)
    return path


@pytest.fixture(scope="module")
def whole(config, tmp_path_factory):
    """The same run in one process, undisturbed."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    return simulate(Plan(load(config), folder, quiet=True))


def submit(cluster, config, folder, *options):
    """Submits; returns the number of the (last) job."""
    ended = mpi_jobs.psopt("submit", config, "--out", folder, *options, **cluster.environment)
    assert ended.code == 0, ended
    return [line.split()[2] for line in ended.out.splitlines() if line.startswith("psopt: job ")][-1]


def printed(folder):
    return "\n".join(file.read_text() for file in folder.with_name(f"{folder.name}.slurm").glob("*.out"))


def under_way(folder, rounds=20):
    """Waits until the run in the folder has made so many rounds."""
    until = time.time() + 60
    while time.time() < until:
        masks = folder / "uploads.bin"
        trace = folder / "trace.jsonl"
        if masks.is_file() and trace.is_file() and len(trace.read_bytes().splitlines()) > rounds:
            return
        time.sleep(0.1)
    raise AssertionError(printed(folder))


def same(run, whole):
    assert run.status == "ok"
    assert {key: run.summary[key] for key in SAME} == {key: whole.summary[key] for key in SAME}


@pytest.mark.parametrize("nodes", [2, 4])
def test_the_bits_of_one_process_over_several_nodes(cluster, config, whole, nodes, tmp_path):
    folder = tmp_path / "a run"
    options = ["--nodes", nodes, "--ntasks", 5, "--time", 5]
    dry = mpi_jobs.psopt("submit", config, "--out", folder, *options, "--dry-run")
    ended = mpi_jobs.psopt("submit", config, "--out", folder, *options, "--wait", **cluster.environment)
    assert ended.code == 0, (ended, printed(folder))
    assert dry.out == (tmp_path / "a run.slurm" / "job.sh").read_text()
    assert ("srun " in dry.out) is not is_open_mpi()
    run = load_run(folder)
    same(run, whole)
    assert run.summary["ranks"] == 5
    assert 0 < run.summary["startup_s"] < 60
    assert "ok (max_rounds)" in ended.out
    assert "until the first round" in printed(folder)


def test_an_array_is_a_sweep_with_its_table(cluster, config, whole, tmp_path):
    folder = tmp_path / "sweep"
    grid = ["--grid", "seed=3,4", "--ntasks", 3, "--wait"]
    ended = mpi_jobs.psopt("submit", config, "--out", folder, *grid, **cluster.environment)
    assert ended.code == 0, (ended, printed(folder))
    assert "2 of 2 points have come to their end" in ended.out
    rows = json.loads((folder / "table.json").read_text())["rows"]
    assert [row["status"] for row in rows] == ["ok", "ok"]
    assert rows[0]["theta_sha256"] == whole.summary["theta_sha256"] != rows[1]["theta_sha256"]
    assert load_run(folder / "point-001").summary["ranks"] == 3


def test_a_warning_is_a_checkpoint_and_the_requeued_job_goes_on_by_itself(cluster, config, whole, tmp_path):
    """The signal that `--signal` sends, sent by hand, because Slurm's own comes up to a minute early."""
    folder = tmp_path / "run"
    job = submit(cluster, config, folder, "--nodes", 2, "--ntasks", 3, "--set", SLOW, "--set", "checkpoint.keep=9")
    under_way(folder)
    cluster.say("scancel", "--signal=USR1", "--batch", job)
    cluster.until(job, "PENDING", timeout_s=30)
    stopped = json.loads((folder / "summary.json").read_text())
    assert stopped["status"] == "stopped"
    assert 20 <= stopped["rounds"] < 150
    cluster.until(job, "COMPLETED", timeout_s=90)
    same(load_run(folder), whole)
    said = printed(folder)
    assert f"psopt: ended after round {stopped['rounds']}, before its time is over, to go on later" in said
    assert f"psopt: job {job} goes back into the queue" in said
    resumed = load_run(folder).manifest["resumed"]
    assert [one["round"] for one in resumed] == [stopped["rounds"]]
    assert "Restarts=1" in cluster.say("scontrol", "show", "job", job)


@pytest.mark.long
def test_a_job_that_meets_its_time_limit_ends_with_the_same_bits(cluster, config, whole, tmp_path):
    """By Slurm's own clock: 90 s of work in jobs of two minutes, warned 50 s before that or up to a minute earlier."""
    folder = tmp_path / "run"
    slow = "faults=[{kind: delay, worker: 0, seconds: 0.6}]"
    job = submit(cluster, config, folder, "--ntasks", 3, "--time", 2, "--warning-s", 50, "--set", slow)
    cluster.until(job, "COMPLETED", timeout_s=400)
    same(load_run(folder), whole)
    assert len(load_run(folder).manifest["resumed"]) >= 1
    assert "goes back into the queue" in printed(folder)


def test_scancel_leaves_a_folder_that_can_be_read_and_resumed(cluster, config, whole, tmp_path):
    folder = tmp_path / "run"
    job = submit(cluster, config, folder, "--ntasks", 3, "--set", SLOW, "--set", OFTEN)
    under_way(folder)
    cluster.say("scancel", job)
    cluster.until(job, "CANCELLED", timeout_s=30)
    until = time.time() + 20
    while mpi_jobs.ranks_of(folder) and time.time() < until:
        time.sleep(0.2)
    assert not mpi_jobs.ranks_of(folder)
    assert all(json.loads(line) for line in (folder / "trace.jsonl").read_text().splitlines()[:-1])
    ended = mpi_jobs.psopt("resume", folder, "--ranks", 1, "--set", "faults=null", "--quiet")
    assert ended.code == 0, ended
    same(load_run(folder), whole)
    assert cluster.state(job) == "CANCELLED"


def test_a_job_that_is_pre_empted_goes_on_by_itself(cluster, config, whole, tmp_path):
    """Another job takes the whole node; ours gets SIGTERM, and has ten seconds."""
    folder = tmp_path / "run"
    job = submit(cluster, config, folder, "--ntasks", 3, "--partition", "long", "--set", SLOW, "--set", OFTEN)
    under_way(folder)
    other = cluster.say(
        "sbatch", "--parsable", "--partition=urgent", "--ntasks=16", "--output=/dev/null", "--wrap=sleep 3"
    )
    cluster.until(job, "PENDING", timeout_s=60)
    cluster.until(other.strip(), "COMPLETED", timeout_s=60)
    cluster.until(job, "COMPLETED", timeout_s=90)
    run = load_run(folder)
    same(run, whole)
    assert run.manifest["resumed"][0]["round"] >= 10
    assert "Restarts=1" in cluster.say("scontrol", "show", "job", job)


def test_watch_shows_the_place_of_a_job_that_waits(cluster, config, tmp_path):
    """Behind a job that takes all nodes and another that waits for them; an array waits point by point."""
    blocking = ["sbatch", "--parsable", "--nodes=4", "--exclusive", "--output=/dev/null", "--wrap=sleep 60"]
    blocker = cluster.say(*blocking).strip()
    cluster.until(blocker, "RUNNING", timeout_s=30)
    ahead = cluster.say(*blocking).strip()
    job = submit(cluster, config, tmp_path / "run", "--ntasks", 3)
    collecting = submit(cluster, config, tmp_path / "sweep", "--ntasks", 3, "--grid", "seed=3,4")
    wide = {"COLUMNS": "250", **cluster.environment}  # for the folders' names
    looked = mpi_jobs.psopt("watch", tmp_path / "run", tmp_path / "sweep", "--once", **wide)
    assert looked.code == 0, looked
    rows = [line for line in looked.out.splitlines() if str(tmp_path) in line]
    assert [row.split()[0] for row in rows] == [str(tmp_path / name) for name in RUNS_THAT_WAIT]
    assert "waiting: place 2 of " in rows[0], looked
    assert all("waiting: place 3 of " in row and " in short" in row for row in rows[1:]), looked
    cluster.say("scancel", ahead, job, submitted(tmp_path / "sweep").number, collecting, blocker)
    looked = mpi_jobs.psopt("watch", tmp_path / "run", **cluster.environment)
    assert looked.code == 1, looked
    assert f"failed: job {job} has left no run (Slurm says cancelled)" in looked.out
    cluster.until(blocker, "CANCELLED", timeout_s=30)


@pytest.mark.alone
def test_two_hundred_workers_on_eight_tasks_start_within_twenty_seconds(cluster, tmp_path):
    config = tmp_path / "many.yaml"
    config.write_text(
        "{workers: 200, problem: {kind: logistic, l2: 1e-3}, data: adult-a1a, f_star: none, stop: {max_rounds: 5},\n"
        " algorithm: {recipe: lag-wk, step_size: 0.001}}\n"
    )
    options, took = ["--nodes", 2, "--ntasks", 8, "--wait"], []
    for folder in (tmp_path / "run", tmp_path / "again"):  # other work may fall into the first
        ended = mpi_jobs.psopt("submit", config, "--out", folder, *options, **cluster.environment)
        assert ended.code == 0, (ended, printed(folder))
        took.append(load_run(folder).summary["startup_s"])
        if took[-1] < 20:
            break
    assert min(took) < 20, took


def test_a_refusal_is_one_sentence_and_leaves_nothing_in_the_queue(cluster, config, tmp_path):
    before = cluster.say("squeue", "-h", "-t", "all", "-o", "%i")
    options = ["--out", tmp_path / "run", "--partition", "nope"]
    ended = mpi_jobs.psopt("submit", config, *options, **cluster.environment)
    assert ended.code == 2, ended
    assert ended.said == [
        "Slurm refuses the job: Batch job submission failed: Invalid partition name specified; there are the "
        "partitions long, short, urgent"
    ]
    assert cluster.say("squeue", "-h", "-t", "all", "-o", "%i") == before
    assert not (tmp_path / "run").exists()


def test_doctor_sees_what_srun_started(cluster):
    """With srun, ranks of Open MPI's wheel are alone, and those of MPICH's are not."""
    command = ["srun", "-n", "2", "--mpi=pmi2", sys.executable, "-m", "psopt", "doctor"]
    environment = {**os.environ, **cluster.environment}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert "tasks 2" in done.stdout, done
    alone = "Slurm started 2 tasks and MPI sees a world of 1" in done.stdout
    assert alone is is_open_mpi(), done
    assert (done.returncode != 0) is is_open_mpi()


TEMPLATES = Path(__file__).parents[1] / "slurm"


@pytest.mark.parametrize("name", ["one_node", "nodes_mpiexec", "nodes_srun", "sweep_array"])
def test_the_templates_can_be_used_by_hand(cluster, config, whole, name, tmp_path):
    if name == "nodes_srun" and is_open_mpi():
        return  # its first lines say that it is for the other wheel
    out = tmp_path / "run"
    given = {"PYTHON": sys.executable, "CONFIG": str(config), "OUT": str(out), **cluster.environment}
    command = ["sbatch", "--parsable", f"--chdir={tmp_path}", "--ntasks=4", "--time=5", TEMPLATES / f"{name}.sbatch"]
    environment = {**launch.environment(), **given}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done
    jobs = 3 if name == "sweep_array" else 1
    cluster.until(done.stdout.strip(), "\n".join(["COMPLETED"] * jobs), timeout_s=90)
    if name == "sweep_array":
        assert [load_run(out / f"point-00{i}").summary["seed"] for i in range(3)] == [1, 2, 3]
    else:
        same(load_run(out), whole)
