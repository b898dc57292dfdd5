"""Checkpoints: the whole state of a run after one of its rounds, from which it goes on with the same bits.

``checkpoints/round-000000300/`` in the run folder holds a part for each rank that has a state, ``rank-00000``,
``rank-00001``, ... (`psopt.runs.container`), and ``manifest.json``, which names them with their checksums. The parts
are written into ``round-000000300.partial`` by their own ranks; when all have said so, rank 0 adds the manifest and
renames the folder, so that a checkpoint is there whole or not at all. Everything goes through to the disk before the
rename.

Nothing is gathered: the server writes what it holds of all workers, and each rank what its workers alone know. A
worker's mirror is not written, because the server holds it as well.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

import psopt
from psopt.config import Checkpoint as Wanted
from psopt.config import RunConfig
from psopt.core.server import Server
from psopt.core.state import state_of
from psopt.core.worker import Worker
from psopt.errors import CannotWrite, ConfigError
from psopt.parts.aggregators import added_up, row_of
from psopt.runs import container
from psopt.runs.building import Shard
from psopt.runs.container import Container
from psopt.runs.writing import sync, write_through, writing
from psopt.transports.base import Transport, rank_of
from psopt.transports.waiting import done_within

SCHEMA = 2
FOLDER = "checkpoints"
MANIFEST = "manifest.json"
PARTIAL = ".partial"
SEEN_WITHIN_S = 5.0
"""Some network file systems take their time."""
LARGEST_SHARE = 0.02
"""Of the time, spent on checkpoints that are due by the clock."""


class Part:
    """What one rank writes.

    Parameters
    ----------
    folder : Path
        The run's.
    rank : int
    workers : sequence of Worker
        Those that live on this rank.
    shards : mapping of int to Shard
        By worker.
    """

    def __init__(self, folder: Path, rank: int, workers: Iterable[Worker], shards: Mapping[int, Shard]) -> None:
        self._folder, self._rank, self._workers = folder, rank, list(workers)
        self._data = {str(m): shard.digest() for m, shard in shards.items()}

    def check_seen(self, where: str) -> None:
        """Raises `ConfigError` unless this rank sees the run folder, which rank 0 has just made."""
        if self._workers and not done_within(SEEN_WITHIN_S, (self._folder / "config.yaml").is_file):
            raise ConfigError(
                f"{where} does not see {self._folder}, where it has to write its part of each checkpoint: choose an "
                "--out that all ranks share, or set `checkpoint: {keep: 0}`"
            )

    def write(self, k: int, tick: Callable[[], None] = lambda: None, **others: Any) -> dict[str, Any]:
        """Writes the part of round k, with other trees beside the workers'; returns what the manifest says of it.

        Raises `CannotWrite` when it cannot be written.
        """
        workers = {str(worker.m): state_of(worker) for worker in self._workers}
        tree = {"round": k, "workers": workers, "data": self._data, **others}
        path = partial_folder(self._folder, k) / part_name(self._rank)
        with writing(path.parent, "the checkpoint"):
            path.parent.mkdir(parents=True, exist_ok=True)
            written = container.write(path, tree, tick)
        return {"nbytes": written.nbytes, "sha256": written.sha256}

    def told(self, k: int) -> str:
        """`write`, and what came of it as a text that `Checkpoints.write` reads."""
        try:
            return json.dumps(self.write(k))
        except CannotWrite as error:
            return json.dumps({"error": str(error)})


class Checkpoints:
    """Rank 0's care for the checkpoints of a run: when one is due, how it becomes valid, which are kept.

    Parameters
    ----------
    folder : Path
        The run's.
    config : RunConfig
    ranks : int
    part : Part
        That of rank 0.
    """

    def __init__(self, folder: Path, config: RunConfig, ranks: int, part: Part) -> None:
        self._folder, self._config, self._ranks, self._part = folder, config, ranks, part
        self._wanted: Wanted = config.checkpoint
        self._ended = perf_counter()
        self._cost_s = 0.0

    def due(self, k: int) -> bool:
        """Whether one should be written after round k."""
        wanted = self._wanted
        if wanted.every_rounds is not None and k % wanted.every_rounds == 0:
            return True
        return perf_counter() - self._ended >= max(wanted.every_seconds, self._cost_s / LARGEST_SHARE)

    def write(self, k: int, transport: Transport, server: Server, course: Mapping[str, Any]) -> bool:
        """Writes that of round k, the last one that has ended, and removes those that are too many; returns whether
        there is one, which is not so where a worker was lost meanwhile.

        ``course`` is the run's state beside server and workers. Raises `CannotWrite` when the disk is full,
        `ConfigError` when a part is not there.
        """
        began, own = perf_counter(), {}
        trees = {"server": state_of(server), "course": dict(course)}
        try:
            self._clear(k)
            said = transport.save(k, lambda: own.update(self._part.write(k, transport.idle, **trees)))
            if said is None:
                return False
            lost = sorted(set(range(server.workers)) - set(server.living.tolist()))
            self._commit(k, server.local_steps, lost, own, said)
        except CannotWrite:
            shutil.rmtree(partial_folder(self._folder, k), ignore_errors=True)  # what is left of the disk is needed
            raise
        self._keep_last(k, self._wanted.keep, transport.idle)
        self._ended = perf_counter()
        self._cost_s = self._ended - began
        return True

    def _clear(self, k: int) -> None:
        """Makes the place for the parts, and clears away what was never finished."""
        for partial in (self._folder / FOLDER).glob(f"*{PARTIAL}"):
            shutil.rmtree(partial, ignore_errors=True)
        with writing(self._folder / FOLDER, "the checkpoint"):
            partial_folder(self._folder, k).mkdir(parents=True, exist_ok=True)

    def _commit(
        self,
        k: int,
        local_steps: int,
        lost: list[int],
        own: Mapping[str, Any],
        said: Mapping[int, str],
    ) -> None:
        """Makes the checkpoint valid; ``own`` and ``said`` are what the parts of rank 0 and of the others came to."""
        parts = {part_name(0): dict(own)}
        for rank, text in sorted(said.items()):
            parts[part_name(rank)] = json.loads(text)
            if "error" in parts[part_name(rank)]:
                raise CannotWrite(parts[part_name(rank)]["error"])
        partial, final = partial_folder(self._folder, k), final_folder(self._folder, k)
        content = {
            "schema": SCHEMA,
            "psopt": psopt.__version__,
            "round": k,
            "local_steps": local_steps,
            "ranks": self._ranks,
            "lost": lost,
            "config": self._config.resolved(),
            "parts": parts,
        }
        with writing(partial, "the checkpoint"):
            for name, part in parts.items():
                if not (partial / name).is_file() or (partial / name).stat().st_size != part["nbytes"]:
                    raise ConfigError(
                        f"the checkpoint of round {k} lacks what {name} wrote into {partial}: do all ranks see the "
                        "same folder? `checkpoint: {keep: 0}` does without checkpoints"
                    )
            write_through(partial / MANIFEST, json.dumps({"sha256": _sha256(content), "content": content}, indent=1))
            sync(partial)
            if final.exists():
                shutil.rmtree(final)
            os.rename(partial, final)
            sync(final.parent)

    def thin(self, k: int) -> None:
        """Keeps that of round k alone, if there is one: of a run that is over nobody needs those before."""
        self._keep_last(k, 1, lambda: None)

    def _keep_last(self, k: int, keep: int, tick: Callable[[], None]) -> None:
        """Removes those up to round k but for the last few."""
        for old in [path for path in existing(self._folder) if round_of(path) <= k][:-keep]:
            tick()
            shutil.rmtree(old, ignore_errors=True)


class Checkpoint:
    """A valid checkpoint, open for reading.

    Parameters
    ----------
    path : Path
        Its folder.

    Raises
    ------
    ConfigError
        When the manifest is damaged, or another version's; from every other method when a part is damaged.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            written = json.loads((path / MANIFEST).read_text())
            content = written["content"]
            damaged = written["sha256"] != _sha256(content)
        except OSError as error:
            raise ConfigError(f"{path / MANIFEST} cannot be read: {error.strerror}") from None
        except (ValueError, TypeError, KeyError, RecursionError):
            damaged = True
        if damaged:
            raise ConfigError(f"{path / MANIFEST} is damaged")
        if content["schema"] != SCHEMA:
            raise ConfigError(f"{path} was written with schema {content['schema']}; this psopt reads {SCHEMA}")
        self.round: int = content["round"]
        self.local_steps: int = content["local_steps"]
        self.ranks: int = content["ranks"]
        self.lost: list[int] = content["lost"]
        self.config: dict[str, Any] = content["config"]
        self._parts = content["parts"]
        self._open: dict[str, Container] = {}

    def check(self, rank: int = 0, ranks: int = 1) -> None:
        """Reads all parts and raises for one that is damaged; of several ranks each takes its share."""
        for name in sorted(self._parts)[rank::ranks]:
            self._part(name).check()

    def course(self) -> dict[str, Any]:
        """How far the run had come, as `Conductor` has it."""
        return self._of_server("course")

    def server_state(self) -> Any:
        return self._of_server("server")

    def model_state(self) -> Any:
        """That of the server's model, all that is held of the workers included."""
        return self._of_server("server", "_model")

    def summed_model_state(self, workers: int, dim: int, dtype: np.dtype) -> Any:
        """The same, with the sum of what is held of the workers, in worker order, in place of that: never more than one
        worker's share of it is in memory.
        """
        total = added_up((self.mirror(m, dim, dtype) for m in range(workers)), dim, dtype)
        kept = {name: self._of_server("server", "_model", name) for name in ("theta", "_moments")}
        return {**kept, "_aggregate": total}

    def mirror(self, m: int, dim: int, dtype: np.dtype) -> np.ndarray:
        """What the server holds of worker m, shape (dim,)."""
        part = self._part(part_name(0))
        return row_of(part.tree["server"]["_model"]["_aggregate"], part.load, m, dim, dtype)

    def _of_server(self, *keys: str) -> Any:
        part = self._part(part_name(0))
        tree = part.tree
        for key in keys:
            tree = tree[key]
        return part.load(tree)

    def worker(self, m: int) -> tuple[Any, str]:
        """Worker m's state, and the digest of its data."""
        part = self._part(part_name(rank_of(m, self.ranks) if self.ranks > 1 else 0))
        return part.load(part.tree["workers"][str(m)]), part.tree["data"][str(m)]

    def _part(self, name: str) -> Container:
        if name not in self._open:
            self._open[name] = Container(self.path / name, **self._parts[name])
        return self._open[name]


def existing(folder: Path) -> list[Path]:
    """The folders of a run's checkpoints, the oldest first; they may be damaged."""
    found = (folder / FOLDER).glob("round-*")
    return sorted((path for path in found if path.is_dir() and path.name[6:].isdigit()), key=round_of)


def set_aside(folder: Path, k: int) -> None:
    """Renames the checkpoints of later rounds than k, which the run goes on from: they are damaged."""
    with writing(folder / FOLDER, "the checkpoint"):
        for path in existing(folder):
            if round_of(path) > k:
                aside = path.with_name(path.name + ".damaged")
                shutil.rmtree(aside, ignore_errors=True)
                path.rename(aside)


def digest_of(theta: np.ndarray | None) -> str | None:
    """SHA-256 of a first iterate that was given."""
    return None if theta is None else hashlib.sha256(theta.astype(np.float64).tobytes()).hexdigest()


def how_to_go_on(folder: Path) -> str | None:
    """What to tell of a run that did not come to its end; nothing where there is no checkpoint."""
    found = existing(folder)
    if not found:
        return None
    return f"psopt: the last checkpoint is of round {round_of(found[-1])}; to go on from there: psopt resume {folder}"


def partial_folder(folder: Path, k: int) -> Path:
    return folder / FOLDER / f"round-{k:09d}{PARTIAL}"


def final_folder(folder: Path, k: int) -> Path:
    return folder / FOLDER / f"round-{k:09d}"


def round_of(path: Path) -> int:
    """The round that a checkpoint's folder is named after."""
    return int(path.name.removeprefix("round-"))


def part_name(rank: int) -> str:
    return f"rank-{rank:05d}"


def _sha256(content: Any) -> str:
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode("ascii")).hexdigest()
