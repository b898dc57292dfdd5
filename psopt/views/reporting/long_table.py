"""All traces as one table: a row a record of every run, for other programs."""

import csv
import io
from collections.abc import Sequence
from typing import Any

from psopt.runs.folder import records
from psopt.views.reporting.comparing import Group

FIRST = ("run", "folder", "seed")
"""The columns before those of the records."""


def table(groups: Sequence[Group]) -> str:
    """CSV. ``run`` is the label, which runs that differ in the seed alone share; what was not looked at is empty."""
    members = [(group, run) for group in groups for run in group.members if run.trace]
    fields = dict.fromkeys(name for _, run in members for name in run.trace)
    file = io.StringIO()
    lines = csv.writer(file, lineterminator="\n")
    lines.writerow([*FIRST, *fields])
    for group, run in members:
        head = [group.label, str(run.folder), run.seed]
        lines.writerows([*head, *(_cell(record.get(name)) for name in fields)] for record in records(run.trace))
    return file.getvalue()


def _cell(value: Any) -> Any:
    return "" if value is None else value
