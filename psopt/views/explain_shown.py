"""``psopt explain`` on the terminal."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from psopt.runs.progress import console
from psopt.views.explain import report


def tell(folder: Path, k: int | None, m: int | None, as_json: bool) -> None:
    """Prints why each worker, or worker ``m`` alone, uploaded in round ``k`` or did not; of the last, where it is None.

    Raises `ConfigError` where the folder does not tell.
    """
    told = report(folder, k, m)
    if as_json:
        print(json.dumps(_finite(told), indent=2, allow_nan=False))
    else:
        show(told, m is not None)


def show(told: Mapping[str, Any], one: bool) -> None:
    """A sentence or two, and a table: a row a worker, or, of ``one`` worker, a row a round."""
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    out = console()
    k, decisions = told["round"], told["decisions"]
    so_far = "" if told["state"] == "over" else f" so far (the run {_STATES[told['state']]})"
    head = f"{told['algorithm']}, round {k} of {told['rounds']}{so_far}"
    out.print(escape(f"{head}: {told['asked']} of {told['workers']} workers asked, {told['uploaded']} uploaded"))
    for rule in told["rules"]:
        out.print(escape(rule))
    if not told["has_rule"]:
        return
    if one:
        out.print(escape(_sentence(decisions[-1], told["uploads_of_worker"])))
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in ("round" if one else "worker", "left side", "right side", "ratio", "age"):
        table.add_column(heading, justify="right")
    for heading in ("asked", "uploaded", "at half", "at double"):
        table.add_column(heading)
    table.add_column("why", overflow="fold")
    for decision in decisions:
        cells = [str(decision["round" if one else "worker"])]
        cells += [_number(decision[name], form) for name, form in (("left", ".6g"), ("right", ".6g"), ("ratio", ".3g"))]
        cells.append("-" if decision["age"] is None else str(decision["age"]))
        cells += [_word(decision[name]) for name in ("asked", "uploaded", "at_half", "at_double")]
        table.add_row(*cells, decision["why"])
    out.print(table)


def _sentence(decision: Mapping[str, Any], uploads: list[int]) -> str:
    m, k = decision["worker"], decision["round"]
    did = "uploaded" if decision["uploaded"] else "stayed silent" if decision["asked"] else "was not asked"
    said = f"worker {m} {did} in round {k}: {decision['why'].removeprefix('not asked: ').removeprefix('asked: ')}"
    if decision["ratio"] is not None:
        said += f" ({decision['left']:.6g} against {decision['right']:.6g}, {decision['ratio']:.3g} times)"
    if decision["age"] is not None:
        said += f". Its last upload was {decision['age']} round{'s' * (decision['age'] != 1)} before"
    said += "."
    if decision["at_half"] is not None:
        said += f" At half the threshold: {_would(decision, 'at_half')}; at double: {_would(decision, 'at_double')}."
    later = next((one for one in uploads if one > k), None)
    return said + (f" Its next upload is in round {later}." if later else "")


_STATES = {"under way": "is under way", "cut off": "was cut off"}


def _finite(value: Any) -> Any:
    """The same without infinities, of which JSON knows none."""
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _would(decision: Mapping[str, Any], which: str) -> str:
    if decision["asked"]:
        return "it uploads" if decision[which] else "it stays silent"
    return "it is asked" if decision[which] else "it is not asked"


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else f"{value:{form}}"


def _word(value: bool | None) -> str:
    return "-" if value is None else "yes" if value else "no"
