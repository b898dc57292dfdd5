"""Configs: strict YAML, or Python mappings, to a typed `RunConfig`, and back.

All that is wrong with a config is told at once, a line a fault: file and line (or the flag), the key's path, what was
found, what was expected. Left-out keys and ``null`` have their defaults.

Any part may be a name. A part that is a mapping with ``kind`` starts from that kind's defaults; one without ``kind``
changes the recipe's part (plain gradient descent's, if there is no recipe). A name with a colon is the user's own, and
its module is imported: ``package.module:Class`` for a part, ``package.module:NAME`` for a recipe (`psopt.config.own`).
"""

import difflib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from psopt.config import overrides as _overrides
from psopt.config import yaml_source
from psopt.config.building import Builder, NamesOwn
from psopt.config.model import Checkpoint, Debug, Failure, ProblemConfig, RunConfig, Stop, Trace
from psopt.config.schema import json_schema
from psopt.config.sentences import Complaints
from psopt.config.shorthand import spelled_out
from psopt.config.tidying import tidied
from psopt.data.opening import kind_of_file
from psopt.errors import ConfigError

LARGEST = 1 << 19
"""Bytes of a config: YAML is read slowly, ten seconds for so many."""

__all__ = [
    "Checkpoint",
    "Debug",
    "Failure",
    "ProblemConfig",
    "RunConfig",
    "Stop",
    "Trace",
    "json_schema",
    "load",
    "parse",
    "parse_resolved",
    "resolved_in",
]


def load(path: str | Path, overrides: Sequence[str] = (), point: Sequence[str] = ()) -> RunConfig:
    """The config in a YAML file.

    Parameters
    ----------
    path : str or Path
    overrides : sequence of str
        ``a.b=c`` each, from ``--set``: keys set on top of the file's, the last one counts.
    point : sequence of str
        The same on top of these, a value of each ``--grid``; a fault is the axis's, whatever the value.
    """
    where = str(path)
    text = _text(Path(path))
    complaints = Complaints(where)
    data = yaml_source.read(text, where, complaints)
    complaints.note((), f"{where}:1", 1)
    if data is None:
        raise ConfigError("holds nothing; expected a mapping of keys such as `problem` and `data`", where)
    if isinstance(data, dict):
        for override in overrides:
            _overrides.apply(data, override, complaints)
        for override in point:
            _overrides.apply(data, override, complaints, f"--grid {override.partition('=')[0]}")
    return _built(data, complaints, Path(path).stem, Path(path).parent)


def resolved_in(path: Path) -> dict[str, Any]:
    """The resolved config in a run's folder, for those who read the run: they import nothing of the user's.

    Where parts or a recipe of the user's own are named, in whatever form, ``algorithm`` is a mapping as it was written.
    Raises `ConfigError` for a file that holds no config.
    """
    complaints = Complaints(str(path))
    data = tidied(yaml_source.read(_text(path), str(path), complaints), complaints)
    written = data.get("algorithm") if isinstance(data, dict) else None
    own = _names_own(written)
    if own:
        data = {name: value for name, value in data.items() if name != "algorithm"}
    resolved = Builder(complaints, imports=False).config(data, _name(path.stem)).resolved()
    return {**resolved, "algorithm": spelled_out(("algorithm",), written)} if own else resolved


def _names_own(algorithm: Any) -> bool:
    try:
        Builder(Complaints("algorithm"), imports=False).algorithm(algorithm)
    except NamesOwn:
        return True
    return False


def parse(data: Mapping[str, Any], where: str = "config") -> RunConfig:
    """The config in Python mappings of the same shape; ``where`` stands for the file in error messages."""
    return _built(data, Complaints(where), "run")


def parse_resolved(data: Mapping[str, Any]) -> RunConfig:
    """The config whose `RunConfig.resolved` this is, as another rank has sent it: its values are not checked again.

    Loading Pydantic and having it check took each rank more than a tenth of a second of CPU.
    """
    return Builder(Complaints("config"), checked=True).config(data, data["name"])


def _built(data: Any, complaints: Complaints, name: str, folder: Path | None = None) -> RunConfig:
    return Builder(complaints, folder).config(tidied(data, complaints), _name(name))


def _name(text: str) -> str:
    """What a run is called that says nothing of it."""
    return re.sub(r"[^A-Za-z0-9._+-]", "-", text).lstrip("._+-")[:100] or "run"


def _text(path: Path) -> str:
    try:
        kind = kind_of_file(path)
        if kind != "file":
            raise ConfigError(f"is a {kind}, expected a YAML file", str(path))
        with open(path, "rb") as file:
            raw = file.read(LARGEST + 1)
        if len(raw) > LARGEST:
            raise ConfigError(f"is larger than {LARGEST} bytes, the most that a config may have", str(path))
        return raw.decode("utf-8-sig")
    except FileNotFoundError:
        raise ConfigError(f"there is no such file{_beside(path)}", str(path)) from None
    except UnicodeDecodeError as error:
        byte = error.object[error.start]
        raise ConfigError(f"is not UTF-8 text: byte {error.start} is {byte:#04x}", str(path)) from None
    except (OSError, ValueError) as error:
        raise ConfigError(f"cannot be read: {getattr(error, 'strerror', None) or error}", str(path)) from None


def _beside(path: Path) -> str:
    try:
        names = [file.name for file in path.parent.iterdir() if file.suffix in (".yaml", ".yml")]
    except OSError:
        return ""
    near = difflib.get_close_matches(path.name, names, n=1)
    return f"; did you mean `{path.parent / near[0]}`?" if near else ""
