"""How many rounds a row takes to its target: a whole run without the slow network.

psopt's rows run in this process (`simulate`), with the bits that they have over MPI; torch's in one process that does
the arithmetic of all workers. What was found is kept in ``OUT/rounds``, and not looked for again.
"""

import json
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from psopt.bench.network.optimum import least_value
from psopt.bench.network.table import Experiment, Row, slug
from psopt.config import parse
from psopt.errors import ConfigError
from psopt.launch import environment
from psopt.records import record
from psopt.runs.checkpoint import existing
from psopt.runs.experiment import Plan, simulate
from psopt.runs.folder import Run, load_run, write_json
from psopt.runs.resume import going_on, plan_for

PLACES = 3
"""In so many places of a run whose rounds weigh unequally are seconds measured."""

F_STAR_SHARE = 1e-3
TORCH_S = 7200.0
AFTER = "after-"
RUN, SPEC = "run", "spec.json"


@record
class Target:
    """What is known of a row before the network.

    Attributes
    ----------
    rounds : int or None
        Until the target was seen; None where it was not reached.
    step_size : float
    dim : int
    uploads : float or None
        A round, in the mean; None of torch's.
    places : tuple of (int, str)
        Rounds after which the run can be gone on from, and the checkpoints there; of a row that varies.
    """

    rounds: int | None
    step_size: float
    dim: int
    uploads: float | None = None
    places: tuple[tuple[int, str], ...] = ()


class Targets:
    """What `Target`s there are in a folder, and how they are found.

    Parameters
    ----------
    folder : Path
    data : Path or None
    """

    def __init__(self, folder: Path, data: Path | None) -> None:
        self._folder, self._data = folder, data

    def of(self, experiment: Experiment, row: Row) -> Target:
        """The row's; a whole run where it is not known yet. Raises `ConfigError` and whatever runs raise."""
        if row.rounds_as:
            return self._as_another(experiment, experiment.row(row.rounds_as), row)
        spec = self.peer_spec(experiment, row) if row.peer else self.config(experiment, row)
        place = self._folder / slug(f"{experiment.key}-{row.name}")
        told = place.with_name(f"{place.name}.json")
        if told.is_file():
            held = json.loads(told.read_text())
            if held["spec"] == spec:
                return Target(**{**held["target"], "places": tuple(map(tuple, held["target"]["places"]))})
        if not _holds(place, spec):
            shutil.rmtree(place, ignore_errors=True)
            place.mkdir(parents=True)
            write_json(place / SPEC, spec)
        found = _alone(spec, place) if row.peer else _ran(spec, place, experiment.piece if row.varies else None)
        write_json(told, {"spec": spec, "target": asdict(found)})
        return found

    def config(self, experiment: Experiment, row: Row) -> dict[str, Any]:
        """The config of a row of psopt's, to its target; f* is a number in it where the problem is large."""
        config = experiment.config_of(row, self._data)
        config["stop"] = {**experiment.config["stop"], **config["stop"]}
        if row.gap is not None:
            config["stop"]["gap"] = row.gap
        if experiment.f_star_alone:
            config["f_star"] = self._least_value(experiment, config)
        every = config.get("trace", {}).get("every", experiment.every)
        config["trace"] = {"every": every, "objective": "gap" in config["stop"], "decisions": False}
        config["timeouts"] = {"start_s": 600, "round_s": 600, "idle_s": 600}
        return config

    def peer_spec(self, experiment: Experiment, row: Row) -> dict[str, Any]:
        """What a row of torch's is told: psopt's config for the problem and the data, and its own way."""
        config = experiment.config_of(experiment.plain, self._data)
        options = dict(row.options)
        if "step_size" not in options:
            options["step_size"] = self.of(experiment, experiment.plain).step_size
        return {"config": config, "way": row.peer, "options": options, "every": experiment.every}

    def _as_another(self, experiment: Experiment, other: Row, row: Row) -> Target:
        """The rounds of another row that computes the same, perhaps to a coarser target on its way."""
        found = self.of(experiment, other)
        found = replace(found, places=found.places if row.varies else ())
        if row.gap == other.gap:
            return found
        trace = load_run(self._folder / slug(f"{experiment.key}-{other.name}") / RUN).trace
        reached = np.flatnonzero(trace["gap"] <= row.gap)
        return replace(found, rounds=int(trace["round"][reached[0]]) if reached.size else None)

    def _least_value(self, experiment: Experiment, config: Mapping[str, Any]) -> float:
        path = self._folder / f"{experiment.key}-f-star.json"
        if not path.is_file():
            self._folder.mkdir(parents=True, exist_ok=True)
            plain = parse({**config, "f_star": "none", "stop": {"max_rounds": 1}})
            write_json(path, {"f_star": least_value(plain, F_STAR_SHARE * config["stop"]["gap"])})
        return json.loads(path.read_text())["f_star"]


def _holds(place: Path, spec: dict[str, Any]) -> bool:
    """Whether the folder holds the beginning of just this."""
    try:
        return json.loads((place / SPEC).read_text()) == spec
    except (OSError, ValueError):
        return False


def _ran(config: dict[str, Any], place: Path, piece: int | None) -> Target:
    """A run of psopt's to its target; in pieces, between which its state is kept, where there is a ``piece``. What is
    there of it goes on.
    """
    if piece is None:
        plan = plan_for(parse(config), place / RUN)
        if plan is not None:
            simulate(replace(plan, quiet=True, warns=False))
        return _target(load_run(place / RUN), ())
    config = {**config, "checkpoint": {"every_rounds": piece, "every_seconds": 86400, "keep": 1}}
    found = sorted((int(path.name.removeprefix(AFTER)), str(path)) for path in place.glob(f"{AFTER}*"))
    states, reason, most = [(0, ""), *found], "max_rounds", config["stop"]["max_rounds"]
    while reason == "max_rounds" and states[-1][0] < most:
        k = min(states[-1][0] + piece, most)
        done = simulate(replace(_plan(config, place / RUN, k), quiet=True, warns=False))
        reason = done.summary["stop_reason"]
        if reason == "max_rounds":
            copied = shutil.copytree(existing(place / RUN)[-1], place / "copying", dirs_exist_ok=True)
            states.append((k, str(copied.rename(place / f"{AFTER}{k}"))))
    kept = spread(states, done.rounds)
    for state in states:
        if state not in kept and state[1]:
            shutil.rmtree(state[1])
    return _target(done, kept)


def _plan(config: dict[str, Any], folder: Path, k: int) -> Plan:
    """How to make the run up to round k, of which the folder may hold some."""
    part = parse({**config, "stop": {**config["stop"], "max_rounds": k}})
    if existing(folder):
        return going_on(part, folder)
    shutil.rmtree(folder, ignore_errors=True)
    return Plan(part, folder)


def spread(states: list[tuple[int, str]], rounds: int) -> tuple[tuple[int, str], ...]:
    """Those nearest to the middles of `PLACES` equal parts of a run of so many rounds, in order."""
    middles = [(2 * number + 1) * rounds / (2 * PLACES) for number in range(PLACES)]
    return tuple(sorted({min(states, key=lambda state: abs(state[0] - middle)) for middle in middles}))


def _target(done: Run, places: tuple[tuple[int, str], ...]) -> Target:
    summary = done.summary
    reached = summary["stop_reason"] in ("gap", "test_accuracy")
    uploads = summary["uploads"] / summary["rounds"]
    return Target(summary["rounds"] if reached else None, summary["step_size"], summary["dim"], uploads, places)


def _alone(spec: Mapping[str, Any], place: Path) -> Target:
    """A run of torch's arithmetic in a process of its own. Raises `ConfigError` when that fails."""
    done = subprocess.run(
        [sys.executable, "-m", "psopt.bench.peers.alone", str(place / SPEC)],
        env=environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=TORCH_S,
        check=False,
    )
    if done.returncode:
        raise ConfigError(f"torch's part ended with {done.returncode}: {done.stderr.strip()[-2000:]}")
    told = json.loads(done.stdout.splitlines()[-1])
    return Target(told["rounds"], spec["options"]["step_size"], told["dim"])
