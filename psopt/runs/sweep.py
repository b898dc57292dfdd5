"""A sweep: one run a point of a grid, in this process or in several, each in a folder of its own.

A point that fails stops no other. A sweep that is started again runs only the points that are not finished.
"""

import sys
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from psopt.config import parse
from psopt.errors import ConfigError, ProtocolError, PsoptError, Warned
from psopt.records import record
from psopt.runs.experiment import simulate
from psopt.runs.folder import Held, read_summary
from psopt.runs.grid import Point
from psopt.runs.processes import ProcessDied, work_through
from psopt.runs.resume import plan_for
from psopt.runs.threads import in_process


@record
class Failure:
    """Why a point has no finished run: all there is to say, of which the first line is its status."""

    text: str

    @property
    def status(self) -> str:
        return f"failed: {self.text.splitlines()[0]}"


def run_points(points: Sequence[Point], processes: int) -> dict[int, str]:
    """Runs the points one after the other, or in several processes; returns the status of those that failed, by number.

    A run that was cut off before goes on, one that failed is moved aside first. Tells of each point when it has ended.
    """
    failed: dict[int, str] = {}

    def ended(point: Point, outcome: Failure | ProcessDied | None) -> None:
        if isinstance(outcome, ProcessDied):
            outcome = Failure(str(outcome))
        if outcome is None:
            tell(f"{point}: ok, {read_summary(point.folder)['wall_s']:.1f} s")
        else:
            failed[point.number] = outcome.status
            tell(f"{point}: failed: {outcome.text}")

    at_once = min(processes, len(points))
    tasks = [(point, (point.config.resolved(), point.folder, at_once)) for point in points]
    if processes == 1:
        for point, arguments in tasks:
            ended(point, attempt(*arguments))
    else:
        work_through(attempt, tasks, processes, ended)
    return failed


def done_before(points: Sequence[Point], held: Mapping[int, Held]) -> None:
    """Tells how many points need not run."""
    done = sum(held[point.number] is Held.FINISHED for point in points)
    if done:
        tell(f"{done} of {len(points)} points {'is' if done == 1 else 'are'} done already")


def settled(points: Sequence[Point], number: int) -> dict[str, Any]:
    """What all ranks need to know of the point with that number, as a JSON value."""
    if not 0 <= number < len(points):
        raise ConfigError(f"--point {number}: expected a number from 0 to {len(points) - 1}")
    point = points[number]
    return {
        "point": str(point),
        "config": point.config.resolved(),
        "folder": str(point.folder),
    }


def tell(sentence: str) -> None:
    """One lasting line on standard error."""
    print(f"psopt: {sentence}", file=sys.stderr, flush=True)


def attempt(config: Mapping[str, Any], folder: Path, at_once: int = 1) -> Failure | None:
    """One run into the folder, while so many go on at a time; what keeps it from finishing is returned, not raised."""
    try:
        plan = plan_for(parse(config), folder)
        if plan is not None:
            simulate(replace(plan, quiet=True, threads=in_process(plan.config, at_once)))
    except Warned:
        raise  # no fault of the point's: the whole sweep is to leave
    except ProtocolError as error:
        return Failure(f"{type(error).__name__}: {error}\n{traceback.format_exc()}")
    except PsoptError as error:
        return Failure(str(error).strip() or type(error).__name__)
    except (Exception, SystemExit) as error:  # noqa: BLE001  (one point's failure must not stop the others)
        return Failure(f"{type(error).__name__}: {error}\n{traceback.format_exc()}")
    return None
