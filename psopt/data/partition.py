"""Who gets which rows: a pure function of the tables, the number of workers and the seed."""

from itertools import pairwise
from typing import Literal

import numpy as np

from psopt.data import label_skew, seeds
from psopt.data.checks import unknown
from psopt.data.table import Table, stack
from psopt.errors import ConfigError
from psopt.records import record

KINDS = ("auto", "contiguous", "iid", "blocks", "by_label", "dirichlet", "replicated", "files")
LARGEST_ALPHA = 1e6  # the split is even long before, and beyond 1e307 the draws overflow


@record
class Partition:
    """How the rows are dealt to the workers.

    Attributes
    ----------
    kind : str
        ``contiguous``: in order, as even as can be. ``iid``: the same after a seeded shuffle. ``blocks``: T tables
        over M workers, M divisible by T, each table contiguous over its own M/T workers. ``by_label``: rows sorted by
        label, cut into even chunks, ``classes_per_worker`` of them dealt to each worker. ``dirichlet``: each class
        split by shares drawn from Dirichlet(``alpha``). ``replicated``: every worker has all the rows, in the same
        memory; each row counts M times in the total, so that the mean loss stays what it is. ``files``: one file a
        worker. ``auto``: ``files`` for shard files, ``blocks`` for a source of several tables, else ``contiguous``.
    remainder : str, optional
        What becomes of rows that do not divide evenly. ``spread``: the first workers (``by_label``: chunks) get one
        more; ``drop``: they are left out, in every table for itself. Default: ``drop`` for blocks, as in the LAG
        paper, else ``spread``. ``dirichlet`` and ``replicated`` deal every row.
    classes_per_worker : int, optional
        For ``by_label``: chunks a worker. A chunk is of one class where all classes have the same number of rows and
        the number of chunks is a multiple of theirs; else some lie across the border of two.
    alpha : float, optional
        For ``dirichlet``: 0.1 gives each class to a few workers, 100 to all nearly alike.
    min_samples : int
        For ``dirichlet``: the least rows of a worker; the shares are drawn again until all have them.
    """

    kind: Literal["auto", "contiguous", "iid", "blocks", "by_label", "dirichlet", "replicated", "files"] = "auto"
    remainder: Literal["spread", "drop"] | None = None
    classes_per_worker: int | None = None
    alpha: float | None = None
    min_samples: int = 1

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise unknown("partition", self.kind, KINDS)
        if self.remainder not in (None, "spread", "drop"):
            raise ConfigError(f"partition remainder must be spread or drop, found {self.remainder!r}")
        for key, kind, unset in (
            ("classes_per_worker", "by_label", None),
            ("alpha", "dirichlet", None),
            ("min_samples", "dirichlet", 1),
        ):
            if self.kind != kind and getattr(self, key) != unset:
                raise ConfigError(f"key {key!r} belongs to partition {kind!r}, not to {self.kind!r}: remove it")
        if self.kind == "by_label":
            self._need("classes_per_worker", (self.classes_per_worker or 0) >= 1, "a whole number of at least 1")
        if self.kind == "dirichlet":
            most = f"a number above 0 and at most {LARGEST_ALPHA:g}"
            self._need("alpha", 0 < (self.alpha or 0) <= LARGEST_ALPHA, most)
            self._need("min_samples", self.min_samples >= 1, "a whole number of at least 1")
        if self.kind in ("dirichlet", "replicated"):
            self._need("remainder", self.remainder is None, "left out, because every row is dealt")

    def _need(self, key: str, fulfilled: bool, expected: str) -> None:
        if not fulfilled:
            value = getattr(self, key)
            found = "nothing" if value is None else repr(value)
            raise ConfigError(f"key {key!r} of partition {self.kind!r} must be {expected}, found {found}")


def bounds(samples: int, workers: int, remainder: str, of: str = "") -> np.ndarray:
    """Row limits of each worker, shape (workers + 1,); worker m owns rows bounds[m] to bounds[m + 1]."""
    if workers > samples:
        what = f" of {of}" if of else ""
        raise ConfigError(
            f"cannot split {samples} samples{what} over {workers} workers: each needs at least one, use fewer workers"
        )
    small, larger = divmod(samples, workers)
    sizes = np.full(workers, small)
    if remainder == "spread":
        sizes[:larger] += 1
    return np.concatenate(([0], np.cumsum(sizes)))


def split(tables: list[Table], partition: Partition, workers: int, seed: int) -> list[Table]:
    """The shards of workers 0..M-1. Shards of dense tables in order are views, not copies: do not write into them."""
    kind = partition.kind
    if kind == "auto":
        kind = "blocks" if len(tables) > 1 else "contiguous"
    if kind == "files":
        raise ConfigError("partition 'files' needs one file a worker: use source 'shards' with {worker} in its path")
    if kind == "blocks":
        return _blocks(tables, workers, partition.remainder or "drop")
    whole = stack(tables)
    if kind == "replicated":
        return [whole] * workers
    if kind in ("by_label", "dirichlet"):
        return [whole.rows(rows) for rows in _by_class(whole.labels, partition, workers, seed)]
    limits = bounds(whole.samples, workers, partition.remainder or "spread")
    if kind == "iid":
        order = seeds.generator(seed, seeds.SHUFFLE).permutation(whole.samples)
        return [whole.rows(order[limits[m] : limits[m + 1]]) for m in range(workers)]
    return _cut(whole, limits)


def _by_class(labels: np.ndarray, partition: Partition, workers: int, seed: int) -> list[np.ndarray]:
    """The rows of each worker under a partition that looks at the labels (n,)."""
    if partition.kind == "dirichlet":
        random = seeds.generator(seed, seeds.DIRICHLET)
        return label_skew.dirichlet(labels, partition.alpha, partition.min_samples, workers, random)
    chunks = workers * partition.classes_per_worker
    if chunks > len(labels):
        raise ConfigError(
            f"cannot cut {len(labels)} samples into {chunks} chunks, {partition.classes_per_worker} for each of "
            f"{workers} workers: use fewer workers or a smaller classes_per_worker"
        )
    limits = bounds(len(labels), chunks, partition.remainder or "spread")
    return label_skew.by_label(labels, limits, workers, seeds.generator(seed, seeds.BY_LABEL))


def _cut(table: Table, limits: np.ndarray) -> list[Table]:
    return [table.rows(slice(start, stop)) for start, stop in pairwise(limits)]


def _blocks(tables: list[Table], workers: int, remainder: str) -> list[Table]:
    if len(tables) == 1:
        raise ConfigError("partition 'blocks' needs a source of several tables, this one has one: use 'contiguous'")
    if workers % len(tables):
        raise ConfigError(
            f"partition 'blocks' gives each of {len(tables)} tables the same number of workers: "
            f"{workers} is not divisible by {len(tables)}"
        )
    widths = sorted({table.n_features for table in tables})
    if len(widths) > 1:
        raise ConfigError(f"all tables of 'blocks' need the same features, found {' and '.join(map(str, widths))}")
    each = workers // len(tables)
    shards: list[Table] = []
    for number, table in enumerate(tables):
        shards += _cut(table, bounds(table.samples, each, remainder, of=f"table {number}"))
    return shards
