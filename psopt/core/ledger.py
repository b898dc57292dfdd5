"""The ledger: who said how much, in messages and bytes, counted where the server hands a message to the transport or
takes one from it.

Logical counts are per worker and do not depend on where workers live: theta sent to a rank that hosts three selected
workers counts three times, as the papers count. ``wire`` counts beside them what really crossed between ranks, whether
it was sent or, on one host, lies where both ranks see it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from psopt.core.frames import nbytes
from psopt.core.messages import HEADER_NBYTES, Broadcast, Evaluate, Landed, Message, Skip, Upload, Value


@dataclass
class Wire:
    """What really crossed between ranks, sent or put where both see it; all zero when everything lives in one process.

    ``setup_bytes`` is what went both ways before the first message: configuration, sizes, readiness.
    """

    SAVED: ClassVar[tuple[str, ...]] = ("bytes_down", "bytes_up", "messages_down", "messages_up", "setup_bytes")

    messages_up: int = 0
    messages_down: int = 0
    bytes_up: int = 0
    bytes_down: int = 0
    setup_bytes: int = 0

    def up(self, size: int, messages: int = 1) -> None:
        """``size`` bytes, in so many messages together."""
        self.messages_up += messages
        self.bytes_up += size

    def down(self, size: int, copies: int = 1) -> None:
        """So many messages of ``size`` bytes each."""
        self.messages_down += copies
        self.bytes_down += size * copies

    def add(self, other: "Wire") -> None:
        """What another process of the same run saw cross."""
        for name in self.SAVED:
            setattr(self, name, getattr(self, name) + getattr(other, name))


@dataclass(frozen=True)
class Totals:
    """The ledger summed over workers, at one moment."""

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


class Ledger:
    """Counters of one run, written by the transport through `up` and `down` and by nobody else.

    Each public array has shape (M,), int64. ``evaluation_bytes_*`` hold the messages off the algorithm's books, headers
    included. Control bytes are headers, masks, skips, greetings and keep-alives. What checkpoints take is on the wire's
    account alone, because it is none of the algorithm's.
    """

    SAVED = ("_counts", "_everyone", "wire")

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self.wire = Wire()
        self._counts = {name: [0] * workers for name in COLUMNS}
        self._everyone = dict.fromkeys(COLUMNS, 0)
        self.resumed()

    def resumed(self) -> None:
        counts = self._counts
        self._uploads, self._skips = counts["uploads"], counts["skips"]
        self._payloads, self._control_up = counts["payload_bytes_up"], counts["control_bytes_up"]
        self._gradients = counts["gradient_evaluations"]

    def __getattr__(self, name: str) -> np.ndarray:
        if name in COLUMNS:
            return np.array(self._counts[name], dtype=np.int64) + self._everyone[name]
        raise AttributeError(name)

    def up(self, message: Message) -> None:
        """A worker's message has arrived."""
        kind, m = type(message), message[0]
        if kind is Upload:
            self._uploads[m] += 1
            self._payloads[m] += message[4].nbytes
        elif kind is Skip:
            self._skips[m] += 1
        elif kind is Value:
            self._counts["evaluation_bytes_up"][m] += nbytes(message)
            return
        else:
            self._control_up[m] += HEADER_NBYTES
            return
        self._control_up[m] += HEADER_NBYTES
        self._gradients[m] += message[2]

    def land(self, landed: Landed) -> None:
        """Many answers have arrived, which need no reading."""
        _, uploads, skips, uploaded, skipped, each, gradients, _, vectors = landed
        size, answers, everyone = vectors[0].nbytes if uploads else 0, uploads + skips, self._everyone
        self.wire.up(answers * HEADER_NBYTES + uploads * size, answers)
        alike = each is not None and answers == self.workers
        if alike and not skips:
            everyone["uploads"] += 1
            everyone["payload_bytes_up"] += size
        elif alike and not uploads:
            everyone["skips"] += 1
        else:
            for m in np.flatnonzero(uploaded).tolist():
                self._uploads[m] += 1
                self._payloads[m] += size
            for m in np.flatnonzero(skipped).tolist():
                self._skips[m] += 1
            for m in np.flatnonzero(uploaded | skipped).tolist():
                self._control_up[m] += HEADER_NBYTES
                self._gradients[m] += int(gradients[m])
            return
        everyone["control_bytes_up"] += HEADER_NBYTES
        everyone["gradient_evaluations"] += each

    def down(self, message: Message, workers: Sequence[int] | None) -> None:
        """The server's message is on its way to ``workers``, None for everyone."""
        if type(message) is Broadcast:
            control = HEADER_NBYTES + message.mask_nbytes
            amounts = ("downloads", 1), ("payload_bytes_down", message.theta.nbytes), ("control_bytes_down", control)
        elif isinstance(message, Evaluate):
            amounts = (("evaluation_bytes_down", nbytes(message)),)
        else:
            amounts = (("control_bytes_down", nbytes(message)),)
        for column, amount in amounts:
            if workers is None:
                self._everyone[column] += amount
            else:
                for m in workers:
                    self._counts[column][m] += amount

    def totals(self) -> Totals:
        return Totals(**{name: sum(self._counts[name]) + self.workers * self._everyone[name] for name in COLUMNS})


COLUMNS = tuple(Totals.__dataclass_fields__)
