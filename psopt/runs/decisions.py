"""``decisions.bin``: the sides of the rule by which each worker was asked, or spoke, in every round.

A record a round, little end first: T^k (minus infinity: everyone had to upload; infinity: nobody might), a bit a worker
for who was asked, and a float64 a worker: the left side of its rule, NaN where none was compared. The worker's own rule
where a worker that was asked decides, else the selection's. Of rules without T^k it is the ratio of their two sides.
"""

from pathlib import Path

import numpy as np

DECISIONS = "decisions.bin"


def record_dtype(workers: int) -> np.dtype:
    """Fields ``limit``; ``asked``, shape (ceil(M / 8),); ``left``, shape (M,)."""
    return np.dtype([("limit", "<f8"), ("asked", "u1", ((workers + 7) // 8,)), ("left", "<f8", (workers,))])


class Recorder:
    """Puts one round at a time into the binary form, in a buffer of its own."""

    def __init__(self, workers: int) -> None:
        self._record = np.zeros(1, record_dtype(workers))
        self._limit, self._asked, self._left = (self._record[name] for name in ("limit", "asked", "left"))
        self._bytes = self._record.view(np.uint8).data
        self._everyone = self._bits(np.arange(workers), workers)
        self._workers = workers

    def packed(self, limit: float, asked: np.ndarray | None, left: np.ndarray) -> memoryview:
        """The record, valid until the next call; ``asked``: the workers' numbers, None for everyone."""
        self._limit[0] = limit
        self._asked[0] = self._everyone if asked is None else self._bits(asked, self._workers)
        self._left[0] = left
        return self._bytes

    @staticmethod
    def _bits(asked: np.ndarray, workers: int) -> np.ndarray:
        mask = np.zeros(workers, dtype=bool)
        mask[asked] = True
        return np.packbits(mask, bitorder="little")


def read_decisions(path: Path, workers: int) -> np.ndarray:
    """The records of a file, shape (rounds,), of `record_dtype`; a round that was cut off is left out."""
    dtype = record_dtype(workers)
    content = path.read_bytes()
    return np.frombuffer(content[: len(content) // dtype.itemsize * dtype.itemsize], dtype)


def asked_in(decisions: np.ndarray, workers: int) -> np.ndarray:
    """Who was asked, shape (rounds, M), bool."""
    return np.unpackbits(decisions["asked"], axis=1, count=workers, bitorder="little").astype(bool)
