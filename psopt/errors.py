"""The six errors psopt raises on purpose.

`ConfigError` and `IncompatibleParts` are the user's to mend and are shown as one sentence without a traceback.
`NotFinite` is theirs as well: a run that has diverged, found where it happened. `ProtocolError` is a bug of psopt's
own. `WorkerFailed` carries what a worker raised across ranks: one of these sentences, or somebody else's traceback.
`WorkerLost` stands, in one process, for the death of a worker's process.
"""


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
    """

    def __init__(self, message: str, where: str = "") -> None:
        super().__init__(f"{where}: {message}" if where else message)
        self.message = message
        self.where = where


class IncompatibleParts(PsoptError):
    """A row of parts that makes no sense: says what cannot be combined, and because of what."""


class NotFinite(PsoptError):
    """A gradient came out as NaN or infinity: names round, worker and tensor."""


class ProtocolError(PsoptError):
    """Two ends of the protocol disagree, or a deadline passed: never the user's input."""


class WorkerFailed(PsoptError):
    """A worker raised; the message is the remote traceback, headed by worker, rank, host and round."""


class WorkerLost(PsoptError):
    """A worker is gone, in one process, where none can die by itself: raised by its handle, the message says why."""
