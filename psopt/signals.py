"""Signals that ask a run to end: Ctrl-C, the termination that schedulers send, and the warning that comes before it.

A run heeds them between two rounds, so that it ends in good order and with a checkpoint. Whoever asks again, or where a
round takes longer than `GRACE_S`, gets a `KeyboardInterrupt` on the spot, as everywhere outside of a run. The warning,
SIGUSR1, may come several times and early: the run ends after its next round, however long that takes.
"""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

ASKING = (signal.SIGINT, signal.SIGTERM)
WARNING = signal.SIGUSR1
REQUEUE = 75
"""The exit code of a run that was warned, has a checkpoint, and is to be started again (EX_TEMPFAIL)."""

GRACE_S = 10.0


@dataclass
class Wish:
    """Whether somebody has ``asked`` this process: by a signal to itself that the next one insists on (``urged``), or
    by one that ``warned`` it that its time is nearly over; and whether a run is under way that ``heeds`` it, or is at
    something that is worth waiting for.
    """

    asked: bool = False
    urged: bool = False
    warned: bool = False
    heeds: bool = False
    patient: bool = False

    def granted(self) -> bool:
        """Whether somebody has asked; from now on the run has all the time it needs to end."""
        if self.asked:
            signal.setitimer(signal.ITIMER_REAL, 0)
        return self.asked


_wish = Wish()


def answer() -> None:
    """From now on this process ends as this file says; for rank 0 of a job, and a command line on its own.

    Who was started to ignore a signal, as what a script puts into the background, goes on ignoring it.
    """
    for number in ASKING:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _asked)
    signal.signal(signal.SIGALRM, _late)
    signal.signal(WARNING, _remember)


def pass_on() -> None:
    """From now on this process, a rank that hosts workers, only remembers: rank 0 has to know."""
    for number in (*ASKING, WARNING):
        signal.signal(number, _remember)


@contextmanager
def answering(first: bool) -> Iterator[None]:
    """Around a run within somebody's own program: signals are heeded as in a command, and afterwards as before.

    ``first``: as on rank 0. Does nothing where the program heeds signals in ways of its own or has set itself an alarm,
    and outside of its main thread, which alone hears any.
    """
    usual = dict.fromkeys((signal.SIGTERM, signal.SIGALRM, WARNING), signal.SIG_DFL)
    usual[signal.SIGINT] = signal.default_int_handler
    earlier = {number: signal.getsignal(number) for number in usual}
    own = any(earlier[number] not in (handler, signal.SIG_IGN) for number, handler in usual.items())
    own |= signal.getitimer(signal.ITIMER_REAL)[0] > 0
    if own or None in earlier.values() or threading.current_thread() is not threading.main_thread():
        yield
        return
    try:
        (answer if first else pass_on)()
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in earlier.items():
            signal.signal(number, handler)
        _wish.asked = _wish.urged = _wish.warned = False


def asked() -> bool:
    return _wish.asked


def warned() -> bool:
    return _wish.warned


def ask(warned: bool) -> None:
    """As if a signal had come."""
    _wish.asked = True
    _wish.warned |= warned


@contextmanager
def heeded() -> Iterator[Wish]:
    """Around the rounds of a run, which asks after each of them whether an end is ``granted``."""
    _wish.heeds = True
    try:
        yield _wish
    finally:
        _wish.heeds = False
        _wish.granted()


@contextmanager
def patient() -> Iterator[None]:
    """Around what a long wait does not interrupt, though asking twice does."""
    _wish.patient = True
    try:
        yield
    finally:
        _wish.patient = False


def _late(number: int, frame: object) -> None:
    if _wish.patient:
        signal.setitimer(signal.ITIMER_REAL, GRACE_S)
    else:
        _interrupt(number, frame)


def _asked(number: int, frame: object) -> None:
    if _wish.heeds and not _wish.urged:
        _wish.asked = _wish.urged = True
        signal.setitimer(signal.ITIMER_REAL, GRACE_S)
        os.write(2, b"psopt: will end after this round; once more, and it ends now\n")
        return
    _interrupt(number, frame)


def ignore() -> None:
    """From now on nobody is asked: this process is ending."""
    for each in (*ASKING, WARNING, signal.SIGALRM):
        signal.signal(each, signal.SIG_IGN)


def _interrupt(number: int, frame: object) -> None:
    ignore()  # once is enough: let the run be written down
    raise KeyboardInterrupt


def _remember(number: int, frame: object) -> None:
    ask(number == WARNING)
