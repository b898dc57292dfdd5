"""`psopt bench` measures what it says, on sizes that take no time."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import click
import numpy as np
import pytest
from mpi_jobs import mpiexec
from numba import typeof, types
from numba.core.errors import NumbaTypeError

from psopt.bench import history, kernels, linear, local_steps, machine, networks, startup, threads, topk, turns, vectors
from psopt.bench.result import Row, show
from psopt.bench.turns import take_turns
from psopt.cli import cli
from psopt.errors import ConfigError
from psopt.launch import cores
from psopt.problems import kernels as kernels_of_psopt

TORCH = importlib.util.find_spec("torch") is not None


@pytest.fixture
def small(monkeypatch):
    """Every kind of comparison once, on tiny shapes."""
    monkeypatch.setattr(linear, "DENSE", ((50, 5, "float64"), (40, 3, "float32")))
    monkeypatch.setattr(linear, "GROUPS", (("ones", 60, (3, 4), True), ("values", 60, (3, 4), False)))
    monkeypatch.setattr(linear, "UNEVEN", ("uneven", 60, 9, 3.0))
    monkeypatch.setattr(threads, "DENSE", (("logistic", 50, 5, "float64"), ("softmax", 50, 5, "float32")))
    monkeypatch.setattr(threads, "SPARSE", "ones")
    monkeypatch.setattr(networks, "SAMPLES", 40)
    monkeypatch.setattr(networks, "FULL", ((30, (), "float64"),))
    monkeypatch.setattr(networks, "BATCHES", ((5, (7,), "float32"),))
    monkeypatch.setattr(local_steps, "SAMPLES", 50)
    monkeypatch.setattr(local_steps, "SIZES", (3, 4))
    monkeypatch.setattr(local_steps, "OURS", 40)
    monkeypatch.setattr(local_steps, "THEIRS", 20)
    monkeypatch.setattr(vectors, "DISTANCES", ((100, "float64"),))
    monkeypatch.setattr(vectors, "SUMS", ((3, 100, "float32"),))
    monkeypatch.setattr(topk, "SELECTIONS", (2_000,))
    monkeypatch.setattr(topk, "FEEDBACKS", (((3_000,), (30,)), ((2_000, 500), (20, 5))))


def test_the_table_and_its_file(small, tmp_path, capsys):
    rows = kernels.bench_kernels(tmp_path, 0.0)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1 + len(rows)
    assert len({row.key for row in rows}) == len(rows)
    held = json.loads((tmp_path / "bench.json").read_text())
    assert held["schema"] == 2
    assert held["machine"]["read_bytes_per_s"] > 1e8
    assert {"psopt", "python", "numpy", "numba"} <= set(held["machine"]["versions"])
    for entry, row in zip(held["rows"], rows, strict=True):
        assert entry["ratio"] == pytest.approx(entry["baseline_s"] / entry["median_s"])
        assert (entry["name"], tuple(entry["shape"]), entry["dtype"]) == (row.name, row.shape, row.dtype)
        assert entry["median_s"] > 0
        assert set(entry["others"]) <= {"torch"}
        if entry["name"].startswith("top-k"):
            assert entry["candidates"] >= 1
        if entry["read_share"] is not None:
            assert 0 < entry["read_share"] < 50
    named = [entry["name"] for entry in held["rows"]]
    assert sum(name.startswith("logistic") for name in named) == sum(name.startswith("least") for name in named) == 10
    assert sum(name.startswith("2 threads") for name in named) == (3 if cores() > 1 else 0)
    assert sum(name.startswith("local step") for name in named) == len(local_steps.CASES)
    assert [entry["shape"] for entry in held["rows"][-6:]] == [[2000], [3000], [2500]] * 2


def test_without_pytorch_and_scipy_their_columns_are_empty(small, monkeypatch, capsys):
    monkeypatch.setattr(turns.importlib.util, "find_spec", lambda name: None)
    rows = kernels.bench_kernels(None, 0.0)
    assert not any(row.others for row in rows)
    assert not any("CSR" in row.name and row.baseline == "SciPy" for row in rows)


@pytest.mark.skipif(not TORCH, reason="needs PyTorch")
def test_pytorch_is_measured_beside(small):
    rows = kernels.bench_kernels(None, 0.0)
    without = ("CSR", "local step", "threads")
    assert all("torch" in row.others for row in rows if not any(word in row.name for word in without))


def test_turns_alternate_and_warm_up_is_apart():
    called = []
    taken = take_turns({"a": lambda: called.append("a"), "b": lambda: called.append("b")}, 0.0, lambda: None)
    assert called[:6] == ["a", "b", "a", "b", "b", "a"]
    assert len(called) == 2 * (1 + turns.LEAST_TURNS)
    assert set(taken) == {"a", "b"}
    assert all(s >= 0 for s in taken.values())


def test_a_row_and_its_line(capsys):
    row = Row("sum", (2, 3), "float64", 0.5, "NumPy", 1.0, {"torch": 2.0}, 0.25, {"kept": 7})
    assert (row.key, row.ratio, row.read_share) == ("sum 2x3 float64", 2.0, 0.5)
    assert row.ratios == {"NumPy": 2.0, "torch": 4.0}
    alone = Row("sum", (2,), "", 0.5, "torch", None)
    assert (alone.ratio, alone.ratios, alone.entry()["ratio"]) == (None, {}, None)
    assert show([row, alone]) == [row, alone]
    _, first, second = (" ".join(line.split()) for line in capsys.readouterr().out.splitlines())
    assert first == "sum 2x3 float64 500000.0 NumPy 1000000.0 2.00 torch 4.00 0.50 kept 7"
    assert second == "sum 2 500000.0 torch - - -"


@pytest.mark.mpi
def test_rounds_are_measured_in_one_job(tmp_path):
    """Each side in turns, on real ranks; the sizes are cut down where they are given."""
    program = tmp_path / "small.py"
    program.write_text(
        "import sys\n"
        "from pathlib import Path\n"
        "from psopt import launch\n"
        "from psopt.bench import round_job as job, rounds\n"
        "launch.cores = lambda: 1  # so that `psopt run` would start two ranks, which are measured beside all three\n"
        "job.DIMS, job.LOGISTIC, job.WIDTHS, job.IMAGES = (5,), (20, 4), [6, 3, 2], 40\n"
        "job.LEAST_TURNS, job.WARM_UP = 2, 1\n"
        "sys.exit(rounds.bench_rounds(Path(sys.argv[1]), 0.01, 2))\n"
    )
    ended = mpiexec(3, program, tmp_path / "out")
    assert ended.code == 0, ended
    held = json.loads((tmp_path / "out" / "bench.json").read_text())
    assert len(held["rows"]) == 3 * 2
    shapes = {tuple(entry["shape"]) for entry in held["rows"]}
    assert shapes == {(2, 5), (2, 20, 4), (2, 6, 3, 2)}
    for entry in held["rows"]:
        assert entry["ratio"] == pytest.approx(entry["baseline_s"] / entry["median_s"])
        assert set(entry["others"]) == ({"gloo" if "empty" in entry["name"] else "torch DDP"} if TORCH else set())


def test_cached_kernels_are_loaded_without_what_only_a_compilation_needs(tmp_path):
    """In a cache of its own: at first nothing is there, then half of it, then all."""
    code = """
import sys
import numpy as np
from psopt.problems.kernels import vector
from psopt.problems.kernels.lean import cache_first
a = np.arange(3.0)
with cache_first():
    assert vector.squared_norm(a) == 5.0
    if len(sys.argv) == 3:
        assert vector.squared_distance(a, a + 1.0) == 3.0
for name in ("numba.np.arraymath", "numba.np.arrayobj", "numpy.ma"):
    assert (name in sys.modules) == (sys.argv[1] == "compiles"), (name, sys.argv)
from numba import njit
assert njit(lambda x: np.dot(x, x))(a.reshape(1, 3) * np.ones((3, 1))).tolist() == [[0, 3, 6]] * 3
"""
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}
    for words in (["compiles"], ["loads"], ["compiles", "more"], ["loads", "more"]):
        subprocess.run([sys.executable, "-c", code, *words], env=environment, check=True, timeout=120)


def test_masked_arrays_are_refused_as_before():
    """Though plain arrays are no longer compared with them."""
    assert kernels_of_psopt.vector
    assert typeof(np.zeros((2, 3), np.float32).T) == types.Array(types.float32, 2, "F")
    with pytest.raises(NumbaTypeError, match="MaskedArray"):
        typeof(np.ma.zeros(3))


def row(name, ours, theirs=1.0, **others):
    return Row(name, (4,), "float64", ours, "NumPy", theirs, others)


@pytest.fixture
def recorded(tmp_path):
    """A record of two rows, and where it stands."""
    path = tmp_path / "history.jsonl"
    history.add(path, [row("sum", 0.5, torch=2.0), row("dot", 0.25), row("gone", 1.0, None)])
    return path


def played(monkeypatch, *cases):
    """`history.quick`, where each case is a list of what it finds, time after time."""
    left = [iter(case) for case in cases]
    monkeypatch.setattr(history, "quick", lambda: iter([lambda seconds, turns=turns: next(turns) for turns in left]))


def test_a_record_is_a_line_of_ratios(recorded):
    history.add(recorded, [row("sum", 0.1)])
    first, second = (json.loads(line) for line in recorded.read_text().splitlines())
    assert first["ratios"] == {"sum 4 float64, NumPy": 2.0, "sum 4 float64, torch": 4.0, "dot 4 float64, NumPy": 4.0}
    assert second["ratios"] == {"sum 4 float64, NumPy": 10.0}
    assert first["machine"]["cpu"] == machine.cpu()
    assert {"numpy", "numba"} <= first["machine"]["versions"].keys()
    assert history.latest(recorded, machine.cpu()) == second


def test_the_last_record_of_the_same_cpu_counts(recorded):
    other = json.loads(recorded.read_text())
    other["machine"]["cpu"], other["ratios"] = "another", {"sum 4 float64, NumPy": 9.0}
    with recorded.open("a") as file:
        file.write(json.dumps(other) + "\n")
    assert history.latest(recorded, machine.cpu())["ratios"]["sum 4 float64, NumPy"] == 2.0
    assert history.latest(recorded, "a third")["ratios"]["sum 4 float64, NumPy"] == 9.0


def test_equal_and_slightly_slower_rows_pass(recorded, monkeypatch, capsys):
    played(monkeypatch, [[row("sum", 0.5 / 0.8, torch=2.0)]], [[row("dot", 0.25)]])
    assert history.check(recorded, 0.0, 0.25) == 0
    assert "no row is slower by more than 25% than recorded " in capsys.readouterr().out


def test_a_row_that_has_become_slower_fails_with_a_sentence(recorded, monkeypatch, capsys):
    slow = [row("sum", 0.5 / 0.7, torch=2.0)]
    played(monkeypatch, [slow, slow], [[row("dot", 0.25)]])
    assert history.check(recorded, 0.0, 0.25) == 1
    told = [line for line in capsys.readouterr().out.splitlines() if line.startswith("psopt: ")]
    said = "psopt: sum 4 float64 is slower, in times as fast as: NumPy 2.00 then, 1.40 now; torch 4.00 then, 2.80 now; "
    assert len(told) == 1
    assert told[0].startswith(said)
    assert told[0].endswith(machine.cpu())
    played(monkeypatch, [slow, slow], [[row("dot", 0.25)]])
    assert history.check(recorded, 0.0, 0.35) == 0


def test_a_baseline_that_has_become_faster_is_no_fault_of_psopt(recorded, monkeypatch, capsys):
    played(monkeypatch, [[row("sum", 0.5, theirs=0.3, torch=2.0)]], [[row("dot", 0.25)]])
    assert history.check(recorded, 0.0, 0.25) == 0
    assert "no row is slower by more than 25% than recorded " in capsys.readouterr().out


def test_a_record_holds_the_lowest_of_its_measurements(tmp_path, monkeypatch):
    path = tmp_path / "history.jsonl"
    played(monkeypatch, [[row("sum", 0.5)], [row("sum", 0.25)], [row("sum", 0.4)]])
    cases = list(history.quick())
    monkeypatch.setattr(history, "quick", lambda: iter(cases))
    history.record(path, 0.0)
    assert history.latest(path, machine.cpu())["ratios"] == {"sum 4 float64, NumPy": 2.0}


def test_what_has_fallen_is_measured_once_more(recorded, monkeypatch, capsys):
    played(monkeypatch, [[row("sum", 5.0, torch=2.0)], [row("sum", 0.5, torch=2.0)]], [[row("dot", 0.25)]])
    assert history.check(recorded, 0.0, 0.25) == 0
    assert sum(line.startswith("sum ") for line in capsys.readouterr().out.splitlines()) == 2


def test_what_is_not_measured_any_longer_is_told(recorded, monkeypatch, capsys):
    played(monkeypatch, [[row("sum", 0.5)]])
    assert history.check(recorded, 0.0, 0.25) == 0
    assert "not measured now: dot 4 float64, NumPy, sum 4 float64, torch" in capsys.readouterr().out


NO_RATIOS = '{"machine": {"cpu": "a"}, "date": "b", "ratios": 3}\n'


@pytest.mark.parametrize("text", ["", "{}\n", "[]\n", "nothing\n", NO_RATIOS])
def test_a_history_that_is_none_is_refused(tmp_path, text):
    path = tmp_path / "history.jsonl"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"history\.jsonl"):
        history.latest(path, "a")


def test_the_history_of_the_house_is_one():
    path = Path(__file__).parent / "benchmarks" / "history.jsonl"
    entry = history.latest(path, "any")
    assert all(ratio > 0 for ratio in entry["ratios"].values())
    assert any(key.startswith("logistic: gradient") for key in entry["ratios"])


@pytest.mark.mpi
def test_start_up_beside_the_least_job(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(startup, "FEWEST_TURNS", 1)
    rows = startup.bench_startup(tmp_path, 2, 0.0, cold=False)
    assert [row.name for row in rows] == [
        "psopt --help: wall",
        "psopt --help: all cores",
        "first round, warm cache: wall",
        "first round, warm cache: all cores",
    ]
    assert all(row.ratio > 0 for row in rows)
    assert all(row.ratio < 1 for row in rows[1::2])  # nothing costs less than the least there is
    held = json.loads((tmp_path / "bench.json").read_text())
    assert [entry["shape"] for entry in held["rows"]] == [[], [], [2], [2]]


def test_a_start_that_fails_is_told():
    with pytest.raises(ConfigError, match="no such thing"):
        startup.Start(lambda folder: [sys.executable, "-c", "raise SystemExit('no such thing')"])()


def test_a_cold_start_has_a_cache_of_its_own():
    code = "import os, sys; sys.exit(os.environ.get('NUMBA_CACHE_DIR', ''))"
    with pytest.raises(ConfigError, match=r"psopt-startup-.*cache"):
        startup.Start(lambda folder: [sys.executable, "-c", code], cold=True)()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["kernels", "--seconds", "nan"], "nan is no finite number"),
        (["rounds", "--seconds", "inf"], "inf is no finite number"),
        (["kernels", "--out", __file__], "cannot be made: File exists"),
        (["record", __file__], "this is no record of `psopt bench record`"),
        (["record", "/nowhere/history.jsonl"], "cannot be written: No such file or directory"),
        (["network", "--experiment", "C-linear", "--count", "--out", __file__], "cannot be made: File exists"),
    ],
)
def test_nothing_is_measured_that_cannot_be_told(arguments, says):
    asked = [sys.executable, "-m", "psopt", "bench", *arguments]
    told = subprocess.run(asked, capture_output=True, text=True, timeout=60, check=False)
    assert told.returncode == 2
    assert says in told.stderr
    assert not told.stdout


@pytest.mark.parametrize("what", ["kernels", "rounds", "startup"])
def test_an_earlier_measurement_is_not_written_over(what, tmp_path):
    (tmp_path / "bench.json").write_text("{}")
    with pytest.raises(click.BadParameter, match=r"bench\.json is there already: choose another folder"):
        cli.main(["bench", what, "--out", str(tmp_path)], standalone_mode=False)
    assert (tmp_path / "bench.json").read_text() == "{}"
