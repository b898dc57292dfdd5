"""Sweeps: the grid, what runs and what does not, what fails, and the table."""

import csv
import json
import os
import shutil
import signal
import sys
import time

import mpi_jobs
import numpy as np
import pytest
from helpers import OwnSquares, tiny

from psopt.cli import cli
from psopt.config import load, yaml_source
from psopt.config.sentences import Complaints
from psopt.errors import ConfigError
from psopt.runs.experiment import Plan, simulate
from psopt.runs.folder import Held, is_done, load_run
from psopt.runs.grid import axes_of, points_of

TWO = ["--grid", "algorithm=gd,lag-wk", "--grid", "seed=1,2"]


@pytest.fixture
def config(tmp_path):
    """Least squares, three workers, four rounds."""
    return written(tmp_path / "small.yaml", stop={"max_rounds": 4})


@pytest.fixture
def out(tmp_path):
    return tmp_path / "deep" / "sweep"


def written(path, **changes):
    path.write_text(json.dumps(tiny(**changes)))
    return path


def sweep(config, *arguments):
    return cli.main(["sweep", str(config), *map(str, arguments)], standalone_mode=False)


def rows(out):
    return json.loads((out / "table.json").read_text())["rows"]


def content(folder):
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def values(*grid):
    return [axis.values for axis in axes_of(grid)]


def test_values_are_yaml():
    assert values("seed=1,2,3") == [(1, 2, 3)]
    assert values(" a.b = x , 'y, z', 1e-3, null, true") == [("x", "y, z", 1e-3, None, True)]
    assert values("algorithm.plan=every,{kind: cyclic, x: 3}") == [("every", {"kind": "cyclic", "x": 3})]
    assert values("problem.hidden=[4, 5],[6]", "seed=7 # lucky") == [([4, 5], [6]), (7,)]
    assert values("step_size=1/L,.inf") == [("1/L", np.inf)]


@pytest.mark.parametrize(
    ("grid", "overrides", "said"),
    [
        (["seed"], [], r"--grid seed: expected KEY.KEY=VALUE,VALUE,..., as in seed=1,2,3"),
        (["a..b=1"], [], "expected KEY.KEY=VALUE"),
        (["seed="], [], "--grid seed=: found an empty list of values"),
        (["seed=1,,2"], [], "is not YAML"),
        (["seed=[1"], [], "is not YAML"),
        (["seed=1]"], [], "is not YAML"),
        (["seed=1] # [2"], [], "is not YAML"),
        (["seed=!!int 1"], [], "the tag `.*` is not used"),
        (["a={b: 1, b: 2}"], [], "this key is given twice"),
        (["seed=1", "workers=2", "seed=3"], [], "--grid seed=3: the key `seed` is given twice: keep one"),
        (["algorithm=gd"], ["algorithm.step_size=1"], "--set algorithm.step_size=1: would count for nothing, because"),
        (["seed=1"], ["seed=1"], "would count for nothing"),
    ],
)
def test_grids_that_are_none(grid, overrides, said):
    with pytest.raises(ConfigError, match=said):
        axes_of(grid, overrides)


@pytest.mark.parametrize("value", [1.5, float("inf"), -float("inf"), "1/L", "a, b", {"k": [1, None, {"x": True}]}, ""])
def test_values_survive_their_text(value):
    text = yaml_source.written(value)
    assert yaml_source.read(f"[{text}]", "x", Complaints("x"), numbered=False) == [value]


def test_the_product(config, out):
    axes = axes_of(["seed=1,2", "workers=2,3,4"])
    points = points_of(config, axes, ["stop.max_rounds=9"], out)
    assert [(p.config.seed, p.config.workers) for p in points] == [(s, m) for s in (1, 2) for m in (2, 3, 4)]
    assert [p.number for p in points] == list(range(6))
    assert [p.folder.name for p in points] == [f"point-00{n}" for n in range(6)]
    assert {p.config.stop.max_rounds for p in points} == {9}
    assert {p.config.name for p in points} == {"small"}
    assert str(points[4]) == "point 4 of 6: seed=2, workers=3"
    many = points_of(config, axes_of([f"seed={','.join(map(str, range(1001)))}"]), [], out)
    assert (many[0].folder.name, many[-1].folder.name) == ("point-0000", "point-1000")


def test_a_product_beyond_reason(config, out):
    numbers = ",".join(map(str, range(1, 200)))
    axes = axes_of([f"seed={numbers}", f"workers={numbers}", f"repeat={numbers}"])
    with pytest.raises(ConfigError, match="--grid asks for 7880599 points, expected at most 10000"):
        points_of(config, axes, [], out)


def test_a_long_value_is_not_told_whole(config, out):
    with pytest.raises(ConfigError) as caught:
        points_of(config, axes_of([f"algorithm.recipe={'x' * 9000}"]), [], out)
    assert len(str(caught.value)) < 1000


def test_seeds_whose_replicas_would_overlap(config, out):
    said = r"with `repeat: 4` the seeds 5 and 7 have replicas in common, .* keep them 4 apart"
    with pytest.raises(ConfigError, match=said):
        points_of(config, axes_of(["seed=7,1,5", "workers=2,3"]), ["repeat=4"], out)
    assert len(points_of(config, axes_of(["seed=9,1,5", "workers=2,3"]), ["repeat=4"], out)) == 6
    assert len(points_of(config, axes_of(["seed=1,2", "repeat=1"]), [], out)) == 2


def test_an_axis_inside_another_counts_wherever_it_stands(config, out):
    for grid in (["algorithm.step_size=0.1,0.2", "algorithm=gd,sgd"], ["algorithm=gd,sgd", "algorithm.step_size=0.1"]):
        for point in points_of(config, axes_of(grid), [], out):
            assert point.config.recipe == point.values["algorithm"]
            assert point.config.algorithm.step_size.initial == point.values["algorithm.step_size"]


def test_all_faults_are_told_before_anything_runs(config, out):
    with pytest.raises(ConfigError) as caught:
        sweep(config, "--grid", "workers=2,0", "--grid", "algorithm=gd,lagg", "--set", "seed=-1", "--out", out)
    first, second, third, *none = str(caught.value).splitlines()
    assert first.startswith("every point: --set seed=-1: seed: found -1")
    assert second.startswith("point 1 of 4: workers=2, algorithm=lagg (and 1 more point): --grid algorithm: ")
    assert third.startswith(
        "point 2 of 4: workers=0, algorithm=gd (and 1 more point): --grid workers: workers: found 0"
    )
    assert not none
    assert not out.exists()
    with pytest.raises(ConfigError, match="every point: --grid nothere: nothere: unknown key"):
        sweep(config, "--grid", "nothere=1,2", "--out", out)


def test_runs_and_table(config, out, capsys):
    assert sweep(config, *TWO, "--out", out) == 0
    shown, told = capsys.readouterr()
    lines = told.splitlines()
    assert [line.rsplit(": ok, ")[0] for line in lines] == [
        "psopt: point 0 of 4: algorithm=gd, seed=1",
        "psopt: point 1 of 4: algorithm=gd, seed=2",
        "psopt: point 2 of 4: algorithm=lag-wk, seed=1",
        "psopt: point 3 of 4: algorithm=lag-wk, seed=2",
    ]
    assert sorted(path.name for path in out.iterdir()) == [
        *(f"point-00{n}" for n in range(4)),
        "table.csv",
        "table.json",
    ]
    table = json.loads((out / "table.json").read_text())
    assert table["schema"] == 1
    assert table["axes"] == [{"key": "algorithm", "values": ["gd", "lag-wk"]}, {"key": "seed", "values": [1, 2]}]
    for n, row in enumerate(table["rows"]):
        done = load_run(out / f"point-00{n}")
        assert done.summary["recipe"] == row["algorithm"]
        assert done.seed == row["seed"]
        assert (row["point"], row["status"], row["folder"]) == (n, "ok", f"point-00{n}")
        for name in ("rounds", "uploads", "payload_bytes_up", "payload_bytes_down", "objective", "gap", "test_loss"):
            assert row[name] == done.summary[name]
        for name in ("test_accuracy", "wall_s", "stop_reason", "theta_sha256"):
            assert row[name] == done.summary[name]
    with open(out / "table.csv", newline="") as file:
        read = list(csv.DictReader(file))
    assert list(read[0]) == list(table["rows"][0])
    assert [row["algorithm"] for row in read] == ["gd", "gd", "lag-wk", "lag-wk"]
    assert [float(row["objective"]) for row in read] == [row["objective"] for row in table["rows"]]
    assert {row["test_accuracy"] for row in read} == {""}
    assert "stopped by" not in shown  # the same of all
    assert "lag-wk" in shown
    assert "accuracy" not in shown, "empty in all rows"


def test_a_point_is_the_run_that_simulate_makes(config, out):
    sweep(config, "--grid", "algorithm.trigger=always,{kind: innovation, window: 5}", "--out", out)
    override = "algorithm.trigger={kind: innovation, window: 5}"
    alone = simulate(Plan(load(config, [override]), quiet=True))
    assert rows(out)[1]["algorithm.trigger"] == {"kind": "innovation", "window": 5}
    assert rows(out)[1]["theta_sha256"] == alone.theta_sha256
    assert load_run(out / "point-001").config_sha256 == alone.config_sha256
    with open(out / "table.csv", newline="") as file:
        assert [row["algorithm.trigger"] for row in csv.DictReader(file)][1] == "{kind: innovation, window: 5}"


def test_standard_errors_are_columns_too(config, out):
    sweep(config, "--grid", "seed=1,2", "--out", out)
    path = out / "point-001" / "summary.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "objective_se": 0.25}))
    assert sweep(config, "--grid", "seed=1,2", "--out", out, "--collect") == 0
    assert [row["objective_se"] for row in rows(out)] == [None, 0.25]


def test_finished_points_are_not_run_again(config, out, capsys):
    sweep(config, *TWO, "--out", out)
    before = content(out)
    (out / "notes.txt").write_text("mine")
    capsys.readouterr()
    assert sweep(config, *TWO, "--out", out) == 0
    assert content(out) == {**before, out / "notes.txt": b"mine"}
    assert capsys.readouterr().err == "psopt: 4 of 4 points are done already\n"


def test_points_that_were_cut_off_or_interrupted_go_on_or_are_made_again(config, out):
    sweep(config, "--grid", "seed=1,2,3,4", "--out", out)
    before = rows(out)
    (out / "point-000" / "summary.json").unlink()
    shutil.rmtree(out / "point-000" / "checkpoints")
    path = out / "point-001" / "summary.json"
    path.write_text(path.read_text().replace('"ok"', '"stopped"'))
    (out / "point-002" / "summary.json").unlink()
    (out / "point-002" / "config.yaml").write_text("")
    assert sweep(config, "--grid", "seed=1,2,3,4", "--out", out, "--collect") == 1
    assert [row["status"] for row in rows(out)] == ["unfinished", "unfinished", "unfinished", "ok"]
    (out / "point-000.cut-off-1").mkdir()
    assert sweep(config, "--grid", "seed=1,2,3,4", "--out", out) == 0
    assert [row["theta_sha256"] for row in rows(out)] == [row["theta_sha256"] for row in before]
    aside = {path.name for path in out.iterdir() if "cut-off" in path.name}
    assert aside == {f"point-000.cut-off-{n}" for n in (1, 2)}
    assert (out / "point-002" / "config.yaml").stat().st_size > 0
    assert (out / "point-000.cut-off-2" / "theta.npy").is_file()


@pytest.mark.parametrize("mode", [[], ["--collect"], ["--dry-run"], ["--point", "1"]])
def test_another_run_in_the_folder_is_refused(config, out, mode):
    assert sweep(config, "--grid", "seed=1", "--out", out) == 0
    (out / "point-000").rename(out / "point-001")
    before = content(out)
    with pytest.raises(ConfigError, match="point-001 already holds a run of another config: choose another --out"):
        sweep(config, "--grid", "seed=1,2", "--out", out, *mode)
    assert content(out) == before
    (out / "point-001" / "summary.json").unlink()
    with pytest.raises(ConfigError, match="point-001 already holds"):
        sweep(config, "--grid", "seed=1,2", "--out", out, *mode)


def test_several_folders_of_others_are_told_at_once(config, out):
    sweep(config, "--grid", "seed=1,2,3", "--out", out)
    with pytest.raises(ConfigError, match=r"point-001 \(and 1 more of this sweep's folders\) already holds"):
        sweep(config, "--grid", "seed=1,4,5", "--out", out)


def test_out_must_be_a_folder(config, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"--out .*file is a file, not a folder"):
        sweep(config, "--grid", "seed=1", "--out", tmp_path / "file")
    with pytest.raises(ConfigError, match="cannot be made: Not a directory"):
        sweep(config, "--grid", "seed=1", "--out", tmp_path / "file" / "inner")
    (tmp_path / "point-000").write_text("")
    with pytest.raises(ConfigError, match="point-000 is a file, not a folder"):
        sweep(config, "--grid", "seed=1", "--out", tmp_path)


class Broken(OwnSquares):
    """Raises at a worker's ``after``-th gradient, if that is given."""

    def __init__(self, shard, share, after=0, end=0):
        super().__init__(shard, share)
        self.left, self.end = after, end

    def value_and_gradient(self, theta, out):
        self.left -= 1
        if self.left == 0:
            if self.end:
                os.kill(os.getpid(), signal.SIGKILL)
            raise ValueError("the shard is cursed")
        return super().value_and_gradient(theta, out)


def broken(path, **options):
    return written(path / "b.yaml", problem={"kind": "test_sweep:Broken", **options}, stop={"max_rounds": 4})


def test_points_that_fail_stop_no_other(tmp_path, out, capsys):
    config = broken(tmp_path)
    grid = ["--grid", "problem.after=0,2", "--grid", "algorithm.step_size=1e-3,1e300"]
    assert sweep(config, *grid, "--out", out) == 1
    told = capsys.readouterr().err
    statuses = [row["status"] for row in rows(out)]
    assert statuses[0] == "ok"
    assert statuses[1].startswith("failed: theta is no longer finite") or "too large" in statuses[1]
    assert all(status.startswith("failed: ###") or "too large" in status for status in statuses[2:])
    assert "point 2 of 4: problem.after=2, algorithm.step_size=0.001: failed: ### worker 0 of 3, rank 0 on" in told
    assert "ValueError: the shard is cursed" in told
    assert sweep(config, *grid, "--out", out, "--collect") == 1
    assert [row["status"] for row in rows(out)] == statuses
    assert "psopt: point 2 of 4: problem.after=2, algorithm.step_size=0.001: failed: ###" in capsys.readouterr().err
    assert sweep(config, *grid, "--out", out) == 1
    assert sorted(path.name for path in out.glob("*.failed-*")) == [f"point-00{n}.failed-1" for n in (1, 2, 3)]


def test_a_point_that_fails_before_it_has_a_folder(tmp_path, out, capsys):
    config = written(tmp_path / "c.yaml", data={"source": "file", "path": str(tmp_path / "none.csv")})
    assert sweep(config, "--grid", "seed=1,2", "--out", out) == 1
    assert all(row["status"].startswith("failed: ") and "none.csv" in row["status"] for row in rows(out))
    assert not (out / "point-000").exists()
    assert sweep(config, "--grid", "seed=1,2", "--out", out, "--collect") == 1
    assert [row["status"] for row in rows(out)] == ["missing", "missing"]


def test_an_unforeseen_exception_stops_no_other_point(config, out, monkeypatch, capsys):
    from psopt.runs import sweep as module

    def odd(plan):
        if plan.config.seed == 1:
            raise RuntimeError("odd")
        return simulate(plan)

    monkeypatch.setattr(module, "simulate", odd)
    assert sweep(config, "--grid", "seed=1,2", "--out", out) == 1
    assert [row["status"] for row in rows(out)] == ["failed: RuntimeError: odd", "ok"]
    assert "Traceback" in capsys.readouterr().err


def test_processes_give_the_same_table(config, out, tmp_path, capsys):
    assert sweep(config, *TWO, "--out", out) == 0
    capsys.readouterr()
    assert sweep(config, *TWO, "--out", tmp_path / "two", "--processes", 2) == 0
    told = capsys.readouterr().err.splitlines()
    assert sorted(line.split(":")[1] for line in told) == [f" point {n} of 4" for n in range(4)]
    clocks = {"wall_s": 0.0}
    assert [{**row, **clocks} for row in rows(tmp_path / "two")] == [{**row, **clocks} for row in rows(out)]


def test_a_process_that_dies_is_its_points_failure_alone(tmp_path, out, capsys):
    config = broken(tmp_path, end=1)
    assert sweep(config, "--grid", "problem.after=2,0,-1", "--out", out, "--processes", 2) == 1
    died = "failed: its process died without a word, as one that was killed or that ran out of memory does"
    assert [row["status"] for row in rows(out)] == [died, "ok", "ok"]
    assert f"psopt: point 0 of 3: problem.after=2: {died}" in capsys.readouterr().err


@pytest.mark.parametrize("processes", [1, 2])
@pytest.mark.parametrize("whom", ["all", "the first"])
def test_an_interrupt_keeps_what_is_done(tmp_path, out, processes, whom):
    """Ctrl-C reaches every process of the terminal, `kill -INT` only the first."""
    config = written(tmp_path / "c.yaml", f_star="none", trace={"every": 1000})
    grid = ["--grid", "stop={max_rounds: 3},{max_seconds: 60},{max_seconds: 61},{max_rounds: 4}"]
    command = ["sweep", config, *grid, "--out", out, "--processes", processes]
    job = mpi_jobs.start([sys.executable, "-m", "psopt", *map(str, command)])
    until = time.monotonic() + 60
    going = [out / f"point-00{n}" / "uploads.bin" for n in range(1, 1 + processes)]
    while not all(path.is_file() and path.stat().st_size for path in going) and time.monotonic() < until:
        time.sleep(0.05)
    began = time.time()
    (os.killpg if whom == "all" else os.kill)(job.pid, signal.SIGINT)
    ended = mpi_jobs.finish(job, began, timeout_s=20)
    assert ended.code == 130, ended
    assert ended.err.splitlines()[-1] == "psopt: interrupted", ended
    assert "Traceback" not in ended.err, ended
    assert load_run(out / "point-000").status == "ok"
    for path in going:
        assert load_run(path.parent).status == "stopped"
    assert not (out / "point-003").exists()
    assert not (out / "table.json").exists()


def test_one_point_and_collecting(config, out, capsys):
    with pytest.raises(ConfigError, match="--point 4: expected a number from 0 to 3"):
        sweep(config, *TWO, "--out", out, "--point", 4)
    with pytest.raises(ConfigError, match="--point -1: expected a number from 0 to 3"):
        sweep(config, *TWO, "--out", out, "--point", -1)
    assert sweep(config, *TWO, "--out", out, "--point", 2) == 0
    assert [path.name for path in out.iterdir()] == ["point-002"]
    assert "psopt: point 2 of 4: algorithm=lag-wk, seed=1\n" in capsys.readouterr().err
    before = content(out / "point-002")
    assert sweep(config, *TWO, "--out", out, "--point", 2) == 0
    assert content(out) == before
    assert capsys.readouterr().err == "psopt: point 2 of 4: algorithm=lag-wk, seed=1: done already\n"
    assert sweep(config, *TWO, "--out", out, "--collect") == 1
    assert [row["status"] for row in rows(out)] == ["missing", "missing", "ok", "missing"]
    assert rows(out)[0]["rounds"] is None
    assert "psopt: point 0 of 4: algorithm=gd, seed=1: missing" in capsys.readouterr().err
    for number in (0, 1, 3):
        assert sweep(config, *TWO, "--out", out, "--point", number) == 0
    assert sweep(config, *TWO, "--out", out, "--collect") == 0
    assert {row["status"] for row in rows(out)} == {"ok"}
    assert content(out / "point-002") == before


def test_a_point_looks_at_its_own_folder_alone(config, out):
    (out / "point-000").mkdir(parents=True)
    (out / "point-000" / "summary.json").write_text("{")
    assert sweep(config, "--grid", "seed=1,2", "--out", out, "--point", 1) == 0


@pytest.mark.parametrize(
    ("modes", "said"),
    [
        (["--collect", "--dry-run"], "exclude each other"),
        (["--point", 0, "--collect"], "exclude each other"),
        (["--point", 0, "--processes", 2], "--processes cannot be used with --point"),
    ],
)
def test_modes_that_exclude_each_other(config, out, modes, said):
    with pytest.raises(ConfigError, match=said):
        sweep(config, "--grid", "seed=1", "--out", out, *modes)


def test_dry_run(config, out, capsys):
    sweep(config, "--grid", "seed=2", "--out", out)
    capsys.readouterr()
    before = content(out)
    assert sweep(config, "--grid", "seed=2,3", "--out", out, "--dry-run") == 0
    assert [line.split() for line in capsys.readouterr().out.splitlines()] == [
        ["0", "seed=2", str(out / "point-000"), "done"],
        ["1", "seed=3", str(out / "point-001"), "to", "run"],
    ]
    assert content(out) == before


def test_a_folder_with_files_of_an_unknown_run_is_anothers(config, out):
    (out / "point-000").mkdir(parents=True)
    (out / "point-000" / "theta.npy").write_bytes(b"")
    with pytest.raises(ConfigError, match="another config"):
        is_done(out / "point-000", load(config).sha256())
    (out / "point-000" / "theta.npy").rename(out / "point-000" / "notes.npy")
    assert points_of(config, axes_of(["seed=1"]), [], out)[0].held() is Held.NOTHING


@pytest.mark.mpi
def test_a_point_over_mpi_has_the_same_bits(config, out, tmp_path):
    sweep(config, *TWO, "--out", out, "--point", 3)
    there = tmp_path / "mpi"
    command = ["-m", "psopt", "sweep", config, *TWO, "--out", there]
    ended = mpi_jobs.mpiexec(3, *command, "--point", 3)
    assert ended.code == 0, ended
    assert sum(line == "psopt: point 3 of 4: algorithm=lag-wk, seed=2" for line in ended.said) == 1, ended
    here, done = load_run(out / "point-003"), load_run(there / "point-003")
    assert (done.ranks, done.theta_sha256, done.config_sha256) == (3, here.theta_sha256, here.config_sha256)
    np.testing.assert_array_equal(done.uploads, here.uploads)
    again = mpi_jobs.mpiexec(3, *command, "--point", 3)
    assert again.code == 0, again
    assert again.said == ["psopt: point 3 of 4: algorithm=lag-wk, seed=2: done already"]
    ended = mpi_jobs.mpiexec(3, *command)
    assert ended.code == 2, ended
    assert sum("in an MPI job `psopt sweep` runs one point" in line for line in ended.said) == 1, ended
