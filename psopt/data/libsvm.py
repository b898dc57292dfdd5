"""LIBSVM text: a row a line, ``label index:value index:value ...``, 1-based indices, ``#`` opens a comment.

The text is parsed in blocks, each with a handful of passes over its bytes; a block that is not plainly in order goes
through a line-by-line reader, which knows exactly what is wrong and where.
"""

import re
import warnings
from collections.abc import Iterator
from typing import BinaryIO

import numpy as np

from psopt.data.checks import check_finite
from psopt.data.opening import opened
from psopt.data.sparse import MOST_COLUMNS, canonical, check_n_features
from psopt.data.table import Table
from psopt.errors import ConfigError
from psopt.records import record

BLOCK_NBYTES = 1 << 24
LONGEST_LINE = 1 << 28

COMMENT = re.compile(rb"#[^\n]*")
NUMBER = re.compile(rb"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|[+-]?(inf|infinity|nan)", re.IGNORECASE)
SPACE = np.zeros(256, dtype=bool)
SPACE[list(b" \t\r\n\v\f")] = True
DIGIT = np.zeros(256, dtype=bool)
DIGIT[list(b"0123456789")] = True


@record
class Entries:
    """Some lines of a file, parsed.

    Attributes
    ----------
    labels : ndarray, shape (n,), float64
    lines : ndarray, shape (n,), int64
        Line number of each row in its block, from 0.
    counts : ndarray, shape (n,), int64
        Entries of each row.
    indices : ndarray, shape (nnz,), int64, 1-based
    values : ndarray, shape (nnz,), float64
    """

    labels: np.ndarray
    lines: np.ndarray
    counts: np.ndarray
    indices: np.ndarray
    values: np.ndarray


def parse_block(text: bytes) -> Entries | None:
    """Whole lines without comments, in bulk; None if anything about them is out of the ordinary."""
    raw = np.frombuffer(text, dtype=np.uint8)
    space = SPACE[raw]
    begins = ~space
    begins[1:] &= space[:-1]
    start = np.flatnonzero(begins)  # of every token
    newline = np.flatnonzero(raw == ord("\n"))
    line = np.searchsorted(newline, start)
    is_label = np.ones(len(start), dtype=bool)
    is_label[1:] = line[1:] != line[:-1]

    # Every token but the labels has one colon, with one to ten digits before it and something behind it.
    colon = np.flatnonzero(raw == ord(":"))
    if len(colon) != len(start) - np.count_nonzero(is_label):
        return None
    before = colon - start[~is_label]
    if np.any(before < 1) or np.any(before > 10) or np.any(np.append(space, True)[colon + 1]):
        return None
    blanked = raw.copy()
    blanked[colon] = ord(" ")
    indices = np.zeros(len(colon), dtype=np.int64)
    for back in range(1, int(before.max(initial=0)) + 1):  # from the last digit to the first
        at = (colon - back)[before >= back]
        if not DIGIT[raw[at]].all():
            return None
        indices[before >= back] += 10 ** (back - 1) * (raw[at] - ord("0")).astype(np.int64)
        blanked[at] = ord(" ")

    numbers = _numbers(blanked.tobytes(), len(start))
    if numbers is None:
        return None
    first = np.flatnonzero(is_label)
    counts = np.diff(np.append(first, len(start))) - 1
    return Entries(numbers[first], line[first], counts, indices, numbers[~is_label])


def _numbers(text: bytes, expected: int) -> np.ndarray | None:
    """The numbers that a text of separated tokens holds, shape (expected,); None if some token is no number."""
    if expected == 0:
        return np.zeros(0)
    with warnings.catch_warnings():  # older NumPy warns where newer raises
        warnings.simplefilter("error")
        try:
            numbers = np.fromstring(text, dtype=np.float64, sep=" ")
        except (ValueError, DeprecationWarning):
            return None
    return numbers if len(numbers) == expected else None


def parse_lines(text: bytes, path: str, first_line: int) -> Entries:
    """The same, line by line: slow, but it says which line is wrong and how."""
    labels, lines, counts, indices, values = [], [], [], [], []
    for number, line in enumerate(text.split(b"\n")):
        label, *entries = line.split() or [None]
        if label is None:
            continue
        where = f"{path}:{first_line + number}"
        if not NUMBER.fullmatch(label):
            raise ConfigError(f"expected a number as the label, found {_shown(label)}", where)
        for entry in entries:
            index, colon, value = entry.partition(b":")
            if index == b"qid":
                raise ConfigError("found a qid: ranking data is not supported", where)
            if not (colon and index.isdigit() and NUMBER.fullmatch(value)):
                raise ConfigError(f"expected index:value, found {_shown(entry)}", where)
            indices.append(min(int(index[:20]), MOST_COLUMNS + 1))  # too large is refused later, as such
            values.append(float(value))
        labels.append(float(label))
        lines.append(number)
        counts.append(len(entries))
    whole = [np.array(column, dtype=np.int64) for column in (lines, counts, indices)]
    return Entries(np.array(labels, dtype=np.float64), *whole, np.array(values, dtype=np.float64))


def _shown(token: bytes) -> str:
    text = token.decode("utf-8", errors="replace")
    return repr(text if len(text) <= 40 else text[:37] + "...")


def _blocks(file: BinaryIO, path: str) -> Iterator[bytes]:
    """The file in pieces of whole lines, each about BLOCK_NBYTES long."""
    kept = b""
    while piece := file.read(BLOCK_NBYTES):
        whole, newline, rest = piece.rpartition(b"\n")
        if newline:
            yield kept + whole + newline
            kept = rest
        else:
            kept += piece
            if len(kept) > LONGEST_LINE:
                raise ConfigError(f"has a line of more than {LONGEST_LINE} bytes: is it LIBSVM text?", path)
    if kept:
        yield kept


def _check(entries: Entries, path: str, first_line: int, n_features: int | None) -> None:
    """Refuse indices outside 1..n_features, and labels and values that are not finite."""

    def where(row: int) -> str:
        return f"{path}:{first_line + entries.lines[row]}"

    def row_of(bad: np.ndarray) -> tuple[int, int]:
        at = int(np.flatnonzero(bad)[0])
        return at, int(np.searchsorted(np.cumsum(entries.counts), at, side="right"))

    if np.any(bad := entries.indices < 1):
        raise ConfigError("feature index 0: LIBSVM indices start at 1", where(row_of(bad)[1]))
    if np.any(bad := entries.indices > (n_features or MOST_COLUMNS)):
        at, row = row_of(bad)
        limit = f"n_features: {n_features}" if n_features else f"the largest one supported, {MOST_COLUMNS}"
        raise ConfigError(f"feature index {entries.indices[at]} is above {limit}", where(row))
    if np.any(bad := ~np.isfinite(entries.labels)):
        row = int(np.flatnonzero(bad)[0])
        raise ConfigError(f"the label is {entries.labels[row]}, expected a finite number", where(row))
    if np.any(bad := ~np.isfinite(entries.values)):
        at, row = row_of(bad)
        named = f"feature {entries.indices[at]} is {entries.values[at]}"
        raise ConfigError(f"{named}, expected a finite number", where(row))


def read_libsvm(path: str, n_features: int | None = None) -> Table:
    """A LIBSVM file as a CSR table, float64; .gz, .bz2 and .xz are decompressed.

    Entries are sorted within each row and repeated ones summed. Without ``n_features`` the largest index found is
    taken, which may differ between a training file and its test file.
    """
    check_n_features(n_features)
    parts: list[Entries] = []
    line = 1
    with opened(path) as file:
        for text in _blocks(file, path):
            if line == 1:
                text = text.removeprefix(b"\xef\xbb\xbf")  # a byte-order mark
            if b"#" in text:
                text = COMMENT.sub(b"", text)
            entries = parse_block(text) or parse_lines(text, path, line)
            _check(entries, path, line, n_features)
            parts.append(entries)
            line += text.count(b"\n")
    if not sum(len(part.labels) for part in parts):
        raise ConfigError("holds no samples", path)
    labels, counts, indices, values = (
        np.concatenate([getattr(part, name) for part in parts]) for name in ("labels", "counts", "indices", "values")
    )
    width = n_features or int(indices.max(initial=0))
    if width == 0:
        raise ConfigError("holds labels but no features: give n_features if that is meant", path)
    indptr = np.concatenate(([0], np.cumsum(counts)))
    return check_finite(Table(canonical(values, indices - 1, indptr, (len(labels), width)), labels), path)
