"""The records that cross between server and workers; `psopt.core.frames` has their binary form."""

import math
import struct
from collections.abc import Sequence
from enum import IntEnum
from typing import NamedTuple

import numpy as np

HEADER = struct.Struct("<HHiqqddq")
"""kind, dtype code, worker (of a broadcast: bytes of its mask), round, an integer, two float64, elements."""

HEADER_NBYTES = HEADER.size
NO_VECTOR = np.zeros(0, dtype=np.uint8)
GIVEN_UP = -1


class Kind(IntEnum):
    """What a message is; over MPI also its tag, and that of the answers to it."""

    HELLO = 1
    BROADCAST = 2
    UPLOAD = 3
    SKIP = 4
    EVALUATE = 5
    VALUE = 6
    FAILURE = 7
    STOP = 8
    KEEP_ALIVE = 9
    SAVE = 10
    SAVED = 11
    INTERRUPT = 12


made = tuple.__new__
"""``made(Upload, (worker, ...))`` is ``Upload(worker, ...)`` in half the time, for what is made in every round."""


class What(IntEnum):
    """What an `Evaluate` asks for; all of it off the algorithm's books."""

    OBJECTIVE = 0
    GRADIENT = 1
    HESSIAN = 2
    CURVATURE_PRODUCT = 3
    MIRROR = 4
    INITIAL = 5
    SCORE = 6


class Hello(NamedTuple):
    """Worker m exists: its samples, its dimension, its L_m (NaN when its problem has none)."""

    worker: int
    samples: int
    dim: int
    smoothness: float
    seconds = 0.0


class Broadcast(NamedTuple):
    """Round k: theta, shape (dim,), the threshold, the plan entry; ``workers`` ascending, None for everyone.

    With the lazy downlink ``theta`` holds the bytes that `psopt.core.downlink` describes.
    """

    round: int
    threshold: float
    t_start: int
    local_steps: int
    theta: np.ndarray
    workers: np.ndarray | None = None
    mask_nbytes: int = 0


class Upload(NamedTuple):
    """Worker m speaks: the codec's payload; ``gradients`` and ``seconds`` are what the local work took, ``left`` what
    `Worker.compare` noted of the rule, NaN when it compared nothing.
    """

    worker: int
    round: int
    gradients: int
    seconds: float
    payload: np.ndarray
    left: float = math.nan


class Skip(NamedTuple):
    """Worker m stays silent; the fields as those of `Upload`."""

    worker: int
    round: int
    gradients: int
    seconds: float
    left: float = math.nan


class Landed(NamedTuple):
    """Answers to a broadcast that need no reading, all of a round together: no message, but what is found of many.

    Attributes
    ----------
    round : int
    uploads, skips : int
        How many they are.
    uploaded, skipped : ndarray, shape (M,), bool
        Whose they are.
    each : int or None
        The gradients that each of them took, where all took as many.
    gradients : ndarray, shape (M,), int64
        As in `Upload`, of those who answered.
    left : ndarray, shape (M,), float64
        Likewise.
    vectors : sequence of M ndarrays, shape (dim,), or None
        The payloads of those who uploaded.
    """

    round: int
    uploads: int
    skips: int
    uploaded: np.ndarray
    skipped: np.ndarray
    each: int | None
    gradients: np.ndarray
    left: np.ndarray
    vectors: Sequence[np.ndarray] | None


class Evaluate(NamedTuple):
    """Asks everyone for `What` at ``theta``; ``soon``: the next broadcast asks everyone for a gradient there."""

    round: int
    what: What
    soon: bool
    theta: np.ndarray


class Value(NamedTuple):
    """Worker m's answer to an `Evaluate`: a number, and a vector where one was asked for."""

    worker: int
    round: int
    value: float
    seconds: float = 0.0
    vector: np.ndarray = NO_VECTOR


class Failure(NamedTuple):
    """Somebody raised. ``worker`` is -1 when no worker was at work; ``text`` is the traceback.

    ``fatal``: it ends the run whatever `failure.policy` says, as a run that diverged and wrong input do.
    """

    worker: int
    round: int
    rank: int
    host: str
    text: str
    fatal: bool = False


class Stop(NamedTuple):
    """The run is over; why is rank 0's to tell. With round `GIVEN_UP` it goes on, without the rank this is sent to."""

    round: int


class KeepAlive(NamedTuple):
    """The server lives, though it has nothing to ask."""

    round: int


class Interrupt(NamedTuple):
    """A rank was asked to end the run, or ``warned`` that its time is nearly over; comes unasked, like a failure."""

    rank: int
    warned: bool = False


class Save(NamedTuple):
    """Each rank is to write its part of the checkpoint of this round, the last one that has ended."""

    round: int


class Saved(NamedTuple):
    """A rank's answer to `Save`: what it wrote, or why it could not, as the caller of the transport words it."""

    rank: int
    round: int
    text: str


Message = Hello | Broadcast | Upload | Skip | Evaluate | Value | Failure | Stop | KeepAlive | Save | Saved | Interrupt


def mask_nbytes(workers: int) -> int:
    """Bytes of the bit mask that names the selected of ``workers`` workers, padded to 8."""
    return (workers + 63) // 64 * 8
