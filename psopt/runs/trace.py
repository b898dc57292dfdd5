"""What is kept of a run as it goes: one record a recorded round, and who uploaded in every round."""

import json
import os
import time
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from psopt.errors import ConfigError
from psopt.runs.writing import unwritable, writing

FLUSH_EVERY_S = 1.0
LINES, MASKS = "trace.jsonl", "uploads.bin"


@dataclass(frozen=True)
class Record:
    """The state after a round; counts and bytes since the start, seconds since round 1 began.

    ``local_steps`` is t, the steps of each worker in all rounds together. ``test_loss`` is the mean loss of the test
    rows without any l2 term, ``test_accuracy`` the share predicted right. ``compute_s`` is the workers' own work on the
    critical path, ``wait_s`` the rest of the time spent on messages, and ``rest_s`` all else: the server's steps, this
    record, the progress line.
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
    wait_s: float
    rest_s: float


class Trace:
    """Keeps records and upload masks in memory, or in ``trace.jsonl`` and ``uploads.bin`` of a folder.

    ``uploads.bin`` holds ceil(M / 8) bytes a round, bit m of them (little end first) for worker m.

    ``places``, by file the bytes and their CRC-32 as `places` told them, makes both files end there, and goes on.
    """

    def __init__(self, folder: Path | None, places: Mapping[str, Sequence[int]] | None = None) -> None:
        self.records: list[Record] = []
        self._folder = folder
        with writing(folder):
            self._lines = _Tail(folder / LINES, places) if folder else None
            self._masks = _Tail(folder / MASKS, places) if folder else None
        self._kept: list[np.ndarray] = []
        self._flushed = time.monotonic()

    def round(self, uploaded: np.ndarray) -> None:
        """``uploaded``, shape (M,), bool: who uploaded in the round that ended."""
        if self._masks is None:
            self._kept.append(uploaded)
            return
        try:
            self._masks.write(packed(uploaded[None]).tobytes())
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
                self._lines.flush()
                self._masks.flush()

    def places(self) -> dict[str, tuple[int, int]]:
        """By file, how many bytes have been written, through to the disk, and their CRC-32."""
        files = {LINES: self._lines, MASKS: self._masks}
        with writing(self._folder):
            return {name: file.place() for name, file in files.items() if file}

    def close(self) -> None:
        """Closes both files, whatever happens to one; what is in them stays."""
        failure = None
        for file in (self._lines, self._masks):
            try:
                if file:
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

    def write(self, content: bytes) -> None:
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
