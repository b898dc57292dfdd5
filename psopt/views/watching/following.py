"""Reading a trace while it is being written: each look reads what is new, and nothing is ever written."""

import json
import os
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from psopt.runs.folder import may_miss
from psopt.views.reading import is_number

KEPT = 4000
"""Records that are remembered."""

TAIL_NBYTES = 1 << 20
"""How much is read of what has come since the last look; of more, the end."""


@dataclass
class Follower:
    """The last records of a ``trace.jsonl``.

    Its last line may be half written, and is then read at a later look. The file may be replaced, or cut and written on
    from there, as when a run goes on from a checkpoint: it is then read anew. It may be missing, for now or for ever.

    Attributes
    ----------
    path : Path
    records : deque of dict
        The last ones, in order of their rounds.
    written_at : float or None
        When the file last changed, in seconds since 1970; None where there is none.
    """

    path: Path
    records: deque[dict[str, Any]] = field(default_factory=lambda: deque(maxlen=KEPT))
    written_at: float | None = None
    _place: tuple[int, int] = (0, 0)
    _offset: int = 0

    def look(self) -> None:
        """Reads what is new."""
        try:
            with open(self.path, "rb") as file:
                found = os.fstat(file.fileno())
                place = (found.st_dev, found.st_ino)
                if place != self._place or found.st_size < self._offset:
                    self._forget()
                self._place, self.written_at = place, found.st_mtime
                if not self._read(file, found.st_size):
                    self._forget()
                    self._place, self.written_at = place, found.st_mtime
                    self._read(file, found.st_size, sure=True)
        except OSError:
            self._forget()

    def _forget(self) -> None:
        self.records.clear()
        self._place, self._offset, self.written_at = (0, 0), 0, None

    def _read(self, file: Any, size: int, sure: bool = False) -> bool:
        """Takes the whole lines from the offset on; returns whether they go on from those before.

        ``sure``: read from the file's beginning, a line that makes no sense is a damaged one, and left out.
        """
        start = max(self._offset, size - TAIL_NBYTES)
        file.seek(start)
        content = file.read(size - start)
        if start > self._offset:  # in the middle of a line, or at its beginning
            head = content.find(b"\n") + 1
            start, content = start + head, content[head:]
        whole = content[: content.rfind(b"\n") + 1]
        for line in whole.splitlines():
            record = _record(line)
            known = self.records[-1]["round"] if self.records else -1
            if record is not None and record["round"] > known:
                self.records.append(record)
            elif not sure:
                return False
        self._offset = start + len(whole)
        return True


def _record(line: bytes) -> dict[str, Any] | None:
    try:
        record = json.loads(line)
    except ValueError:
        return None
    fits = isinstance(record, dict) and "round" in record and all(_fits(*entry) for entry in record.items())
    return record if fits else None


def _fits(name: str, value: Any) -> bool:
    return is_number(value) or (value is None and may_miss(name))
