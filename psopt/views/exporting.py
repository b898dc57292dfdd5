"""``psopt export``: runs as CSV, for whatever reads that; without pandas."""

import os
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path

from psopt.errors import ConfigError
from psopt.runs.frames import load_runs


def export(folders: Sequence[Path], out: Path | None, what: str) -> int:
    """Writes the traces, or with ``what="uploads"`` who uploaded when, of all runs in the folders, on standard output
    or into a file, which is there whole or not at all.
    """
    with warnings.catch_warnings(record=True) as left_out:
        warnings.simplefilter("always")
        runs = load_runs(*folders)
    for warning in left_out:
        print(f"psopt: {warning.message}", file=sys.stderr)
    if out is None:
        runs.write_csv(what, sys.stdout)
        return 0
    partial = out.with_name(f".{out.name}.partial")
    try:
        with open(partial, "w", newline="") as file:
            runs.write_csv(what, file)
        os.replace(partial, out)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise ConfigError(f"--out {out} cannot be written: {error.strerror}") from None
    print(f"psopt: {out}: {what} of {len(runs)} run{'s' * (len(runs) > 1)}")
    return 0
