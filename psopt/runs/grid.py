"""The points of a sweep: the product of its axes, each point with its config and its folder."""

import itertools
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from psopt.config import RunConfig, load, yaml_source
from psopt.config.overrides import parted
from psopt.config.sentences import Complaints, dotted, short, show
from psopt.errors import ConfigError, IncompatibleParts
from psopt.records import record
from psopt.runs.folder import Held, held

EXAMPLE = "KEY.KEY=VALUE,VALUE,..., as in seed=1,2,3"
DIGITS = 3
MOST_POINTS = 10_000
LONGEST_VALUE = 60


@record
class Axis:
    """One key of the config, and the values it takes."""

    path: tuple[str, ...]
    values: tuple[Any, ...]

    @property
    def key(self) -> str:
        return ".".join(self.path)


@record
class Point:
    """One run of a sweep.

    Attributes
    ----------
    number, of : int
        Points are numbered from 0, the last axis fastest.
    values : dict of str to Any
        The value of each axis, by key.
    config : RunConfig
    folder : Path
    """

    number: int
    of: int
    values: dict[str, Any]
    config: RunConfig
    folder: Path

    def __str__(self) -> str:
        return _named(self.number, self.of, self.values)

    def held(self) -> Held:
        """What the folder holds of this point."""
        return held(self.folder, self.config.sha256())


def axes_of(grid: Sequence[str], overrides: Sequence[str] = ()) -> tuple[Axis, ...]:
    """The axes that ``--grid KEY=VALUE,VALUE`` asks for each.

    Raises `ConfigError` for one that cannot be read or has no values, and for a key that is set twice.
    """
    axes: dict[tuple[str, ...], Axis] = {}
    for text in grid:
        place = f"--grid {short(text, 80)}"
        axis = _axis(text, place)
        if axis.path in axes:
            raise ConfigError(f"the key `{dotted(axis.path)}` is given twice: keep one", place)
        axes[axis.path] = axis
    for override in overrides:
        place = f"--set {short(override, 80)}"
        path, _ = parted(override, place)
        undoing = next((axis.key for axis in axes.values() if path[: len(axis.path)] == axis.path), None)
        if undoing:
            raise ConfigError(f"would count for nothing, because --grid sets `{undoing}`: keep one", place)
    return tuple(axes.values())


def _axis(text: str, place: str) -> Axis:
    path, values = parted(text, place, EXAMPLE)
    complaints = Complaints(place)
    text = f"[{values}\n]"  # on a line of its own, where no comment can hide it
    found = yaml_source.read(text, place, complaints, path, numbered=False)
    complaints.raise_any()
    if not found:
        raise ConfigError(f"found {show(found)} of values; expected {EXAMPLE}", place)
    return Axis(path, tuple(found))


def points_of(path: Path, axes: Sequence[Axis], overrides: Sequence[str], out: Path) -> list[Point]:
    """Every point, its config loaded and valid.

    Raises one `ConfigError` with all that is wrong, each sentence once, headed by the point that it belongs to.
    """
    if out.exists() and not out.is_dir():
        raise ConfigError(f"--out {out} is a file, not a folder")
    of = math.prod(len(axis.values) for axis in axes)
    if of > MOST_POINTS:
        raise ConfigError(f"--grid asks for {of} points, expected at most {MOST_POINTS}")
    width = max(DIGITS, len(str(of - 1)))
    points: list[Point] = []
    faults: dict[str, list[str]] = {}
    for number, values in enumerate(itertools.product(*(axis.values for axis in axes))):
        given = dict(zip((axis.key for axis in axes), values, strict=True))
        try:
            config = load(path, overrides, _as_overrides(axes, values))
        except (ConfigError, IncompatibleParts) as error:
            for sentence in str(error).splitlines():
                faults.setdefault(sentence, []).append(_named(number, of, given))
        else:
            points.append(Point(number, of, given, config, out / f"point-{number:0{width}}"))
    if faults:
        raise ConfigError("\n".join(f"{_heading(named, of)}: {sentence}" for sentence, named in faults.items()))
    _check_replicas(points)
    return points


def _check_replicas(points: Sequence[Point]) -> None:
    """Raises `ConfigError` where points that differ in the seed alone would have replicas in common."""
    alike: dict[str, list[RunConfig]] = {}
    for point in points:
        others = {key: value for key, value in point.values.items() if key != "seed"}
        alike.setdefault(repr(others), []).append(point.config)
    for configs in alike.values():
        for one, next_one in itertools.pairwise(sorted(configs, key=lambda config: config.seed)):
            if one.seed < next_one.seed < one.seed + one.repeat:
                raise ConfigError(
                    f"--grid seed: with `repeat: {one.repeat}` the seeds {one.seed} and {next_one.seed} have replicas "
                    f"in common, which run with the seeds from these on: keep them {one.repeat} apart"
                )


def _as_overrides(axes: Sequence[Axis], values: Sequence[Any]) -> list[str]:
    """``KEY=VALUE`` each; outer keys come first, so that no axis undoes another."""
    pairs = sorted(zip(axes, values, strict=True), key=lambda pair: len(pair[0].path))
    return [f"{axis.key}={yaml_source.written(value)}" for axis, value in pairs]


def settings(values: dict[str, Any]) -> str:
    """``algorithm=gd, workers=4``."""
    return ", ".join(f"{key}={shown(value)}" for key, value in values.items())


def shown(value: Any) -> str:
    """A value for people to read: text as it is, others as YAML."""
    return short(value if isinstance(value, str) else yaml_source.written(value), LONGEST_VALUE)


def _named(number: int, of: int, values: dict[str, Any]) -> str:
    return f"point {number} of {of}: {settings(values)}"


def _heading(named: Sequence[str], of: int) -> str:
    if len(named) == of > 1:
        return "every point"
    more = len(named) - 1
    return named[0] + (f" (and {more} more point{'s' * (more > 1)})" if more else "")


def check_folders(points: Sequence[Point]) -> dict[int, Held]:
    """What each point's folder holds, by number; raises one `ConfigError` for all that hold another config's run."""
    out = points[0].folder.parent
    if (out / "config.yaml").is_file():
        raise ConfigError(f"--out {out} holds a run, and cannot hold a sweep as well: choose another folder")
    found = {point.number: point.held() for point in points}
    taken = [point.folder for point in points if found[point.number] is Held.ANOTHER]
    if taken:
        others = f" (and {len(taken) - 1} more of this sweep's folders)" if len(taken) > 1 else ""
        raise ConfigError(
            f"{taken[0]}{others} already holds a run of another config: choose another --out, or move it away"
        )
    return found
