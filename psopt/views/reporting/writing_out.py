"""Where a report goes: over an older one of its kind, and never over anything else."""

import os
from pathlib import Path

from psopt.errors import ConfigError
from psopt.runs.folder import FILES
from psopt.runs.writing import writing
from psopt.views.reporting.drawing import MARK
from psopt.views.reporting.long_table import FIRST

FORMATS = ("html", "png", "svg", "csv")
HEAD_NBYTES = 4096


def settled(out: Path | None, form: str | None) -> tuple[Path, str]:
    """File and format, each by the other where one is missing.

    Raises `ConfigError` where the two contradict each other, or where the file's folder does not exist.
    """
    if out is None:
        form = form or FORMATS[0]
        return Path(f"report.{form}"), form
    if out.is_dir():
        raise ConfigError(f"--out {out} is a folder; expected a file, as in {out / 'report.html'}")
    suffix = out.suffix[1:].lower()
    if suffix not in FORMATS:
        raise ConfigError(f"--out {out}: expected a name that ends in {', '.join(f'.{one}' for one in FORMATS)}")
    if form not in (None, suffix):
        raise ConfigError(f"--out {out} and --format {form} contradict each other: name a file that ends in .{form}")
    if not out.parent.is_dir():
        raise ConfigError(f"--out {out}: there is no folder {out.parent}")
    return out, suffix


def check_writable(out: Path, form: str) -> None:
    """Raises `ConfigError` where the file exists and is no report of that kind."""
    if out.name in FILES or (out.exists() and not (out.is_file() and _is_ours(out, form))):
        raise ConfigError(f"--out {out} exists and is no report of psopt's: choose another name, or move it away")


def _is_ours(path: Path, form: str) -> bool:
    try:
        with open(path, "rb") as file:
            head = file.read(HEAD_NBYTES)
    except OSError as error:
        raise ConfigError(f"--out {path} cannot be read: {error.strerror}") from None
    if form == "csv":
        return head.startswith(",".join(FIRST).encode())
    return MARK.encode() in head


def write(out: Path, content: bytes) -> None:
    """Writes the file whole or not at all."""
    partial = out.with_name(f".{out.name}.partial")
    with writing(out.parent, "a report into"):
        try:
            partial.write_bytes(content)
            os.replace(partial, out)
        finally:
            partial.unlink(missing_ok=True)
