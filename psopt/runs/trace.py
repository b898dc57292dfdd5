"""What is kept of a run as it goes: one record a recorded round, and who uploaded in every round."""

import json
import os
import time
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from psopt.errors import ConfigError
from psopt.runs.decisions import DECISIONS, Recorder
from psopt.runs.writing import unwritable, writing

FLUSH_EVERY_S = 1.0
LINES, MASKS = "trace.jsonl", "uploads.bin"


@dataclass(frozen=True)
class Record:
    """The state after a round; counts and bytes since the start, seconds since round 1 began.

    ``local_steps`` is t, the steps of each worker in all rounds together. ``test_loss`` is the mean loss of the test
    rows without any l2 term, ``test_accuracy`` the share predicted right. ``compute_s`` is the workers' own work on the
    critical path, ``serialise_s`` the server's packing, unpacking and absorbing of messages as far as it adds to that,
    ``wait_s`` the rest of the time spent on messages, and ``rest_s`` all else: the server's steps, this record, the
    progress line.
    """

    round: int
    local_steps: int
    objective: float | None
    gap: float | None
    test_loss: float | None
    test_accuracy: float | None
    uploads: int
    downloads: int
    skips: int
    payload_bytes_up: int
    payload_bytes_down: int
    control_bytes_up: int
    control_bytes_down: int
    evaluation_bytes_up: int
    evaluation_bytes_down: int
    gradient_evaluations: int
    compute_s: float
    serialise_s: float
    wait_s: float
    rest_s: float


TIMES = tuple(entry.name for entry in fields(Record) if entry.name.endswith("_s"))
"""What the time since round 1 is made of."""


def elapsed_s(parts: Mapping[str, Any]) -> Any:
    """Seconds since round 1 began, of a record, or of all records in columns; a part that an older one lacks is 0."""
    return sum(parts[name] for name in TIMES if name in parts)


class Trace:
    """Keeps records and upload masks in memory, or in ``trace.jsonl`` and ``uploads.bin`` of a folder.

    ``uploads.bin`` holds ceil(M / 8) bytes a round, bit m of them (little end first) for worker m.

    Parameters
    ----------
    folder : Path or None
    places : mapping, optional
        By file the bytes and their CRC-32 as `places` told them: the files are made to end there, and go on.
    deciding : int
        M, where the sides of a rule are to be kept as well (`psopt.runs.decisions`; in a folder only); 0: they are not.
    """

    def __init__(
        self, folder: Path | None, places: Mapping[str, Sequence[int]] | None = None, deciding: int = 0
    ) -> None:
        self.records: list[Record] = []
        self._folder = folder
        names = [LINES, MASKS]
        if deciding and (places is None or DECISIONS in places):  # what was not kept from the start is not begun
            names.append(DECISIONS)
        with writing(folder):
            self._files = {name: _Tail(folder / name, places) for name in names} if folder else {}
        self._lines, self._masks, self._decisions = (self._files.get(name) for name in (LINES, MASKS, DECISIONS))
        self._recorder = Recorder(deciding) if self._decisions else None
        self._kept: list[np.ndarray] = []
        self._flushed = time.monotonic()

    def round(self, uploaded: np.ndarray, limit: float, asked: np.ndarray | None, left: np.ndarray) -> None:
        """The round that ended.

        Parameters
        ----------
        uploaded : ndarray, shape (M,), bool
            Who uploaded.
        limit : float
            T^k.
        asked : ndarray or None
            The workers that were asked, None for everyone.
        left : ndarray, shape (M,), float64
            The left side of each worker's rule.
        """
        if self._masks is None:
            self._kept.append(uploaded)
            return
        try:
            self._masks.write(packed(uploaded[None]).tobytes())
            if self._recorder:
                self._decisions.write(self._recorder.packed(limit, asked, left))
        except OSError as error:
            raise unwritable(self._folder, error) from None

    def record(self, record: Record) -> None:
        if self._lines is None:
            self.records.append(record)
            return
        with writing(self._folder):
            self._lines.write(json.dumps(asdict(record), allow_nan=False).encode() + b"\n")
            now = time.monotonic()
            if now - self._flushed > FLUSH_EVERY_S:
                self._flushed = now
                for file in self._files.values():
                    file.flush()

    def places(self) -> dict[str, tuple[int, int]]:
        """By file, how many bytes have been written, through to the disk, and their CRC-32."""
        with writing(self._folder):
            return {name: file.place() for name, file in self._files.items()}

    def close(self) -> None:
        """Closes the files, whatever happens to one; what is in them stays."""
        failure = None
        for file in self._files.values():
            try:
                file.close()
            except OSError as error:
                failure = error
        if failure:
            raise unwritable(self._folder, failure)

    def uploads(self, workers: int) -> np.ndarray:
        """Who uploaded, shape (rounds, M), bool; read back from the folder if there is one."""
        if self._folder:
            return read_uploads(self._folder / "uploads.bin", workers)
        return np.array(self._kept, dtype=bool).reshape(-1, workers)


class _Tail:
    """A file that is written at its end, and knows the checksum of all of it."""

    def __init__(self, path: Path, places: Mapping[str, Sequence[int]] | None) -> None:
        self._file = open(path, "wb" if places is None else "r+b")  # noqa: SIM115
        self._nbytes, self._crc = (0, 0) if places is None else places[path.name]
        self._file.truncate(self._nbytes)
        self._file.seek(self._nbytes)
        self.flush, self.close = self._file.flush, self._file.close

    def write(self, content: bytes | memoryview) -> None:
        self._file.write(content)
        self._nbytes += len(content)
        self._crc = zlib.crc32(content, self._crc)

    def place(self) -> tuple[int, int]:
        self._file.flush()
        os.fsync(self._file.fileno())
        return self._nbytes, self._crc


def check_places(folder: Path, places: Mapping[str, Sequence[int]]) -> None:
    """Raises `ConfigError` unless the files still begin as they did when `Trace.places` told of them."""
    for name, (nbytes, crc) in places.items():
        found, left = 0, nbytes
        try:
            with open(folder / name, "rb") as file:
                while content := file.read(min(left, 1 << 24)):
                    found, left = zlib.crc32(content, found), left - len(content)
        except OSError as error:
            raise ConfigError(f"{folder / name} cannot be read: {error.strerror}") from None
        if left or found != crc:
            raise ConfigError(f"{folder / name} is damaged: it is not what was written")


def read_uploads(path: Path, workers: int) -> np.ndarray:
    """An ``uploads.bin`` as an array, shape (rounds, M), bool; a round that was cut off is left out."""
    width = packed_width(workers)
    content = np.frombuffer(path.read_bytes(), dtype=np.uint8)
    return unpacked(content[: content.size // width * width].reshape(-1, width), workers)


def packed(uploads: np.ndarray) -> np.ndarray:
    """Who uploaded, shape (rounds, M), bool, as bits: shape (rounds, `packed_width`), uint8."""
    return np.packbits(uploads, axis=1, bitorder="little")


def packed_width(workers: int) -> int:
    return (workers + 7) // 8


def unpacked(rows: np.ndarray, workers: int) -> np.ndarray:
    """The way back."""
    return np.unpackbits(rows, axis=1, count=workers, bitorder="little").astype(bool)
