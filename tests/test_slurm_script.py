"""The sbatch script as text, the refusals of what no job can be, and what is said where there is no Slurm."""

import subprocess
from dataclasses import replace
from pathlib import Path

import mpi_jobs
import pytest

from psopt.errors import ConfigError
from psopt.slurm import Job, Slurm, allocation, script_of

GOLDEN = Path(__file__).parent / "golden"
CONFIG = Path(__file__).parents[1] / "configs" / "lag_wk.yaml"

RUN = Job(
    name="lag-wk",
    asked=Slurm(nodes=2, ntasks_per_node=5, time="0:30:00", partition="short", setup=("module load python/3.11",)),
    launcher="mpiexec",
    ranks=10,
    python="/home/me/my venv/bin/python",
    command=("run", "/home/me/runs/it's mine.slurm/lag_wk.yaml", "--out", "/home/me/runs/it's mine", "--resume"),
    folder="/home/me",
    log="/home/me/runs/it's mine.slurm/job-%j.out",
    environment={"OMP_NUM_THREADS": "1"},
)
ARRAY = replace(
    RUN,
    asked=Slurm(ntasks=4, at_once=2, requeue=False, options=("--exclusive", "--nice=100"), mem="4G", warning_s=0),
    launcher="srun",
    ranks=4,
    command=("sweep", "/data/c.yaml", "--grid", "algorithm.plan=every,{kind: fixed, rounds: M}", "--out", "/data/out"),
    log="/data/out.slurm/job-%A_%a.out",
    points=6,
)


@pytest.mark.parametrize(("job", "name"), [(RUN, "run.sh"), (ARRAY, "array.sh")])
def test_the_script_is_as_it_was(job, name):
    """Changed on purpose? Write `script_of(job)` into the file again, and read the difference."""
    assert script_of(job) == (GOLDEN / name).read_text()


@pytest.mark.parametrize("job", [RUN, ARRAY])
def test_bash_can_read_the_script_and_finds_every_word_whole(job, tmp_path):
    script = script_of(job)
    read = subprocess.run(["bash", "-n"], input=script, capture_output=True, text=True, check=False)
    assert read.returncode == 0, read.stderr
    line = next(line for line in script.splitlines() if " -m psopt " in line).removesuffix(" &")
    show = tmp_path / "show.sh"
    show.write_text(f"SLURM_ARRAY_TASK_ID=3 SLURM_NTASKS=10\nset -- {line}\nprintf '%s\\n' \"$@\"\n")
    words = subprocess.run(["bash", show], capture_output=True, text=True, check=True).stdout.splitlines()
    added = ["--point", "3"] if job.points else ["--ranks", "10"]
    before = ["srun", "--mpi=pmi2", "--kill-on-bad-exit=1"] if job.launcher == "srun" else []
    assert words == [*before, job.python, "-m", "psopt", *job.command, *added]


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"time": "soon"}, "expected MINUTES, H:MM:SS or D-HH:MM:SS"),
        ({"partition": "a b"}, "expected one word"),
        ({"account": "x\n#SBATCH --wrap=y"}, "expected one word"),
        ({"mem": "4G; rm"}, "expected one word"),
        ({"setup": ("a\nb",)}, "expected single lines"),
        ({"options": ("exclusive",)}, "expected --NAME or --NAME=VALUE"),
        ({"options": ("--comment=$(id)",)}, "expected --NAME or --NAME=VALUE"),
        ({"options": ("--nodes=3",)}, "which psopt sets itself"),
        ({"ntasks": 9, "nodes": 2, "ntasks_per_node": 4}, "more than the 8"),
        ({"ntasks": 3, "nodes": 4}, "3 tasks are fewer than 4 nodes"),
        ({"ntasks_per_node": 1}, "one task is not enough"),
        ({"time": "3"}, "ask for more time, or for less warning"),
        ({"time": "1:00", "warning_s": 1}, "ask for more time"),
    ],
)
def test_what_no_job_can_be_is_one_sentence(wrong, sentence):
    with pytest.raises(ConfigError, match=sentence.replace("(", r"\(")):
        Slurm(**wrong)


@pytest.mark.parametrize("time", ["30", "4:30", "0:30:00", "2-12", "2-12:30:00", "UNLIMITED"])
def test_times_that_slurm_knows(time):
    assert f"#SBATCH --time={time}\n" in script_of(replace(RUN, asked=Slurm(time=time)))


@pytest.mark.parametrize("log", ['/a"b/job.out', "/a\\b/job.out", "/a\nb/job.out"])
def test_what_no_quotes_can_hold_is_refused(log):
    with pytest.raises(ConfigError, match="sbatch cannot be told"):
        script_of(replace(RUN, log=log))


@pytest.mark.parametrize("log", ["/it's/job.out", "/a#3/job.out", "/a b/job.out", "/a;b/job.out"])
def test_what_sbatch_would_read_otherwise_stands_in_quotes(log):
    assert f'#SBATCH --output="{log}"\n' in script_of(replace(RUN, log=log))


def test_what_slurm_is_asked_for_makes_no_other_run():
    from psopt.config import parse

    plain = {"workers": 2, "problem": "logistic", "data": "lag-logistic"}
    assert parse(plain).sha256() == parse({**plain, "slurm": {"nodes": 3, "time": "1:00:00"}}).sha256()
    assert parse(plain).sha256() != parse({**plain, "seed": 3}).sha256()


def test_an_allocation_is_what_the_environment_says():
    assert allocation({"PATH": "/bin"}) is None
    told = allocation({"SLURM_JOB_ID": "7", "SLURM_NTASKS": "8", "SLURM_JOB_NUM_NODES": "2"})
    assert told == {"job": "7", "nodes": "2", "tasks": "8"}


def test_a_dry_run_writes_nothing(tmp_path):
    out = tmp_path / "run"
    ended = mpi_jobs.psopt("submit", CONFIG, "--nodes", 2, "--set", "stop.gap=1e-4", "--out", out, "--dry-run")
    assert ended.code == 0, ended
    assert ended.out.startswith("#!/bin/bash\n")
    assert "#SBATCH --nodes=2\n" in ended.out
    assert "#SBATCH --ntasks=10\n" in ended.out
    assert f" run {out}.slurm/lag_wk.yaml --set stop.gap=1e-4 --out {out} --resume" in ended.out
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--time", "soon"], "key 'time' is 'soon'"),
        (["--nodes", "0"], "0 is not in the range x>=1"),
        (["--at-once", "2"], "is for arrays"),
        (["--set", "nothing=3"], "nothing: unknown key"),
        (["--grid", "seed="], "of values; expected KEY.KEY=VALUE"),
        (["--out", ""], "the name of the folder is empty"),
    ],
)
def test_wrong_words_are_one_sentence(options, sentence, tmp_path):
    ended = mpi_jobs.psopt(
        "submit", CONFIG, "--dry-run", *(options if "--out" in options else [*options, "--out", tmp_path / "r"])
    )
    assert ended.code == 2, ended
    assert sentence in ended.err
    assert "Traceback" not in ended.err
    assert not list(tmp_path.iterdir())


def test_without_slurm_it_says_what_to_do(tmp_path):
    nowhere = tmp_path / "bin"
    nowhere.mkdir()
    ended = mpi_jobs.psopt("submit", CONFIG, "--out", tmp_path / "run", PATH=str(nowhere))
    assert ended.code == 2, ended
    assert ended.said == [
        "there is no sbatch on PATH, so this machine cannot submit to Slurm: call psopt on a login node of the "
        "cluster, or use --dry-run, which prints the script"
    ]


def test_a_refusal_names_what_there_is(tmp_path):
    """As a cluster says it: a sbatch and a sinfo of our own."""
    tools = tmp_path / "bin"
    tools.mkdir()
    for name, words in {
        "sbatch": "echo 'sbatch: error: Batch job submission failed: Invalid partition name specified' >&2; exit 1",
        "sinfo": "printf 'short\\nlong\\nshort\\n'",
    }.items():
        (tools / name).write_text(f"#!/bin/sh\n{words}\n")
        (tools / name).chmod(0o755)
    ended = mpi_jobs.psopt(
        "submit", CONFIG, "--partition", "no", "--out", tmp_path / "run", PATH=f"{tools}:/usr/bin:/bin"
    )
    assert ended.code == 2, ended
    assert ended.said == [
        "Slurm refuses the job: Batch job submission failed: Invalid partition name specified; there are the "
        "partitions long, short"
    ]
