"""Runs as tables: frames, CSV, and what a notebook shows of a run."""

import csv
import io
import json
import shutil
import subprocess
import sys
from pathlib import Path

import mpi_jobs
import numpy as np
import pytest
from helpers import tiny

import psopt
from psopt.cli import cli
from psopt.config import parse
from psopt.errors import ConfigError
from psopt.runs.experiment import Plan, simulate
from psopt.runs.finding import find_runs
from psopt.views.reporting.report import report
from psopt.views.watching import watch


def run(folder=None, **changes):
    return simulate(Plan(parse(tiny(**changes)), folder, quiet=True))


def sweep(tmp_path):
    tmp_path.mkdir(exist_ok=True)
    config = tmp_path / "small.yaml"
    config.write_text(json.dumps(tiny()))
    out = tmp_path / "sweep"
    assert cli.main(
        ["sweep", str(config), "--grid", "algorithm=gd,lag-wk", "--grid", "seed=1,2", "--out", str(out)],
        standalone_mode=False,
    ) in (0, None)
    return out


def test_a_frame_holds_the_trace_and_what_follows_from_it():
    done = run(trace={"every": 3})
    frame = done.frame()
    assert frame.index.name == "round"
    assert frame.index.tolist() == [0, 3, 6, 8]
    for name, values in done.trace.items():
        if name != "round":
            np.testing.assert_array_equal(frame[name], values)
    assert (frame["payload_bytes"] == frame["payload_bytes_up"] + frame["payload_bytes_down"]).all()
    assert np.isnan(frame["upload_share"][0])
    assert frame["upload_share"][8] == done.uploads.mean()
    assert frame["elapsed_s"].is_monotonic_increasing
    assert frame["elapsed_s"][8] == pytest.approx(done.wall_s, rel=0.5, abs=0.05)


def test_the_uploads_a_line_an_entry():
    done = run()
    frame = done.uploads_frame()
    assert frame.columns.tolist() == ["round", "worker", "uploaded"]
    assert frame["uploaded"].dtype.kind == "b"
    table = frame.pivot_table(index="round", columns="worker", values="uploaded", aggfunc="first")
    assert table.index.tolist() == list(range(1, 9))
    np.testing.assert_array_equal(table.to_numpy(dtype=bool), done.uploads)


def test_replicas_are_means():
    done = run(algorithm="sgd", repeat=2)
    assert {"gap_se", "upload_share"} <= set(done.frame())
    assert done.uploads_frame()["uploaded"].tolist() == [1.0] * 24
    assert done.replicas[1].frame()["uploads"].iloc[-1] == 24


def test_what_a_notebook_shows():
    done = run()
    assert repr(done).startswith("<Run lag-wk: status ok (max_rounds), workers 3, rounds 8, uploads ")
    assert f"{done.uploads.sum()} of 24" in repr(done)
    assert len(repr(done)) < 250
    named = run(name="mine", algorithm="gd")
    assert "<caption>gd &#x27;mine&#x27;</caption>" in named._repr_html_()
    assert "<tr><th>uploads</th><td>24 of 24 (100.0%)</td></tr>" in named._repr_html_()


def test_many_runs_in_one_frame(tmp_path):
    out = sweep(tmp_path)
    runs = psopt.load_runs(out)
    assert repr(runs) == "<4 runs: point-000, point-001, point-002, point-003>"
    assert [each.summary["recipe"] for each in runs] == ["gd", "gd", "lag-wk", "lag-wk"]
    assert runs["point-002"] is runs[2]
    with pytest.raises(KeyError, match="no run 'point-9'; there are point-000"):
        runs["point-9"]
    frame = runs.frame()
    assert frame.columns[:6].tolist() == ["run", "recipe", "seed", "workers", "algorithm", "round"]
    assert len(frame) == 4 * 9
    assert frame["seed"].dtype == np.int64
    one = frame[(frame["recipe"] == "lag-wk") & (frame["seed"] == 2)].set_index("round")
    np.testing.assert_array_equal(one["gap"], runs[3].frame()["gap"])
    table = runs.summaries()
    assert table.index.tolist() == ["point-000", "point-001", "point-002", "point-003"]
    assert table["uploads"].tolist() == [each.uploads.sum() for each in runs]
    assert len(runs.uploads_frame()) == 4 * 8 * 3


def test_runs_that_differ_in_their_fields_and_share_a_name(tmp_path):
    run(tmp_path / "a" / "r", name="one")
    run(tmp_path / "b" / "r", name="two", algorithm="sgd", repeat=2)
    runs = psopt.load_runs(tmp_path / "a", tmp_path / "b" / "r")
    frame = runs.frame()
    assert frame["run"].unique().tolist() == [str(tmp_path / "a" / "r"), str(tmp_path / "b" / "r")]
    assert frame.groupby("run")["gap_se"].count().tolist() == [0, 9]


def test_what_has_not_ended_is_left_out_of_many_and_refused_alone(tmp_path):
    run(tmp_path / "done")
    run(tmp_path / "cut")
    (tmp_path / "cut" / "summary.json").unlink()
    run(tmp_path / "cut.failed-1")
    with pytest.warns(UserWarning, match=r"left out: .*cut holds no finished run: summary.json is missing"):
        assert len(psopt.load_runs(tmp_path)) == 1
    with pytest.raises(ConfigError, match=r"cut holds no finished run"):
        psopt.load_runs(tmp_path / "cut")
    (tmp_path / "empty").mkdir()
    for wrong, said in [
        ((), "load_runs needs a folder at least"),
        ((tmp_path / "nowhere",), "there is no such folder"),
        ((tmp_path / "done" / "theta.npy",), "is a file; expected the folder of a run"),
        ((tmp_path / "empty",), "empty holds no run"),
        ((tmp_path / "done", tmp_path / "empty"), "empty holds no run"),
    ]:
        with pytest.raises(ConfigError, match=said):
            psopt.load_runs(*wrong)
    (tmp_path / "table.json").write_text("{")
    with pytest.raises(ConfigError, match=r"table.json is no table of psopt's"):
        psopt.load_runs(tmp_path)


def found_by_all(folder, capsys):
    """The runs that each of load_runs, export, watch and report finds in a folder, which must be the same."""
    loaded = [str(each.folder) for each in psopt.load_runs(folder)]
    assert [one.name for one in watch.View([folder]).look()] == loaded
    assert [str(path) for path in find_runs([folder])] == loaded
    capsys.readouterr()
    assert exported(folder) == 0
    told = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert len({row["run"] for row in told}) == len(loaded)
    return [str(path.relative_to(folder)) for path in map(Path, loaded)]


def test_all_who_look_find_the_same_runs(tmp_path, capsys):
    run(tmp_path / "first")
    names = ["run-10", "run-9", "june/run-1", "june/week/run-2", "run-9.slurm", ".hidden", "run-9.failed-1"]
    for name in (*names, "june/run-1.cut-off-2", "june/run-3.slurm", "checkpoints", "run-9/inside"):
        shutil.copytree(tmp_path / "first", tmp_path / "all" / name)
    expected = ["june/run-1", "june/week/run-2", "run-9", "run-10"]
    shutil.rmtree(tmp_path / "all" / "june" / "run-3.slurm")  # of a run that is to come, which watch shows as well
    assert found_by_all(tmp_path / "all", capsys) == expected
    assert len(psopt.load_runs(tmp_path / "all", tmp_path / "all" / "june")) == 4
    shutil.copytree(tmp_path / "first", tmp_path / "all" / "june" / "week" / "monday" / "run-4")
    for look in (psopt.load_runs, lambda folder: find_runs([folder]), lambda folder: watch.View([folder]).look()):
        with pytest.raises(ConfigError, match=r"run-4 is a run more than 3 folders down: name a folder that is nearer"):
            look(tmp_path / "all")
    assert found_by_all(tmp_path / "all" / "june", capsys) == ["run-1", "week/monday/run-4", "week/run-2"]


def test_a_folder_that_cannot_be_looked_into_is_told(tmp_path, monkeypatch):
    run(tmp_path / "all" / "r")
    (tmp_path / "all" / "closed").mkdir()
    looked = Path.iterdir
    refused = PermissionError(13, "Permission denied")

    def iterdir(path):
        if path.name == "closed":
            raise refused
        return looked(path)

    monkeypatch.setattr(Path, "iterdir", iterdir)
    for look in (psopt.load_runs, lambda folder: watch.View([folder]).look()):
        with pytest.raises(ConfigError, match=r"closed cannot be looked into: Permission denied"):
            look(tmp_path / "all")
    refused = FileNotFoundError(2, "No such file or directory")  # it has just vanished
    assert len(psopt.load_runs(tmp_path / "all")) == 1


def test_axes_are_those_of_the_table_beside_the_run(tmp_path):
    out = sweep(tmp_path / "deep")
    assert [label["algorithm"] for label in psopt.load_runs(tmp_path).labels] == ["gd", "gd", "lag-wk", "lag-wk"]
    assert out == tmp_path / "deep" / "sweep"


def test_without_pandas_a_frame_is_one_sentence(monkeypatch):
    done = run()
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ConfigError, match=r"a frame needs pandas, which is not installed: pip install 'psopt\[noteb"):
        done.frame()


def exported(*arguments):
    return cli.main(["export", *map(str, arguments)], standalone_mode=False)


def test_csv_is_the_frame(tmp_path, capsys):
    out = sweep(tmp_path)
    capsys.readouterr()
    assert exported(out, "--out", tmp_path / "all.csv") == 0
    assert "all.csv: trace of 4 runs" in capsys.readouterr().out
    assert exported(out) == 0
    text = capsys.readouterr().out
    assert text == (tmp_path / "all.csv").read_text()
    assert not list(tmp_path.glob(".*"))
    frame = psopt.load_runs(out).frame()
    rows = list(csv.DictReader(io.StringIO(text)))
    assert list(rows[0]) == frame.columns.tolist()
    for name in frame:
        cells = [row[name] for row in rows]
        if frame[name].dtype.kind in "if":
            np.testing.assert_array_equal([float(cell or "nan") for cell in cells], frame[name])
        else:
            assert cells == frame[name].tolist()
    assert exported(out / "point-003", "--what", "uploads") == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [int(row["uploaded"]) for row in rows] == psopt.load_run(out / "point-003").uploads.ravel().astype(
        int
    ).tolist()
    assert rows[4].items() >= {"run": "point-003", "round": "2", "worker": "1"}.items()


def test_export_needs_no_pandas_and_bears_a_reader_that_leaves(tmp_path):
    run(tmp_path / "r", stop={"max_rounds": 3000}, algorithm="gd")
    code = "import sys; sys.modules['pandas'] = None; from psopt.__main__ import main; main()"
    command = [sys.executable, "-c", code, "export", str(tmp_path / "r"), "--what", "uploads"]
    job = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert job.stdout.readline() == b"run,recipe,seed,workers,round,worker,uploaded\n"
    job.stdout.close()
    assert job.wait(30) == 0, job.stderr.read()
    assert job.stderr.read() == b""
    job.stderr.close()


def test_wrong_exports_are_one_sentence(tmp_path):
    run(tmp_path / "r")
    ended = mpi_jobs.psopt("export", tmp_path / "r", "--out", tmp_path / "r")
    assert (ended.code, len(ended.said)) == (2, 1)
    assert "is a folder; expected a file, as in" in ended.said[0]
    assert not list(tmp_path.glob(".*"))
    with pytest.raises(ConfigError, match="nowhere: there is no such folder"):
        exported("nowhere")


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_an_export_is_written_over_and_nothing_else(tmp_path):
    out = sweep(tmp_path)
    exported(out, "--out", tmp_path / "all.csv")
    exported(out / "point-000", "--what", "uploads", "--out", tmp_path / "all.csv")
    assert len((tmp_path / "all.csv").read_text().splitlines()) == 1 + 8 * 3
    (tmp_path / "notes.csv").write_text("run,recipe,seeds\n")
    (tmp_path / "empty.csv").write_text("")
    report([out], tmp_path / "report.csv")
    (out / "point-001" / "theta.npy").unlink()
    before = contents(tmp_path)
    own = [path for path in (out / "point-000").iterdir() if path.is_file()]
    assert len(own) == 6
    others = [*own, out / "table.json", out / "table.csv", tmp_path / "small.yaml", out / "point-001" / "theta.npy"]
    for file in (*others, *(tmp_path / f"{name}.csv" for name in ("notes", "empty", "report"))):
        with pytest.raises(ConfigError, match=r"is no export of psopt's|has the name of a run's own file"):
            exported(out, "--out", file)
    with pytest.raises(ConfigError, match="there is no folder"):
        exported(out, "--out", tmp_path / "nowhere" / "all.csv")
    assert contents(tmp_path) == before


@pytest.mark.parametrize("command", [["export", "FOLDER"], ["explain", "FOLDER"], ["docs", "algorithms"], ["list"]])
def test_a_reader_that_has_seen_enough(tmp_path, command):
    """As `| head` is: no word, and no failure."""
    run(tmp_path / "run")
    words = [str(tmp_path / "run") if word == "FOLDER" else word for word in command]
    started = subprocess.Popen(
        [sys.executable, "-m", "psopt", *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0
    )
    started.stdout.close()
    said = started.communicate(timeout=60)[1]
    assert (started.returncode, said) == (0, b"")
