"""What every source asks of what it read: real, finite numbers in matching lengths."""

import difflib
import os
from collections.abc import Iterable

import numpy as np

from psopt.data.table import CSR, Table
from psopt.errors import ConfigError


def unknown(what: str, name: str, known: Iterable[str]) -> ConfigError:
    """The error for a name that does not exist, with the nearest one that does."""
    known = sorted(known)
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"expected one of {', '.join(known)}"
    return ConfigError(f"unknown {what} {name!r}: {hint}")


def as_float64(array: np.ndarray, what: str, where: str) -> np.ndarray:
    """``array`` as C-contiguous float64; refused unless its dtype is a real number's or bool."""
    if array.dtype.kind not in "fiub":
        raise ConfigError(f"{what} must hold real numbers, found dtype {array.dtype}", where)
    check_room(8 * array.size, what, where)
    with np.errstate(over="ignore"):  # what is too large for a float64 is infinite then, and refused as such
        return np.ascontiguousarray(array, dtype=np.float64)


def check_room(nbytes: int, what: str, where: str = "") -> None:
    """Refuse what would take more memory than the machine has at all."""
    has = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if nbytes > has:
        raise ConfigError(f"{what} would take {nbytes:.3g} bytes of memory, and this machine has {has:.3g}", where)


def check_lengths(rows: int, labels: np.ndarray, where: str) -> None:
    """Refuse an empty set, and labels that are not one a row."""
    if labels.ndim != 1:
        raise ConfigError(f"labels must be one number a row, found shape {labels.shape}", where)
    if rows != len(labels):
        raise ConfigError(f"{rows} rows of features but {len(labels)} labels", where)
    if rows == 0:
        raise ConfigError("holds no samples", where)


def check_finite(table: Table, where: str) -> Table:
    """``table``; refused with row and column (0-based) if a feature or a label is NaN or infinite."""
    bad = np.flatnonzero(~np.isfinite(table.labels))
    if bad.size:
        raise ConfigError(f"row {bad[0]}: the label is {table.labels[bad[0]]}, expected a finite number", where)
    features = table.features
    values = features.data if isinstance(features, CSR) else features
    # The sum is finite unless an entry is not, or it overflows: one cheap pass before the mask is built.
    with np.errstate(over="ignore", invalid="ignore"):
        suspicious = not np.isfinite(values.sum())
    if suspicious and not (finite := np.isfinite(values)).all():
        at = int(np.flatnonzero(~finite.ravel())[0])
        if isinstance(features, CSR):
            row = int(np.searchsorted(features.indptr, at, side="right")) - 1
            column = int(features.indices[at])
        else:
            row, column = divmod(at, features.shape[1])
        value = values.ravel()[at]
        raise ConfigError(f"row {row}, column {column} is {value}, expected a finite number", where)
    return table


def dense_table(features: np.ndarray, labels: np.ndarray, where: str) -> Table:
    """A checked dense table, float64 and C-contiguous, from features (n, n_features) and labels (n,)."""
    if features.ndim != 2 or features.shape[1] == 0:
        raise ConfigError(f"features must have shape (samples, features), found {features.shape}", where)
    check_lengths(features.shape[0], labels, where)
    table = Table(as_float64(features, "features", where), as_float64(labels, "labels", where))
    return check_finite(table, where)
