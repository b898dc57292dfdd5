"""The files that hold what a config names and psopt does not have: told by their digests, so that a change is seen.

The digest is of the file that defines the class, function or recipe, not of what that file imports.
"""

import hashlib
import importlib.util
import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from psopt import problems
from psopt.algorithm import ROW
from psopt.config import RunConfig
from psopt.config.own import is_own, own_parts
from psopt.errors import ConfigError
from psopt.parts import kind_of
from psopt.runs import folder as run_folder
from psopt.runs.agreement import together

if TYPE_CHECKING:
    from psopt.transports.mpi import Link

KEY = "own_code"
Code = dict[str, dict[str, str]]
"""Name, as ``package.module:Class`` -> ``file`` and ``sha256``."""


def manifest(config: RunConfig, ranks: int, hosts: list[str], mpi: str | None) -> dict[str, Any]:
    """What the run is made with, code of the user's included."""
    return {**run_folder.manifest(config.sha256(), ranks, hosts, mpi), KEY: own_code(config)}


def own_code(config: RunConfig) -> Code:
    """Of everything that the config names and that is not psopt's, as far as there is a file of it."""
    found = {}
    for name in dict.fromkeys(_names(config)):
        module = name.partition(":")[0]
        path = None if module.split(".")[0] == "psopt" else _file(module)
        try:
            if path is not None:
                found[name] = {"file": str(path), "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
        except OSError:
            continue  # a module without a source file: a notebook's, or one in an archive
    return found


def _names(config: RunConfig) -> Iterator[str]:
    for family in ROW:
        for inner, part in own_parts(family, getattr(config.algorithm, family)):
            yield kind_of(inner, part)
    for name in (config.recipe, config.problem.kind):
        if is_own(name):
            yield name
    if config.problem.kind == "torch":  # a module and a loss are named by options
        yield from (name for name in config.problem.options.values() if is_own(name))


def _file(module: str) -> Path | None:
    """Where the source of a module stands; the module itself is not imported for it."""
    loaded = sys.modules.get(module)
    if loaded is not None:
        path = getattr(loaded, "__file__", None)
    else:
        problems.look_here()
        try:
            spec = importlib.util.find_spec(module)
        except Exception:  # noqa: BLE001  (a package around it that raises will be told of by whoever imports it)
            return None
        path = spec.origin if spec is not None and spec.has_location else None
    return Path(path) if path else None


def check_same_code(config: RunConfig, link: "Link") -> None:
    """Raises `ConfigError`, on all ranks, where a rank has other code under one of the names than rank 0."""
    if next(_names(config), None) is None:
        return
    told = link.gather({name: code["sha256"] for name, code in own_code(config).items()}, config.timeouts.start_s)
    for rank, other in enumerate(told):
        for name, digest in other.items():
            if told[0].get(name, digest) != digest:
                raise together(
                    ConfigError(
                        f"rank {rank} finds other code under the name {name} than rank 0: every rank has to import the "
                        "same file"
                    )
                )


def changed_code(folder: Path, config: RunConfig) -> list[str]:
    """What of the code that the run in the folder began with is another now, a sentence each."""
    try:
        before: Mapping[str, Any] = json.loads((folder / "manifest.json").read_text()).get(KEY, {})
        now = own_code(config)
        pairs = [(name, code["sha256"], now.get(name)) for name, code in before.items()]
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return []  # that the manifest is damaged is told already
    return [
        f"the code of {name} has changed since the run began ({code['file']}): from here on the new one runs"
        if code
        else f"the code of {name} cannot be found as a file, and compared with that which the run began with"
        for name, digest, code in pairs
        if code is None or code["sha256"] != digest
    ]
