"""psopt's part on the hosts of an emulated network: ``mpiexec -n R python -m psopt.bench.network.job SPEC``.

SPEC is a JSON file: a ``config``, ``places`` (checkpoints to go on from, empty for the beginning) and ``limits``; with
``whole``, all rounds of the run. Rank 0 prints what each place's rounds took as a JSON line.
"""

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from psopt.bench.network.clock import Limits, Timed
from psopt.config import parse
from psopt.runs.checkpoint import Checkpoint
from psopt.runs.experiment import Plan, run
from psopt.transports.mpi import Link, abort_on_exception

NEVER = 1_000_000_000
COUNTED = ("uploads", "payload_bytes_up", "payload_bytes_down", "control_bytes_up", "control_bytes_down")


def measured(config: dict[str, Any]) -> dict[str, Any]:
    """The config without looks at the target and without an end: `Timed` ends the run."""
    plan = config["algorithm"].get("plan")
    steps = {"max_steps": config["stop"]["max_steps"]} if plan and "max_steps" in config["stop"] else {}
    return {
        **config,
        "f_star": "none",
        "stop": {"max_rounds": NEVER, **steps},
        "trace": {"every": NEVER, "objective": False, "decisions": False},
        "checkpoint": {"keep": 0},
    }


class Place(Checkpoint):
    """A checkpoint of a run that computes the same, though the server may send something else down."""

    def __init__(self, path: Path, changes: bool) -> None:
        super().__init__(path)
        self._changes = changes

    def server_state(self) -> Any:
        """With nothing said in the round before: ranks that go on have the server's model, with that in it."""
        return {**super().server_state(), "_said": [] if self._changes else None, "_told": self._changes}


def _sends_changes(config: dict[str, Any]) -> bool:
    downlink = config.get("downlink", "theta")
    return "changes" in (downlink, downlink.get("kind") if isinstance(downlink, dict) else None)


def part(link: Link, config: dict[str, Any], place: str, limits: Limits) -> dict[str, Any]:
    """What some rounds from that place took."""
    point = Place(Path(place), _sends_changes(config)) if place else None
    config = measured(config)
    if point is None and "test" in config["data"]:  # else they are part of what the checkpoint knows the data by
        config["data"] = {key: value for key, value in config["data"].items() if key != "test"}
    timed = Timed(limits, point is not None)
    done = run(Plan(parse(config), stopping=timed, resumed=point, quiet=True, warns=False), link)
    if link.rank:
        return {}
    before = point.course()["last"] if point else {}
    began = point.round if point else 0
    rounds = done.summary["rounds"] - began
    counted = {name: (done.summary[name] - before.get(name, 0)) / rounds for name in COUNTED}
    whole = {"since_start_s": timed.since_start_s, "all_rounds": rounds, "after": began}
    return {**whole, **timed.marks.told(), "a_round": counted}


def main(path: str) -> None:
    abort_on_exception()
    spec = json.loads(Path(path).read_text())
    link = Link()
    limits = Limits(**spec["limits"])
    for place in spec["places"]:
        found = part(link, spec["config"], place, replace(limits))
        if link.rank == 0:
            sys.stdout.write(json.dumps(found) + "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1])
