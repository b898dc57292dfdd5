"""Tasks in processes of their own, a few at a time.

Each slot is a pool of one process: a process that dies takes nobody's task with it but its own, and is replaced.
Interrupts are the parent's to answer; it hands them on as a termination, which ends a task like an interrupt does.
"""

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from multiprocessing import connection
from multiprocessing.process import BaseProcess
from typing import Any, TypeVar

from psopt.launch import END_WITHIN_S

K = TypeVar("K")
DIED = "its process died without a word, as one that was killed or that ran out of memory does"


class ProcessDied(Exception):
    """A task's process ended before the task did."""


def work_through(
    call: Callable[..., Any],
    tasks: Iterable[tuple[K, tuple[Any, ...]]],
    processes: int,
    ended: Callable[[K, Any], None],
) -> None:
    """Does ``call(*arguments)`` for each task, ``processes`` at a time.

    Parameters
    ----------
    call : callable
        Of a module, as its arguments and what it returns have to be picklable.
    tasks : iterable of (key, arguments)
        Asked for the next task when a process is free for it.
    processes : int
    ended : callable
        Called in this process with a task's key and what came of it: what ``call`` returned, or a `ProcessDied`.
    """
    waiting = iter(tasks)
    going: dict[Future[Any], tuple[K, ProcessPoolExecutor]] = {}
    slots: list[ProcessPoolExecutor] = []
    earlier = set(multiprocessing.active_children())

    def start(slot: ProcessPoolExecutor | None) -> None:
        for key, arguments in islice(waiting, 1):
            if slot is None:
                slot = ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), initializer=_end_with_parent)
                slots.append(slot)
            going[_submit(slot, call, arguments)] = key, slot

    try:
        for _ in range(processes):
            start(None)
        while going:
            for future in wait(going, return_when=FIRST_COMPLETED).done:
                key, slot = going.pop(future)
                error = future.exception()
                if error is not None and not isinstance(error, BrokenProcessPool):
                    raise error
                ended(key, ProcessDied(DIED) if error else future.result())
                start(None if error else slot)
    except BaseException:
        _end([child for child in multiprocessing.active_children() if child not in earlier])
        raise
    finally:
        for slot in slots:
            slot.shutdown(wait=True, cancel_futures=True)


def _submit(slot: ProcessPoolExecutor, call: Callable[..., Any], arguments: tuple[Any, ...]) -> Future[Any]:
    """A process that is made here inherits the mask: Ctrl-C, which reaches all processes, is the parent's to answer."""
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        return slot.submit(_task, call, arguments)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _task(call: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    earlier = signal.signal(signal.SIGTERM, _interrupt)
    try:
        return call(*arguments)
    except KeyboardInterrupt:
        os._exit(130)
    finally:
        signal.signal(signal.SIGTERM, earlier)


def _interrupt(number: int, frame: object) -> None:
    signal.signal(number, signal.SIG_IGN)  # once is enough: let the run be written down
    raise KeyboardInterrupt


def _end_with_parent() -> None:
    """Lets this process end when its parent has died, which nobody else would tell it."""

    def watch() -> None:
        connection.wait([multiprocessing.parent_process().sentinel])
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()


def _end(children: list[BaseProcess]) -> None:
    until = time.monotonic() + END_WITHIN_S
    try:
        for child in children:
            child.terminate()
        for child in children:
            child.join(max(0.0, until - time.monotonic()))
    finally:
        for child in children:
            child.kill()
