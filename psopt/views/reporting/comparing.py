"""What runs have in common and where they differ: groups of runs that differ in the seed alone, and their labels."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from psopt.config import yaml_source
from psopt.config.sentences import short
from psopt.records import record
from psopt.views.reading import Seen

SAME_RESULT = ("name", "seed", "repeat", "timeouts", "checkpoint", "slurm", "threads", "debug", "trace.decisions")
"""Keys, and sections, of which the numbers of a run do not depend, or that tell replicas apart."""

GENERIC = ("kind", "initial", "rounds", "of", "value")
"""Last keys that say too little by themselves."""

ABSENT = object()
LONGEST_VALUE, LONGEST_LABEL, MOST_KEYS = 24, 60, 3


@record
class Group:
    """Runs that differ in nothing but the seed: what one line of a picture shows.

    Attributes
    ----------
    label : str
        Short, and unlike all others.
    runs : tuple of Seen
        The folders.
    members : tuple of Seen
        The runs proper: of a run with ``repeat`` its replicas.
    """

    label: str
    runs: tuple[Seen, ...]
    members: tuple[Seen, ...]

    @property
    def first(self) -> Seen:
        return self.runs[0]

    @property
    def shown(self) -> str:
        """The label, with the number of seeds where there are several."""
        return self.label + (f" ({len(self.members)} seeds)" if len(self.members) > 1 else "")

    def number_of(self, run: Seen) -> str:
        """Which of the seeds a run is; empty where there is one."""
        return f", seed {run.seed}" if len(self.members) > 1 else ""


def flat(config: Mapping[str, Any], path: str = "") -> dict[str, Any]:
    """Every value by its dotted path; lists, and mappings that are empty, are values."""
    found: dict[str, Any] = {}
    for key, value in config.items():
        own = f"{path}.{key}" if path else str(key)
        if isinstance(value, dict) and value:
            found |= flat(value, own)
        else:
            found[own] = value
    return found


def meaning(seen: Seen) -> dict[str, Any]:
    """`flat`, of what matters."""
    return {key: value for key, value in flat(seen.config).items() if not _is_below(key, SAME_RESULT)}


def _is_below(key: str, sections: Sequence[str]) -> bool:
    return any(key == section or key.startswith(f"{section}.") for section in sections)


def groups_of(runs: Sequence[Seen]) -> list[Group]:
    """The groups, in the order of their first runs; of two runs with one config and one seed each has its own."""
    gathered: list[tuple[str, list[Seen]]] = []
    for run in runs:
        key = repr(sorted(meaning(run).items())) + f" repeat {len(run.replicas) > 0}"
        fitting = (own for known, own in gathered if known == key and run.seed not in {other.seed for other in own})
        home = None if run.replicas else next(fitting, None)
        if home is None:
            gathered.append((key, [run]))
        else:
            home.append(run)
    groups = [Group("", tuple(own), own[0].replicas or tuple(own)) for _, own in gathered]
    return [replace(group, label=label) for group, label in zip(groups, labels_of(groups), strict=True)]


def differences(groups: Sequence[Group]) -> dict[str, list[Any]]:
    """The keys whose values differ, each with the value of every group, `ABSENT` where a group has none.

    Parts of different kinds have other keys each: such a part is one value, a mapping.
    """
    configs = [_collapsed([group.first.config for group in groups], number) for number in range(len(groups))]
    keys = dict.fromkeys(key for config in configs for key in config)
    values = {key: [config.get(key, ABSENT) for config in configs] for key in keys if not _is_below(key, SAME_RESULT)}
    return {key: found for key, found in values.items() if len({repr(value) for value in found}) > 1}


def _collapsed(configs: Sequence[Mapping[str, Any]], number: int, path: str = "") -> dict[str, Any]:
    """`flat` of one of the configs, where a mapping whose ``kind`` is not the same in all of them is a value."""
    found: dict[str, Any] = {}
    for key, value in configs[number].items():
        own = f"{path}.{key}" if path else str(key)
        others = [config.get(key) for config in configs]
        alike = all(isinstance(other, dict) and other for other in others)
        if alike and len({repr(other.get("kind")) for other in others}) == 1:
            found |= _collapsed(others, number, own)
        elif isinstance(value, dict) and value and "kind" not in value:
            found |= flat(value, own)
        else:
            found[own] = value
    return found


def value_text(value: Any, longest: int = 200) -> str:
    """A value for people: a part as ``kind(key=value, ...)``, nothing for what is absent."""
    if value is ABSENT:
        return "–"
    if isinstance(value, dict) and "kind" in value:
        inner = ", ".join(f"{key}={value_text(own)}" for key, own in value.items() if key != "kind")
        return short(f"{value['kind']}({inner})" if inner else str(value["kind"]), longest)
    if isinstance(value, float) and math.isfinite(value):
        return f"{value:.6g}"
    return short(value if isinstance(value, str) else yaml_source.written(value), longest)


def key_text(key: str, all_keys: Sequence[str]) -> str:
    """The shortest end of a dotted key that says enough."""
    parts = key.split(".")
    while len(parts) > 1 and parts[-1] in GENERIC:
        parts.pop()
    alone = [other for other in all_keys if other.split(".")[-1] == parts[-1]]
    return parts[-1] if len(alone) <= 1 or len(parts) == 1 else ".".join(parts[-2:])


def labels_of(groups: Sequence[Group]) -> list[str]:
    """Recipe, and what differs from the others of that recipe; or the folder's name, where that would be long."""
    scenes = {key: found for key, found in differences(groups).items() if key in _SCENE}
    labels = []
    for number, group in enumerate(groups):
        recipe = group.first.recipe
        same = [other for other in groups if other.first.recipe == recipe]
        own = differences(same)
        own = {key: found for key, found in own.items() if not _is_below(key, _ENDS)}
        values = {key: found[same.index(group)] for key, found in own.items()}
        values |= {key: found[number] for key, found in scenes.items()}
        all_values = {**own, **scenes}
        words = [_word(key, value, all_values) for key, value in values.items()]
        head = short(str(recipe), 30) if recipe else "parts"
        label = ", ".join([head, *words])
        if len(words) > MOST_KEYS or len(label) > LONGEST_LABEL:
            label = f"{head} [{short(group.first.folder.resolve().name, LONGEST_LABEL)}]"
        labels.append(label)
    return _unlike(labels, groups)


_SCENE = ("problem.kind", "data.source", "workers")
"""What a label names wherever it is not the same in the whole report."""

_ENDS = ("stop", "trace", "failure", "faults")
"""Sections that a label does not name: folders' names tell such runs apart."""


def _word(key: str, value: Any, values: Mapping[str, Sequence[Any]]) -> str:
    """``key=value`` of one key that differs; of a part its kind alone, where that tells it from the others."""
    keys, kinds = list(values), {own["kind"] for own in values[key] if isinstance(own, dict) and "kind" in own}
    telling = len(kinds) == len({repr(own) for own in values[key]})
    text = value_text(value["kind"] if telling else value, LONGEST_VALUE)
    return text if key in ("problem.kind", "data.source") else f"{key_text(key, keys)}={text}"


def _unlike(labels: Sequence[str], groups: Sequence[Group]) -> list[str]:
    """Labels with the folders' names, or as much more of their paths, where they are not unlike without."""
    made = list(labels)
    for depth in (1, 2, 3):
        twice = {label for label in made if made.count(label) > 1}
        for number, group in enumerate(groups):
            if made[number] in twice:
                tail = "/".join(group.first.folder.resolve().parts[-depth:])
                made[number] = f"{labels[number]} [{short(tail, LONGEST_LABEL)}]"
    return [label if made.count(label) == 1 else f"{label} #{number}" for number, label in enumerate(made, start=1)]
