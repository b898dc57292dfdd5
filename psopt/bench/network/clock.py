"""When each round was over, and what the host's cable has carried until then; psopt's rows and torch's alike."""

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from time import perf_counter
from typing import Any

from psopt.config import Stop
from psopt.records import record
from psopt.runs.stopping import Stopping
from psopt.runs.trace import Record

CABLE = "eth0"


def cable_nbytes(device: str = CABLE) -> tuple[int, int]:
    """Bytes out of and into this host's network device since it is there; zeros where there is no such device."""
    for line in Path("/proc/net/dev").read_text().splitlines():
        name, _, numbers = line.partition(":")
        if name.strip() == device:
            fields = numbers.split()
            return int(fields[8]), int(fields[0])
    return 0, 0


@record
class Limits:
    """How long a part of a run is measured.

    Attributes
    ----------
    warm : int
        Rounds before the clock starts, in which connections warm up.
    fewest, most : int
        Rounds on the clock.
    seconds : float
        On the clock, after which it is enough, if there were the fewest.
    """

    warm: int
    fewest: int
    most: int
    seconds: float

    def enough(self, rounds: int, seconds: float) -> bool:
        """After so many rounds and seconds on the clock."""
        return rounds >= self.most or (rounds >= self.fewest and seconds >= self.seconds)


@dataclass
class Marks:
    """Seconds, and bytes out of and into this host, at the start of the clock and after each round on it."""

    seconds: list[float] = field(default_factory=list)
    up: list[int] = field(default_factory=list)
    down: list[int] = field(default_factory=list)

    def note(self) -> None:
        """Now."""
        self.seconds.append(perf_counter())
        up, down = cable_nbytes()
        self.up.append(up)
        self.down.append(down)

    def pause(self) -> None:
        """What comes before the next round does not count."""
        now = perf_counter()
        self.seconds = [each + now - self.seconds[-1] for each in self.seconds]

    def told(self) -> dict[str, Any]:
        """What a part came to."""
        rounds = len(self.seconds) - 1
        each = [after - before for before, after in pairwise(self.seconds)]
        return {
            "rounds": rounds,
            "seconds": self.seconds[-1] - self.seconds[0],
            "slowest_s": max(each),
            "hub_up": (self.up[-1] - self.up[0]) / rounds,
            "hub_down": (self.down[-1] - self.down[0]) / rounds,
        }


class Timed(Stopping):
    """Ends a run of psopt after enough of it.

    Parameters
    ----------
    limits : Limits
    begun : bool
        Whether the run goes on from a checkpoint: then it is asked once before its first round, too.
    """

    def __init__(self, limits: Limits, begun: bool) -> None:
        super().__init__(Stop(max_rounds=1))
        self._limits, self._left = limits, limits.warm + begun
        self.marks, self.since_start_s = Marks(), 0.0

    def reason(
        self, k: int, record: Record | None, uploads: int, seconds: float, aggregate_norm: Callable[[], float]
    ) -> str | None:
        self.since_start_s = seconds
        self._left -= 1
        if self._left > 0:
            return None
        self.marks.note()
        taken = self.marks.seconds
        return "measured" if self._limits.enough(len(taken) - 1, taken[-1] - taken[0]) else None
