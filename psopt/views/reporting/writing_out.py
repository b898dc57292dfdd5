"""Where a report goes, and in which format: over an older one of its kind, and never over anything else."""

from pathlib import Path

from psopt.errors import ConfigError
from psopt.views import writing_out
from psopt.views.reporting.drawing import MARK
from psopt.views.reporting.long_table import FIRST

FORMATS = ("html", "png", "svg", "csv")


def settled(out: Path | None, form: str | None) -> tuple[Path, str]:
    """File and format, each by the other where one is missing.

    Raises `ConfigError` where the two contradict each other, or where the file's folder does not exist.
    """
    if out is None:
        form = form or FORMATS[0]
        return Path(f"report.{form}"), form
    writing_out.check_place(out, "report.html")
    suffix = out.suffix[1:].lower()
    if suffix not in FORMATS:
        raise ConfigError(f"--out {out}: expected a name that ends in {', '.join(f'.{one}' for one in FORMATS)}")
    if form not in (None, suffix):
        raise ConfigError(f"--out {out} and --format {form} contradict each other: name a file that ends in .{form}")
    return out, suffix


def check_writable(out: Path, form: str) -> None:
    """Raises `ConfigError` where the file exists and is no report of that kind."""
    first = ",".join(FIRST).encode()
    writing_out.check_writable(
        out, "report", lambda head: head.startswith(first) if form == "csv" else MARK.encode() in head
    )


def write(out: Path, content: bytes) -> None:
    """Writes the file whole or not at all."""
    with writing_out.replacing(out, "report") as partial:
        partial.write_bytes(content)
