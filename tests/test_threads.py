"""Threads of a rank: the bits of one thread for any number of them, and a fair share of the cores for each rank."""

import json
import os
import signal
import subprocess
import sys
import threading
import time

import mpi_jobs
import numpy as np
import pytest
from threadpoolctl import threadpool_info

from psopt.config import load, parse
from psopt.data.table import CSR, Table
from psopt.launch import COMMAND, ONE_THREAD
from psopt.problems import build, cuts, perceptron
from psopt.problems.base import Share
from psopt.problems.crew import Crew, room_nbytes
from psopt.runs import threads
from psopt.runs.experiment import Plan, simulate

RNG = np.random.default_rng(0)


@pytest.fixture
def cut_small(monkeypatch):
    """Shards of 4 kB and more have several parts."""
    monkeypatch.setattr(cuts, "PART_NBYTES", 2048)
    monkeypatch.setattr(cuts, "VECTORS", 1)
    monkeypatch.setattr(perceptron, "VECTORS_OF_NETWORKS", 1)


def table(kind, sparse, n=403, d=7):
    X = RNG.standard_normal((n, d))
    y = RNG.integers(0, 3, n) if kind in ("softmax", "perceptron") else np.where(RNG.random(n) < 0.5, -1.0, 1.0)
    if sparse:
        kept = RNG.random((n, d)) < 0.5
        pointers = np.concatenate([[0], np.cumsum(kept.sum(axis=1))]).astype(np.int64)
        X = CSR(X[kept], np.nonzero(kept)[1].astype(np.int32), pointers, (n, d))
    return Table(X, y)


@pytest.mark.parametrize("sparse", [False, True], ids=["dense", "csr"])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("kind", ["least-squares", "logistic", "softmax", "perceptron"])
def test_bits_are_those_of_one_thread(kind, dtype, sparse, cut_small):
    held = table(kind, sparse)
    options = {"softmax": {"classes": 3}, "perceptron": {"classes": 3, "hidden": [5]}}.get(kind, {})
    problem = build(kind, held, Share(0, 2, 806), dtype, {"l2": 0.1, **options})
    assert problem.parts > 2
    theta = RNG.standard_normal(problem.dim).astype(dtype)
    expected = np.empty_like(theta)
    value = problem.value_and_gradient(theta, expected)
    for number in (2, 3):
        with Crew(number) as crew:
            crew.engage(problem.parts)
            assert crew.working == number
            problem.employ(crew)
            for _ in range(20):
                out = np.full_like(theta, np.nan)
                assert problem.value_and_gradient(theta, out) == value
                assert np.array_equal(out, expected)
            assert problem.value(theta) == pytest.approx(value, rel=1e-5)
            if hasattr(problem, "curvature_product"):
                problem.curvature_product(theta.astype(np.float64), np.empty(problem.dim))
    whole = cuts.MOST_PARTS
    cuts.MOST_PARTS = 1
    try:
        uncut = build(kind, held, Share(0, 2, 806), dtype, {"l2": 0.1, **options})
    finally:
        cuts.MOST_PARTS = whole
    again = np.empty_like(theta)
    assert uncut.parts == 1
    assert uncut.value_and_gradient(theta, again) == pytest.approx(value, rel=1e-5)
    assert np.allclose(again, expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("kind", ["logistic", "softmax"])
def test_what_is_not_finite_comes_through(kind, cut_small):
    problem = build(kind, table(kind, False), Share(0, 1, 403), "float64", {"classes": 3} if kind == "softmax" else {})
    with Crew(2) as crew:
        crew.engage(problem.parts)
        problem.employ(crew)
        out = np.zeros(problem.dim)
        assert np.isnan(problem.value_and_gradient(np.full(problem.dim, np.nan), out))
        assert np.isnan(out).all()


def test_where_rows_are_cut():
    assert (
        cuts.parts_of(2000 // 9 * 4837 * 8, 4837 * 8, cuts.VECTORS) == 1
    )  # a ninth of gisette, which the LAG paper's counts rest on
    assert cuts.parts_of((16 << 20) - 1, 8, cuts.VECTORS) == 1
    assert cuts.parts_of(16 << 20, 8, cuts.VECTORS) == 2
    assert cuts.parts_of(60000 * 784 * 8, 784 * 8, cuts.VECTORS) == 16
    assert cuts.parts_of(1 << 30, 4 << 20, cuts.VECTORS) == 4  # each part has 64 vectors
    for n, parts, multiple in ((100, 4, 8), (7, 4, 8), (1000, 16, 64), (16, 16, 256), (5, 1, 8), (0, 1, 8)):
        rows = cuts.even(n, parts, multiple)
        assert [i for each in rows for i in range(each.start, each.stop)] == list(range(n))
        assert n < parts or all(each.stop > each.start for each in rows)
    pointers = np.array([0, 0, 5, 5, 100, 101, 110])
    rows = cuts.by_weight(pointers, 4)
    assert [i for each in rows for i in range(each.start, each.stop)] == list(range(6))


def test_sums_are_added_in_order_and_room_is_as_told():
    def part(number, scratch, into):
        assert 0 <= scratch < 3
        time.sleep(0.002 * (number % 3))
        into[:] = 0.1 * number
        return number

    expected = np.zeros(5)
    for number in range(16):
        expected += 0.1 * number
    for number in (1, 2, 3):
        out = np.empty(5)
        with Crew(number) as crew:
            crew.engage(16)
            assert crew.add_up(16, part, out) == list(range(16))
            assert crew._room.nbytes == room_nbytes(16, number, out.nbytes)
        assert np.array_equal(out, expected)


@pytest.mark.parametrize("number", [1, 3])
def test_an_exception_of_a_part_is_the_first_ones(number):
    def part(at, scratch, into):
        if at in (2, 5, 6):
            time.sleep(0.05 if at == 2 else 0)
            raise ValueError(f"part {at}")
        return at

    with Crew(number) as crew:
        crew.engage(8)
        for _ in range(3):
            with pytest.raises(ValueError, match="part 2"):
                crew.add_up(8, part)
        assert crew.add_up(2, part) == [0, 1]


def test_threads_start_when_there_is_work_and_end_with_the_crew():
    before = threading.active_count()
    with Crew(4) as crew:
        crew.engage(1)
        assert threading.active_count() == before
        crew.engage(3)
        assert crew.working == 3
        assert threading.active_count() == before + 2
    assert threading.active_count() == before


def test_an_interrupt_leaves_the_rest_undone():
    done = []

    def part(at, scratch, into):
        if at == 0:
            signal.raise_signal(signal.SIGINT)
        time.sleep(0.05)
        done.append(at)

    with Crew(2) as crew:
        crew.engage(16)
        began = time.monotonic()
        main = iter([0])

        def as_main(at, scratch, into):
            return part(next(main, 1) if scratch == 0 else 1, scratch, into)

        with pytest.raises(KeyboardInterrupt):
            crew.add_up(16, as_main)
    assert time.monotonic() - began < 1.0
    assert len(done) < 15


@pytest.mark.parametrize(
    ("places", "expected"),
    [
        ([("a", range(8), False), ("a", range(8), True), ("a", range(8), True)], [1, 4, 4]),
        ([("a", range(8), True)] * 3, [2, 2, 2]),
        ([("a", [0, 1], False), ("a", [2, 3], True), ("a", [4, 5, 6], True)], [1, 2, 3]),
        ([("a", range(4), True), ("b", range(4), True)], [4, 4]),
        ([("a", [0], True)] * 5, [1] * 5),
        ([("a", [0, 1, 2], True), ("a", [2, 3, 4], True)], [2, 2]),
        ([("a", range(6), True)] * 6, [1] * 6),
    ],
)
def test_cores_are_shared_fairly(places, expected):
    assert threads.shares(places) == expected


CONFIG = {
    "name": "threads",
    "workers": 2,
    "problem": {"kind": "logistic", "l2": 1e-3},
    "data": {
        "source": "synthetic",
        "synthetic": {"kind": "logistic", "n_samples": 50000, "n_features": 90, "heterogeneity": 1.0},
    },
    "algorithm": {"recipe": "lag-wk", "step_size": "1/L"},
    "f_star": "none",
    "stop": {"max_rounds": 4},
}


def test_a_config_that_asks_for_threads():
    plain, two = parse(CONFIG), parse({**CONFIG, "threads": 2})
    assert plain.threads == "auto"
    assert plain.sha256() == two.sha256()
    assert parse(two.resolved()) == two
    for wrong in (0, -1, 1.5, "all", 5000, True):
        with pytest.raises(Exception, match="threads"):
            parse({**CONFIG, "threads": wrong})
    assert threads.in_process(two, 3) == 2
    assert threads.in_process(plain, 10**6) == 1


def test_runs_have_the_same_bits_with_any_threads(tmp_path):
    before = threading.active_count()
    runs = [simulate(Plan(parse({**CONFIG, "threads": number}), quiet=True)) for number in (1, 2, 3)]
    assert threading.active_count() == before
    assert [run.summary["threads"] for run in runs] == [1, 2, 2]
    assert [run.manifest["threads"] for run in runs] == [[1], [2], [2]]
    assert len({run.summary["theta_sha256"] for run in runs}) == 1
    assert len({run.summary["objective"] for run in runs}) == 1
    needs = [run.manifest["memory"]["server"].get("parts of gradients") for run in runs]
    assert needs == [room_nbytes(2, run.summary["threads"], 720) for run in runs]


@pytest.mark.mpi
def test_two_ranks_with_two_threads_have_the_bits_of_one_process_with_one(tmp_path):
    config, out = tmp_path / "config.yaml", tmp_path / "out"
    config.write_text(json.dumps(CONFIG))
    ended = mpi_jobs.psopt("run", config, "--ranks", "2", "--set", "threads=2", "--out", out)
    assert ended.code == 0, ended
    assert json.loads((out / "manifest.json").read_text())["threads"] == [1, 2]
    told = json.loads((out / "summary.json").read_text())
    expected = simulate(Plan(load(config, ["threads=1"]), quiet=True)).summary
    assert (told["threads"], expected["threads"]) == (2, 1)
    for name in ("theta_sha256", "uploads", "objective"):
        assert told[name] == expected[name]


def test_libraries_below_numpy_take_one_thread(monkeypatch):
    """In whatever program."""
    monkeypatch.setitem(sys.modules, COMMAND, None)
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "2")
    with threads.libraries_take_one():
        found = threadpool_info()
        assert found
        assert {each["num_threads"] for each in found} == {1}


def test_where_psopt_is_the_program_they_know_before_they_are_loaded():
    """Then nobody looks for them."""
    code = """
import sys
import psopt.__main__ as program

def looks():
    import psopt.cli
    from psopt.runs import threads
    with threads.libraries_take_one():
        print("threadpoolctl" in sys.modules)
        from threadpoolctl import threadpool_info
        print({each["num_threads"] for each in threadpool_info()})

program.guarded = looks
program.main()
"""
    ours = {name: value for name, value in os.environ.items() if name not in ONE_THREAD}
    done = subprocess.run([sys.executable, "-c", code], env=ours, capture_output=True, text=True, check=True)
    assert done.stdout == "False\n{1}\n"
