"""TCP's windows, as Linux's default (cubic) has them: how much of a message may be on its way, unconfirmed."""

import math
from typing import NamedTuple

from psopt.views.network import SEGMENT

FIRST_WINDOW = 10 * SEGMENT
LARGEST_WINDOW = 1 << 22
IDLE_S = 0.2
"""The window is `FIRST_WINDOW` and doubles each round trip; it halves for each time-out, `IDLE_S` and the last round
trip, in which a connection does not fill it.
"""

CAREFUL_WINDOW, CAREFUL_GROWTH = 16 * SEGMENT, 1 / 20
LATE, LEAST_LATE_S, MOST_LATE_S = 1 / 8, 4e-3, 16e-3
"""Once confirmations are late, by an eighth of a round trip within these bounds, because others queue for the cable, a
window of that size or more doubles no longer: beyond as much again (eight confirmations of two segments tell that they
are late) it grows by a twentieth of what is sent.
"""


class Window(NamedTuple):
    """Of a connection: when it was last used, bytes, the round trip then, and from which size it grows slowly."""

    used: float
    size: float
    round_trip_s: float
    limit: float = math.inf

    def at(self, time: float) -> float:
        """Bytes at a later time."""
        halved = (time - self.used) // (IDLE_S + self.round_trip_s)
        return max(FIRST_WINDOW, self.size / 2.0 ** min(halved, 64))


UNUSED = Window(0.0, FIRST_WINDOW, 0.0)


def lateness_s(latency_s: float) -> float:
    """By how much confirmations have to come later than over empty cables to count as late."""
    return min(max(LEAST_LATE_S, LATE * 2 * latency_s), MOST_LATE_S)


def grown(window: float, sent: int, limit: float, late: bool, under_way: int | None = None) -> tuple[float, float]:
    """The window, and its limit, once ``sent`` bytes of the ``under_way`` (these alone by default) are confirmed."""
    if late and window >= CAREFUL_WINDOW:
        limit = min(limit, window + CAREFUL_WINDOW)
    if window >= limit:
        window += CAREFUL_GROWTH * sent
    elif (sent if under_way is None else under_way) > window / 2:  # what is hardly used does not grow
        window = min(limit, window + sent)
    return min(window, LARGEST_WINDOW), limit
