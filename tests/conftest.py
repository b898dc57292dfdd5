"""For all tests: with PSOPT_REQUIRE_ALL in the environment, a test that skips fails.

Continuous integration sets it, so that a missing component cannot turn tests off unseen.
"""

import functools
import os
import signal
from collections.abc import Generator
from typing import Any

import pytest

from psopt import launch


def pytest_configure(config: pytest.Config) -> None:
    """What a shell starts in the background ignores Ctrl-C, and so would all that the tests start and interrupt."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """What is of one MPI alone is no test of an environment with another."""
    other = "other_mpi" if is_open_mpi() else "open_mpi"
    elsewhere = [item for item in items if item.get_closest_marker(other)]
    config.hook.pytest_deselected(items=elsewhere)
    items[:] = [item for item in items if item not in elsewhere]


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
