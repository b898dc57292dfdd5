"""`psopt bench` measures what it says, on sizes that take no time."""

import importlib.util
import json
import subprocess
import sys

import pytest
from mpi_jobs import mpiexec

from psopt.bench import kernels, linear, local_steps, networks, topk, turns, vectors
from psopt.bench.result import Row, show
from psopt.bench.turns import take_turns
from psopt.launch import default_ranks

TORCH = importlib.util.find_spec("torch") is not None


@pytest.fixture
def small(monkeypatch):
    """Every kind of comparison once, on tiny shapes."""
    monkeypatch.setattr(linear, "DENSE", ((50, 5, "float64"), (40, 3, "float32")))
    monkeypatch.setattr(linear, "GROUPS", (("ones", 60, (3, 4), True), ("values", 60, (3, 4), False)))
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
    assert sum(name.startswith("logistic") for name in named) == sum(name.startswith("least") for name in named) == 8
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
    assert all("torch" in row.others for row in rows if "CSR" not in row.name and "local step" not in row.name)


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
        "from psopt.bench import rounds\n"
        "rounds.DIMS, rounds.LOGISTIC, rounds.WIDTHS, rounds.IMAGES = (5,), (20, 4), [6, 3, 2], 40\n"
        "sys.exit(rounds.bench_rounds(Path(sys.argv[1]), 0.01, 3))\n"
    )
    ended = mpiexec(4, program, tmp_path / "out")
    assert ended.code == 0, ended
    held = json.loads((tmp_path / "out" / "bench.json").read_text())
    placed = 2 if default_ranks(3) <= 3 else 1
    assert len(held["rows"]) == 3 * placed
    shapes = {tuple(entry["shape"]) for entry in held["rows"]}
    assert shapes == {(3, 5), (3, 20, 4), (3, 6, 3, 2)}
    for entry in held["rows"]:
        assert entry["ratio"] == pytest.approx(entry["baseline_s"] / entry["median_s"])
        assert set(entry["others"]) == ({"gloo" if "empty" in entry["name"] else "torch DDP"} if TORCH else set())


def test_numba_is_loaded_without_linear_algebra_and_nothing_else_misses_it():
    code = """
import sys
import numpy as np
from numba import njit
from psopt.problems.kernels.lean import load_numba
load_numba()
assert "numba.np.arraymath" in sys.modules
assert "scipy.linalg" not in sys.modules
a = np.arange(9.0).reshape(3, 3)
assert njit(lambda x: np.dot(x, x))(a).tolist() == (a @ a).tolist()
assert njit(lambda x: np.convolve(x, x))(a[1]).tolist() == np.convolve(a[1], a[1]).tolist()
import scipy.linalg
assert scipy.linalg.norm(a) > 0
load_numba()
assert sys.modules["scipy.linalg"] is scipy.linalg
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
