"""The tables of `psopt bench network`, and ``bench.json``, which is written anew with every row."""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from psopt.bench.machine import describe
from psopt.bench.network.measure import Found
from psopt.bench.network.table import Experiment, Row, Wire
from psopt.bench.network.targets import Target
from psopt.bench.result import SCHEMA
from psopt.errors import ConfigError
from psopt.runs.folder import write_json

MOST_TURNS = 1000
HEAD = (
    f"{'':38}{'rounds':>8}{'uploads':>9}{'ms/round':>10}{'seconds':>11}{'x torch':>9}"
    f"{'hub out, in':>16}{'ledger':>16}  on the clock"
)


class Board:
    """What has been measured so far.

    Parameters
    ----------
    path : Path
        ``bench.json``.
    again : bool
        Whether rows that it holds are kept; else it must not be there.
    quick : bool
        Marks the rows as no measurement.
    """

    def __init__(self, path: Path, again: bool, quick: bool) -> None:
        self.quick = quick
        self._path = path
        self._held: dict[str, Any] = {
            "schema": SCHEMA,
            "machine": describe(),
            "quick": quick,
            "networks": {},
            "rows": [],
        }
        if path.is_file():
            if not again:
                raise ConfigError(f"{path} is there already: --continue keeps its rows, or choose another --out")
            held = json.loads(path.read_text())
            if held.get("schema") != SCHEMA or held.get("quick") != quick:
                raise ConfigError(f"{path} was not written by such a measurement: choose another --out")
            self._held = held
        path.parent.mkdir(parents=True, exist_ok=True)

    def head(self, wire: Wire, experiment: Experiment, said: str) -> None:
        """Before a series; ``said`` is what the network was found to be."""
        self._held["networks"].setdefault(wire.name, []).append(said)
        print(f"\n{experiment.key}: {experiment.title}\n{said}\n{HEAD}", flush=True)

    def turns(self, wire: Wire, experiment: Experiment, row: Row) -> int:
        """How often a row has been measured; one that does not reach its target is not measured again."""
        entry = self._entry(wire, experiment, row)
        if entry is None:
            return 0
        return len(entry["turns"]) if entry["turns"] else MOST_TURNS

    def add(self, wire: Wire, experiment: Experiment, row: Row, target: Target, found: Found | None) -> None:
        """Writes down what a turn of a row came to; the row is its median turn."""
        entry = self._entry(wire, experiment, row)
        if entry is None:
            entry = {
                "name": _name(wire, experiment, row),
                "shape": [target.dim],
                "dtype": experiment.config["problem"].get("dtype", "float64"),
                "workers": experiment.workers,
                "uploads": target.uploads,
                "median_s": None,
                "turns": [],
            }
            self._held["rows"].append(entry)
        if found is not None:
            entry["turns"].append({**asdict(found), "whole": found.whole})
            middle = sorted(entry["turns"], key=lambda turn: turn["seconds"])[(len(entry["turns"]) - 1) // 2]
            entry |= {**middle, "median_s": middle["seconds"]}
        for each in experiment.rows:  # the baseline may be this row, or have come before
            self._compare(wire, experiment, each)
        write_json(self._path, self._held)
        print(self._line(wire, experiment, row), flush=True)

    def show(self, wire: Wire, experiment: Experiment, rows: Sequence[Row]) -> None:
        """All rows of a series again, with those that were kept or are missing, and their ratios."""
        print(f"\n{experiment.key} on {wire.name}, all rows\n{HEAD}")
        for row in rows:
            print(self._line(wire, experiment, row))
        print(flush=True)

    def _entry(self, wire: Wire, experiment: Experiment, row: Row) -> dict[str, Any] | None:
        name = _name(wire, experiment, row)
        return next((each for each in self._held["rows"] if each["name"] == name), None)

    def _compare(self, wire: Wire, experiment: Experiment, row: Row) -> None:
        entry = self._entry(wire, experiment, row)
        baseline = experiment.baseline(row)
        theirs = self._entry(wire, experiment, baseline)
        if entry and theirs:
            ours_s, theirs_s = entry["median_s"], theirs["median_s"]
            ratio = theirs_s / ours_s if ours_s and theirs_s else None
            entry |= {"baseline": baseline.name, "baseline_s": theirs_s, "ratio": ratio}

    def _line(self, wire: Wire, experiment: Experiment, row: Row) -> str:
        entry = self._entry(wire, experiment, row)
        if entry is None:
            return f"{row.name:38}{'-':>8}"
        uploads = "" if entry["uploads"] is None else f"{entry['uploads']:.2f}"
        if entry["median_s"] is None:
            return f"{row.name:38}{'-':>8}{uploads:>9}{'':10}  the target is not reached"
        ratio = f"{entry['ratio']:.2f}" if entry.get("ratio") else "-"
        each_ms = 1e3 * entry["seconds"] / entry["rounds"]
        cells = f"{entry['rounds']:8d}{uploads:>9}{each_ms:10.1f}{entry['seconds']:11.1f}{ratio:>9}"
        hub = f"{_size(entry['hub_up'])}, {_size(entry['hub_down'])}"
        books = "" if entry["ledger_up"] is None else f"{_size(entry['ledger_down'])}, {_size(entry['ledger_up'])}"
        clock = "all of it" if entry["whole"] else f"{entry['measured']} rounds, scaled"
        apart = [turn["seconds"] for turn in entry["turns"]]
        if len(apart) > 1:
            clock += f"; {min(apart):.1f} to {max(apart):.1f} s"
        return f"{row.name:38}{cells}{hub:>16}{books:>16}  {clock}"


def _name(wire: Wire, experiment: Experiment, row: Row) -> str:
    return f"{experiment.key} {wire.name}: {row.name}"


def _size(nbytes: float) -> str:
    """Bytes for people, in three digits or so."""
    power = min(2, max(0, int(math.log10(max(nbytes, 1.0)) // 3)))
    return f"{nbytes / 1000**power:.3g}{('B', 'kB', 'MB')[power]}"
