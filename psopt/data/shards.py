"""From a data spec to one table a worker: the only entry point that runs use."""

from collections.abc import Callable

import numpy as np

from psopt.data import held_out, idx, lag, named, published
from psopt.data.arrays import read_npy, read_npz
from psopt.data.checks import unknown
from psopt.data.delimited import read_csv
from psopt.data.libsvm import read_libsvm
from psopt.data.partition import split
from psopt.data.spec import IMAGES, WORKER, DataSpec, file_format
from psopt.data.standardise import Scale
from psopt.data.synthetic import Synthetic, synthetic
from psopt.data.table import CSR, Table
from psopt.errors import ConfigError
from psopt.lines import straight

DRAWN = ("synthetic", "lag-increasing", "lag-uniform")
"""The sources that are drawn with the run's seed."""


class Shards:
    """The shards of an experiment's workers 0..M-1.

    Attributes
    ----------
    source : str
        What the data is, for people.
    workers : int
        M.
    n_features : int or None
        None until the first shard is read, where each worker has a file of its own.
    total_samples : int or None
        Over all workers, without dropped rows and test rows, replicated rows once for each worker; None where each
        worker has a file of its own.
    """

    def __init__(
        self,
        source: str,
        workers: int,
        read: Callable[[int], Table],
        finish: Callable[[Table], Table],
        test: Table | None = None,
        n_features: int | None = None,
        total_samples: int | None = None,
    ) -> None:
        self.source = source
        self.workers = workers
        self.n_features = n_features
        self.total_samples = total_samples
        self._read = read
        self._finish = finish
        self._test = test

    def shard(self, m: int) -> Table:
        """Worker m's rows. It may share memory with other shards: not to be written into."""
        self._check_worker(m)
        table = self._read(m)
        if self.n_features not in (None, table.n_features):
            raise ConfigError(f"the shard of worker {m} has {table.n_features} features, expected {self.n_features}")
        self.n_features = table.n_features
        return self._finish(table)

    def held_out(self, m: int) -> Table | None:
        """Worker m's part of the test rows, scaled as the training rows are.

        The parts of all workers are the whole test set, each row once, and their sizes differ by at most one; None if
        there is no test set or no row of it for worker m. Not to be written into.
        """
        self._check_worker(m)
        if self._test is None:
            return None
        if self.n_features not in (None, self._test.n_features):
            raise ConfigError(f"the test set has {self._test.n_features} features, expected {self.n_features}")
        mine = held_out.share(self._test, m, self.workers)
        return None if mine is None else self._finish(mine)

    def _check_worker(self, m: int) -> None:
        if not 0 <= m < self.workers:
            raise ConfigError(f"there is no worker {m}: the data is split over {self.workers} workers")


def open_shards(
    spec: DataSpec,
    workers: int,
    seed: int,
    dtype: str = "float64",
    table: Table | None = None,
    read: "Reader | None" = None,
) -> Shards:
    """Read, hold test rows out, split; a shard is scaled and cast when it is asked for.

    ``table`` is what source ``memory`` stands for; ``read`` stands in for `read_tables`. The result depends on these
    arguments alone. All is read here, but for source ``shards``, where each file is read when its shard is asked for,
    so that a rank needs only the files of its own workers.
    """
    if workers < 1:
        raise ConfigError(f"workers must be at least 1, found {workers}")
    if dtype not in ("float64", "float32"):
        raise unknown("dtype", dtype, ("float64", "float32"))
    if spec.source == "none":
        nothing = cast(Table(np.empty((0, 0)), np.empty(0)), dtype)
        return Shards("none", workers, lambda m: nothing, lambda table: table, None, 0, 0)
    if spec.source == "shards":
        source = f"shards {spec.path} ({file_format(spec)})"
        test = _read_test(spec, spec.n_features)
        finish = _finisher(spec.standardise.fit(None), dtype)
        return Shards(source, workers, lambda m: _read_file(spec, m), finish, test, spec.n_features)
    tables = [_in_memory(table)] if spec.source == "memory" else (read or read_tables)(spec, workers, seed)
    test = _read_test(spec, tables[0].n_features)
    if spec.test and spec.test.fraction:
        tables, test = held_out.draw(tables, spec.test.fraction, seed)
    with np.errstate(over="ignore", invalid="ignore"):
        scale = spec.standardise.fit(tables[0].features)  # sources of several tables come scaled
    shards = split(tables, spec.partition, workers, seed)
    total = sum(shard.samples for shard in shards)
    finish = _finisher(scale, dtype)
    if spec.partition.kind == "replicated":
        finish = _remembering(finish)
    return Shards(_described(spec), workers, shards.__getitem__, finish, test, shards[0].n_features, total)


def _finisher(scale: Scale, dtype: str) -> Callable[[Table], Table]:
    """From rows as they were read to rows as problems want them."""

    def finish(table: Table) -> Table:
        with np.errstate(over="ignore", invalid="ignore"):
            scaled = scale(table.features)
        return cast(Table(scaled, table.labels), dtype, scaled is not table.features)

    return finish


def _remembering(finish: Callable[[Table], Table]) -> Callable[[Table], Table]:
    """The same, done once for a table that is asked for again and again: its scaled rows are shared, too."""
    done: list[Table] = []

    def once(table: Table) -> Table:
        if not (done and done[0] is table):
            done[:] = [table, finish(table)]
        return done[1]

    return once


def _in_memory(table: Table | None) -> Table:
    if table is None:
        raise ConfigError("source 'memory' stands for arrays handed to psopt.minimize; a config needs another source")
    return table


def _described(spec: DataSpec) -> str:
    if spec.source == "file":
        return f"file {spec.path} ({file_format(spec)})"
    if spec.source in IMAGES and spec.path:
        return f"{spec.source} {spec.path}"
    if spec.source == "synthetic":
        options = spec.synthetic or Synthetic()
        return f"synthetic {options.kind}, {options.n_samples} x {options.n_features}"
    return spec.source


Reader = Callable[[DataSpec, int, int], list[Table]]


def reading_once() -> Reader:
    """`read_tables` that remembers what does not depend on the seed: for runs that differ in it alone."""
    remembered: dict[DataSpec, list[Table]] = {}

    def read(spec: DataSpec, workers: int, seed: int) -> list[Table]:
        if spec.source in DRAWN:
            return read_tables(spec, workers, seed)
        if spec not in remembered:
            remembered[spec] = read_tables(spec, workers, seed)
        return remembered[spec]

    return read


def read_tables(spec: DataSpec, workers: int, seed: int) -> list[Table]:
    """The source's tables before standardisation: one, or several for lag-* and synthetic."""
    match spec.source:
        case "lag-linear":
            return lag.lag_linear()
        case "lag-logistic":
            return lag.lag_logistic(spec.labels)
        case "lag-increasing":
            return lag.lag_increasing(workers, seed)
        case "lag-uniform":
            return lag.lag_uniform(workers, seed, spec.labels)
        case "synthetic":
            return synthetic(spec.synthetic or Synthetic(), workers, seed)
        case "file":
            return [_read_file(spec)]
        case source if source in IMAGES:
            return [_signed(_images(spec, idx.TRAIN), spec, spec.path or source)]
        case _:
            return [named.bundled(spec.source, spec.labels)]


def _images(spec: DataSpec, part: str) -> Table:
    """One part, ``train`` or ``t10k``, of a source of IDX files."""
    if spec.source == "idx":
        return idx.read_pair(*idx.find_pair(spec.path or "", part))
    return published.read_published(spec.source, spec.path, part)


def _read_file(spec: DataSpec, worker: int | None = None) -> Table:
    """The file of ``spec``, or its shard file of one worker, with labels mapped to -1/+1 if ``positive`` is set."""
    path, labels_path = _filled(spec.path or "", worker), _filled(spec.labels_path or "", worker)
    table = _read_format(spec, path, labels_path)
    if spec.n_features not in (None, table.n_features):
        raise ConfigError(f"has {table.n_features} features, expected n_features: {spec.n_features}", path)
    return _signed(table, spec, path if worker is None else None)


def _read_test(spec: DataSpec, n_features: int | None) -> Table | None:
    """The test rows that have files of their own, with labels treated as the training labels are; None if none have."""
    if spec.test is None or spec.test.fraction:
        return None
    if spec.test.split:
        table, where = _images(spec, idx.TEST), spec.path or spec.source
    else:
        where = spec.test.path or ""
        table = _read_format(spec, where, spec.test.labels_path or "", n_features)
    if n_features not in (None, table.n_features):
        raise ConfigError(f"the test set has {table.n_features} features, expected {n_features} as for training", where)
    return _signed(table, spec)


def _read_format(spec: DataSpec, path: str, labels_path: str, n_features: int | None = None) -> Table:
    """A file in the format of ``spec``; LIBSVM text has ``n_features`` columns, by default what ``spec`` says."""
    match file_format(spec):
        case "libsvm":
            return read_libsvm(path, n_features or spec.n_features)
        case "csv":
            return read_csv(path, spec.label, spec.header, spec.delimiter)
        case "npz":
            return read_npz(path)
    return read_npy(path, labels_path)


def _signed(table: Table, spec: DataSpec, where: str | None = None) -> Table:
    """Labels mapped to -1/+1 if ``positive`` is set; ``where`` names what must hold a positive one: all the rows."""
    if spec.positive is None:
        return table
    positive = table.labels == spec.positive
    if where is not None and not positive.any():
        found = ", ".join(f"{label:g}" for label in np.unique(table.labels)[:6])
        raise ConfigError(f"no label equals positive: {spec.positive:g}; the labels begin with {found}", where)
    return Table(table.features, np.where(positive, 1.0, -1.0))


def _filled(pattern: str, worker: int | None) -> str:
    if worker is None:
        return pattern
    return WORKER.sub(lambda found: f"{worker:0{found[1] or 1}d}", pattern)


def cast(table: Table, dtype: str, scaled: bool = False) -> Table:
    """The table with features and labels in ``dtype``; refused if a number is, or by scaling became, too large.

    Dense rows that became new ones by scaling or here are put where they are read at full speed; others stay where they
    are, for workers may share them.
    """
    x = table.features
    with np.errstate(over="ignore"):
        values = (x.data if isinstance(x, CSR) else x).astype(dtype, copy=False)
        labels = table.labels.astype(dtype, copy=False)
    if (dtype == "float32" or scaled) and not (np.isfinite(values).all() and np.isfinite(labels).all()):
        instead = "use dtype float64 or standardise it" if dtype == "float32" else "use another `standardise`"
        raise ConfigError(f"the data holds a number too large for {dtype}: {instead}")
    if isinstance(x, CSR):
        return Table(CSR(values, x.indices, x.indptr, x.shape), labels)
    rows = np.ascontiguousarray(values)
    return Table(straight(rows) if scaled or values is not x else rows, labels)
