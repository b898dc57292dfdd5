"""`psopt report`: runs side by side, as one page, one picture or one table."""

from collections.abc import Sequence
from pathlib import Path

from psopt.errors import ConfigError
from psopt.runs.finding import find_runs, table_rows
from psopt.views.reading import Seen, read_run
from psopt.views.reporting import figures, long_table, page
from psopt.views.reporting.comparing import groups_of
from psopt.views.reporting.concerns import Concern
from psopt.views.reporting.costs import baseline_of, read_targets, targets_of
from psopt.views.reporting.measures import COSTS, measures_of
from psopt.views.reporting.writing_out import check_writable, settled, write

LEADS = tuple(COSTS)


def report(
    folders: Sequence[Path],
    out: Path | None = None,
    lead: str = "uploads",
    form: str | None = None,
    baseline: str | None = None,
    targets: Sequence[str] = (),
) -> tuple[Path, int]:
    """Writes the report of all runs in the folders; returns its file and the number of runs.

    Parameters
    ----------
    folders : sequence of Path
        Of runs, or of sweeps and tables.
    out : Path, optional
        ``report.html``, or of the form's suffix, by default.
    lead : str
        A key of `COSTS`: the first picture's axis, and that of a figure.
    form : str, optional
        ``html``, ``png``, ``svg`` or ``csv``.
    baseline : str, optional
        The label, recipe or folder's name of the run that ratios refer to.
    targets : sequence of str
        Instead of the automatic ones.

    Raises `ConfigError` for wrong input, and where an extra is missing.
    """
    out, form = settled(out, form)
    check_writable(out, form)
    if form == "html":
        page.check_ready()
    if form in ("png", "svg"):
        figures.check_ready()
    runs, unread = _read(folders)
    groups = groups_of(runs)
    measures = measures_of(groups)
    base = baseline_of(groups, baseline)
    if targets and not measures:
        raise ConfigError("--target: no run has recorded an objective, a gap, a test accuracy or a test loss")
    wanted = read_targets(targets, measures[0]) if targets else targets_of(groups, measures[0]) if measures else []
    if form == "csv":
        content = long_table.table(groups).encode()
    elif form == "html":
        content = page.page(groups, measures, COSTS[lead], base, wanted, unread).encode()
    else:
        content = figures.figure(groups, measures, COSTS[lead], form)
    write(out, content)
    return out, len(runs)


def _read(folders: Sequence[Path]) -> tuple[list[Seen], list[Concern]]:
    """All runs that can be read, and a warning for each that cannot; raises `ConfigError` where none can."""
    runs, unread = [], []
    for folder in find_runs(folders):
        try:
            runs.append(read_run(folder))
        except ConfigError as error:
            unread.append(Concern("unreadable", "warning", f"left out: {error}"))
    if not runs:
        raise ConfigError("\n".join(concern.text.removeprefix("left out: ") for concern in unread))
    for folder in folders:
        for row in table_rows(folder):
            name, status = row.get("folder"), row.get("status")
            if isinstance(name, str) and isinstance(status, str) and not (folder / name).is_dir():
                unread.append(Concern("unreadable", "warning", f"left out: {folder / name}: {status}, and no folder"))
    return runs, unread
