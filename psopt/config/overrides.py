"""``--set a.b=c``, or a value of ``--grid``: one key set from the command line, as if it stood in the file."""

from typing import Any

from psopt.config import yaml_source
from psopt.config.sentences import Complaints, Path, dotted, short, show
from psopt.config.shorthand import spelled_out
from psopt.errors import ConfigError


def parted(override: str, place: str, example: str = "KEY.KEY=VALUE, as in stop.gap=1e-6") -> tuple[Path, str]:
    """The key's path and the value's text; raises `ConfigError` about ``place`` for anything else."""
    dotted_path, equals, text = override.partition("=")
    path = tuple(dotted_path.strip().split("."))
    if not equals or not all(path):
        raise ConfigError(f"expected {example}", place)
    return path, text


def apply(data: dict[str, Any], override: str, complaints: Complaints, place: str = "") -> None:
    """Sets the key in ``data``. The value is YAML; mappings on the way are made, and names are spelled out."""
    place = place or f"--set {short(override, 80)}"
    path, text = parted(override, place)
    inner = data
    for depth, key in enumerate(path[:-1], start=1):
        held = inner.get(key)
        held = {} if held is None else spelled_out(path[:depth], held)
        if not isinstance(held, dict):
            raise ConfigError(f"cannot set a key inside `{dotted(path[:depth])}`, which is {show(held)}", place)
        if inner.get(key) is None:
            complaints.note(path[:depth], place)
        inner[key] = dict(held)  # an alias in the file may hold the same mapping
        inner = inner[key]
    complaints.forget_below(path)
    complaints.note(path, place)
    inner[path[-1]] = yaml_source.read(text, place, complaints, at=path, numbered=False)
