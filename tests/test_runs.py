"""Runs and what they leave behind: the folder, stopping, progress, failures."""

import hashlib
import json
import math
import re
from dataclasses import replace

import numpy as np
import pytest
from helpers import OwnSquares, tables, tiny

import psopt
from psopt.config import Stop, load, parse
from psopt.data.table import Table
from psopt.errors import ConfigError, WorkerFailed
from psopt.runs import progress
from psopt.runs.experiment import Plan, simulate
from psopt.runs.folder import FILES, SCHEMA, load_run
from psopt.runs.progress import Progress, clock, closing_table, size
from psopt.runs.stopping import Stopping
from psopt.runs.trace import Record, Trace, read_uploads

KEYS = {
    *["schema", "status", "psopt_version", "dim", "samples", "recipe", "workers", "ranks", "rounds"],
    *[
        "uploads",
        "downloads",
        "skips",
        "payload_bytes_up",
        "payload_bytes_down",
        "control_bytes_up",
        "control_bytes_down",
    ],
    *["evaluation_bytes", "gradient_evaluations", "objective", "f_star", "gap", "stop_reason"],
    *["wall_s", "compile_s", "seed", "config_sha256", "theta_sha256"],
}


def run(folder=None, **changes):
    return simulate(Plan(parse(tiny(**changes)), folder, quiet=True))


def test_the_folder(tmp_path):
    config = parse(tiny(trace={"every": 3}))
    folder = tmp_path / "deep" / "run"
    returned = simulate(Plan(config, folder, quiet=True))
    assert sorted(path.name for path in folder.iterdir()) == sorted([*FILES, "checkpoints", "decisions.bin"])
    summary = json.loads((folder / "summary.json").read_text())
    assert set(summary) >= KEYS
    assert summary["schema"] == SCHEMA
    assert (summary["status"], summary["stop_reason"]) == ("ok", "max_rounds")
    assert (summary["dim"], summary["samples"], summary["workers"], summary["ranks"]) == (4, 60, 3, 1)
    assert (summary["recipe"], summary["seed"], summary["rounds"]) == ("lag-wk", 3, 8)
    assert summary["psopt_version"] == psopt.__version__
    assert summary["config_sha256"] == config.sha256()
    assert summary["wall_s"] > 0 <= summary["compile_s"]
    assert load(folder / "config.yaml") == config
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["packages"].keys() >= {"numpy", "numba", "pydantic"}
    assert (manifest["ranks"], manifest["config_sha256"]) == (1, config.sha256())
    read = load_run(folder)
    assert read.summary == returned.summary == summary
    assert read.manifest == manifest
    assert read.config == config.resolved()
    np.testing.assert_array_equal(read.theta, returned.theta)
    np.testing.assert_array_equal(read.uploads, returned.uploads)
    assert not list(folder.glob("*.partial"))


@pytest.mark.parametrize("to_folder", [False, True])
@pytest.mark.parametrize("every", [1, 3, 100])
def test_arrays_agree_with_the_summary(tmp_path, to_folder, every):
    done = run(tmp_path / "r" if to_folder else None, trace={"every": every})
    summary, trace = done.summary, done.trace
    assert trace["round"].tolist() == sorted({*range(0, 9, every), 8})
    assert done.uploads.shape == (8, 3)
    assert done.uploads.dtype == bool
    assert done.uploads.sum() == summary["uploads"] == trace["uploads"][-1]
    for key in ("downloads", "skips", "payload_bytes_up", "payload_bytes_down", "control_bytes_up", "objective", "gap"):
        assert trace[key][-1] == summary[key], key
    evaluation = trace["evaluation_bytes_up"] + trace["evaluation_bytes_down"]
    assert evaluation[-1] == summary["evaluation_bytes"]
    assert trace["control_bytes_down"][-1] + 3 * 48 == summary["control_bytes_down"]  # the stop
    assert done.theta.shape == (summary["dim"],)
    assert hashlib.sha256(done.theta.tobytes()).hexdigest() == summary["theta_sha256"]
    cumulative = np.concatenate([[0], np.cumsum(done.uploads.sum(axis=1))])
    assert trace["uploads"].tolist() == cumulative[trace["round"]].tolist()
    parts = trace["compute_s"] + trace["serialise_s"] + trace["wait_s"] + trace["rest_s"]
    assert (np.diff(parts) >= 0).all()
    assert parts[-1] <= summary["wall_s"] + 1e-9
    assert (done.gap, done.rounds, done.status) == (summary["gap"], 8, "ok")
    with pytest.raises(AttributeError):
        _ = done.no_such_field


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_folder_that_holds_a_run_is_refused(tmp_path):
    run(tmp_path / "r")
    before = contents(tmp_path / "r")
    with pytest.raises(ConfigError, match=r"already holds a run \(config.yaml\)"):
        run(tmp_path / "r")
    assert contents(tmp_path / "r") == before
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="is a file, not a folder"):
        run(tmp_path / "file")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.txt").write_text("mine")
    assert run(tmp_path / "other").status == "ok"


@pytest.mark.parametrize("name", FILES)
def test_an_unfinished_or_broken_run_cannot_be_loaded(tmp_path, name):
    run(tmp_path / "r")
    path = tmp_path / "r" / name
    content = path.read_bytes()
    path.unlink()
    with pytest.raises(ConfigError, match=f"holds no finished run: {name} is missing"):
        load_run(tmp_path / "r")
    if name != "uploads.bin":
        path.write_bytes(b"{" + content[: len(content) // 2])
        with pytest.raises(ConfigError):
            load_run(tmp_path / "r")


def test_a_run_of_another_schema_is_refused(tmp_path):
    run(tmp_path)
    path = tmp_path / "summary.json"
    path.write_text(path.read_text().replace('"schema": 1', '"schema": 99'))
    with pytest.raises(ConfigError, match="schema 99; this psopt reads 1"):
        load_run(tmp_path)


@pytest.mark.parametrize("workers", [1, 8, 9, 17])
def test_upload_masks(tmp_path, workers):
    masks = np.random.default_rng(workers).random((12, workers)) < 0.5
    for folder in (None, tmp_path):
        trace = Trace(folder)
        for mask in masks:
            trace.round(mask.copy(), 0.0, None, np.zeros(workers))
        trace.close()
        np.testing.assert_array_equal(trace.uploads(workers), masks)
        assert Trace(None).uploads(workers).shape == (0, workers)
    content = (tmp_path / "uploads.bin").read_bytes()
    width = -(-workers // 8)
    assert len(content) == 12 * width
    for k in range(12):  # bit m, little end first
        row = int.from_bytes(content[k * width : (k + 1) * width], "little")
        assert [bool(row >> m & 1) for m in range(8 * width)] == masks[k].tolist() + [False] * (8 * width - workers)
    (tmp_path / "uploads.bin").write_bytes(content[:-1])  # a run that was cut off
    assert len(read_uploads(tmp_path / "uploads.bin", workers)) == 11


RECORD = Record(250, 250, 3.5, 2.5e-4, None, None, 75, 750, 675, *[0] * 7, 0.1, 0.0, 0.2, 0.3)


def saw(**values):
    return {"record": replace(RECORD, **{"gap": None, **values})}


NEVER = {"k": 1, "record": None, "uploads": 0, "seconds": 0.0, "aggregate_norm": lambda: math.inf}


@pytest.mark.parametrize(
    ("stop", "no", "yes"),
    [
        ({"gap": 1e-3}, saw(gap=2e-3), saw(gap=1e-3)),
        ({"gap": 1e-3}, saw(), saw(gap=-1e-9)),
        ({"test_accuracy": 0.9}, saw(test_accuracy=0.89), saw(test_accuracy=0.9)),
        ({"gradient_norm": 0.5}, {"aggregate_norm": lambda: 0.6}, {"aggregate_norm": lambda: 0.5}),
        ({"max_rounds": 7}, {"k": 6}, {"k": 7}),
        ({"max_uploads": 9}, {"uploads": 8}, {"uploads": 11}),
        ({"max_seconds": 2.0}, {"seconds": 1.9}, {"seconds": 2.0}),
    ],
)
def test_each_stopping_rule(stop, no, yes):
    rule = Stopping(Stop(**stop))
    assert rule.reason(**NEVER) is None
    assert rule.reason(**{**NEVER, **no}) is None
    assert rule.reason(**{**NEVER, **yes}) == next(iter(stop))


def test_stopping_in_runs():
    far = {"max_rounds": 5000}
    done = run(stop={"gap": 1e-6, **far})
    assert done.stop_reason == "gap"
    assert done.gap <= 1e-6 < done.trace["gap"][-2]
    done = run(stop={"gradient_norm": 1e-3, **far}, algorithm="gd")
    assert done.stop_reason == "gradient_norm"
    assert done.rounds < 5000
    done = run(stop={"max_uploads": 10, **far})
    assert done.stop_reason == "max_uploads"
    assert done.uploads.sum() >= 10 > done.uploads[:-1].sum()
    done = run(stop={"max_seconds": 0.1})
    assert done.stop_reason == "max_seconds"
    assert 0.1 <= done.wall_s < 5
    assert run(stop={"gap": 1e-6, **far}, trace={"every": 50}).rounds % 50 == 0  # seen where it is looked at


def test_f_star():
    auto = run(stop={"gap": 1e-10, "max_rounds": 5000})
    none = run(f_star="none")
    assert none.f_star is none.gap is None
    assert np.isnan(none.trace["gap"]).all()
    number = run(f_star=-3.5)
    assert number.f_star == -3.5
    assert number.gap == number.objective + 3.5
    assert auto.objective - auto.f_star == auto.gap
    assert run(f_star=auto.f_star).trace["gap"].tolist() == run().trace["gap"].tolist()


def own_run(cls, folder=None, **changes):
    """A run of a user's class on five small shards."""
    parts = tables(5, rows=4)
    table = Table(np.vstack([t.features for t in parts]), np.concatenate([t.labels for t in parts]))
    data = {"source": "memory", "partition": "contiguous"}
    config = parse(tiny(workers=5, data=data, problem="helpers:OwnSquares", **changes))
    return simulate(Plan(config, folder, table=table, problem=cls, quiet=True))


def test_a_gap_needs_an_optimum():
    with pytest.raises(ConfigError, match=r"`stop.gap` needs f\*, which cannot be found"):
        own_run(OwnSquares, stop={"gap": 1e-3})
    assert own_run(OwnSquares).f_star is None
    assert own_run(OwnSquares, stop={"gap": 1e9}, f_star=0.0).stop_reason == "gap"


class Broken(OwnSquares):
    """Worker 2 raises at its fourth gradient."""

    error = ValueError("the shard is cursed\nand this is a second line")

    def __init__(self, shard, share):
        super().__init__(shard, share)
        self.left = 4 if share.worker == 2 else math.inf

    def value_and_gradient(self, theta, out):
        self.left -= 1
        if self.left == 0:
            raise self.error
        return super().value_and_gradient(theta, out)


class Interrupted(Broken):
    error = KeyboardInterrupt()


def test_a_failure_in_a_users_problem(tmp_path):
    folder = tmp_path / "r"
    with pytest.raises(WorkerFailed) as caught:
        own_run(Broken, folder, trace={"every": 100})
    lines = str(caught.value).splitlines()
    assert lines[0].startswith("### worker 2 of 5, rank 0 on ")
    assert lines[0].endswith(", round 4")
    assert "ValueError: the shard is cursed" in lines
    assert any("in value_and_gradient" in line for line in lines)
    done = load_run(folder)  # all that was known is there
    assert done.status == f"failed: {lines[0]}"
    assert done.stop_reason is None
    assert done.uploads.shape == (3, 5)
    assert done.trace["round"].tolist() == [0]
    assert np.isfinite(done.theta).all()


def test_an_interrupt_writes_what_there_is(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        own_run(Interrupted, tmp_path, trace={"every": 1})
    done = load_run(tmp_path)
    assert (done.status, done.stop_reason) == ("stopped", "interrupted")
    assert done.rounds == len(done.uploads) == 3
    assert done.trace["round"].tolist() == [0, 1, 2]


@pytest.mark.parametrize("folder", [False, True])
def test_divergence_that_only_the_test_rows_show(tmp_path, folder):
    """Without the objective, and with the last round's step too large for the next gradient to tell."""
    config = tiny(
        problem={"kind": "perceptron", "classes": 7, "hidden": [4], "dtype": "float32"},
        data={"source": "dermatology", "labels": "classes", "test": {"fraction": 0.2}},
        algorithm={"recipe": "sgd", "step_size": 1e19},
        f_star="none",
        stop={"max_rounds": 2},
        trace={"every": 1, "objective": False},
    )
    with pytest.raises((ConfigError, WorkerFailed), match=r"after round \d|round \d: the gradient of worker"):
        simulate(Plan(parse(config), tmp_path if folder else None, quiet=True))
    assert not folder or load_run(tmp_path).status.startswith("failed: ")


def test_divergence_is_told_with_the_step(tmp_path):
    with pytest.raises(ConfigError, match=r"step .*1e\+200.* too large"):
        own_run(OwnSquares, tmp_path, algorithm={"recipe": "gd", "step_size": 1e200})
    assert load_run(tmp_path).status.startswith("failed: ")


@pytest.fixture
def eager(monkeypatch):
    """Progress that shows every record."""
    monkeypatch.setattr(progress, "LIVE_EVERY_S", -1.0)
    monkeypatch.setattr(progress, "PLAIN_EVERY_S", -1.0)
    monkeypatch.delenv("PSOPT_TERMINAL", raising=False)
    return monkeypatch


def test_plain_progress(eager, capsys):
    shown = Progress(3, max_rounds=1000)
    shown.say("psopt: hello")
    shown.update(RECORD)
    shown.close()
    out, err = capsys.readouterr()
    assert out == ""
    first, second = err.splitlines()
    assert first == "psopt: hello"
    assert second.startswith("round 250  gap 2.500e-04  uploads 75 (10% of all)  ")
    assert second.endswith("  ETA 0 s")
    assert "rounds/s" in second
    assert "\r" not in err


def test_live_progress(eager, capsys):
    eager.setenv("PSOPT_TERMINAL", "80")
    shown = Progress(3, max_seconds=100)
    shown.update(RECORD)
    shown.say("lasting")
    shown.update(RECORD)
    shown.close()
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert all(len(piece.rstrip("\n")) <= 79 for piece in err.split("\r"))
    assert "ETA 1:40" in err
    assert err.endswith("\r" + " " * 79 + "\r")


def test_quiet_progress_and_one_that_is_not_due(eager, capsys):
    Progress(3, quiet=True).update(RECORD)
    eager.setattr(progress, "PLAIN_EVERY_S", 5.0)
    Progress(3).update(RECORD)
    assert capsys.readouterr() == ("", "")


def test_a_runs_own_lines(eager, capsys):
    simulate(Plan(parse(tiny(name="small"))))
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "psopt: small: lag-wk, 3 workers in one process, 60 samples, 4 parameters (float64), seed 3"
    assert re.fullmatch(r"psopt: memory, beside code and data: \d\.\d+ kB", lines[1])
    assert lines[2].startswith("psopt: step size ")
    assert ", f* = " in lines[2]
    assert [line.split("  ")[0] for line in lines[3:]] == [f"round {k}" for k in range(9)]


@pytest.mark.parametrize("terminal", ["", "80"])
def test_the_closing_table(eager, capsys, terminal):
    eager.setenv("PSOPT_TERMINAL", terminal)
    summary = {**run().summary, "rounds": 100, "workers": 3, "uploads": 30, "gap": 1.5e-9, "payload_bytes_up": 12345}
    summary["stop_reason"] = "gap"
    closing_table(summary, "runs/here")
    out, err = capsys.readouterr()
    assert err == ""
    text = " ".join(out.split())
    for expected in ("ok (gap)", "1.500e-09", "30 of 300 (10.0%): 10.0 x fewer", "12.35 kB", "runs/here"):
        assert expected in text
    assert max(map(len, out.splitlines())) <= (80 if terminal else 120) + 20 * bool(terminal)
    closing_table({**summary, "stop_reason": "max_rounds"}, None)
    assert "x fewer" not in capsys.readouterr().out, "nothing is saved by a run that did not arrive"
    failed = {**summary, "status": "failed: x", "stop_reason": None, "gap": None, "objective": None, "uploads": 0}
    closing_table(failed, None)
    assert "failed: x" in capsys.readouterr().out


def test_units():
    assert [clock(s) for s in (0, 59.4, 59.6, 185, 3723)] == ["0 s", "59 s", "1:00", "3:05", "1:02:03"]
    assert [size(n) for n in (0, 999, 1000, 12345, 10**9)] == ["0 B", "999 B", "1 kB", "12.35 kB", "1 GB"]


@pytest.mark.parametrize("quiet", [False, True])
def test_a_run_that_ends_above_its_start_says_so(capsys, quiet):
    """GD with a step of 2.5/L diverges; max_rounds ends it, with a warning that `--quiet` does not hide."""
    diverging = {"recipe": "gd", "step_size": "2.5/L"}
    config = parse({**tiny(algorithm=diverging, stop={"max_rounds": 5}), "f_star": "none"})
    done = simulate(Plan(config, quiet=quiet))
    assert done.trace["objective"][-1] > done.trace["objective"][0]
    assert capsys.readouterr().err.count("WARNING: the objective ended at") == 1


@pytest.mark.parametrize(
    "changes",
    [
        {"problem": {"kind": "least-squares", "l2": 1.7e308}, "algorithm": {"step_size": 1.0}, "f_star": "none"},
        {"problem": {"kind": "least-squares", "initial_scale": 1e300}, "f_star": "none"},
    ],
)
def test_what_overflows_before_any_step_is_not_laid_on_the_step(changes):
    if "initial_scale" not in changes["problem"]:
        changes["problem"]["initial_scale"] = 10.0
    with pytest.raises(ConfigError, match="at the first theta, before any step: are data, first theta and l2 of usual"):
        run(**changes)


@pytest.mark.parametrize(
    ("problem", "said"),
    [
        (
            {"kind": "softmax", "classes": 2**40},
            "problem `softmax`: theta of 38482906972160 numbers would take 9.24e+14",
        ),
        ({"kind": "softmax", "classes": 2**63 - 1}, "numbers would take"),
    ],
)
def test_a_theta_larger_than_the_machine(problem, said):
    changed = {"source": "dermatology", "labels": "classes"}
    with pytest.raises(ConfigError, match=re.escape(said)):
        run(problem=problem, data=changed)


def test_memory_that_does_not_suffice_is_a_sentence(monkeypatch):
    def full(*arguments):
        raise MemoryError("Unable to allocate 9 TiB")

    monkeypatch.setattr("psopt.runs.experiment.open_shards", full)
    with pytest.raises(ConfigError, match="the data cannot be held in memory: Unable to allocate 9 TiB"):
        run()
    monkeypatch.undo()
    monkeypatch.setattr("psopt.runs.conduct.Server", full)
    with pytest.raises(ConfigError, match="the run cannot be held in memory: Unable to allocate 9 TiB"):
        run()
