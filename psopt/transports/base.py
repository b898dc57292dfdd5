"""What the server's side of a transport can do, and how long it may take.

A transport carries messages and counts them in its ledger; it knows nothing of algorithms.
"""

import traceback
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Protocol

from psopt.bounds import Gt
from psopt.core.ledger import Ledger
from psopt.core.messages import Broadcast, Evaluate, Hello, Landed, Skip, Upload, Value
from psopt.core.room import Room
from psopt.errors import PsoptError
from psopt.records import record

SERVER = 0


def rank_of(m: int, ranks: int) -> int:
    """The rank worker m lives on."""
    return 1 + m % (ranks - 1)


def hosted_by(rank: int, workers: int, ranks: int) -> list[int]:
    """The workers that live on a rank; none on the server's."""
    return [] if rank == SERVER else list(range(rank - 1, workers, ranks - 1))


Receive, Land = Callable[[Upload | Skip], None], Callable[[Landed], None]
"""What takes the answers to a broadcast: one by one, or many that need no reading."""

if TYPE_CHECKING:
    from psopt.transports.roll import Roll


@record
class Timeouts:
    """Deadlines, in seconds; no wait is without one.

    Attributes
    ----------
    start_s : float
        Each step of the set-up: loading data, compiling kernels.
    round_s : float
        One round, greeting or evaluation; the longer of this and `start_s` for a checkpoint.
    idle_s : float
        How long a rank bears silence from the server, which sends a keep-alive each third of it.
    replica_s : float
        With `repeat`: how long ranks wait for each other's replicas.
    """

    start_s: Annotated[float, Gt(0)] = 180.0
    round_s: Annotated[float, Gt(0)] = 300.0
    idle_s: Annotated[float, Gt(0)] = 60.0
    replica_s: Annotated[float, Gt(0)] = 86400.0


class Transport(Protocol):
    """The server's end. A worker that raised surfaces as `WorkerFailed` in whichever call is under way."""

    ledger: Ledger
    room: Room
    roll: "Roll"
    """Who is left of the workers; those who are lost are not asked, and no answer of theirs is handed over."""
    waited_s: float
    """Seconds spent in `exchange` and `evaluate` so far."""
    computed_s: float
    """Of these, the workers' own work on the critical path: each time, that of the rank that worked longest."""
    handled_s: float
    """Of these, the server's own work on messages: packing and posting them, unpacking and absorbing the answers. It
    may go on while workers work.
    """

    def hellos(self) -> list[Hello]:
        """One greeting a worker, in worker order; the first thing to be asked for."""
        ...

    def exchange(self, message: Broadcast, receive: Receive, land: Land | None = None) -> None:
        """Sends a round's message to those it names, and hands over each answer as it arrives, until all are in. Where
        it can tell without reading them what they say, it may hand over many together instead, with ``land``.
        """
        ...

    def evaluate(self, message: Evaluate) -> list[Value]:
        """Asks everyone who is left, and returns the answers in worker order; vectors are the caller's to keep."""
        ...

    def idle(self) -> None:
        """A round in which nobody is asked; keeps those who wait from losing patience."""
        ...

    def save(self, k: int, own: Callable[[], None]) -> dict[int, str] | None:
        """Lets every rank that hosts workers write its part of the checkpoint of round k, does ``own`` meanwhile, and
        returns what each says of its part; nothing where the workers live in this process. None: there can be no
        checkpoint of this round.
        """
        ...

    def stop(self, k: int) -> None:
        """Ends the conversation after round k."""
        ...


def what_failed(error: BaseException) -> str:
    """What to tell of an error on another rank: psopt's own sentence, or the traceback of anything else."""
    return str(error) if isinstance(error, PsoptError) else "".join(traceback.format_exception(error))


def failure_header(worker: int, workers: int, rank: int, host: str, k: int) -> str:
    """The line above a remote traceback."""
    who = f"worker {worker} of {workers}" if worker >= 0 else "no worker at work"
    return f"### {who}, rank {rank} on {host}, round {k}"
