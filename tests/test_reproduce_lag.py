"""The LAG paper's experiments: the tables as published, found in process, and one of them over MPI."""

import json

import mpi_jobs
import pytest
from helpers import Alone

from psopt.runs import reproduce as tables
from psopt.runs.experiment import simulate

LINEAR = {"gd": 5283, "lag-ps": 1756, "lag-wk": (365, 440), "cyc-iag": (5266, 5276), "num-iag": (3363, 3569)}
LOGISTIC = {"gd": 33309, "lag-ps": 14419, "lag-wk": (555, 605), "cyc-iag": (33295, 33305), "num-iag": (21450, 22776)}
TABLES = [
    # task, protocol, M, and method -> uploads or their bounds; GD and LAG-PS are exact
    ("linear", "authors", 9, LINEAR),
    ("logistic", "authors", 9, LOGISTIC),
    ("linear", "clean", 9, {"gd": 5265, "lag-ps": 1750, "lag-wk": (377, 480)}),
    ("logistic", "clean", 9, {"gd": 4905, "lag-ps": 1992, "lag-wk": (344, 404)}),
    pytest.param("linear", "authors", 18, {"gd": 10548, "lag-ps": 3610, "lag-wk": (500, 850)}, marks=pytest.mark.long),
    pytest.param("linear", "authors", 27, {"gd": 15822, "lag-ps": 5944, "lag-wk": (800, 1400)}, marks=pytest.mark.long),
]
# LAG-WK, linear, clean: the accepted 410 +- 8 % is too narrow for what rounding alone does. Literal NumPy loops on data
# perturbed by 1e-15 relative gave 411 to 474 uploads (32 loops, median 435); the same bits give 442 here.
ROUNDS = {("linear", "authors"): (587, 588), ("logistic", "authors"): (3701, 3698), ("linear", "clean"): (585, 576)}
ROUNDS["logistic", "clean"] = (545, 535)


@pytest.fixture
def in_process(monkeypatch):
    """The rows of a table whose runs are made in this process: their bits are those over MPI, see test_mpi.py."""
    monkeypatch.setattr(tables, "run", lambda plan, link: simulate(plan))

    def rows(out, experiment, task, workers, protocol, methods):
        made = tables.reproduce(Alone(), experiment, task, workers, protocol, methods, out)
        assert made == json.loads((out / "table.json").read_text())["rows"]
        return {row["method"]: row for row in made}

    return rows


@pytest.mark.parametrize(("task", "protocol", "workers", "expected"), TABLES, ids=lambda value: str(value)[:8])
def test_lag_table_of_the_paper(tmp_path, in_process, task, protocol, workers, expected):
    """Counts and bounds as published, and as found for the clean protocol."""
    rows = in_process(tmp_path / "t", "lag-real", task, workers, protocol, list(expected))
    for method, bounds in expected.items():
        low, high = bounds if isinstance(bounds, tuple) else (bounds, bounds)
        assert low <= rows[method]["uploads"] <= high, rows[method]
        assert rows[method]["stop_reason"] == "gap"
        assert rows[method]["paper"] > 0
    if workers == 9:
        assert (rows["gd"]["rounds"], rows["lag-ps"]["rounds"]) == ROUNDS[task, protocol]


def test_lag_synthetic(tmp_path, in_process):
    """Growing L_m: LAG-PS asks workers the more often the larger their L_m."""
    rows = in_process(tmp_path / "t", "lag-synthetic", "linear", 9, "authors", ["gd", "lag-ps", "lag-wk"])
    assert 1045 <= rows["gd"]["uploads"] <= 1080
    assert 230 <= rows["lag-ps"]["uploads"] <= 275
    assert 115 <= rows["lag-wk"]["uploads"] <= 150
    uploads = rows["lag-ps"]["uploads_per_worker"]
    assert uploads == sorted(uploads)


@pytest.mark.mpi
@pytest.mark.parametrize(
    ("experiment", "protocol", "options"),
    [
        ("lag-real", "clean", ["--protocol", "clean", "--workers", 9]),
        ("lag-synthetic", "authors", []),  # whose numbers rank 0 finds alone
    ],
)
def test_a_table_over_mpi_is_that_of_one_process(tmp_path, in_process, experiment, protocol, options):
    options = ["--task", "linear", *options, "--methods", "gd,lag-wk", "--out", tmp_path / "there"]
    ended = mpi_jobs.psopt("reproduce", experiment, *options)
    assert ended.code == 0, ended
    assert "uploads (paper)" in ended.out
    there = json.loads((tmp_path / "there" / "table.json").read_text())["rows"]
    here = in_process(tmp_path / "here", experiment, "linear", 9, protocol, ["gd", "lag-wk"])
    assert [row["method"] for row in there] == list(here)
    for row in there:
        assert {**row, "wall_s": 0.0} == {**here[row["method"]], "wall_s": 0.0}
