"""Rows kept for testing: which, and which worker looks at them."""

from typing import Literal

import numpy as np

from psopt.data import seeds
from psopt.data.table import Table, stack
from psopt.errors import ConfigError
from psopt.records import record


@record
class HeldOut:
    """Where the test rows come from; exactly one of ``split``, ``fraction`` and ``path`` is set.

    Attributes
    ----------
    split : 'official', optional
        The test set that comes with the source: the t10k files of ``idx``, ``mnist`` and ``fashion-mnist``.
    fraction : float, optional
        This part of the rows, between 0 and 1, of every table of the source, drawn with the run's seed before the
        others are dealt to the workers. The lag-* sources are scaled over all their rows, these among them.
    path : str, optional
        For ``file`` and ``shards``: one file of the same format and as many features.
    labels_path : str, optional
        For .npy: the file of the labels.
    """

    split: Literal["official"] | None = None
    fraction: float | None = None
    path: str | None = None
    labels_path: str | None = None

    def __post_init__(self) -> None:
        given = [name for name in ("split", "fraction", "path") if getattr(self, name) is not None]
        if len(given) != 1:
            found = " and ".join(given) or "none of them"
            raise ConfigError(f"a test set needs exactly one of split, fraction and path, found {found}")
        if self.split not in (None, "official"):
            raise ConfigError(f"key 'split' must be official, found {self.split!r}")
        if self.fraction is not None and not 0 < self.fraction < 1:
            raise ConfigError(f"key 'fraction' must be between 0 and 1, found {self.fraction}")
        if self.labels_path is not None and self.path is None:
            raise ConfigError("key 'labels_path' needs a path, the file of the features")


def draw(tables: list[Table], fraction: float, seed: int) -> tuple[list[Table], Table]:
    """The tables without their test rows, and the test rows of all; both in the order of the data."""
    kept, held = [], []
    for number, table in enumerate(tables):
        size = round(fraction * table.samples)
        order = seeds.generator(seed, seeds.HELD_OUT, number).permutation(table.samples)
        if size == table.samples:
            of = f" of table {number}" if len(tables) > 1 else ""
            raise ConfigError(f"test fraction {fraction:g} leaves none of the {size} samples{of} for training")
        held.append(table.rows(np.sort(order[:size])))
        kept.append(table.rows(np.sort(order[size:])))
    test = stack(held)
    if test.samples == 0:
        samples = sum(table.samples for table in tables)
        raise ConfigError(f"test fraction {fraction:g} of {samples} samples is not one of them: use a larger one")
    return kept, test


def share(test: Table, m: int, workers: int) -> Table | None:
    """Worker m's part of the test rows: contiguous, the first workers one more; None if there is no row for it."""
    small, larger = divmod(test.samples, workers)
    start = m * small + min(m, larger)
    stop = start + small + (m < larger)
    return test.rows(slice(start, stop)) if stop > start else None
