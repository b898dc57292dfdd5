"""``psopt export``: runs as CSV, for whatever reads that; without pandas."""

import sys
import warnings
from collections.abc import Sequence
from pathlib import Path

from psopt.runs.frames import LABELS, load_runs
from psopt.views.writing_out import check_place, check_writable, replacing


def export(folders: Sequence[Path], out: Path | None, what: str) -> int:
    """Writes the traces, or with ``what="uploads"`` who uploaded when, of all runs in the folders, on standard output
    or into a file, which is there whole or not at all. An older export is written over, any other file is not.
    """
    if out is not None:
        check_place(out, "runs.csv")
        check_writable(out, "export", lambda head: head.startswith(",".join(LABELS).encode() + b","))
    with warnings.catch_warnings(record=True) as left_out:
        warnings.simplefilter("always")
        runs = load_runs(*folders)
    for warning in left_out:
        print(f"psopt: {warning.message}", file=sys.stderr)
    if out is None:
        runs.write_csv(what, sys.stdout)
        return 0
    with replacing(out, "export") as partial, open(partial, "w", newline="") as file:
        runs.write_csv(what, file)
    print(f"psopt: {out}: {what} of {len(runs)} run{'s' * (len(runs) > 1)}")
    return 0
