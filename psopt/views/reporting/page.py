"""The page: everything that a report says, put into the template. No script, and nothing from elsewhere."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psopt
from psopt.config.sentences import short
from psopt.errors import ConfigError
from psopt.views.reporting import budgets, curves, raster
from psopt.views.reporting.comparing import Group, differences, key_text, value_text
from psopt.views.reporting.concerns import Concern, concerns_of, ending
from psopt.views.reporting.costs import Paid, paid, ratio
from psopt.views.reporting.drawing import MARK, NEEDS_EXTRA, look, style, swatch
from psopt.views.reporting.measures import COSTS, Cost, Measure, has
from psopt.views.reporting.raster import Smoothness, raster_of

TEMPLATES = Path(__file__).parent / "templates"
MOST_RASTERS = 60
MOST_NAMES = 6
"""Recipes that the title names."""


def check_ready() -> None:
    """Raises `ConfigError` where an extra is missing."""
    with style():
        pass
    try:
        import jinja2  # noqa: F401
    except ImportError:
        raise ConfigError(NEEDS_EXTRA) from None


def page(
    groups: Sequence[Group],
    measures: Sequence[Measure],
    lead: Cost,
    baseline: Group,
    targets: Sequence[float],
    unread: Sequence[Concern] = (),
) -> str:
    """The whole page as HTML."""
    import jinja2
    from markupsafe import Markup

    loader = jinja2.FileSystemLoader(TEMPLATES)
    environment = jinja2.Environment(
        loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    swatches = {id(group): Markup(swatch(look(number))) for number, group in enumerate(groups)}
    main = measures[0] if measures else None
    spent = budgets.seconds_of(groups)
    panels = _panels(groups, measures, lead)
    return environment.get_template("report.html.j2").render(
        mark=MARK,
        version=psopt.__version__,
        title=_title(groups),
        scene=_scene(groups),
        groups=groups,
        runs=sum(len(group.runs) for group in groups),
        swatch=lambda group: swatches[id(group)],
        concerns=[*unread, *concerns_of(groups)],
        measure=main,
        panels=panels,
        hidden=max((own["hidden"] for own in panels), default=0),
        several=any(len(group.members) > 1 for group in groups),
        without=[group.label for group in groups if main and not any(has(run.trace, main) for run in group.members)],
        every=max((_every(group) for group in groups), default=1),
        costs=list(COSTS.values()),
        lead=lead,
        targets=_targets(groups, main, baseline, targets) if main else [],
        baseline=baseline,
        rasters=_rasters(groups),
        left_out=max(0, len(groups) - MOST_RASTERS),
        on_books=budgets.bytes_of(groups, budgets.ON_THE_BOOKS),
        off_books=budgets.bytes_of(groups, budgets.OFF_THE_BOOKS),
        seconds=spent,
        untold=any(piece.value is None for budget in spent for piece in budget.pieces),
        differing=_differing(groups),
        rows=[_row(group, run) for group in groups for run in group.runs],
    )


def _safe(svg: str) -> Any:
    """SVG of our own making, in which all text is escaped."""
    from markupsafe import Markup

    return Markup(svg)


def _title(groups: Sequence[Group]) -> str:
    names = list(dict.fromkeys(group.first.recipe or "parts" for group in groups))
    more = f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
    return ", ".join(short(name, 40) for name in names[:MOST_NAMES]) + more


def _scene(groups: Sequence[Group]) -> str:
    """What all runs have in common, in words."""
    said = []
    for path, words in ((("problem", "kind"), "{}"), (("data", "source"), "on {}"), (("workers",), "{} workers")):
        values = [group.first.at(*path) for group in groups]
        if values.count(values[0]) == len(values):
            said.append(words.format(values[0]))
    for key, words in (("samples", "{:,} samples"), ("dim", "{:,} parameters")):
        values = [run.summary.get(key) for group in groups for run in group.members if run.summary]
        if values and isinstance(values[0], int) and values.count(values[0]) == len(values):
            said.append(words.format(values[0]))
    return ", ".join(said).replace(", on ", " on ")


def _every(group: Group) -> int:
    value = group.first.at("trace", "every")
    return value if isinstance(value, int) else 1


def _panels(groups: Sequence[Group], measures: Sequence[Measure], lead: Cost) -> list[dict[str, Any]]:
    """The main measure against every cost, the lead first; the others against the lead alone."""
    costs = [lead, *(cost for cost in COSTS.values() if cost is not lead)]
    wanted = [(measure, cost) for measure in measures for cost in (costs if measure is measures[0] else [lead])]
    made = []
    for number, (measure, cost) in enumerate(wanted):
        panel = curves.panel_of(groups, measure, cost)
        svg = _safe(curves.drawn(panel, groups, f"c{number}"))
        made.append({"caption": panel.caption, "svg": svg, "hidden": panel.hidden})
    return made


def _rasters(groups: Sequence[Group]) -> list[dict[str, Any]]:
    smoothness, made = Smoothness(), []
    for number, group in enumerate(groups[:MOST_RASTERS]):
        own = raster_of(group, smoothness)
        if own is not None:
            name = group.label + group.number_of(own.run)
            svg = _safe(raster.drawn(own, name, f"r{number}"))
            share = float(own.run.uploads.mean())
            made.append(
                {"group": group, "name": name, "cell": own.per_cell, "row": own.per_row, "share": share, "svg": svg}
            )
    return made


def _targets(
    groups: Sequence[Group], measure: Measure, baseline: Group, targets: Sequence[float]
) -> list[dict[str, Any]]:
    """A table a target: its name, and a row a group."""
    made = []
    sign = "≤" if measure.falls else "≥"
    for target in targets:
        base = paid(baseline, measure, target)
        rows = [_cost_row(paid(group, measure, target), base) for group in groups]
        made.append({"name": f"{measure.title} {sign} {measure.text(target)}", "rows": rows})
    return made


def _cost_row(own: Paid, base: Paid) -> dict[str, Any]:
    cells = []
    for key, cost in COSTS.items():
        factor = ratio(base, own, key)
        cells.append(
            {
                "text": cost.text(own.costs[key]) if own.arrived else "–",
                "ratio": "" if factor is None or own.group is base.group else _factor(factor),
            }
        )
    return {"group": own.group, "cells": cells, "arrived": own.arrived, "reached": own.reached, "of": own.of}


def _factor(value: float) -> str:
    """How many times cheaper: 13.3 ×, 0.92 ×."""
    if value >= 99.95:
        return f"{value:,.0f} ×"
    return f"{value:.1f} ×" if value >= 9.995 else f"{value:.2f} ×" if value >= 0.0995 else f"{value:.2g} ×"


def _differing(groups: Sequence[Group]) -> list[dict[str, Any]]:
    found = differences(groups)
    keys = list(found)
    return [
        {"key": key, "short": key_text(key, keys), "values": [value_text(value) for value in found[key]]}
        for key in keys
        if not key.endswith("recipe")
    ]


def _row(group: Group, run: Any) -> dict[str, Any]:
    last = {name: values[-1] for name, values in run.trace.items()}
    summary = run.summary or {}
    ranks = run.manifest.get("ranks")
    return {
        "group": group,
        "seed": f"{run.seed} … {run.seed + len(run.replicas) - 1}" if len(run.replicas) > 1 else run.seed,
        "folder": str(run.folder),
        "end": ending(run),
        "good": run.status == "ok",
        "rounds": summary.get("rounds", last.get("round", 0)),
        "workers": run.workers,
        "ranks": ranks if isinstance(ranks, int) else "–",
    }
