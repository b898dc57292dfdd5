"""What the `data:` section of a config says, and the refusal of what makes no sense before any file is opened."""

import re
from dataclasses import MISSING, field, fields
from typing import Literal

from psopt.data import idx, lag, named, published
from psopt.data.checks import unknown
from psopt.data.delimited import check_delimiter
from psopt.data.held_out import HeldOut
from psopt.data.opening import suffix
from psopt.data.partition import Partition
from psopt.data.sparse import check_n_features
from psopt.data.standardise import Standardise
from psopt.data.synthetic import Synthetic
from psopt.errors import ConfigError
from psopt.records import record

OTHER_SOURCES = {
    "file": "your data in one file: LIBSVM text, CSV, .npz or .npy; set `path`",
    "shards": "your data in one file a worker; set `path` with {worker} in it, as in shard_{worker}.npz",
    "memory": "arrays handed to psopt.minimize; not for configs on disk",
    "none": "no data at all, for problems that need none",
    "synthetic": "made-up linear or logistic data of any size and heterogeneity; set `synthetic`",
}
IMAGES = (*published.DESCRIPTIONS, *idx.DESCRIPTIONS)
"""The sources that are IDX files and have a test set of their own."""

FORMATS = ("auto", "libsvm", "csv", "npz", "npy")
SUFFIXES = {".csv": "csv", ".tsv": "csv", ".npz": "npz", ".npy": "npy"}
WORKER = re.compile(r"\{worker(?::0(\d+)d)?\}")


def catalogue() -> list[tuple[str, str]]:
    """Every value that `DataSpec.source` may have, with a line about each."""
    tables = (named.DESCRIPTIONS, lag.DESCRIPTIONS, published.DESCRIPTIONS, idx.DESCRIPTIONS, OTHER_SOURCES)
    return [entry for table in tables for entry in table.items()]


@record
class DataSpec:
    """The ``data:`` section of a config. A key that the source does not use is refused unless it has its default.

    Attributes
    ----------
    source : str
        Where the rows come from: one of `psopt list data`.
    path : str, optional
        For ``file`` and ``shards``, relative to the working directory. In ``shards`` ``{worker}`` stands for the
        worker's number from 0, ``{worker:03d}`` for the same with leading zeros. For ``idx`` the folder of the four
        files; for ``mnist`` and ``fashion-mnist`` too, which are downloaded without it.
    format : str
        ``auto`` goes by the suffix: .csv, .tsv, .npz, .npy, and LIBSVM text for everything else.
    n_features : int, optional
        Width of LIBSVM files (needed for ``shards``); for other formats a check.
    label : str or int, optional
        For CSV: the column of the labels, by name or by number from 0 (negative: from the right). Default: the last.
    header : bool, optional
        For CSV: whether the first line names the columns. Default: it does if it does not read as numbers.
    delimiter : str, optional
        For CSV: what separates the columns. Default: a comma; in .tsv files a tab.
    labels_path : str, optional
        For .npy: the file of the labels.
    labels : str
        ``signed``: -1/+1 for classification. ``authors``: for lag-* sources, the 0/1 labels of the paper's scripts.
        ``classes``: for dermatology, its classes 1..6.
    positive : float, optional
        For sources of files: labels equal to it become +1, all others -1.
    standardise : Standardise
        How columns are scaled.
    synthetic : Synthetic, optional
        What to draw, for ``synthetic``.
    partition : Partition
        How the rows are dealt to the workers.
    test : HeldOut, optional
        Rows that no worker trains on, scaled as the training rows are. Default: none.
    """

    source: str
    path: str | None = None
    format: Literal["auto", "libsvm", "csv", "npz", "npy"] = "auto"
    n_features: int | None = None
    label: str | int | None = None
    header: bool | None = None
    delimiter: str | None = None
    labels_path: str | None = None
    labels: Literal["signed", "authors", "classes"] = "signed"
    positive: float | None = None
    standardise: Standardise = field(default_factory=Standardise)
    synthetic: Synthetic | None = None
    partition: Partition = field(default_factory=Partition)
    test: HeldOut | None = None

    def __post_init__(self) -> None:
        sources = dict(catalogue())
        if self.source not in sources:
            raise unknown("data source", self.source, sources)
        if self.format not in FORMATS:
            raise unknown("data format", self.format, FORMATS)
        used = _used_keys(self)
        for key in fields(self):
            default = key.default if key.default_factory is MISSING else key.default_factory()
            if key.name not in used and getattr(self, key.name) != default:
                by = f" with format {file_format(self)!r}" if self.source in ("file", "shards") else ""
                raise ConfigError(f"key {key.name!r} is not used by source {self.source!r}{by}: remove it")
        _check_files(self)
        _check_labels(self)
        _check_test(self)
        if self.standardise.kind != "none" and self.source in (*lag.DESCRIPTIONS, "synthetic"):
            raise ConfigError(f"source {self.source!r} comes scaled: standardise must be none")


def _used_keys(spec: DataSpec) -> set[str]:
    if spec.source == "none":
        return {"source"}
    used = {"source", "standardise", "partition", "test"}
    if spec.source == "synthetic":
        return used | {"synthetic"}
    if spec.source == "memory":
        return used
    if spec.source in IMAGES:
        return used | {"path", "positive"}
    if spec.source not in ("file", "shards"):
        return used | {"labels"}
    used |= {"path", "format", "n_features", "positive"}
    by_format = {"csv": {"label", "header", "delimiter"}, "npy": {"labels_path"}}
    return used | by_format.get(file_format(spec), set())


def file_format(spec: DataSpec) -> str:
    """The format that ``spec`` names, or that its path's suffix does."""
    if spec.format != "auto":
        return spec.format
    return SUFFIXES.get(suffix(spec.path or ""), "libsvm")


def _check_files(spec: DataSpec) -> None:
    """Refuse what can be known to be wrong about the file keys before any file is opened."""
    if spec.source in ("file", "shards", "idx") and not spec.path:
        raise ConfigError(f"source {spec.source!r} needs a path")
    if spec.source not in ("file", "shards"):
        return
    form = file_format(spec)
    if form == "npy" and not spec.labels_path:
        raise ConfigError(".npy features need labels_path, the .npy file of the labels")
    check_n_features(spec.n_features)
    if spec.delimiter is not None:
        check_delimiter(spec.delimiter)
    patterned = [bool(WORKER.search(path)) for path in (spec.path, spec.labels_path) if path]
    if spec.source == "file" and any(patterned):
        raise ConfigError("a path with {worker} names one file a worker: use source 'shards'")
    if spec.source == "file":
        return
    if not all(patterned):
        raise ConfigError("source 'shards' needs {worker} in its path, as in shard_{worker}.npz")
    if form == "libsvm" and spec.n_features is None:
        raise ConfigError("shards of LIBSVM text need n_features, because each file alone may show fewer")
    if spec.partition.kind not in ("auto", "files") or spec.partition.remainder:
        raise ConfigError("source 'shards' is already split: its partition must be 'files', without remainder")
    if spec.standardise.needs_rows:
        raise ConfigError(
            f"source 'shards' cannot be standardised by {spec.standardise.kind!r}, because each worker sees only its "
            "own rows: use 'fixed'"
        )


def _check_labels(spec: DataSpec) -> None:
    if spec.labels not in ("signed", "authors", "classes"):
        raise unknown("labels", spec.labels, ("signed", "authors", "classes"))
    if spec.labels == "authors" and spec.source not in lag.DESCRIPTIONS:
        raise ConfigError(f"labels 'authors' exist for lag-* sources only, not for {spec.source!r}")
    if spec.labels == "classes" and spec.source != "dermatology":
        raise ConfigError(f"labels 'classes' exist for dermatology only, not for {spec.source!r}")


def _check_test(spec: DataSpec) -> None:
    """Refuse a test set that the source does not have."""
    test = spec.test
    if test is None:
        return
    if test.split and spec.source not in IMAGES:
        raise ConfigError(f"key 'test': source {spec.source!r} has no official test set, only {', '.join(IMAGES)} have")
    if test.fraction and spec.source == "shards":
        raise ConfigError("key 'test': source 'shards' is already split, so its test rows need a path of their own")
    if not test.path:
        return
    if spec.source not in ("file", "shards"):
        raise ConfigError(f"key 'test': a path is for sources 'file' and 'shards', not for {spec.source!r}")
    form = file_format(spec)
    if (form == "npy") != (test.labels_path is not None):
        needs = "needs labels_path" if form == "npy" else "has no use for labels_path"
        raise ConfigError(f"key 'test': a test file of format {form!r} {needs}")
    if any(WORKER.search(path) for path in (test.path, test.labels_path) if path):
        raise ConfigError("key 'test': the path is one file for all workers, so {worker} cannot stand in it")
