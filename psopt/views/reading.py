"""Any run folder as it stands, to be looked at: finished, failed, cut off, or still being written."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from psopt.config import LARGEST, yaml_source
from psopt.config.model import MOST_WORKERS
from psopt.config.sentences import Complaints
from psopt.errors import ConfigError
from psopt.records import record
from psopt.runs import folder as run_folder
from psopt.runs.occupancy import occupant
from psopt.runs.trace import read_uploads

RUNNING, CUT_OFF, NOT_BEGUN = "still running", "cut off", "nothing recorded"
NEEDED = ("round", "uploads", "payload_bytes_up", "payload_bytes_down", "compute_s", "wait_s", "rest_s")
"""Fields without which a record says nothing of costs."""


@record
class Seen:
    """What there is of one run.

    Attributes
    ----------
    folder : Path
    config : dict
        As it stands in the folder, resolved.
    manifest : dict
        Empty where there is none.
    status : str
        ``ok``, ``failed: ...`` or ``stopped`` from the summary, else `RUNNING` or `CUT_OFF`.
    summary : dict or None
        None of a run that has not ended in good order.
    trace : dict of str to ndarray, each shape (records,)
        Empty where nothing was recorded; a record that was cut off in the middle is left out.
    uploads : ndarray, shape (rounds, M)
        Bool; of the mean of replicas the share of them, float64.
    replicas : tuple of Seen
        With ``repeat``, those that the folder holds.
    """

    folder: Path
    config: dict[str, Any]
    manifest: dict[str, Any]
    status: str
    summary: dict[str, Any] | None
    trace: dict[str, np.ndarray]
    uploads: np.ndarray
    replicas: "tuple[Seen, ...]" = ()

    @property
    def seed(self) -> int:
        return int(self.config.get("seed", 0))

    @property
    def workers(self) -> int:
        return int(self.config["workers"])

    @property
    def recipe(self) -> str | None:
        return self.at("algorithm", "recipe")

    @property
    def stop_reason(self) -> str | None:
        return (self.summary or {}).get("stop_reason")

    def at(self, *path: str) -> Any:
        """The config's value there; None where there is none."""
        found: Any = self.config
        for key in path:
            found = found.get(key) if isinstance(found, dict) else None
        return found


def read_run(folder: Path) -> Seen:
    """One run, as far as it went.

    Raises `ConfigError` where what is there cannot be read, or belongs to no run.
    """
    config = config_in(folder)
    seen = _read(folder, config)
    paths = sorted(path.parent for path in folder.glob("replica-*/trace.jsonl"))
    replicas = tuple(_read(path, {**config, "repeat": 1, "seed": seen.seed + _number(path)}) for path in paths)
    return Seen(**{**vars(seen), "replicas": replicas})


def _number(replica: Path) -> int:
    digits = replica.name.partition("-")[2]
    if not digits.isdecimal():
        raise ConfigError(f"{replica} is no replica's folder: expected a number after replica-")
    return int(digits)


def config_in(folder: Path) -> dict[str, Any]:
    """The config as it stands in the folder.

    Raises `ConfigError` where there is none, or where what is looked at in it is not what a resolved one holds.
    """
    path = folder / "config.yaml"
    if not _is_there(path):
        raise ConfigError(f"{folder} holds a broken run: config.yaml is missing")
    if path.stat().st_size > LARGEST:
        raise ConfigError(f"{path} is larger than {LARGEST} bytes, the most that a config may have")
    complaints = Complaints(str(path))
    config = yaml_source.read(_text(path), str(path), complaints)
    complaints.raise_any()
    if not isinstance(config, dict) or not isinstance(config.get("algorithm"), dict):
        raise ConfigError(f"{folder} holds a broken run: config.yaml is no resolved config")
    for key in ("problem", "data", "stop", "trace"):
        if not isinstance(config.get(key, {}), dict):
            raise ConfigError(f"{folder} holds a broken run: config.yaml is no resolved config: `{key}` is no mapping")
    for key, least, most in (("workers", 1, MOST_WORKERS), ("seed", 0, None), ("repeat", 1, None)):
        value = config.get(key, 1 if key == "repeat" else None)
        if not is_number(value, int) or value < least or (most is not None and value > most):
            raise ConfigError(f"{folder} holds a broken run: config.yaml has no number `{key}`")
    for key, value in config.get("stop", {}).items():
        if value is not None and not is_number(value):
            raise ConfigError(f"{folder} holds a broken run: config.yaml has no number `stop.{key}`")
    if not isinstance(config["algorithm"].get("recipe"), str | None):
        raise ConfigError(f"{folder} holds a broken run: config.yaml has no name `algorithm.recipe`")
    return config


def is_number(value: Any, kinds: Any = (int, float)) -> bool:
    """Whether it is a number; true and false are none."""
    return isinstance(value, kinds) and not isinstance(value, bool)


def _read(folder: Path, config: dict[str, Any]) -> Seen:
    summary = run_folder.read_summary(folder) if (folder / "summary.json").is_file() else None
    status = str(summary.get("status", "")) if summary else RUNNING if occupant(folder) else CUT_OFF
    trace, uploads = _trace(folder / "trace.jsonl"), np.zeros((0, config["workers"]), dtype=bool)
    if (folder / "uploads.npy").is_file():
        uploads = _shares(folder / "uploads.npy", config["workers"])
    elif _is_there(folder / "uploads.bin"):
        uploads = read_uploads(folder / "uploads.bin", config["workers"])
    return Seen(folder, config, _manifest(folder / "manifest.json"), status, summary, trace, uploads)


def _is_there(path: Path) -> bool:
    """Whether the file exists; what is no ordinary file is refused, for it might never end."""
    if path.exists() and not path.is_file():
        raise ConfigError(f"{path} is no ordinary file")
    return path.exists()


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except UnicodeDecodeError:
        raise ConfigError(f"{path} is not UTF-8 text") from None
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from None


def _manifest(path: Path) -> dict[str, Any]:
    if not _is_there(path):
        return {}
    try:
        found = json.loads(_text(path))
    except ValueError as error:
        raise ConfigError(f"{path} is broken: {error}") from None
    return found if isinstance(found, dict) else {}


def _shares(path: Path, workers: int) -> np.ndarray:
    try:
        found = np.load(path, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path} is broken: {error}") from None
    if found.ndim != 2 or found.shape[1] != workers or found.dtype.kind not in "fb":
        raise ConfigError(f"{path} is broken: expected numbers of shape (rounds, {workers})")
    return found


def _records(path: Path) -> list[Any]:
    """Each line's JSON value, but for a last one that has no end: it is being written, or the run was cut off."""
    lines = _text(path).split("\n")[:-1]
    try:
        found = json.loads(f"[{','.join(line for line in lines if line)}]")  # at once, which is quicker
    except ValueError:
        pass
    else:
        if len(found) == sum(map(bool, lines)) and all(isinstance(record, dict) for record in found):
            return found
    for number, line in enumerate(lines, start=1):
        try:
            record = json.loads(line) if line else {}
        except ValueError as error:
            raise ConfigError(f"{path}:{number} is broken: {error}") from None
        if not isinstance(record, dict):
            raise ConfigError(f"{path}:{number} is broken: expected a record")
    raise ConfigError(f"{path} is broken: expected a record a line")


def _trace(path: Path) -> dict[str, np.ndarray]:
    """The records as one array a field; of fields that not all records have, none."""
    records = _records(path) if _is_there(path) else []
    if not records:
        return {}
    fields = set(records[0])
    if any(record.keys() != fields for record in records):
        fields = fields.intersection(*records)
        records = [{name: record[name] for name in records[0] if name in fields} for record in records]
    try:
        trace = run_folder.columns(records)
    except (TypeError, ValueError, OverflowError) as error:
        raise ConfigError(f"{path} is broken: {error}") from None
    missing = [name for name in NEEDED if name not in trace]
    if missing:
        raise ConfigError(f"{path} is broken: there are records without `{missing[0]}`")
    wrong = [name for name, values in trace.items() if values.dtype.kind not in "if" or values.ndim != 1]
    if wrong:
        raise ConfigError(f"{path} is broken: `{wrong[0]}` is not a number in every record")
    return trace
