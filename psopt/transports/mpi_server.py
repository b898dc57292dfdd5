"""The server's end of the MPI transport, on rank 0.

Receives stand, start together with the question or when it has left, and are completed in whatever order answers come.
A message for everyone goes by a collective, or, where all ranks share a host and a tree only makes them wait for each
other, by a standing send to each, or from rank to rank; one for a few goes to their ranks alone, and whoever is not
asked gets nothing.
"""

import time
from collections.abc import Callable, Iterable, Sequence
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
    Kind,
    Message,
    Save,
    Stop,
    Value,
    What,
    mask_nbytes,
)
from psopt.core.room import Room
from psopt.errors import WorkerFailed
from psopt.parts.rows import Rows
from psopt.transports.base import Land, Receive, Timeouts, failure_header, rank_of
from psopt.transports.commons import Commons
from psopt.transports.in_two import InTwo
from psopt.transports.mpi import (
    MPI,
    Fan,
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
from psopt.transports.touch import Touch
from psopt.transports.waiting import LOOKS, Patience, done_within

FAILURE_NBYTES = 1 << 16
SAVED_NBYTES = 1 << 14


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
    changes_nbytes : int, optional
        Messages for everyone have any length, and this is what they hold at most, but for a checksum.
    spreading : Spreading, optional
        How they reach all ranks.
    sent_dtype : numpy dtype, optional
        In which theta crosses, if not as it is.
    mapped_in : str, optional
        The folder of a file that uploads arrive in, instead of memory.
    commons : Commons, optional
        Where theta, and uploads too, lie for all ranks: then only headers are sent.
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
        changes_nbytes: int | None = None,
        spreading: Spreading = BY_ITSELF,
        sent_dtype: np.dtype | None = None,
        mapped_in: str | None = None,
        commons: Commons | None = None,
    ) -> None:
        self.ledger = Ledger(workers)
        self.ledger.wire.setup_bytes = link.setup_bytes
        self.roll = Roll(workers)
        self.waited_s = 0.0
        self._computed_s = 0.0
        self.handled_s = 0.0
        self._comm, self._ranks, self._hosts = link.comm, link.size, hosts
        self._workers = workers
        self._home = [rank_of(m, link.size) for m in range(workers)]
        self._timeouts = timeouts
        vector, sent = dim * dtype.itemsize, dim * (sent_dtype or dtype).itemsize
        self._standing_nbytes = check_size(HEADER_NBYTES + sent)
        check_size(HEADER_NBYTES + sent + mask_nbytes(workers))
        _, (self._down,) = frames_of(1, (0 if commons else sent) + mask_nbytes(workers))
        self._aside = Frame(np.empty(HEADER_NBYTES, dtype=np.uint8))
        standing = self._down.buffer[: HEADER_NBYTES if commons else self._standing_nbytes]
        collective = needs_collective(link, spreading)
        self._source: Source | InTwo | None = None
        lazy_downlink = changes_nbytes is not None
        if lazy_downlink:
            check_changes_size(workers, changes_nbytes)
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
        tags = [upload_tag(m) for m in range(workers)]
        self._together = isinstance(self._everyone, Fan)
        sends = self._everyone.sends if self._together else ()
        held = commons.rows if commons else None
        self._uploads = Answers(link.comm, self._home, tags, payload_nbytes, mapped_in, sends, held)
        rows = None
        if payload_nbytes == vector:
            vectors = [slot.hold(dim, dtype) for slot in self._uploads.slots]
            rows = Rows(self._uploads.block.view(dtype), HEADER_NBYTES // dtype.itemsize, vectors)
            self._uploads.land(vectors, lent=held is not None)
        self._lends = commons is not None
        if commons:
            self._down.lend(commons.theta)
            theta = commons.theta
        else:
            leaves = not (collective or lazy_downlink) and sent == vector
            theta = self._down.hold(dim, dtype) if leaves else None
        self.room = Room(theta, rows)
        self._theta, self._dim = theta, dim
        self._failure = Frame(np.empty(FAILURE_NBYTES, dtype=np.uint8))
        self._failure_request = self._listen()
        self._numbers = self._answers(Kind.EVALUATE, value_nbytes(What.OBJECTIVE, dim))
        self._vectors: Answers | None = None
        self._touch = Touch(link, workers, timeouts.idle_s, self.ledger)
        self._round = 0

    def hellos(self) -> list[Hello]:
        answers = self._answers(Kind.HELLO, 0)
        told = self._gather_answers(None, answers)
        self._free(answers)
        return told

    @property
    def computed_s(self) -> float:
        in_use = self._uploads, self._numbers, self._vectors
        return self._computed_s + sum(answers.most_worked() for answers in in_use if answers)

    def exchange(self, message: Broadcast, receive: Receive, land: Land | None = None) -> None:
        self._round = message.round
        self._forget_vectors()
        asked = None if message.workers is None else message.workers.tolist()
        self._collect(message, asked, self._uploads, receive, land)

    def evaluate(self, message: Evaluate) -> list[Value]:
        room = value_nbytes(message.what, self._dim)
        if room <= self._numbers.room:
            return self._gather_answers(message, self._numbers)
        if self._vectors is None or self._vectors.room != room:
            self._forget_vectors()
            self._vectors = self._answers(Kind.EVALUATE, room)
        return self._gather_answers(message, self._vectors)

    def idle(self) -> None:
        self._touch.keep(self._round)

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
            self._touch.keep(self._round)
            if len(said) < len(homes) and not patience.pause():
                self._give_up({m for m, rank in enumerate(self._home) if rank not in said})
        for request in sending:
            self._complete(request)
        return said

    def stop(self, k: int) -> None:
        sending = self._send(Stop(k), None)
        self.ledger.down(Stop(k), None)
        for request in [*sending, *self._touch.sending]:
            self._complete(request)
        self._failure_request.Cancel()
        self._failure_request.Wait()
        self._everyone.Free()
        self._uploads.free()
        self._numbers.free()
        self._forget_vectors()

    def _forget_vectors(self) -> None:
        """The memory for vectors, M of them, is needed no longer, at least for now."""
        if self._vectors:
            self._free(self._vectors)
            self._vectors = None

    def _free(self, answers: Answers) -> None:
        self._computed_s += answers.most_worked()
        answers.free()

    def _answers(self, question: Kind, room: int) -> Answers:
        """Where answers off the books are received."""
        return Answers(self._comm, self._home, [question] * self._workers, room)

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

    def _ask(
        self, question: Broadcast | Evaluate | None, asked: Sequence[int] | None, answers: Answers, plainly: bool
    ) -> list[Any]:
        """Sends the question, if any, and starts the receives; returns what is left of sending it."""
        k = self._round
        if self._together and asked is None and answers is self._uploads:
            frame = self._frame_for(question)
            if frame is self._down:
                frame.write(question)
                answers.start(None, k, plainly, with_sends=True)
                return self._gone_to_everyone()
        sending = [] if question is None else self._send(question, asked)
        answers.start(asked, k, plainly)
        return sending

    def _send(self, message: Message, asked: Sequence[int] | None) -> list[Any]:
        """To everyone (None) by what stands for that; to a few, once to each rank that hosts one of them.

        What cannot be where that stands goes point to point as well.
        """
        if self._source and asked is None:
            return self._send_down(message, self._source)
        frame = self._frame_for(message)
        size = frame.write(message)
        if asked is None and frame is self._down:
            self._everyone.Start()
            return self._gone_to_everyone()
        ranks = sorted({self._home[m] for m in (range(self._workers) if asked is None else asked)})
        self.ledger.wire.down(frame.nbytes, len(ranks))
        self._touch.with_some(ranks)
        view = [frame.buffer[:size], MPI.BYTE]
        return [self._comm.Isend(view, rank, Kind.BROADCAST) for rank in ranks]

    def _gone_to_everyone(self) -> list[Any]:
        """By what stands for that, which has one size; what lies in common was handed over if the message names it."""
        self.ledger.wire.down(self._down.nbytes if self._lends else self._standing_nbytes, self._ranks - 1)
        self._touch.with_first(self._ranks)
        return [self._everyone]

    def _send_down(self, message: Message, source: Source | InTwo) -> list[Any]:
        """To everyone, of any length. The wire's account has what crosses between any two ranks."""
        frame, last = self._frame_for(message), type(message) is Stop
        size = frame.write(message)
        sending = source.send(frame.buffer[:size], last)
        reached = self._ranks if last else source.ranks
        self.ledger.wire.down(size, reached - 1)
        self._touch.with_first(reached)
        return sending

    def _gather_answers(self, question: Evaluate | None, into: Answers) -> list[Any]:
        """One answer a worker, in worker order, with vectors of their own."""
        answers: list[Any] = [None] * self._workers

        def keep(answer: Hello | Value) -> None:
            if isinstance(answer, Value):
                answer = answer._replace(vector=answer.vector.copy())
            answers[answer.worker] = answer

        self._collect(question, None, into, keep)
        return answers

    def _collect(
        self,
        question: Broadcast | Evaluate | None,
        asked: Sequence[int] | None,
        answers: Answers,
        receive: Callable[[Any], None],
        land: Land | None = None,
    ) -> None:
        """Posts the receives, sends the question, if any, and hands over answers as they arrive, until all are in."""
        clock = time.perf_counter
        start = clock()
        sending = self._ask(question, asked, answers, land is not None)
        ledger = self.ledger
        if question is not None:
            ledger.down(question, asked)
        patience = Patience(self._timeouts.round_s)
        handled_s = patience.began - start
        self._touch.keep(self._round)
        while answers.missing:
            if answers.look(1 if patience.resting else LOOKS):
                began = patience.reset()
                for slot in answers.unread():
                    message = slot.read()
                    ledger.wire.up(slot.nbytes)
                    ledger.up(message)
                    answers.worked(message.worker, message.seconds)
                    receive(message)
                handled_s += clock() - began
                if not answers.missing:
                    break
            self._hear_unasked()
            self._touch.keep(self._round)
            if not patience.pause():
                self._give_up(answers.silent())
        began = clock()
        landed = answers.landed()
        if landed:
            ledger.land(landed)
            land(landed)
        handled_s += clock() - began
        if not answers.sent:
            for request in sending:
                if not request.Test():
                    self._complete(request)
        self.waited_s += clock() - start
        self.handled_s += handled_s

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

    def _give_up(self, missing: Iterable[int]) -> NoReturn:
        """Names the workers whose answer is missing, and their ranks."""
        where = ", ".join(f"worker {m} (rank {self._home[m]} on {self._hosts[self._home[m]]})" for m in sorted(missing))
        raise WorkerFailed(
            f"round {self._round}: no answer within {self._timeouts.round_s:g} s (timeouts.round_s) from {where}"
        )
