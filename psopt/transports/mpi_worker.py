"""A worker rank's end of the MPI transport.

The rank keeps two receives posted at all times: the next collective, by which a message for everyone comes, or, where
ranks pass these on, its first segment; and the next point-to-point message, by which a message for a few comes; where
everything comes from the server alone, only the latter. Answers leave from a buffer of their own while the rank's next
worker already computes.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from psopt import signals
from psopt.core.downlink import Replica, Widened
from psopt.core.frames import Frame, frames_of, nbytes
from psopt.core.messages import (
    HEADER_NBYTES,
    Broadcast,
    Evaluate,
    Failure,
    Interrupt,
    Kind,
    Message,
    Save,
    Saved,
    Skip,
    Stop,
    Upload,
    mask_nbytes,
)
from psopt.core.worker import Worker
from psopt.errors import DeadlinePassed
from psopt.transports.base import SERVER, Timeouts, what_failed
from psopt.transports.commons import Commons
from psopt.transports.in_two import TakenInTwo
from psopt.transports.mpi import MPI, Link, check_size, needs_collective, upload_tag
from psopt.transports.relay import Relay
from psopt.transports.roll import is_fatal
from psopt.transports.spreading import BY_ITSELF, Spreading
from psopt.transports.standing import Watch
from psopt.transports.waiting import LOOKS, Patience, done_within

TRACEBACK_NBYTES = 10_000
"""So short that no escaping makes it too long for the server's buffer."""
GRACE_S = 2.0
COLLECTIVE, SINGLE = range(2)
MOST_SENDS = 8


class WorkerEnd:
    """A worker rank's end: serves the workers it hosts, possibly none, until the server says stop.

    Parameters
    ----------
    link : Link
    workers : sequence of Worker
        Those that live on this rank.
    total_workers : int
        M.
    dim, dtype
        Of theta as it crosses.
    timeouts : Timeouts
    replica : Replica or Widened, optional
        What the lazy downlink, or one of rounded theta, needs at this end.
    save : callable, optional
        Writes this rank's part of the checkpoint of a round, and returns what to say of it, in some hundred letters.
    handle : callable
        What a worker does with a broadcast.
    collective : bool, optional
        Whether messages for everyone come by a collective, else all come point to point; by default as
        `needs_collective` has it.
    spreading : Spreading, optional
        How messages for everyone reach all ranks, as at the server's end.
    commons : Commons, optional
        As at the server's end.
    """

    def __init__(
        self,
        link: Link,
        workers: Sequence[Worker],
        total_workers: int,
        dim: int,
        dtype: np.dtype,
        timeouts: Timeouts,
        replica: Replica | Widened | None = None,
        save: Callable[[int], str] | None = None,
        handle: Callable[[Worker, Broadcast], Upload | Skip] = Worker.handle,
        collective: bool | None = None,
        spreading: Spreading = BY_ITSELF,
        commons: Commons | None = None,
    ) -> None:
        if collective is None:
            collective = needs_collective(link, spreading)
        lazy = replica is not None and replica.lazy
        self._link, self._comm = link, link.comm
        self._workers = {worker.m: worker for worker in workers}
        self._timeouts = timeouts
        self._replica, self._save, self._handle = replica, save, handle
        room = 8 * dim + mask_nbytes(total_workers)
        check_size(HEADER_NBYTES + room)
        _, (single,) = frames_of(1, room)
        if commons:
            single.lend(commons.theta)
            if commons.rows:
                for worker in workers:
                    worker.move(commons.rows[1][worker.m].array)
        self._frames = {SINGLE: single}
        self._receives = {}
        self._source: Relay | TakenInTwo | None = None
        if spreading.relays(lazy):
            self._source = Relay(link, total_workers, spreading, timeouts.idle_s)
        elif lazy:
            self._source = TakenInTwo(link, timeouts.idle_s)
        if self._source:
            self._receives[COLLECTIVE] = self._source.first
        elif collective:
            _, (self._frames[COLLECTIVE],) = frames_of(1, dim * dtype.itemsize)
            self._receives[COLLECTIVE] = link.standing_broadcast(self._frames[COLLECTIVE].buffer)
        self._receives[SINGLE] = self._comm.Recv_init([single.buffer, MPI.BYTE], SERVER, MPI.ANY_TAG)
        self._channels = list(self._receives)
        self._watch = Watch(list(self._receives.values()))
        self._outboxes = {m: _Outbox(self._comm, worker.frames, upload_tag(m)) for m, worker in self._workers.items()}
        self._channel = COLLECTIVE if COLLECTIVE in self._receives else SINGLE
        self._round = 0
        self._at_work = -1
        self._passed_on = False

    def serve(self) -> None:
        """Answers until the server stops the run. An exception of a worker is reported to the server, then raised."""
        try:
            self._serve()
        except DeadlinePassed:
            raise  # a silent server hears no report
        except (Exception, SystemExit) as error:
            self._report(error)
            raise

    def _serve(self) -> None:
        for worker in self._workers.values():
            self._at_work = worker.m
            self._outboxes[worker.m].send(worker.hello(), Kind.HELLO)
        self._at_work = -1
        for receive in self._receives.values():
            receive.Start()
        while True:
            channel = self._channel = self._next()
            frame = self._frames.get(channel)
            message = frame.read() if frame else self._source.take()
            kind = type(message)
            if kind is Broadcast:
                self._round = message.round
                if self._replica:
                    message = self._replica.expand(message)
                asked = self._workers
                if message.workers is not None:
                    asked = [m for m in message.workers.tolist() if m in self._workers]
                self._answer(asked, self._handle, message, Kind.BROADCAST)
            elif kind is Evaluate:
                self._answer(self._workers, Worker.evaluate, message, Kind.EVALUATE)
            elif kind is Save:
                self._tell(Saved(self._link.rank, message.round, self._save(message.round)), Kind.SAVE)
            elif kind is Stop:
                return self._leave()
            self._receives[channel].Start()  # only now: the message, a view of its buffer, has been dealt with

    def _leave(self) -> None:
        """Frees every standing request; the channel that `Stop` came by is the one that has nothing under way."""
        if self._channel == COLLECTIVE:
            self._receives[SINGLE].Cancel()
            self._receives[SINGLE].Wait()
        for outbox in self._outboxes.values():
            self._complete(outbox)
            outbox.free()
        for receive in self._receives.values():
            receive.Free()

    def _answer(self, asked: Any, call: Callable[[Worker, Any], Message], message: Message, question: Kind) -> None:
        workers, outboxes = self._workers, self._outboxes
        for m in asked:
            self._at_work = m
            outbox = outboxes[m]
            if not outbox.empty():  # before the work: a contribution may be made where the last one leaves from
                self._complete(outbox)
            outbox.send(call(workers[m], message), question)
        self._at_work = -1

    def _next(self) -> int:
        """Waits for the next message and tells its channel."""
        look = self._watch.look
        found = look(LOOKS)
        if found is None:
            patience = Patience(self._timeouts.idle_s)
            while found is None and patience.pause():
                found = look(1 if patience.resting else LOOKS)
                self._pass_on()
        if found is None:
            raise DeadlinePassed(
                f"rank {self._link.rank} on {self._link.host} had no word from the server for "
                f"{self._timeouts.idle_s:g} s (timeouts.idle_s)"
            )
        return self._channels[found]

    def _pass_on(self) -> None:
        """Tells the server, once, when this rank was asked to end."""
        if signals.asked() and not self._passed_on:
            self._passed_on = True
            self._tell(Interrupt(self._link.rank, signals.warned()), Kind.FAILURE)

    def _tell(self, message: Saved | Interrupt, tag: Kind) -> None:
        """Sends what is none of the workers' answers, and waits until it has left."""
        outbox = _Outbox(self._comm)
        outbox.send(message, tag)
        self._complete(outbox)
        outbox.free()

    def _complete(self, outbox: "_Outbox") -> None:
        timeout_s = self._timeouts.round_s
        if not done_within(timeout_s, outbox.empty):
            raise DeadlinePassed(f"the server took no answer for {timeout_s:g} s (timeouts.round_s)")

    def _report(self, error: BaseException) -> None:
        """Tells the server, and waits a moment for it to end the job: then one traceback is printed, not many."""
        text = what_failed(error).encode("utf-8", "backslashreplace")[-TRACEBACK_NBYTES:].decode("utf-8", "ignore")
        link = self._link
        message = Failure(self._at_work, self._round, link.rank, link.host, text, is_fatal(error))
        outbox = _Outbox(self._comm)
        outbox.send(message, Kind.FAILURE)
        patience = Patience(GRACE_S)
        while patience.pause():
            outbox.empty()


class _Outbox:
    """Where one answer at a time leaves from: the frame that a payload is held in, else a frame of its own, each with a
    standing send for each length and tag that comes up.

    ``empty`` tells whether the last one has left.
    """

    def __init__(self, comm: Any, holding: Sequence[Frame] = (), upload_tag: int = 0) -> None:
        self._comm, self._upload_tag = comm, upload_tag
        self._holding = {id(frame.array): frame for frame in holding}
        self._frame = Frame(np.empty(HEADER_NBYTES, dtype=np.uint8))
        self._sends: dict[tuple[Frame, int, int], Any] = {}
        self.free()

    def send(self, message: Message, tag: int) -> None:
        """Posts the message, an answer to a broadcast with a tag of its own; the last one must have left."""
        kind, frame = type(message), self._frame
        if kind is Upload:
            tag = self._upload_tag
            frame = self._holding.get(id(message[4])) or self._roomy(message)
        elif kind is Skip:
            tag = self._upload_tag
        else:
            frame = self._roomy(message)
        chosen = frame, frame.write(message), tag
        send = self._sends.get(chosen)
        if send is None:
            send = self._made(chosen)
        self.empty = send.Test
        send.Start()

    def _roomy(self, message: Message) -> Frame:
        """The frame of its own, large enough for the message."""
        size = nbytes(message)
        if size > self._frame.buffer.size:
            self.free()
            self._frame = self._frame.holding(check_size(size))
        return self._frame

    def _made(self, chosen: tuple[Frame, int, int]) -> Any:
        """A standing send of this frame, length and tag."""
        if len(self._sends) == MOST_SENDS:
            self.free()
        frame, size, tag = chosen
        send = self._sends[chosen] = self._comm.Send_init([frame.buffer[:size], MPI.BYTE], SERVER, tag)
        return send

    def free(self) -> None:
        for send in self._sends.values():
            send.Free()
        self._sends.clear()
        self.empty: Callable[[], bool] = lambda: True
