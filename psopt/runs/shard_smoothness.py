"""L_m of every worker, from a run's config alone: for a run that did not need them, and so did not write them down."""

from pathlib import Path

import numpy as np

from psopt import problems
from psopt.config import RunConfig, parse
from psopt.config.sentences import short
from psopt.data import Reader, open_shards, reading_once
from psopt.errors import ConfigError, PsoptError
from psopt.runs.building import Shard, build

LARGEST_NBYTES = 1 << 23
"""Bytes of data files, and 8 bytes a number that is drawn, up to which data is read for the sake of a picture."""

MOST_WORKERS = 1000
LOOKED_AT = ("problem", "data", "workers", "seed")


def shared_reader() -> Reader:
    """Reads each source once, for runs that share it."""
    return reading_once()


def worker_smoothness(config: dict, read: Reader | None = None) -> np.ndarray:
    """L_m of each worker, shape (M,), float64.

    Only where the problem is one of psopt's own, and its data is at hand and small. No code of the user's is imported:
    of the config nothing is looked at but problem, data, workers and seed.

    Parameters
    ----------
    config : dict
        A resolved config.
    read : Reader, optional
        Reads the data source, for runs that share it.

    Raises
    ------
    ConfigError
        Says why they are not known.
    """
    problem = config.get("problem")
    kind = problem.get("kind") if isinstance(problem, dict) else problem
    if not isinstance(kind, str) or kind not in problems.PROBLEMS or kind == "torch":
        raise ConfigError(f"problem `{short(str(kind), 60)}` is code of its own")
    try:
        own = parse({name: config[name] for name in LOOKED_AT if name in config})
    except PsoptError:
        raise ConfigError("its problem and data are none of this version's") from None
    _check_small(own)
    try:
        shards = open_shards(own.data, own.workers, own.seed, own.problem.dtype, None, read or reading_once())
        tables = {m: Shard(shards.shard(m), None) for m in range(own.workers)}
        total = sum(shard.rows.samples for shard in tables.values())
        built = build(own, None, tables, total, "in a report", checks=False)
    except PsoptError:
        raise ConfigError("the data is not at hand") from None
    if not all(hasattr(problem, "smoothness") for problem in built.values()):
        raise ConfigError(f"problem `{own.problem.kind}` has none")
    return np.array([float(problem.smoothness()) for problem in built.values()])


def _check_small(config: RunConfig) -> None:
    """Refuses what is not here, or large, before anything is read."""
    data = config.data
    if config.workers > MOST_WORKERS:
        raise ConfigError(f"there are more than {MOST_WORKERS} workers")
    if data.source == "memory":
        raise ConfigError("the data was in the memory of a program")
    if data.source in ("mnist", "fashion-mnist") and data.path is None:
        raise ConfigError("the data is not at hand")
    nbytes = 0
    if data.synthetic is not None:
        nbytes = 8 * data.synthetic.n_samples * data.synthetic.n_features
    elif data.path is not None:
        files = [path for path in _files(data.path, config.workers) if path.is_file()]
        if not files:
            raise ConfigError("the data is not at hand")
        nbytes = sum(path.stat().st_size for path in files)
    if nbytes > LARGEST_NBYTES:
        raise ConfigError("the data is large")


def _files(path: str, workers: int) -> list[Path]:
    """What there is under the name of a source: a file, the files of a folder, or a file a worker."""
    if "{worker" in path:
        try:
            return [Path(path.format(worker=m)) for m in range(workers)]
        except (ValueError, LookupError):
            return []
    found = Path(path)
    return list(found.iterdir()) if found.is_dir() else [found]
