"""The fault matrix in a short form, and the page that shows the whole. All of it: ``make test-faults``."""

from pathlib import Path

import pytest
from fault_cells import prepare, run_cell
from fault_outcomes import CELLS, FAULTS, MOMENTS, OUTCOMES, SHORT, page

import psopt

PAGE = Path(psopt.__file__).parent / "docs" / "faults.md"


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return prepare(tmp_path_factory.mktemp("matrix"))


@pytest.mark.mpi
@pytest.mark.parametrize("cell", SHORT, ids=", ".join)
def test_a_fault_ends_as_promised(cell, path, tmp_path):
    result = run_cell(cell, path, tmp_path / "run")
    assert not result.differences, f"{result.came}, after {result.seconds:.1f} s\n{result.output}"


def test_every_fault_is_promised_for_server_and_worker_at_all_moments():
    assert {(fault, place) for fault in FAULTS for place in ("server", "worker")} <= set(OUTCOMES)
    assert len(CELLS) == len(OUTCOMES) * len(MOMENTS)
    assert set(SHORT) <= set(CELLS)


def test_the_page_shows_the_table():
    assert page() in PAGE.read_text()
