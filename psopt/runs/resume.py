"""`psopt resume`: what a run folder holds of a run that can go on, and whether it may with the config as it now is."""

import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from psopt.config import RunConfig, load, parse
from psopt.errors import ConfigError
from psopt.parts.plans import Rounds
from psopt.runs import folder as run_folder
from psopt.runs.agreement import agreed, decided, together
from psopt.runs.checkpoint import FOLDER, Checkpoint, existing
from psopt.runs.experiment import Plan
from psopt.runs.folder import Held
from psopt.runs.occupancy import occupant
from psopt.runs.own_code import changed_code
from psopt.runs.trace import check_places

if TYPE_CHECKING:
    from psopt.transports.mpi import Link

MAY_CHANGE = ("stop", "timeouts", "checkpoint", "failure", "slurm", "faults", "debug", "broadcast", "threads")
"""Sections of a config that change nothing of what has been computed so far."""

COMPUTING = ("numpy", "numba", "llvmlite")
"""Packages whose version may change bits."""


class NothingWhole(ConfigError):
    """A run folder holds no checkpoint that could be gone on from."""


def config_of(folder: Path, overrides: Sequence[str]) -> RunConfig:
    """The config in a run folder, with the overrides.

    Raises `ConfigError` when the folder holds no run, or one that cannot be resumed.
    """
    if (who := occupant(folder)) is not None:
        raise ConfigError(f"{folder} is being written by {who}: it cannot be resumed while that goes on")
    if not (folder / "config.yaml").is_file():
        table = "; it holds a table of runs: resume one of the folders in it" * (folder / "table.json").is_file()
        raise ConfigError(f"{folder} holds no run: there is no config.yaml{table}")
    config = load(folder / "config.yaml", overrides)
    if config.data.source == "memory":
        raise ConfigError(
            f"{folder} is a run of a Python program on arrays of its own: let that program call "
            "`psopt.minimize(..., resume=True)`"
        )
    return config


def finished(folder: Path, config: RunConfig) -> dict[str, Any] | None:
    """The summary of the run if it has come to its end with just this config."""
    if run_folder.held(folder, config.sha256()) is Held.FINISHED:
        return run_folder.read_summary(folder)
    return None


def ranks_of(folder: Path) -> int:
    """How many ranks the run had when it was last under way; 1 for one in process."""
    try:
        manifest = json.loads((folder / "manifest.json").read_text())
        return int([manifest, *manifest.get("resumed", [])][-1]["ranks"])
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return latest(folder)[0].ranks  # the manifest is lost, and the checkpoint has what is needed of it


def plan_for(config: RunConfig, folder: Path, link: "Link | None" = None) -> Plan | None:
    """How to make the run of the config in that folder, on all ranks of the link: from its beginning, or from where it
    was cut off; None when it is done. A run that failed, or has no checkpoint yet, is moved aside and made anew.
    """

    def look() -> str:
        cut_off = run_folder.held(folder, config.sha256()) is Held.UNFINISHED
        return "go on" if cut_off and (config.repeat > 1 or existing(folder)) else "begin"

    def begin() -> bool:
        return not run_folder.is_done(folder, config.sha256())

    def ask(what: Callable[[], Any]) -> Any:
        return what() if link is None else decided(link, config.timeouts.start_s, what)

    if ask(look) == "go on":
        try:
            return going_on(config, folder, link)
        except NothingWhole:  # on all ranks alike
            pass
    return Plan(config, folder) if ask(begin) else None


def going_on(config: RunConfig, folder: Path, link: "Link | None" = None) -> Plan:
    """How to go on with the run in that folder, by the config as it now is, on all ranks of the link.

    Raises `NothingWhole` when there is no checkpoint, `ConfigError` when the config means another run.
    """
    if config.repeat > 1:
        return Plan(config, folder, again=True)
    point, wrong = latest(folder, link, config.timeouts.start_s)
    if link is None:
        check_same(config, point)
    else:
        agreed(link, config.timeouts.start_s, lambda: check_same(config, point))
    if link is None or link.rank == 0:
        for warning in [*wrong, *_other_libraries(folder), *changed_code(folder, config)]:
            print(f"psopt: WARNING: {warning}", file=sys.stderr, flush=True)
    return Plan(config, folder, resumed=point)


def _other_libraries(folder: Path) -> list[str]:
    """What computed the run so far and is of another version here, in a sentence; nothing when all is the same."""
    try:
        before = json.loads((folder / "manifest.json").read_text())
        now = run_folder.manifest("", 1, [], None)
        pairs = [(name, before["packages"][name], now["packages"][name]) for name in COMPUTING]
        pairs.append(("processor", before["machine"], now["machine"]))
    except (OSError, ValueError, LookupError, TypeError):
        return ["what versions the run was computed with cannot be told: its manifest.json is damaged or lost"]
    others = [f"{name} {old} then, {new} now" for name, old, new in pairs if old != new]
    return [f"the run may go on with other bits than it would have had: {', '.join(others)}"] * bool(others)


def check_early(config: RunConfig, folder: Path) -> None:
    """What can be said at once, before ranks are started for it: see `going_on`."""
    for path in reversed(existing(folder)):
        try:
            point = Checkpoint(path)
        except ConfigError:
            continue  # `latest` will tell
        return check_same(config, point)


def latest(folder: Path, link: "Link | None" = None, timeout_s: float = 60.0) -> tuple[Checkpoint, list[str]]:
    """The last checkpoint that is whole, and what is wrong with those after it; on all ranks of the link the same.

    Every byte of it is read, by each rank a share. Raises `NothingWhole` when there is none.
    """
    rank, ranks = (0, 1) if link is None else (link.rank, link.size)
    names = [path.name for path in existing(folder)]
    if link is not None:
        names = link.share(names, timeout_s)
    wrong: list[str] = []
    for name in reversed(names):
        fault, point = None, None
        try:
            point = Checkpoint(folder / FOLDER / name)
            point.check(rank, ranks)
            if rank == 0:
                check_places(folder, point.course()["trace"])
        except ConfigError as error:
            fault = str(error)
        faults = [fault] if link is None else link.gather(fault, timeout_s)
        first = next((each for each in faults if each), None)
        if first is None:
            return point, wrong
        wrong.append(first)
    told = "".join(f"\n  {each}" for each in wrong)
    whole = " that is whole" * bool(wrong)
    error = NothingWhole(f"{folder} holds no checkpoint{whole}, so there is nothing to resume{told}")
    raise error if link is None else together(error)


def check_same(config: RunConfig, point: Checkpoint) -> None:
    """Raises `ConfigError` when the config means another run than the one that the checkpoint is of."""
    now = config.resolved()
    before = parse(point.config).resolved()
    differences = [
        f"{path}: {_short(old)} at the checkpoint, {_short(new)} now"
        for path, old, new in _differences(before, now)
        if path.split(".")[0] not in MAY_CHANGE and path != "algorithm.aggregator.mapped_in"
    ]
    if differences:
        raise ConfigError(
            f"the config has changed since the checkpoint of round {point.round}, and only "
            f"{', '.join(MAY_CHANGE)} may:" + "".join(f"\n  {each}" for each in differences)
        )
    _check_length(config, before["stop"]["max_steps"], point)
    if point.lost and config.failure.policy != before["failure"]["policy"]:
        raise ConfigError(
            f"failure.policy was {before['failure']['policy']} and is {config.failure.policy}, but the run has lost "
            f"workers {', '.join(map(str, point.lost))} under it: it goes on as it was"
        )


def _check_length(config: RunConfig, before: int | None, point: Checkpoint) -> None:
    """Whether the rounds so far are rounds of the plan with the new `stop.max_steps` as well."""
    steps, name = config.stop.max_steps, config.algorithm.name("plan")
    if steps == before:
        return
    if config.algorithm.plan.needs_steps:
        raise ConfigError(
            f"stop.max_steps was {before} and is {steps}, but plan `{name}` is laid out over it: its rounds so far "
            "would have been others"
        )
    done = point.local_steps
    rounds = Rounds(config.algorithm.plan, steps, config.workers)
    if not rounds.ends_at(done):
        raise ConfigError(
            f"stop.max_steps was {before} and is {steps}, with which no round of plan `{name}` ends at the checkpoint, "
            f"after {done} local steps"
        )


def _differences(old: Any, new: Any, path: str = "") -> Iterator[tuple[str, Any, Any]]:
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in (*old, *(key for key in new if key not in old)):
            yield from _differences(old.get(key), new.get(key), f"{path}.{key}" if path else str(key))
    elif old != new:
        yield path, old, new


def _short(value: Any) -> str:
    text = "nothing" if value is None else str(value)
    return text if len(text) <= 60 else text[:57] + "..."
