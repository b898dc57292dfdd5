"""Starts: what the stale vectors hold before round 1, who must upload at first, and for how long nobody may."""

from typing import Annotated, ClassVar, Protocol

from psopt.bounds import Ge
from psopt.records import record


class Start(Protocol):
    """``fill``: the value of every stale coordinate before round 1, known to both ends without a message.

    In rounds k <= ``forced_rounds`` everyone is selected and uploads; in rounds k <= ``silent_rounds`` nobody is.
    """

    fill: float
    forced_rounds: int
    silent_rounds: int


@record
class Zero:
    """Stale vectors start at zero; everyone uploads in the first ``forced_rounds`` rounds (SASG: D of them).

    Attributes
    ----------
    forced_rounds : int
        How many rounds everyone has to upload.
    """

    fill: ClassVar[float] = 0.0
    silent_rounds: ClassVar[int] = 0
    forced_rounds: Annotated[int, Ge(0)] = 0


@record
class Gradient:
    """Stale vectors hold the true contributions at theta^1: everyone uploads them in round 1, and is counted."""

    fill: ClassVar[float] = 0.0
    silent_rounds: ClassVar[int] = 0
    forced_rounds: ClassVar[int] = 1


@record
class Ones:
    """Stale vectors start at all ones and nobody may upload for ``silent_rounds`` rounds.

    Not in the paper; it is how the scripts behind the LAG paper's table begin.

    Attributes
    ----------
    silent_rounds : int
        How many rounds nobody may upload.
    """

    fill: ClassVar[float] = 1.0
    forced_rounds: ClassVar[int] = 0
    silent_rounds: Annotated[int, Ge(0)] = 0
