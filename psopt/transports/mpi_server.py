"""The server's end of the MPI transport, on rank 0.

Receives stand, start when the question has left, and are completed in whatever order answers come. A message for
everyone goes by a collective, or, where all ranks share a host and a tree only makes them wait for each other, by a
standing send to each, or from rank to rank; one for a few goes to their ranks alone, and whoever is not asked gets
nothing.
"""

import time
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import numpy as np

from psopt import signals
from psopt.core.frames import Frame, frames_of, nbytes
from psopt.core.ledger import Ledger
from psopt.core.messages import (
    HEADER_NBYTES,
    NO_VECTOR,
    Broadcast,
    Evaluate,
    Failure,
    Hello,
    KeepAlive,
    Kind,
    Message,
    Save,
    Skip,
    Stop,
    Upload,
    Value,
    What,
    mask_nbytes,
)
from psopt.core.room import Room
from psopt.errors import WorkerFailed
from psopt.parts.rows import Rows
from psopt.transports.base import Timeouts, failure_header, hosted_by, rank_of
from psopt.transports.in_two import InTwo
from psopt.transports.mpi import (
    MPI,
    Link,
    check_changes_size,
    check_size,
    check_tags,
    needs_collective,
    upload_tag,
    value_nbytes,
)
from psopt.transports.mpi_answers import Answers
from psopt.transports.relay import Source
from psopt.transports.roll import Roll
from psopt.transports.spreading import BY_ITSELF, Spreading
from psopt.transports.waiting import Patience, done_within

FAILURE_NBYTES = 1 << 16
SAVED_NBYTES = 1 << 14
WATCHED = 128
"""Answers that are looked for at a time, in worker order, as ranks answer: a look costs as much as it looks at, and of
thousands only the next few can have come.
"""


class ServerEnd:
    """The server's end, on rank 0.

    Parameters
    ----------
    link : Link
    workers : int
        M.
    dim : int
    dtype : numpy dtype
        Of theta. Questions off the books may come in float64 all the same.
    payload_nbytes : int
        The largest payload of an upload.
    timeouts : Timeouts
    hosts : sequence of str
        The host of each rank, for messages.
    lazy_downlink : bool
        Messages for everyone have any length.
    spreading : Spreading, optional
        How they reach all ranks.
    sent_dtype : numpy dtype, optional
        In which theta crosses, if not as it is.
    mapped_in : str, optional
        The folder of a file that uploads arrive in, instead of memory.
    """

    def __init__(
        self,
        link: Link,
        workers: int,
        dim: int,
        dtype: np.dtype,
        payload_nbytes: int,
        timeouts: Timeouts,
        hosts: Sequence[str],
        lazy_downlink: bool = False,
        spreading: Spreading = BY_ITSELF,
        sent_dtype: np.dtype | None = None,
        mapped_in: str | None = None,
    ) -> None:
        self.ledger = Ledger(workers)
        self.ledger.wire.setup_bytes = link.setup_bytes
        self.roll = Roll(workers)
        self.waited_s = 0.0
        self.computed_s = 0.0
        self.handled_s = 0.0
        self._comm, self._ranks, self._hosts = link.comm, link.size, hosts
        self._workers = workers
        self._home = [rank_of(m, link.size) for m in range(workers)]
        self._timeouts = timeouts
        vector, sent = dim * dtype.itemsize, dim * (sent_dtype or dtype).itemsize
        self._standing_nbytes = check_size(HEADER_NBYTES + sent)
        check_size(HEADER_NBYTES + sent + mask_nbytes(workers))
        _, (self._down,) = frames_of(1, sent + mask_nbytes(workers))
        self._aside = Frame(np.empty(HEADER_NBYTES, dtype=np.uint8))
        standing, collective = self._down.buffer[: self._standing_nbytes], needs_collective(link, spreading)
        self._source: Source | InTwo | None = None
        if lazy_downlink:
            check_changes_size(workers, payload_nbytes)
        if spreading.relays(lazy_downlink):
            self._everyone: Any = Source(link, workers, spreading)
            self._source, collective = self._everyone, False
        elif lazy_downlink:
            self._everyone = self._source = InTwo(link)
        elif collective:
            self._everyone = link.standing_broadcast(standing)
        else:
            self._everyone = link.standing_fan(standing, Kind.BROADCAST)
        check_tags(workers)
        check_size(HEADER_NBYTES + payload_nbytes)
        block, self._slots = frames_of(workers, payload_nbytes, mapped_in)
        rows = None
        if payload_nbytes == vector:
            vectors = [slot.hold(dim, dtype) for slot in self._slots]
            rows = Rows(block.view(dtype), HEADER_NBYTES // dtype.itemsize, vectors)
        leaves = not (collective or lazy_downlink) and sent == vector
        self.room = Room(self._down.hold(dim, dtype) if leaves else None, rows)
        self._theta, self._dim = self.room.theta, dim
        self._failure = Frame(np.empty(FAILURE_NBYTES, dtype=np.uint8))
        self._failure_request = self._listen()
        self._standing = self._receives(self._slots, [upload_tag(m) for m in range(workers)])
        self._numbers = Answers(self._receives, workers, Kind.EVALUATE, value_nbytes(What.OBJECTIVE, dim))
        self._vectors: Answers | None = None
        self._keep_alive = Frame(np.empty(HEADER_NBYTES, dtype=np.uint8))
        self._keep_alive_requests: list[Any] = []
        self._contacted = [time.perf_counter()] * link.size
        self._next_look = time.perf_counter()
        self._round = 0

    def hellos(self) -> list[Hello]:
        answers = Answers(self._receives, self._workers, Kind.HELLO, 0)
        told = self._gather_answers(None, answers)
        answers.free()
        return told

    def exchange(self, message: Broadcast, receive: Callable[[Upload | Skip], None]) -> None:
        self._round = message.round
        self._forget_vectors()
        asked = None if message.workers is None else message.workers.tolist()
        if asked is None:
            receives, slots = self._standing, self._slots
        else:
            receives, slots = [self._standing[m] for m in asked], [self._slots[m] for m in asked]
        self._collect(message, asked, receives, slots, receive)

    def evaluate(self, message: Evaluate) -> list[Value]:
        room = value_nbytes(message.what, self._dim)
        if room <= self._numbers.room:
            return self._gather_answers(message, self._numbers)
        if self._vectors is None or self._vectors.room != room:
            self._forget_vectors()
            self._vectors = Answers(self._receives, self._workers, Kind.EVALUATE, room)
        return self._gather_answers(message, self._vectors)

    def idle(self) -> None:
        self._keep_alive_idle()

    def save(self, k: int, own: Callable[[], None]) -> dict[int, str]:
        """Point to point, and on the wire's account alone."""
        homes = sorted(set(self._home))
        frames = [Frame(np.empty(SAVED_NBYTES, dtype=np.uint8)) for _ in homes]
        pairs = zip(frames, homes, strict=True)
        receives = [self._comm.Irecv([frame.buffer, MPI.BYTE], rank, Kind.SAVE) for frame, rank in pairs]
        question = Frame(np.empty(HEADER_NBYTES, dtype=np.uint8))
        question.write(Save(k))
        sending = [self._comm.Isend([question.buffer, MPI.BYTE], rank, Kind.BROADCAST) for rank in homes]
        self.ledger.wire.down(HEADER_NBYTES, len(homes))
        own()
        said = {}
        patience = Patience(max(self._timeouts.round_s, self._timeouts.start_s))
        while len(said) < len(homes):
            for i in MPI.Request.Testsome(receives) or ():
                answer = frames[i].read()
                self.ledger.wire.up(frames[i].nbytes)
                said[answer.rank] = answer.text
            self._hear_unasked()
            self._keep_alive_idle()
            if len(said) < len(homes) and not patience.pause():
                self._give_up({m for m, rank in enumerate(self._home) if rank not in said})
        for request in sending:
            self._complete(request)
        return said

    def stop(self, k: int) -> None:
        sending = self._send(Stop(k), None)
        self.ledger.down(Stop(k), None)
        for request in [*sending, *self._keep_alive_requests]:
            self._complete(request)
        self._failure_request.Cancel()
        self._failure_request.Wait()
        for request in (*self._standing, self._everyone):
            request.Free()
        self._numbers.free()
        self._forget_vectors()

    def _forget_vectors(self) -> None:
        """The memory for vectors, M of them, is needed no longer, at least for now."""
        if self._vectors:
            self._vectors.free()
            self._vectors = None

    def _receives(self, slots: list[Frame], tags: Sequence[int]) -> list[Any]:
        """Standing receives, one a worker. Where tags are the same, two workers of one rank may fill each other's slot:
        the message says whose it is.
        """
        comm, home = self._comm, self._home
        return [comm.Recv_init([slot.buffer, MPI.BYTE], home[m], tags[m]) for m, slot in enumerate(slots)]

    def _frame_for(self, message: Message) -> Frame:
        """The frame that stands, if the message may be in it: not where theta lives in it and the message holds another
        vector.
        """
        array, place = getattr(message, "theta", NO_VECTOR), self._theta
        if array is place or not array.size:
            return self._down
        if place is None and array.nbytes + HEADER_NBYTES <= self._standing_nbytes:
            return self._down
        self._aside = self._aside.holding(check_size(nbytes(message)))
        return self._aside

    def _send(self, message: Message, asked: Sequence[int] | None) -> list[Any]:
        """To everyone (None) by what stands for that; to a few, once to each rank that hosts one of them.

        What cannot be where that stands goes point to point as well.
        """
        if self._source and asked is None:
            return self._send_down(message, self._source)
        frame = self._frame_for(message)
        size = frame.write(message)
        now = time.perf_counter()
        if asked is None and frame is self._down:
            self._everyone.Start()
            self.ledger.wire.down(self._standing_nbytes, self._ranks - 1)
            self._contacted = [now] * self._ranks
            return [self._everyone]
        ranks = sorted({self._home[m] for m in (range(self._workers) if asked is None else asked)})
        self.ledger.wire.down(size, len(ranks))
        for rank in ranks:
            self._contacted[rank] = now
        view = [frame.buffer[:size], MPI.BYTE]
        return [self._comm.Isend(view, rank, Kind.BROADCAST) for rank in ranks]

    def _send_down(self, message: Message, source: Source | InTwo) -> list[Any]:
        """To everyone, of any length. The wire's account has what crosses between any two ranks."""
        frame, last = self._frame_for(message), type(message) is Stop
        size = frame.write(message)
        sending = source.send(frame.buffer[:size], last)
        reached = self._ranks if last else source.ranks
        self.ledger.wire.down(size, reached - 1)
        self._contacted[:reached] = [time.perf_counter()] * reached
        return sending

    def _gather_answers(self, question: Evaluate | None, into: Answers) -> list[Any]:
        """One answer a worker, in worker order, with vectors of their own."""
        answers: list[Any] = [None] * self._workers

        def keep(answer: Hello | Value) -> None:
            if isinstance(answer, Value):
                answer = answer._replace(vector=answer.vector.copy())
            answers[answer.worker] = answer

        self._collect(question, None, into.receives, into.slots, keep)
        return answers

    def _collect(
        self,
        question: Broadcast | Evaluate | None,
        asked: Sequence[int] | None,
        receives: list[Any],
        slots: list[Frame],
        receive: Callable[[Any], None],
    ) -> None:
        """Sends the question, if any, posts the receives, and hands over answers as they arrive, until all are in."""
        clock = time.perf_counter
        start, sending = clock(), []
        if question is not None:
            sending = self._send(question, asked)  # before all else: the workers are at it meanwhile
            self.ledger.down(question, asked)
        MPI.Prequest.Startall(receives)
        patience = Patience(self._timeouts.round_s)
        handled_s = patience.began - start
        if start > self._next_look:
            self._keep_alive_idle()
        testsome, count, home = MPI.Request.Testsome, self.ledger.up, self._home
        worked_s = [0.0] * self._ranks
        looks = taken_nbytes = 0
        missing = len(receives)
        at, watched, following = list(range(min(missing, WATCHED))), receives[:WATCHED], WATCHED
        while missing:
            done = testsome(watched)
            if not done:
                looks += 1
                if looks & 15 == 0:  # a failed worker's answer stays away: no hurry
                    self._hear_unasked()
                if patience.resting:
                    self._keep_alive_idle()
                if not patience.pause():
                    workers = range(self._workers) if asked is None else asked
                    self._give_up({m for m, request in zip(workers, receives, strict=True) if not request.Test()})
                continue
            began = patience.reset()
            for i in done:
                slot = slots[at[i]]
                message = slot.read()
                taken_nbytes += slot.nbytes
                count(message)
                worked_s[home[message.worker]] += message.seconds
                receive(message)
                if following < len(receives):
                    at[i], watched[i] = following, receives[following]
                    following += 1
            missing -= len(done)
            handled_s += clock() - began
        self.ledger.wire.up(taken_nbytes, len(receives))
        for request in sending:
            if not request.Test():
                self._complete(request)
        self.waited_s += clock() - start
        self.handled_s += handled_s
        self.computed_s += max(worked_s)

    def _hear_unasked(self) -> None:
        """What a rank says of itself: that it has failed, which is raised, or that it was asked to end the run."""
        if not self._failure_request.Test():
            return
        said = self._failure.read()
        if type(said) is Failure:
            header = failure_header(said.worker, self._workers, said.rank, said.host, said.round)
            raise WorkerFailed(f"{header}\n{said.text}")
        signals.ask(said.warned)
        self._failure_request = self._listen()

    def _listen(self) -> Any:
        """The receive for what comes unasked, from anybody."""
        return self._comm.Irecv([self._failure.buffer, MPI.BYTE], MPI.ANY_SOURCE, Kind.FAILURE)

    def _complete(self, request: Any) -> None:
        timeout_s = self._timeouts.round_s
        if not done_within(timeout_s, request.Test):
            raise WorkerFailed(
                f"a message of round {self._round} was not taken within {timeout_s:g} s (timeouts.round_s)"
            )

    def _give_up(self, missing: set[int]) -> NoReturn:
        """Names the workers whose answer is missing, and their ranks."""
        where = ", ".join(f"worker {m} (rank {self._home[m]} on {self._hosts[self._home[m]]})" for m in sorted(missing))
        raise WorkerFailed(
            f"round {self._round}: no answer within {self._timeouts.round_s:g} s (timeouts.round_s) from {where}"
        )

    def _keep_alive_idle(self) -> None:
        """A header to each rank that has heard nothing for a third of what it bears."""
        now = time.perf_counter()
        self._next_look = now + self._timeouts.idle_s / 12
        due = now - self._timeouts.idle_s / 3
        if min(self._contacted[1:]) > due:
            return
        self._keep_alive_requests = [r for r in self._keep_alive_requests if not r.Test()]
        if self._keep_alive_requests:
            return
        message = KeepAlive(self._round)
        size = self._keep_alive.write(message)
        for rank in range(1, self._ranks):
            if self._contacted[rank] <= due:
                self._contacted[rank] = now
                self.ledger.down(message, hosted_by(rank, self._workers, self._ranks)[:1])
                self.ledger.wire.down(size)
                view = [self._keep_alive.buffer, MPI.BYTE]
                self._keep_alive_requests.append(self._comm.Isend(view, rank, Kind.KEEP_ALIVE))
