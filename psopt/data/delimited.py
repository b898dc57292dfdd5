"""CSV and its relatives: one sample a line, one column the label, every cell a number."""

import csv
import io

import numpy as np

from psopt.data.checks import dense_table
from psopt.data.opening import opened
from psopt.data.table import Table
from psopt.errors import ConfigError


def read_csv(
    path: str,
    label: str | int | None = None,
    header: bool | None = None,
    delimiter: str | None = None,
) -> Table:
    """A delimited text file as a dense float64 table; .gz, .bz2 and .xz are decompressed, empty lines skipped.

    Parameters
    ----------
    path : str
    label : str or int, optional
        The label's column, by name (needs a header) or position from 0, negative from the end; default the last.
    header : bool, optional
        Whether line 1 holds names. Left out: it does if any of its cells is not a number.
    delimiter : str, optional
        One character that stands in no number and in no name; default a tab for .tsv files and a comma otherwise.
    """
    if delimiter is None:
        delimiter = "\t" if ".tsv" in path.lower() else ","
    check_delimiter(delimiter)
    with opened(path) as file:
        try:
            text = file.read().decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise ConfigError(f"is not UTF-8 text: {error.reason} at byte {error.start}", path) from None
    lines = [(number, line.rstrip("\r")) for number, line in enumerate(text.split("\n"), start=1) if line.strip()]
    if not lines:
        raise ConfigError("is empty", path)

    first = _cells(lines[0], delimiter, path)
    if header is None:
        header = not all(_is_number(cell) for cell in first)
    names = [cell.strip() for cell in first] if header else None
    at = _label_column(label, names, len(first), path)
    rows = lines[1:] if header else lines
    if not rows:
        raise ConfigError("holds a header but no samples", path)
    if len(first) < 2:
        raise ConfigError(f"has one column, expected features and a label: is {delimiter!r} its delimiter?", path)

    values = _numbers(rows, delimiter, len(first), names, path)
    keep = [j for j in range(len(first)) if j != at]
    bad = np.argwhere(~np.isfinite(values))
    if len(bad):  # here the line is known, not only the row
        row, column = bad[0]
        named = _column(column, names)
        where = f"{path}:{rows[row][0]}"
        raise ConfigError(f"row {row}, {named} is {values[row, column]}, expected a finite number", where)
    return dense_table(values[:, keep], values[:, at], path)


def check_delimiter(delimiter: str) -> None:
    """Refuse what cannot part numbers, or has another meaning."""
    if not (len(delimiter) == 1 and (delimiter == "\t" or delimiter.isprintable())):
        raise ConfigError(f"key 'delimiter' must be one character, found {delimiter[:10]!r}")
    if delimiter.isalnum() or delimiter in "\"'+-._":
        raise ConfigError(f"key 'delimiter' is {delimiter!r}, which can be part of a number or a name")


def _cells(numbered: tuple[int, str], delimiter: str, path: str) -> list[str]:
    """The cells of one line, which comes with its number."""
    number, line = numbered
    if "\r" in line:
        raise ConfigError("holds a carriage return: are lines ended by it alone?", f"{path}:{number}")
    try:
        return next(csv.reader([line], delimiter=delimiter))
    except csv.Error as error:
        raise ConfigError(f"cannot be split into cells: {error}", f"{path}:{number}") from None


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return "_" not in cell and cell.strip().isascii()  # float() knows the digits of all scripts


def _column(column: int, names: list[str] | None) -> str:
    return f"column {column}" + (f" ({names[column][:40]})" if names else "")


def _label_column(label: str | int | None, names: list[str] | None, width: int, path: str) -> int:
    """Position of the label's column, from 0."""
    if label is None:
        return width - 1
    if isinstance(label, int):
        if not -width <= label < width:
            raise ConfigError(f"label column {label} does not exist: there are {width} columns", path)
        return label % width
    if names is None:
        raise ConfigError(
            f"label column {label[:100]!r} is a name, but the file has no header: give its position", path
        )
    if names.count(label) != 1:
        found = "does not exist" if label not in names else "exists more than once"
        listed = ", ".join(names)
        listed = listed if len(listed) <= 400 else f"{listed[:400]}..."
        raise ConfigError(f"label column {label[:100]!r} {found}: the columns are {listed}", path)
    return names.index(label)


def _numbers(rows: list[tuple[int, str]], delimiter: str, width: int, names: list[str] | None, path: str) -> np.ndarray:
    """All cells, shape (n, width), float64; rows are (line number, text)."""
    body = io.StringIO("\n".join(line for _, line in rows))
    try:
        values = np.loadtxt(body, delimiter=delimiter, ndmin=2, comments=None, quotechar='"')
        if values.shape == (len(rows), width):
            return values
    except ValueError:
        pass  # the search below finds the cell and says where it is
    for number, line in rows:
        cells, where = _cells((number, line), delimiter, path), f"{path}:{number}"
        if len(cells) != width:
            raise ConfigError(f"expected {width} cells, found {len(cells)}", where)
        for column, cell in enumerate(cells):
            if not _is_number(cell):
                found = repr(cell if len(cell) <= 40 else cell[:37] + "...") if cell.strip() else "an empty cell"
                raise ConfigError(f"{_column(column, names)}: expected a number, found {found}", where)
    raise ConfigError("cannot be read as numbers, though each cell is one: are quotes spanning lines?", path)
