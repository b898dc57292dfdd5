"""For all tests: who may run beside others, in which order, and what a skip is.

With PSOPT_REQUIRE_ALL in the environment, a test that skips fails. Continuous integration sets it, so that a missing
component cannot turn tests off unseen.
"""

import functools
import os
import shutil
import signal
import tempfile
from collections.abc import Generator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from side_by_side import Turns, compile_share

from psopt import launch

TURNS = "PSOPT_TESTS_TURNS"
"""Names the folder of the locks, which all processes of a test session share."""
COMPILES_FROM = 1000
"""Tests of a session from which on the kernels are made ready at once, before the first."""


def pytest_configure(config: pytest.Config) -> None:
    """What a shell starts in the background ignores Ctrl-C, and so would all that the tests start and interrupt."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if not _is_one_of_several(config) and getattr(config.option, "numprocesses", None):
        os.environ[TURNS] = tempfile.mkdtemp(prefix="psopt-tests-")
        config.add_cleanup(lambda: shutil.rmtree(os.environ.pop(TURNS)))


def _is_one_of_several(config: pytest.Config) -> bool:
    """Whether this process runs a share of the tests, as pytest-xdist deals them out."""
    return hasattr(config, "workerinput")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """What is of one MPI alone is no test of an environment with another. Files that start jobs come first: with the
    short ones left for the end, processes side by side end together.
    """
    other = "other_mpi" if is_open_mpi() else "open_mpi"
    elsewhere = [item for item in items if item.get_closest_marker(other)]
    config.hook.pytest_deselected(items=elsewhere)
    starting = {item.path for item in items if item.get_closest_marker("mpi")}
    items[:] = sorted((item for item in items if item not in elsewhere), key=lambda item: item.path not in starting)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Each of several processes compiles its share of the kernels, which are then in the cache of both."""
    if _is_one_of_several(session.config) and len(session.items) >= COMPILES_FROM:
        compile_share(int(session.config.workerinput["workerid"].removeprefix("gw")))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, Any, Any]:
    """A test marked `alone` waits until nobody else runs, and the others wait for it."""
    with _turns()(item.get_closest_marker("alone") is not None) if TURNS in os.environ else nullcontext():
        return (yield)


@functools.cache
def _turns() -> Turns:
    return Turns(Path(os.environ[TURNS]))


@functools.cache
def is_open_mpi() -> bool:
    """Whether this environment's mpiexec is Open MPI's."""
    return "(Open MPI)" in launch.version_of(launch.find_mpiexec())


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, Any, Any]:
    return _required((yield))


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, Any, Any]:
    return _required((yield))


def _required(report: Any) -> Any:
    if report.skipped and not hasattr(report, "wasxfail") and os.environ.get("PSOPT_REQUIRE_ALL"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome, report.longrepr = "failed", f"{reason} (PSOPT_REQUIRE_ALL is set: a skip is a failure)"
    return report
