"""Why a worker was asked, or spoke, in a round: both sides of the rule, and what other thresholds would have done."""

import inspect
import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from psopt.algorithm import Algorithm
from psopt.config import load
from psopt.errors import ConfigError
from psopt.parts import kind_of
from psopt.parts.triggers import MaxAge
from psopt.records import record
from psopt.runs.decisions import DECISIONS, asked_in, read_decisions
from psopt.runs.folder import read_summary
from psopt.runs.occupancy import occupant
from psopt.runs.trace import MASKS, read_uploads


@record
class Decision:
    """What became of one worker in one round.

    Attributes
    ----------
    worker, round : int
    asked, uploaded : bool
    left : float or None
        The left side of the rule that decided; None where none was compared.
    right : float or None
        T^k; 1 where ``left`` is the ratio of the sides of a rule that has no T^k; None where there is no rule.
    age : int or None
        Rounds since it uploaded last, this one not counted; None where it never had.
    at_half, at_double : bool or None
        Whether the same sides would have made it speak (where the selection decides: be asked) if the threshold had
        been half, or double, in this round alone; None where nothing was compared, so that nobody can tell.
    why : str
    """

    worker: int
    round: int
    asked: bool
    uploaded: bool
    left: float | None
    right: float | None
    age: int | None
    at_half: bool | None
    at_double: bool | None
    why: str

    @property
    def ratio(self) -> float | None:
        """Left over right side; above 1 the rule says yes."""
        if self.left is None or self.right is None or not math.isfinite(self.right):
            return None
        return self.left / self.right if self.right else (math.inf if self.left > 0 else 0.0)

    def plain(self) -> dict[str, Any]:
        """As a mapping, with the ratio."""
        return {**asdict(self), "ratio": self.ratio}


class Decisions:
    """All decisions of a run, finished or under way, read from its folder.

    Attributes
    ----------
    state : str
        "over"; "under way"; "cut off".

    Raises `ConfigError` where the folder holds no run, or one without its decisions, or whose files are damaged.
    """

    def __init__(self, folder: Path) -> None:
        _check(folder)
        config = load(folder / "config.yaml")
        self.config, self.row, self.workers = config, config.algorithm, config.workers
        self.uploads = read_uploads(folder / MASKS, self.workers)
        self.rounds = len(self.uploads)
        self.asked, self.limit, self._left = self._sides(folder)
        self._decides = self.row.trigger.lazy
        self.state = self._checked(folder)

    def _checked(self, folder: Path) -> str:
        """What became of the run. Raises `ConfigError` where what was written cannot be what happened."""
        n = self.rounds
        if (self.uploads[:n] & ~self.asked[:n]).any() or (self.row.lazy and np.isnan(self.limit).any()):
            raise ConfigError(f"{folder} is damaged: {DECISIONS}, {MASKS} and config.yaml do not belong together")
        if not (folder / "summary.json").is_file():
            return "under way" if occupant(folder) else "cut off"
        summary = read_summary(folder)
        if summary["workers"] != self.workers:
            raise ConfigError(
                f"{folder} is damaged: config.yaml tells of {self.workers} workers, the run had {summary['workers']}"
            )
        if n < summary["rounds"]:
            which = MASKS if len(self.uploads) == n else DECISIONS
            raise ConfigError(f"{folder} is damaged: {which} holds {n} of {summary['rounds']} rounds")
        return "over"

    def _sides(self, folder: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Who was asked, T^k, and the left sides; of a row that leaves nobody out, whoever was asked has uploaded."""
        path = folder / DECISIONS
        if path.is_file():
            found = read_decisions(path, self.workers)
            self.rounds = min(self.rounds, len(found))
            return asked_in(found, self.workers), found["limit"], found["left"]
        if self.row.lazy:
            raise ConfigError(
                f"{folder} holds no {DECISIONS}: the run was made with `trace.decisions: false`, or by an older psopt"
            )
        nothing = np.full(self.uploads.shape, math.nan)
        return self.uploads, np.full(self.rounds, math.nan), nothing

    def of(self, k: int, m: int) -> Decision:
        """The decision about worker ``m`` in round ``k``, from 1; raises `ConfigError` where there is none."""
        self.check(k, m)
        asked, uploaded = bool(self.asked[k - 1, m]), bool(self.uploads[k - 1, m])
        before = np.flatnonzero(self.uploads[: k - 1, m])
        limit, left = float(self.limit[k - 1]), float(self._left[k - 1, m])
        compared = not math.isnan(left)
        if compared and not (asked and self._decides and self.row.trigger.threshold is None):
            right = limit
        else:
            right = 1.0 if compared else None
        due = self._selection_due(k, m)
        sure = True if (uploaded or due) and self.row.lazy else None  # whatever the threshold
        if limit == -math.inf or due or not compared or (uploaded and left <= right):
            at_half = at_double = sure
        else:
            at_half, at_double = left > right / 2, left > right * 2
        return Decision(
            worker=m,
            round=k,
            asked=asked,
            uploaded=uploaded,
            left=left if compared else None,
            right=right,
            age=int(k - 1 - before[-1]) if before.size else None,
            at_half=at_half,
            at_double=at_double,
            why=self._why(asked, uploaded, due, left, right, limit),
        )

    def _selection_due(self, k: int, m: int) -> bool:
        """Whether the selection had to ask worker ``m`` by its age: the rounds since it was asked, or, where it was not
        since the selection began to choose, those since the first that it chose in.
        """
        most, start = getattr(self.row.selection, "max_age", None), self.row.start
        chosen = max(start.forced_rounds, start.silent_rounds)
        if most is None or k <= chosen:
            return False
        asked = np.flatnonzero(self.asked[chosen : k - 1, m])
        first = k - 1 - chosen
        return (first - int(asked[-1]) if asked.size else first) > most

    def check(self, k: int, m: int) -> None:
        """Raises `ConfigError` unless the run has that round and that worker."""
        if not 1 <= k <= self.rounds:
            has = f"rounds 1 to {self.rounds}" if self.rounds else "no round yet"
            raise ConfigError(f"--round {k}: the run has {has}")
        if not 0 <= m < self.workers:
            raise ConfigError(f"--worker {m}: the run has workers 0 to {self.workers - 1}")

    def _why(self, asked: bool, uploaded: bool, due: bool, left: float, right: float | None, limit: float) -> str:
        row, compared = self.row, right is not None
        selection = row.name("selection")
        if not asked:
            if limit == math.inf:
                return f"nobody may upload in {_first(row.start.silent_rounds)}"
            if compared:
                return "not asked: left <= right"
            return "lost before" if row.selection.everyone else f"not asked: selection `{selection}`"
        if limit == -math.inf:
            return f"everyone uploads in {_first(row.start.forced_rounds)}"
        if self._decides and uploaded:
            if compared and left > right:
                return "left > right"
            return "due by age" if isinstance(row.trigger, MaxAge) else "its rule said yes"
        if self._decides:
            return "left <= right" if compared else "its rule said no"
        if row.selection.everyone:
            return "everyone uploads in every round"
        if not compared:
            return f"asked by selection `{selection}`"
        return "asked: due by age" if due else "asked: left > right"


def _first(rounds: int) -> str:
    return "round 1" if rounds == 1 else f"the first {rounds} rounds"


def _check(folder: Path) -> None:
    """Raises `ConfigError` unless the folder holds one run."""
    if not folder.is_dir():
        raise ConfigError(
            f"{folder} is a file, not a folder" if folder.exists() else f"{folder}: there is no such folder"
        )
    if (folder / "table.json").is_file():
        raise ConfigError(f"{folder} holds a table of runs: name one of the folders in it")
    if (folder / "uploads.npy").is_file():
        raise ConfigError(f"{folder} holds means over replicas: name one, as {folder / 'replica-000'}")
    for name in ("config.yaml", MASKS):
        if not (folder / name).is_file():
            raise ConfigError(f"{folder} holds no run: {name} is missing")


def rules(row: Algorithm) -> list[str]:
    """What decides, in the words of the parts themselves: the selection, and the worker's rule."""
    told = []
    if not row.selection.everyone:
        told.append(f"selection `{row.name('selection')}`: {_first_paragraph(row.selection)}")
    if row.trigger.lazy:
        aged = isinstance(row.trigger, MaxAge)
        inner = row.trigger.of if aged else row.trigger
        told.append(f"trigger `{kind_of('trigger', inner)}`: {_first_paragraph(inner)}")
        if aged:
            told.append(f"trigger `max_age`: an upload is due anyway after {row.trigger.rounds} rounds without")
    return told or ["everyone uploads in every round: there is no rule to explain"]


def _first_paragraph(part: Any) -> str:
    text = inspect.getdoc(type(part)) or type(part).__name__
    return " ".join(text.split("\n\n")[0].split()).replace("``", "`")


LOOKS_BACK = 8
"""Rounds of one worker that are shown before the one that was asked for."""


def report(folder: Path, k: int | None, m: int | None) -> dict[str, Any]:
    """What ``psopt explain --json`` prints: of one round all workers, or one worker and the rounds before."""
    found = Decisions(folder)
    k = found.rounds if k is None else k
    found.check(k, 0 if m is None else m)
    if m is None:
        shown = [found.of(k, worker) for worker in range(found.workers)]
    else:
        shown = [found.of(one, m) for one in range(max(1, k - LOOKS_BACK), k + 1)]
    limit = float(found.limit[k - 1])
    return {
        "folder": str(folder),
        "name": found.config.name,
        "algorithm": found.config.algorithm_name,
        "round": k,
        "rounds": found.rounds,
        "state": found.state,
        "workers": found.workers,
        "asked": int(found.asked[k - 1].sum()),
        "uploaded": int(found.uploads[k - 1].sum()),
        "threshold": limit,
        "rules": rules(found.row),
        "has_rule": found.row.lazy or not found.row.selection.everyone,
        "decisions": [decision.plain() for decision in shown],
        "uploads_of_worker": None if m is None else (1 + np.flatnonzero(found.uploads[: found.rounds, m])).tolist(),
    }
