"""Many workers and long vectors: what memory a run says it takes, and takes; what is refused; what lies in a file."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import mpi_jobs
import mpi_problems
import numpy as np
import pytest
from helpers import tiny

import psopt
from psopt import capacity
from psopt.config import load, parse
from psopt.errors import ConfigError
from psopt.parts import aggregators
from psopt.parts.mapped import mapped
from psopt.parts.rows import Rows
from psopt.runs import memory
from psopt.runs.experiment import Plan, simulate

MB = 1_000_000
HERE = str(Path(__file__).parent)


def config(workers=4, dim=1000, **others):
    """Least squares with a sample a worker."""
    data = {"source": "synthetic", "synthetic": {"n_samples": workers, "n_features": dim}}
    problem = {"kind": "least-squares", "l2": 1e-3}
    base = {"workers": workers, "problem": problem, "data": data, "f_star": "none", "stop": {"max_rounds": 4}}
    return parse({**base, "algorithm": {"recipe": "lag-wk", "step_size": 1e-4}, **others})


def write(folder, **files):
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text)


def group(monkeypatch, root, line, free_kb=900_000):
    """This process lies in the control group that the line names; the machine has so much left."""
    write(root, meminfo=f"MemTotal: 999999999 kB\nMemAvailable: {free_kb} kB\n", cgroup=line + "\n")
    monkeypatch.setattr(capacity, "_MEMINFO", root / "meminfo")
    monkeypatch.setattr(capacity, "_OWN_GROUP", root / "cgroup")
    monkeypatch.setattr(capacity, "_GROUPS", root)


def test_what_is_free_is_the_least_of_machine_and_groups(monkeypatch, tmp_path):
    outer, inner = tmp_path / "job", tmp_path / "job" / "step"
    inner.mkdir(parents=True)
    group(monkeypatch, tmp_path, "0::/job/step")
    assert capacity.available() == 900_000 * 1024
    write(inner, memory__max="max", memory__current="500")
    assert capacity.available() == 900_000 * 1024
    write(outer, memory__max="10000", memory__current="4000", memory__stat="anon 5\ninactive_file 300\n")
    assert capacity.available() == 6300
    write(inner, memory__max="2000", memory__current="5000")
    assert capacity.available() == 0


def test_the_older_kind_of_group(monkeypatch, tmp_path):
    job = tmp_path / "memory" / "job"
    job.mkdir(parents=True)
    group(monkeypatch, tmp_path, "4:memory:/job\n3:cpuset:/job")
    write(tmp_path / "memory", memory__limit_in_bytes=str(2**63 - 4096), memory__usage_in_bytes="77")
    assert capacity.available() == 900_000 * 1024
    write(job, memory__limit_in_bytes="9000", memory__usage_in_bytes="1000", memory__stat="total_inactive_file 50\n")
    assert capacity.available() == 8050


def test_this_machine_has_something_left():
    assert 0 < capacity.available() <= capacity.total()


@pytest.mark.parametrize("recipe", ["gd", "sasg", "ef21"])
def test_what_is_told_is_what_is_taken(recipe):
    """The peak of a process that runs it, above that of the same run with a short theta."""
    program = f"""
import sys
sys.path.insert(0, {HERE!r})
import numpy as np
from mpi_problems import Wide
from psopt.config import parse
from psopt.data import Table
from psopt.runs.experiment import Plan, simulate
def peak(dim):
    made = parse({{"workers": 3, "problem": {{"kind": "mpi_problems:Wide", "dim": dim}}, "data": {{"source": "memory"}},
        "algorithm": {{"recipe": {recipe!r}, "step_size": 0.1}}, "f_star": "none", "stop": {{"max_rounds": 3}}}})
    table = Table(np.ones((3, 1)), np.ones(3))
    needs = simulate(Plan(made, table=table, quiet=True)).manifest["memory"]["server"]
    lines = dict(line.split(":") for line in open("/proc/self/status"))
    return sum(needs.values()), int(lines["VmHWM"].split()[0]) * 1024  # getrusage's peak may be that of the parent
(_, before), (told, after) = peak(1000), peak(4_000_000)
print(told, after - before)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=True)
    told, taken = map(int, done.stdout.split())
    assert 0.65 * told < taken < 1.1 * told, (told, taken)


def needs(made, monkeypatch, free):
    """Of a run in this process with so many bytes free; the sentence, if it is refused."""
    monkeypatch.setattr(capacity, "available", lambda: free)
    simulate(Plan(made, quiet=True))


def total(made, facts, problem):
    return sum(memory.need(made, facts, memory.Rank(made.workers, True, False), problem).values())


@pytest.mark.parametrize("option", ["f_star: none", "algorithm.aggregator.mapped_in: FOLDER", "problem.dtype: float32"])
def test_a_run_that_cannot_fit_is_told_what_would_help(monkeypatch, option, tmp_path):
    made = config(workers=40, dim=500, f_star="auto" if option.startswith("f_star") else "none")
    if option.startswith("problem"):
        aggregator = replace(made.algorithm.aggregator, mapped_in=str(tmp_path))
        made = replace(made, algorithm=replace(made.algorithm, aggregator=aggregator))
    whole = sum(simulate(Plan(replace(made, f_star=0.0), quiet=True)).manifest["memory"]["server"].values())
    with pytest.raises(ConfigError, match=rf"on this machine, most of it for .*: `{option}` makes it fit$"):
        needs(made, monkeypatch, 0.9 * whole if option != "f_star: none" else 1.5 * whole)


def test_a_run_that_no_option_makes_fit(monkeypatch):
    with pytest.raises(ConfigError, match=r"no option makes it fit .*: use fewer workers, or more machines"):
        needs(config(), monkeypatch, 100)


def test_ranks_of_a_host_count_together():
    own = [{"a": 10}, {"b": 20}, {"b": 30}]
    assert memory.lacking(own, ["x", "y", "y"], [15, 60, 50]) is None
    assert memory.lacking(own, ["x", "y", "y"], [15, 60, 49]) == ("y", 50, 49)
    said = memory.refusal(("y", 50, 49), own, [("option", own), ("other", [{}, {}, {}])], ["x", "y", "y"], [15, 60, 49])
    assert str(said) == (
        "the run would take 50 B of memory on y, most of it for b (50 B), and 49 B are free: `other` makes it fit"
    )


@pytest.mark.mpi
def test_all_ranks_refuse_together():
    """Four times the machine for the server alone, of which nothing is allocated."""
    workers = 4 * capacity.total() // (8 * MB)
    wide = [f"--set=workers={workers}", "--set=problem.dim=1000000", f"--set=data.synthetic.n_samples={workers}"]
    ended = mpi_jobs.psopt("run", "wide.yaml", *wide, "--ranks", 3)
    assert ended.code == 2, ended
    [said] = ended.said
    assert "the run would take" in said
    assert "no option makes it fit" in said


@pytest.mark.mpi
def test_hundreds_of_workers_and_uploads_that_arrive_in_a_file(tmp_path):
    """More answers than are looked for at a time; a mirror that is checked in every round; the bits of one process."""
    many = ["workers=300", "stop.max_rounds=6", "debug.check_mirror=true"]
    one = simulate(Plan(load(Path(HERE) / "wide.yaml", many), tmp_path / "here", quiet=True))
    mapping = f"--set=algorithm.aggregator.mapped_in={HERE}"
    options = [*(f"--set={each}" for each in many), mapping, "--ranks", 3, "--out", tmp_path / "there"]
    ended = mpi_jobs.psopt("run", "wide.yaml", *options)
    assert ended.code == 0, ended
    other = psopt.load_run(tmp_path / "there")
    assert one.theta_sha256 == other.theta_sha256
    assert one.uploads.any()
    assert (one.uploads == other.uploads).all()
    told = other.manifest["memory"]
    assert (told["others"], told["alike"]) == (2, True)
    assert one.manifest["memory"]["server"]["stale vectors"] > 300 * told["server"]["stale vectors"]


@pytest.mark.parametrize("aggregator", ["lazy", "fresh_mean"])
@pytest.mark.parametrize("feedback", [False, True])
def test_what_was_rounded_is_held_in_float32_with_the_same_bits(monkeypatch, aggregator, feedback):
    """The mirror is checked in every round; then the same with rows of float64."""
    row = {"recipe": "gd", "step_size": 1e-4, "aggregator": aggregator}
    row["codec"] = {"kind": "overwrite", "feedback": feedback, "compressor": "cast"}
    made = config(algorithm=row, debug={"check_mirror": True})
    dtypes = []
    plain = Rows.plain.__func__

    def spied(cls, workers, dim, dtype, *others):
        dtypes.append(np.dtype(dtype))
        return plain(cls, workers, dim, dtype, *others)

    monkeypatch.setattr(Rows, "plain", classmethod(spied))
    short = simulate(Plan(made, quiet=True))
    monkeypatch.setattr(aggregators, "held_dtype", lambda codec, dtype: np.dtype(dtype))
    whole = simulate(Plan(made, quiet=True))
    assert dtypes == ["float32", "float64"]
    assert short.theta_sha256 == whole.theta_sha256
    assert short.theta.any()
    taken, twice = (done.manifest["memory"]["server"]["stale vectors"] for done in (short, whole))
    assert twice - taken == 4 * 4 * 1000


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_a_mapped_array_is_an_array(dtype):
    before = set(os.listdir(HERE))
    made = mapped((3, 5), np.dtype(dtype), HERE)
    assert type(made) is np.ndarray
    assert made.dtype == dtype
    assert not made.any()
    made[1] = 7.0
    assert made.sum() == 35.0
    assert set(os.listdir(HERE)) == before
    assert memory.arrays_nbytes([made, made[0], np.zeros(4)]) == 32


@pytest.mark.parametrize(
    ("folder", "says"),
    [("nowhere", "No such file"), ("/dev/shm", "is kept in memory"), (HERE, "it has room for")],
)
def test_what_cannot_be_mapped_is_a_sentence(folder, says):
    if folder == "/dev/shm" and not capacity.kept_in_memory(folder):
        pytest.skip("this system has no such folder")
    with pytest.raises(ConfigError, match=f"(?s)mapped_in.*{says}"):
        mapped((2**50,), np.dtype(np.float64), folder)


def test_validate_tells_the_memory(capsys):
    from psopt.cli import cli

    wide = str(Path(HERE) / "wide.yaml")
    assert cli.main(["validate", wide, "--memory", "--ranks", "3"], standalone_mode=False) == 0
    said = capsys.readouterr().out
    assert said.startswith(f"{wide}: memory, beside code and data: ")
    assert " for the server, " in said
    assert said.endswith(" for each of 2 other ranks\n")


def test_arrays_are_counted_once():
    vector = np.zeros(10)
    problem = mpi_problems.Wide.__new__(mpi_problems.Wide)
    problem.own = np.zeros(99)
    held = {"a": [vector, vector[2:]], "b": (vector.reshape(2, 5),), "c": problem}
    assert memory.arrays_nbytes(held, problem) == 80
    assert memory.arrays_nbytes(held) == 80 + 792


def test_a_folder_near_rank_0_is_for_rank_0():
    row = {"recipe": "gd", "aggregator": {"kind": "lazy", "mapped_in": "."}}
    with pytest.raises(ConfigError, match=r"mapped_in: a folder near rank 0 cannot be used with `downlink: changes`"):
        parse({**tiny(), "algorithm": row, "downlink": "changes"})
