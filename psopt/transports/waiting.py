"""Polite waiting: neither a spinning core nor a fixed sleep.

A wait first yields the processor for a millisecond, which catches an answer that is about to come, then sleeps for a
small share of the time it has been waiting, so that what it oversleeps is in proportion, up to a millisecond. Any
activity starts it over; the deadline stands.

Measured on 2 cores with an empty kernel, 9 workers, one asked a round: with a share of 0.1 a round took 0.4 ms on 3
ranks and 2.6 ms on 10, with 0.02 it took 0.2 and 0.7 ms; doubling the sleep each time took 3.5 and more.

Where a host has more ranks than cores, whoever yields stays on a core's queue, and Linux sees every core busy: two
ranks were seen to take turns at work on one core while the server alone yielded on the other, for as long as nobody
slept. So sleeps begin sooner there, and are shorter. In turns, on 2 cores that others used as well: the round of a
perceptron, 3 workers, took 0.9 of the time on 3 ranks and 0.83 on 4, an empty one with 9 workers on 10 ranks 0.6.
"""

import ctypes
import os
import sys
import time
from collections.abc import Callable

YIELD_S = 1e-3
FIRST_SLEEP_S = 50e-6
CROWDED = 200e-6, 20e-6
"""What stands for these two where ranks have to share cores."""
LAST_SLEEP_S = 1e-3
SLEEP_SHARE = 0.02
PR_SET_TIMERSLACK = 29
LOOKS = 16
"""So many looks for a message by compiled code, each with a yield, before a `Patience` and other duties have a turn."""


def sleep_precisely() -> None:
    """Asks Linux to end this thread's sleeps on time; by default it adds up to 50 us, as much as a short sleep."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_TIMERSLACK, 1000, 0, 0, 0)


_habit = YIELD_S, FIRST_SLEEP_S


def share_cores(crowded: bool) -> None:
    """From now on this process waits as one of more ranks than there are cores, or as one that has a core."""
    global _habit
    _habit = CROWDED if crowded else (YIELD_S, FIRST_SLEEP_S)


class Patience:
    """One wait of at most ``timeout_s`` seconds: `pause` after a look that found nothing, else `reset`.

    ``resting`` tells that the wait has grown long enough for sleeps, and so for other small duties.
    """

    __slots__ = ("_first_sleep_s", "_quiet_since", "_yield_s", "began", "resting", "timeout_s")

    def __init__(self, timeout_s: float) -> None:
        self.timeout_s = timeout_s
        self._yield_s, self._first_sleep_s = _habit
        self.began = time.perf_counter()
        self._quiet_since = self.began
        self.resting = False

    def reset(self) -> float:
        """Something has come; returns now, in seconds of `time.perf_counter`."""
        self._quiet_since = now = time.perf_counter()
        self.resting = False
        return now

    def pause(self) -> bool:
        """Gives the processor away for a moment; False once the deadline has passed."""
        now = time.perf_counter()
        quiet_s = now - self._quiet_since
        if quiet_s < self._yield_s:
            os.sched_yield()
        else:
            self.resting = True
            time.sleep(min(max(self._first_sleep_s, SLEEP_SHARE * quiet_s), LAST_SLEEP_S))
        return now - self.began < self.timeout_s


def done_within(timeout_s: float, test: Callable[[], bool]) -> bool:
    """Waits politely until ``test()`` is true; False when it is not within ``timeout_s`` seconds."""
    if test():
        return True
    patience = Patience(timeout_s)
    while not test():
        if not patience.pause():
            return False
    return True
