"""The roll of the workers: who is left, and who was lost, when and why.

A transport keeps it. Until the conductor says that the run ``survives`` losses, and once nobody is left, a loss is a
`WorkerFailed`.
"""

from collections.abc import Sequence

from psopt.core.messages import Failure
from psopt.errors import ConfigError, IncompatibleParts, NotFinite, WorkerFailed
from psopt.records import record
from psopt.transports.base import failure_header

DIED = "its process died"


@record
class Loss:
    """One event: the workers that a rank hosted, lost in a round (0: before the first).

    Attributes
    ----------
    workers : tuple of int
    rank : int
    host : str
    round : int
    why : str
        For a sentence that ends with it.
    account : str
        The traceback under its header, where somebody raised.
    """

    workers: tuple[int, ...]
    rank: int
    host: str
    round: int
    why: str
    account: str = ""

    def __str__(self) -> str:
        """``round 57: worker 3 (rank 4 on node17) is lost: its process died``."""
        numbers = [str(m) for m in self.workers]
        several = len(numbers) > 1
        who = f"workers {', '.join(numbers[:-1])} and {numbers[-1]}" if several else f"worker {numbers[0]}"
        are = "are" if several else "is"
        return f"round {self.round}: {who} (rank {self.rank} on {self.host}) {are} lost: {self.why}"


class Roll:
    """Who is left.

    Attributes
    ----------
    living : list of int
        Ascending.
    lost : list of Loss
        In the order in which they were noticed.
    survives : bool
        Whether the run goes on without the lost.
    """

    def __init__(self, workers: int) -> None:
        self.living = list(range(workers))
        self.lost: list[Loss] = []
        self.survives = False

    @property
    def asked(self) -> list[int] | None:
        """Everyone, as a ledger wants it: None until somebody is lost."""
        return self.living if self.lost else None

    def remember(self, lost: Sequence[Loss]) -> None:
        """Those that the run had lost before it was resumed."""
        self.lost = list(lost)
        gone = {m for loss in lost for m in loss.workers}
        self.living = [m for m in self.living if m not in gone]

    def strike(self, loss: Loss) -> None:
        """Takes the lost off the roll; raises `WorkerFailed` where that ends the run."""
        if not self.survives:
            raise WorkerFailed(loss.account or f"{loss} (`failure.policy` holds from round 1 on)")
        self.lost.append(loss)
        self.living = [m for m in self.living if m not in loss.workers]
        if not self.living:
            raise WorkerFailed(loss.account or f"{loss}; no worker is left")


def is_fatal(error: BaseException) -> bool:
    """Whether what a worker raised ends the run under any policy: the user's to mend, and on one worker by chance."""
    return isinstance(error, ConfigError | IncompatibleParts | NotFinite)


def raised(failure: Failure, workers: Sequence[int], of: int) -> Loss:
    """The loss of the workers of a rank on which somebody raised; ``of`` is M."""
    header = failure_header(failure.worker, of, failure.rank, failure.host, failure.round)
    lines = failure.text.strip().splitlines() or ["nothing is known of it"]
    account = f"{header}\n{failure.text}"
    return Loss(tuple(workers), failure.rank, failure.host, failure.round, f"it raised {lines[-1]}", account)
