"""The transport without MPI: server and workers in one process, every message through its binary form.

Answers arrive in worker order, or, disturbed, in an order drawn from a seed, as if each had been delayed at random.
"""

import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from psopt.core.downlink import Replica, Widened
from psopt.core.frames import Frame, nbytes
from psopt.core.ledger import Ledger
from psopt.core.messages import (
    HEADER_NBYTES,
    Broadcast,
    Evaluate,
    Failure,
    Hello,
    Message,
    Skip,
    Stop,
    Upload,
    Value,
)
from psopt.core.room import NO_ROOM
from psopt.core.worker import Worker
from psopt.errors import WorkerFailed, WorkerLost
from psopt.transports.base import Land, Receive, what_failed
from psopt.transports.roll import Roll, is_fatal, raised


class InProcess:
    """The server's end and the workers themselves.

    Parameters
    ----------
    workers : sequence of Worker
        In worker order.
    reorder : numpy.random.Generator, optional
        Draws the order in which the answers of a round arrive.
    replica : Replica or Widened, optional
        What the lazy downlink, or one of rounded theta, needs at the workers' end.
    handle : callable
        What a worker does with a broadcast.

    A worker whose call raises `WorkerLost`, or anything that is not the user's to mend, is lost where the run survives
    that.
    """

    def __init__(
        self,
        workers: Sequence[Worker],
        reorder: np.random.Generator | None = None,
        replica: Replica | Widened | None = None,
        handle: Callable[[Worker, Broadcast], Upload | Skip] = Worker.handle,
    ) -> None:
        self.workers = list(workers)
        self.ledger = Ledger(len(self.workers))
        self.room = NO_ROOM
        self.roll = Roll(len(self.workers))
        self.waited_s = 0.0
        self.computed_s = 0.0
        self.handled_s = 0.0
        self._reorder, self._replica, self._handle = reorder, replica, handle
        self._round = 0
        size = HEADER_NBYTES + 8 * len(self.workers) + 16 * max(w.problem.dim for w in self.workers)
        self._down, self._up = (Frame(np.empty(size, dtype=np.uint8)) for _ in range(2))

    def hellos(self) -> list[Hello]:
        return [self._upward(self._asked(worker, Worker.hello)) for worker in self.workers]

    def exchange(self, message: Broadcast, receive: Receive, land: Land | None = None) -> None:
        began = time.perf_counter()
        self.ledger.down(message, self.roll.asked if message.workers is None else message.workers)
        seen = self._downward(message)
        self._handled(began)
        self._round = message.round
        if self._replica:
            seen = self._replica.expand(seen)
        asked = self.roll.living if seen.workers is None else seen.workers
        for m in self._order(asked):
            answer = self._asked(self.workers[m], self._handle, seen)
            if answer is not None:
                began = time.perf_counter()
                receive(self._upward(answer))
                self._handled(began)

    def evaluate(self, message: Evaluate) -> list[Value]:
        began = time.perf_counter()
        self.ledger.down(message, self.roll.asked)
        seen = self._downward(message)
        self._handled(began)
        answers = []
        for m in self.roll.living:
            told = self._asked(self.workers[m], Worker.evaluate, seen)
            if told is not None:
                answer = self._upward(told)
                answers.append(answer._replace(vector=answer.vector.copy()))
        return answers

    def idle(self) -> None:
        return None

    def save(self, k: int, own: Callable[[], None]) -> dict[int, str]:
        own()
        return {}

    def stop(self, k: int) -> None:
        self.ledger.down(Stop(k), self.roll.asked)

    def _order(self, asked: Sequence[int]) -> Sequence[int]:
        return asked if self._reorder is None else self._reorder.permutation(asked)

    def _asked(self, worker: Worker, call: Callable[..., Message], *arguments: object) -> Message | None:
        """The worker's answer; None when it is lost now."""
        start = time.perf_counter()
        try:
            return call(worker, *arguments)
        except (Exception, SystemExit) as error:
            failure = Failure(worker.m, self._round, 0, socket.gethostname(), what_failed(error), is_fatal(error))
            loss = raised(failure, [worker.m], len(self.workers))
            if failure.fatal or not self.roll.survives:
                raise WorkerFailed(loss.account) from error
            self.roll.strike(replace(loss, why=str(error), account="") if isinstance(error, WorkerLost) else loss)
            return None
        finally:
            seconds = time.perf_counter() - start
            self.waited_s += seconds
            self.computed_s += seconds

    def _handled(self, began: float) -> None:
        seconds = time.perf_counter() - began
        self.waited_s += seconds
        self.handled_s += seconds

    def _downward(self, message: Message) -> Message:
        """The message as workers see it: through bytes."""
        self._down = self._down.holding(nbytes(message))
        return self._down.read(self._down.write(message))

    def _upward(self, message: Message) -> Message:
        """The message as the server sees it: through bytes, and counted."""
        self._up = self._up.holding(nbytes(message))
        seen = self._up.read(self._up.write(message))
        self.ledger.up(seen)
        return seen
