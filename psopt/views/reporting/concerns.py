"""What somebody who reads a report should be warned of, in sentences."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from psopt.config.sentences import short
from psopt.records import record
from psopt.views.reading import CUT_OFF, RUNNING, Seen, is_number
from psopt.views.reporting.comparing import Group, flat
from psopt.views.reporting.measures import ACCURACY, GAP, OBJECTIVE, has, tiny_text

FEWEST_ROUNDS = 20
"""Rounds that a run must have before a worker that never spoke is a finding."""

HARDLY = 0.02
"""Share of the median worker's uploads, up to which one speaks hardly ever."""

MOST_OF_A_KIND = 8
SAME_F_STAR = 1e-6
ROUNDING = 1e-9
"""How far, in parts of f*, an objective may be below it."""

WARNING, NOTE = "warning", "note"


@record
class Concern:
    """One sentence; ``kind`` names what it is about, ``level`` is `WARNING` or `NOTE`."""

    kind: str
    level: str
    text: str


def concerns_of(groups: Sequence[Group]) -> list[Concern]:
    """All there is to say, warnings first; the same of several runs is one sentence."""
    found = [*_endings(groups), *_mixed(groups)]
    for about in (_rose, _starved, _stale, _below_f_star):
        found += about(groups)
    found += [*_raw_labels(groups), *_faults(groups), *_elsewhere(groups)]
    return sorted(_bounded(found), key=lambda concern: concern.level != WARNING)


def _bounded(found: Sequence[Concern]) -> list[Concern]:
    """Of each kind the first `MOST_OF_A_KIND`, and how many more there are."""
    kept: list[Concern] = []
    for kind, level in dict.fromkeys((concern.kind, concern.level) for concern in found):
        own = [concern for concern in found if (concern.kind, concern.level) == (kind, level)]
        kept += own[:MOST_OF_A_KIND]
        if len(own) > MOST_OF_A_KIND:
            kept.append(
                Concern(kind, level, f"and {len(own) - MOST_OF_A_KIND} more runs of which the like is to be said.")
            )
    return kept


def _name(group: Group, run: Seen) -> str:
    return group.label + group.number_of(run)


def _each(groups: Sequence[Group]) -> Iterator[tuple[Group, Seen]]:
    for group in groups:
        for run in group.members:
            yield group, run


def _listed(names: Sequence[str], most: int = 8) -> str:
    unlike = list(dict.fromkeys(names))
    more = f" and {len(unlike) - most} more" if len(unlike) > most else ""
    return ", ".join(unlike[:most]) + more


def ending(run: Seen) -> str:
    """How a run ended, in words."""
    if run.status in (RUNNING, CUT_OFF):
        last = int(run.trace["round"][-1]) if run.trace else 0
        return f"{run.status}, after round {last} at the latest record" if run.trace else f"{run.status}, no record yet"
    reason = f" ({run.stop_reason})" if run.stop_reason else ""
    return short(run.status, 300) + reason


def _endings(groups: Sequence[Group]) -> Iterator[Concern]:
    """Runs that did not end as they should, or short of what they were to reach."""
    for group in groups:
        for run in group.runs:
            name = group.label + (f", seed {run.seed}" if len(group.runs) > 1 else "")
            if run.status != "ok":
                level = NOTE if run.status == RUNNING else WARNING
                yield Concern("unfinished", level, f"{name}: {ending(run)}; it is shown as far as it went.")
            lost = (run.summary or {}).get("lost")
            if isinstance(lost, list) and lost:
                yield Concern("lost", WARNING, f"{name}: went on without {len(lost)} of its {run.workers} workers.")
    for key in ("gap", "test_accuracy"):
        short_of: dict[str, list[str]] = {}
        for group in groups:
            wanted = group.first.at("stop", key)
            late = [run for run in group.members if run.status == "ok" and run.stop_reason != key]
            if isinstance(wanted, int | float) and late:
                said = [f"{len(late)} of {len(group.members)} seeds"] * (len(group.members) > 1)
                said += [f"ended by {_listed([str(run.stop_reason) for run in late])}"]
                short_of.setdefault(tiny_text(wanted), []).append(f"{group.label} ({', '.join(said)})")
        for wanted, names in short_of.items():
            yield Concern("short", WARNING, f"the stop.{key} of {wanted} was not reached by {_listed(names)}.")


def _mixed(groups: Sequence[Group]) -> Iterator[Concern]:
    """Runs that minimise different functions, so that their curves are no comparison."""
    if len(groups) < 2:
        return
    scenes: dict[str, list[Group]] = {}
    for group in groups:
        scenes.setdefault(repr(_scene(group.first)), []).append(group)
    if len(scenes) > 1:
        differing = _differing([_scene(own[0].first) for own in scenes.values()])
        yield Concern(
            "mixed",
            WARNING,
            f"different problems or data in one report ({', '.join(differing)}): the runs do not minimise the same "
            "function, so their curves and costs are no comparison.",
        )
        return
    least = [
        (float(value), group, run)
        for group, run in _each(groups)
        if isinstance(value := (run.summary or {}).get("f_star"), int | float)
    ]
    by_seed: dict[int, list[tuple[float, str]]] = {}
    for value, group, run in least:
        by_seed.setdefault(run.seed, []).append((value, _name(group, run)))
    for own in by_seed.values():
        low, high = min(own), max(own)
        if high[0] - low[0] > SAME_F_STAR * max(1.0, abs(high[0])):
            yield Concern(
                "mixed",
                WARNING,
                f"f* is not the same: {low[0]:.10g} for {low[1]} and {high[0]:.10g} for {high[1]}, so gaps have "
                "different zeros.",
            )
            return


def _scene(run: Seen) -> dict[str, Any]:
    """The function that is minimised, as far as its value goes, by key."""
    keys = {f"problem.{key}": value for key, value in flat(run.config.get("problem") or {}).items()}
    keys |= {f"data.{key}": value for key, value in flat(run.config.get("data") or {}).items()}
    keys = {key: value for key, value in keys.items() if not key.startswith(_OTHERWISE)}
    return keys | {"workers": run.workers} if run.at("data", "source") in _DRAWN else keys


_OTHERWISE = ("data.partition", "problem.dtype", "problem.initial")
"""Keys of who holds a row, of rounding, and of the start."""

_DRAWN = ("synthetic", "lag-increasing", "lag-uniform")
"""Sources whose rows depend on the number of workers."""


def _differing(scenes: Sequence[Mapping[str, Any]]) -> list[str]:
    keys = dict.fromkeys(key for scene in scenes for key in scene)
    found = [key for key in keys if len({repr(scene.get(key)) for scene in scenes}) > 1]
    kind = [key for key in ("problem.kind", "data.source") if key in found]
    return kind or found[:4]


def _rose(groups: Sequence[Group]) -> Iterator[Concern]:
    """Objectives that did not go down."""
    for group, run in _each(groups):
        measure = OBJECTIVE if has(run.trace, OBJECTIVE) else GAP if has(run.trace, GAP) else None
        name = _name(group, run)
        if measure is None:
            continue
        values = run.trace[measure.field]
        values = values[np.isfinite(values)]
        first, last, least = float(values[0]), float(values[-1]), float(values.min())
        if values.size < 2:
            continue
        why = "the step size, or the weight xi of a lazy rule, may be too large"
        if last > first + 1e-12 * abs(first):
            text = f"{name}: the objective ended at {last:.6g}, above {first:.6g} where it began: {why}."
            yield Concern("rising", WARNING, text)
        elif first - least <= 1e-12 * abs(first):
            yield Concern("rising", WARNING, f"{name}: the objective did not go down from {first:.6g}.")
        elif last - least > 0.5 * (first - least):
            text = f"{name}: the objective rose again to {last:.6g}, after {least:.6g}: {why}."
            yield Concern("rising", WARNING, text)
    for group, run in _each(groups):
        if not (has(run.trace, OBJECTIVE) or has(run.trace, GAP)) and has(run.trace, ACCURACY):
            values = run.trace["test_accuracy"]
            values = values[np.isfinite(values)]
            if values.size > 1 and values[-1] <= values[0]:
                text = f"{_name(group, run)}: the test accuracy ended at {values[-1]:.2%}, no higher than it began."
                yield Concern("rising", WARNING, text)


def _counts(run: Seen) -> np.ndarray:
    """Uploads of each worker, shape (M,)."""
    return run.uploads.sum(axis=0)


def _starved(groups: Sequence[Group]) -> Iterator[Concern]:
    """Workers whose data hardly count."""
    for group, run in _each(groups):
        rounds, workers = run.uploads.shape
        everyone_asked = run.at("algorithm", "selection", "kind") in (None, "all")
        if workers < 2 or rounds < (FEWEST_ROUNDS if everyone_asked else max(FEWEST_ROUNDS, 6 * workers)):
            continue
        counts = _counts(run)
        middle = float(np.median(counts))
        never = np.flatnonzero(counts == 0)
        hardly = np.flatnonzero((counts > 0) & (counts <= HARDLY * middle))
        why = "its rule kept it silent" if everyone_asked else "it was not asked"
        if never.size:
            who = _workers(never)
            text = f"{_name(group, run)}: {who} never uploaded in {rounds} rounds ({why}): its data may not count."
            yield Concern("starved", WARNING, text)
        if hardly.size:
            most = int(counts[hardly].max())
            text = f"{_name(group, run)}: {_workers(hardly)} uploaded at most {most} times in {rounds} rounds ({why}); "
            yield Concern("starved", WARNING, text + f"the median worker {middle:.0f} times.")


def _workers(numbers: Sequence[int], most: int = 6) -> str:
    shown = ", ".join(str(int(m)) for m in numbers[:most])
    if len(numbers) > most:
        return f"{len(numbers)} workers ({shown}, ...)"
    return f"worker{'s' * (len(numbers) > 1)} {shown}"


def longest_silence(uploads: np.ndarray) -> np.ndarray:
    """For each worker the most rounds in a row without an upload, shape (M,), the end of the run included."""
    rounds, workers = uploads.shape
    longest = np.zeros(workers, dtype=np.int64)
    for m in range(workers):
        spoke = np.flatnonzero(uploads[:, m])
        longest[m] = np.diff(np.concatenate([[-1], spoke, [rounds]])).max() - 1
    return longest


def limit_of(run: Seen) -> tuple[int | None, bool]:
    """D, and whether the rule promises that nobody is silent for longer; None where the algorithm has no D."""
    limits = [run.at("algorithm", "selection", "max_age")]
    if run.at("algorithm", "trigger", "kind") == "max_age":
        limits.insert(0, run.at("algorithm", "trigger", "rounds"))
    windows = [run.at("algorithm", family, "window") for family in ("trigger", "selection")]
    for values, promised in ((limits, True), (windows, False)):
        for value in values:
            if isinstance(value, int) and value > 0:
                return value, promised
    return None, False


def _stale(groups: Sequence[Group]) -> Iterator[Concern]:
    """Workers of which the server held something older than D rounds."""
    allowed: dict[int, list[str]] = {}
    for group, run in _each(groups):
        limit, promised = limit_of(run)
        if limit is None or not run.uploads.size or run.uploads.dtype != bool:
            continue
        silence = longest_silence(run.uploads)
        # A rule with a limit still allows one more after the rounds in which everyone had to speak.
        late = np.flatnonzero(silence > limit + promised)
        if not late.size:
            continue
        worst = int(silence.argmax())
        what = f"{len(late)} of {run.workers} workers, worker {worst} for {silence[worst]} rounds"
        if promised:
            text = f"{_name(group, run)}: longer than D = {limit} rounds without an upload, although the rule promises "
            yield Concern("stale", WARNING, f"{text}no more: {what}. Were workers lost?")
        else:
            allowed.setdefault(limit, []).append(f"{_name(group, run)} ({what})")
    for limit, names in allowed.items():
        text = (
            f"longer than D = {limit} rounds without an upload, so that the server holds something that old of them: "
        )
        yield Concern("stale", NOTE, f"{text}{_listed(names)}. The rule sets no limit.")


def _below_f_star(groups: Sequence[Group]) -> Iterator[Concern]:
    names = []
    for group, run in _each(groups):
        if has(run.trace, GAP):
            gap = run.trace["gap"]
            told = (run.summary or {}).get("f_star")
            scale = abs(float(told)) if is_number(told) else 0.0
            if np.nanmin(gap) < -ROUNDING * scale:
                names.append(f"{_name(group, run)} ({np.nanmin(gap):.1e})")
    if names:
        text = f"the objective went below f* by more than rounding, so f* is not the least value: {_listed(names)}."
        yield Concern("f_star", WARNING, text)


def _raw_labels(groups: Sequence[Group]) -> Iterator[Concern]:
    """Runs on the labels 0 and 1 in a loss made for -1 and +1."""
    names = [
        group.label
        for group in groups
        if group.first.at("data", "labels") == "authors" or group.first.at("problem", "zero_labels") is True
    ]
    if names:
        yield Concern(
            "labels",
            WARNING,
            f"gain from raw labels: {_listed(names)} use labels 0 and 1 in a loss made for -1 and +1. Rows with label "
            "0 have no gradient, so part of what lazy rules save here comes from the labels (docs/algorithms.md, "
            "“Two protocols”).",
        )


def _faults(groups: Sequence[Group]) -> Iterator[Concern]:
    names = [group.label for group in groups if group.first.at("faults")]
    if names:
        yield Concern("faults", NOTE, f"things went wrong on purpose (`faults`) in {_listed(names)}.")


def _elsewhere(groups: Sequence[Group]) -> Iterator[Concern]:
    """Runs whose seconds cannot be compared."""
    if len(groups) < 2:
        return
    runs = [run for group in groups for run in group.runs if run.manifest]
    for what, of in _PLACES.items():
        if len({repr(of(run)) for run in runs if of(run)}) > 1:
            yield Concern("seconds", NOTE, f"the runs had {what}: their seconds are no fair comparison.")
            return


_PLACES: dict[str, Callable[[Seen], Any]] = {
    "different machines": lambda run: run.manifest.get("system"),
    "different hosts": lambda run: (
        sorted({*map(str, hosts)}) if isinstance(hosts := run.manifest.get("hosts"), list) else []
    ),
    "different numbers of ranks": lambda run: run.manifest.get("ranks"),
}
