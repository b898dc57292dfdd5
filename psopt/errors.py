"""The errors psopt raises on purpose.

`ConfigError` and `IncompatibleParts` are the user's to mend and are shown as one sentence without a traceback.
`NotFinite` is theirs as well: a run that has diverged, found where it happened. `ProtocolError` is a bug of psopt's
own. `WorkerFailed` carries what a worker raised across ranks: one of these sentences, or somebody else's traceback.
`DeadlinePassed` and `CannotWrite` are the machine's doing, and are one sentence too. `Warned` is no failure: the time
was nearly over. `WorkerLost` stands, in one process, for the death of a worker's process.
"""

LONGEST_PLACE = 400


def printable(text: str) -> str:
    """``text`` on one line, with a question mark for each character that does not print."""
    return "".join(c if c.isprintable() else "?" for c in text)


class PsoptError(Exception):
    """Base of every error that psopt raises on purpose.

    ``agreed``: every rank of the job raises this very error, so that none has to end the others.
    """

    agreed = False


class ConfigError(PsoptError):
    """Wrong input: a config, a data file, a flag or the environment.

    Parameters
    ----------
    message : str
        One sentence: what was found, what was expected, the nearest valid name.
    where : str, optional
        ``FILE:LINE`` and the key's path, put before the sentence.

    Names of files and what stands in them are not to be trusted with a terminal: only what prints is told.
    """

    def __init__(self, message: str, where: str = "") -> None:
        message, where = "\n".join(map(printable, message.split("\n"))), printable(where)
        if len(where) > LONGEST_PLACE:
            where = f"{where[: LONGEST_PLACE // 2]}...{where[-LONGEST_PLACE // 2 :]}"
        super().__init__(f"{where}: {message}" if where else message)
        self.message = message
        self.where = where


class IncompatibleParts(PsoptError):
    """A row of parts that makes no sense: says what cannot be combined, and because of what."""


class NotFinite(PsoptError):
    """A gradient came out as NaN or infinity: names round, worker and tensor."""


class ProtocolError(PsoptError):
    """Two ends of the protocol disagree: never the user's input."""


class DeadlinePassed(PsoptError):
    """Another rank was waited for in vain: it is dead, frozen, or slower than its deadline."""


class CannotWrite(PsoptError):
    """The run folder takes no more: a full disk, a quota, a lost file system."""


class Warned(PsoptError):
    """The run was warned that its time is nearly over: it has ended with a checkpoint, to be started again."""


class WorkerFailed(PsoptError):
    """A worker raised; the message is the remote traceback, headed by worker, rank, host and round."""


class WorkerLost(PsoptError):
    """A worker is gone, in one process, where none can die by itself: raised by its handle, the message says why."""
