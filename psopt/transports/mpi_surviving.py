"""The server's end that survives its workers' ranks: point to point only, every call ready for a dead peer.

A rank is lost, with all workers it hosts, when its process dies, when it raises, or when it misses `timeouts.round_s`.
Nothing that it sends later is looked at.
"""

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from psopt import signals
from psopt.core.frames import Frame, frames_of
from psopt.core.ledger import Ledger
from psopt.core.messages import (
    GIVEN_UP,
    HEADER_NBYTES,
    Broadcast,
    Evaluate,
    Failure,
    Hello,
    KeepAlive,
    Kind,
    Message,
    Save,
    Stop,
    Value,
    What,
    mask_nbytes,
)
from psopt.core.room import NO_ROOM
from psopt.errors import WorkerFailed
from psopt.transports.base import Land, Receive, Timeouts, hosted_by, rank_of
from psopt.transports.mpi import MPI, Link, check_size, check_tags, upload_tag, value_nbytes
from psopt.transports.mpi_outliving import go_alone, is_death
from psopt.transports.mpi_server import FAILURE_NBYTES, SAVED_NBYTES
from psopt.transports.roll import DIED, Loss, Roll, raised
from psopt.transports.waiting import Patience, done_within

STOP_WITHIN_S = 2.0
"""How long the server waits, at the end, for `Stop` to be taken: who is busy for longer leaves by itself."""


@dataclass
class _Peer:
    """A rank that hosts workers, or none: its ``watch`` takes a `Failure`, and notices its death at any time."""

    rank: int
    workers: list[int]
    failure: Frame
    watch: Any
    contacted: float
    sending: list[Any] = field(default_factory=list)


class SurvivingServerEnd:
    """The server's end, on rank 0, of a job whose ranks outlive each other.

    Parameters
    ----------
    link, workers, dim, dtype, payload_nbytes, timeouts, hosts, mapped_in
        As `psopt.transports.mpi_server.ServerEnd` has them.
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
        mapped_in: str | None = None,
    ) -> None:
        self.ledger = Ledger(workers)
        self.ledger.wire.setup_bytes = link.setup_bytes
        self.roll = Roll(workers)
        self.waited_s = 0.0
        self.computed_s = 0.0
        self.handled_s = 0.0
        self._comm, self._hosts, self._timeouts = link.comm, hosts, timeouts
        self._workers = workers
        self._home = [rank_of(m, link.size) for m in range(workers)]
        self._down_nbytes = check_size(HEADER_NBYTES + 8 * dim + mask_nbytes(workers))
        self._down = Frame(np.empty(self._down_nbytes, dtype=np.uint8))
        self._keep_alive = Frame(np.empty(HEADER_NBYTES, dtype=np.uint8))
        check_tags(workers)
        self.room = NO_ROOM
        self._dim = dim
        check_size(HEADER_NBYTES + payload_nbytes)
        _, self._slots = frames_of(workers, max(payload_nbytes, value_nbytes(What.OBJECTIVE, dim)), mapped_in)
        self._abandoned: list[Any] = []  # requests to and from the lost, whose buffers MPI may still touch
        self._round = 0
        self._stopped = False
        now = time.perf_counter()
        self._next_look = now
        self._peers: dict[int, _Peer] = {}
        for rank in range(1, link.size):
            failure = Frame(np.empty(FAILURE_NBYTES, dtype=np.uint8))
            watch = self._comm.Irecv([failure.buffer, MPI.BYTE], rank, Kind.FAILURE)
            self._peers[rank] = _Peer(rank, hosted_by(rank, workers, link.size), failure, watch, now)
        go_alone()

    def hellos(self) -> list[Hello]:
        return self._gather_answers(None, Kind.HELLO, self._slots)

    def exchange(self, message: Broadcast, receive: Receive, land: Land | None = None) -> None:
        self._round = message.round
        asked = self.roll.living if message.workers is None else message.workers.tolist()
        self._collect(message, asked, Kind.BROADCAST, self._slots, receive)

    def evaluate(self, message: Evaluate) -> list[Value]:
        slots, room = self._slots, value_nbytes(message.what, self._dim)
        if HEADER_NBYTES + room > slots[0].buffer.size:
            _, slots = frames_of(self._workers, room)
        return self._gather_answers(message, Kind.EVALUATE, slots)

    def idle(self) -> None:
        self._look_after()

    def save(self, k: int, own: Callable[[], None]) -> dict[int, str] | None:
        """None where somebody is lost meanwhile: the parts then belong to different rolls."""
        living = len(self.roll.living)
        asked = sorted({self._home[m] for m in self.roll.living})
        frames = [Frame(np.empty(SAVED_NBYTES, dtype=np.uint8)) for _ in asked]
        waiting = self._posted((rank, frame, Kind.SAVE) for rank, frame in zip(asked, frames, strict=True))
        self._send(Save(k), asked)
        own()
        said: dict[int, str] = {}
        patience = Patience(max(self._timeouts.round_s, self._timeouts.start_s))
        self._await(waiting, patience, lambda rank, answer: said.update({rank: answer.text}))
        return said if len(self.roll.living) == living else None

    def stop(self, k: int) -> None:
        if self._stopped:
            return
        self._stopped = True
        self.ledger.down(Stop(k), self.roll.asked)
        self._send(Stop(k), list(self._peers))
        patience = Patience(STOP_WITHIN_S)
        for peer in list(self._peers.values()):
            self._complete(peer, patience)

    def _gather_answers(self, question: Evaluate | None, tag: Kind, slots: list[Frame]) -> list[Any]:
        """One answer from each worker that is left at the end, in worker order, with vectors of their own."""
        answers: dict[int, Any] = {}

        def keep(answer: Hello | Value) -> None:
            copied = answer._replace(vector=answer.vector.copy()) if isinstance(answer, Value) else answer
            answers[answer.worker] = copied

        self._collect(question, self.roll.living, tag, slots, keep)
        return [answers[m] for m in self.roll.living]

    def _collect(
        self,
        question: Broadcast | Evaluate | None,
        asked: Sequence[int],
        tag: Kind,
        slots: list[Frame],
        receive: Callable[[Any], None],
    ) -> None:
        """Posts the receives, sends the question, if any, and hands over the answers of the living."""
        patience = Patience(self._timeouts.round_s)
        own = tag is Kind.BROADCAST
        waiting = self._posted((self._home[m], slots[m], upload_tag(m) if own else tag) for m in asked)
        worked_s = dict.fromkeys(waiting, 0.0)
        if question is not None:
            self._send(question, list(waiting))
            self.ledger.down(question, None if len(asked) == self._workers else asked)
        self.handled_s += time.perf_counter() - patience.began
        if patience.began > self._next_look:
            self._look_after()

        def take(rank: int, message: Any) -> None:
            began = time.perf_counter()
            self.ledger.up(message)
            worked_s[rank] += message.seconds
            receive(message)
            self.handled_s += time.perf_counter() - began

        self._await(waiting, patience, take)
        self.waited_s += time.perf_counter() - patience.began
        self.computed_s += max(worked_s.values(), default=0.0)

    def _posted(self, expected: Iterable[tuple[int, Frame, int]]) -> dict[int, list[tuple[Any, Frame]]]:
        """Receives for the answers of these ranks into these frames, with these tags, by rank, in the order in which
        they will come.
        """
        waiting: dict[int, list[tuple[Any, Frame]]] = {}
        for rank, frame, tag in expected:
            view = [frame.buffer, MPI.BYTE]
            request = self._made(rank, lambda rank=rank, view=view, tag=tag: self._comm.Irecv(view, rank, tag))
            waiting.setdefault(rank, []).append((request, frame))
        return waiting

    def _await(
        self,
        waiting: dict[int, list[tuple[Any, Frame]]],
        patience: Patience,
        take: Callable[[int, Any], None],
    ) -> None:
        """Hands over what comes until all has come from the living, and what was sent to them has left.

        The answers of one rank come in the order in which their receives were posted: the first of each is looked at.
        Who is silent until the deadline is lost.
        """
        asked, looks = list(waiting), 0
        while waiting:
            quiet = True
            for rank in list(waiting):
                answers = waiting[rank]
                while answers and self._has_come(rank, answers[0][0]):
                    _, frame = answers.pop(0)
                    quiet = False
                    message = frame.read()
                    self.ledger.wire.up(frame.nbytes)
                    take(rank, message)
                if rank not in self._peers:
                    self._abandoned += waiting.pop(rank)
                elif not answers:
                    del waiting[rank]
            if not quiet:
                patience.reset()
                continue
            looks += 1
            if looks & 15 == 0 or patience.resting:
                self._look_after()
            if not patience.pause():
                for rank in [rank for rank in waiting if rank in self._peers]:
                    self._give_up(rank)
        for rank in asked:
            if rank in self._peers:
                self._complete(self._peers[rank], patience)

    def _send(self, message: Message, ranks: Sequence[int]) -> None:
        """To those of these ranks that live, once each."""
        size = self._down.write(message)
        view = [self._down.buffer[:size], MPI.BYTE]
        now = time.perf_counter()
        for rank in ranks:
            request = self._made(rank, lambda rank=rank: self._comm.Isend(view, rank, Kind.BROADCAST))
            if request is not None:
                self.ledger.wire.down(size)
                self._peers[rank].contacted = now
                self._peers[rank].sending.append(request)

    def _made(self, rank: int, make: Callable[[], Any]) -> Any:
        """A request to or from a rank; None when it is lost, before or by this."""
        if rank not in self._peers:
            return None
        try:
            return make()
        except MPI.Exception as error:
            self._lose(rank, error)
            return None

    def _has_come(self, rank: int, request: Any) -> bool:
        """Whether the request of a rank that lives is complete; a rank that cannot complete it is lost."""
        if rank not in self._peers:
            return False
        try:
            return request.Test()
        except MPI.Exception as error:
            self._lose(rank, error)
            return False

    def _complete(self, peer: _Peer, patience: Patience) -> None:
        """Waits until what was sent to a rank has left; who takes nothing until the deadline is lost."""
        left_s = max(0.0, patience.began + patience.timeout_s - time.perf_counter())
        while peer.sending and peer.rank in self._peers:
            if not done_within(left_s, lambda: self._has_come(peer.rank, peer.sending[0]) or self._is_gone(peer.rank)):
                return None if self._stopped else self._give_up(peer.rank)
            peer.sending.pop(0)
        return None

    def _is_gone(self, rank: int) -> bool:
        return rank not in self._peers

    def _look_after(self) -> None:
        """Notices who has died or raised, and tells those who have long heard nothing that the server lives."""
        now = time.perf_counter()
        self._next_look = now + self._timeouts.idle_s / 12
        due = now - self._timeouts.idle_s / 3
        for peer in list(self._peers.values()):
            peer.sending = [request for request in peer.sending if not self._has_come(peer.rank, request)]
            if self._has_come(peer.rank, peer.watch):
                if (loss := self._told(peer)) is not None:
                    self._strike(peer.rank, loss)
            elif peer.rank in self._peers and peer.contacted <= due and not peer.sending:
                peer.contacted = now
                self._keep_in_touch(peer)

    def _keep_in_touch(self, peer: _Peer) -> None:
        message = KeepAlive(self._round)
        size = self._keep_alive.write(message)
        view = [self._keep_alive.buffer, MPI.BYTE]
        request = self._made(peer.rank, lambda: self._comm.Isend(view, peer.rank, Kind.KEEP_ALIVE))
        if request is not None:
            peer.sending.append(request)
            self.ledger.down(message, peer.workers[:1])
            self.ledger.wire.down(size)

    def _told(self, peer: _Peer) -> Loss | None:
        """What has come unasked from a rank: a failure, which raises `WorkerFailed` where it ends the run, or the wish
        that the run may end, which is no loss.
        """
        failure = peer.failure.read()
        if type(failure) is not Failure:
            signals.ask(failure.warned)
            view = [peer.failure.buffer, MPI.BYTE]
            peer.watch = self._made(peer.rank, lambda: self._comm.Irecv(view, peer.rank, Kind.FAILURE)) or peer.watch
            return None
        loss = raised(failure, peer.workers, self._workers)
        if failure.fatal:
            raise WorkerFailed(loss.account)
        return loss

    def _lose(self, rank: int, error: Any) -> None:
        """A rank with which MPI cannot exchange anything any longer; it may have said why just before."""
        peer = self._peers[rank]
        try:
            last_words = peer.watch != MPI.REQUEST_NULL and peer.watch.Test()
        except MPI.Exception:  # it died without any, and that is known already
            last_words = False
        if last_words and (loss := self._told(peer)) is not None:
            return self._strike(rank, loss)
        why = DIED if is_death(error) else f"MPI says {error}"
        return self._strike(rank, Loss(tuple(peer.workers), rank, self._hosts[rank], self._round, why))

    def _give_up(self, rank: int) -> None:
        """A rank that missed its deadline. Should it wake, it finds a word that it is to leave."""
        peer, frame = self._peers[rank], Frame(np.empty(HEADER_NBYTES, dtype=np.uint8))
        frame.write(Stop(GIVEN_UP))
        request = self._made(rank, lambda: self._comm.Isend([frame.buffer, MPI.BYTE], rank, Kind.STOP))
        self._abandoned.append((request, frame))
        if rank in self._peers:
            why = f"no answer within {self._timeouts.round_s:g} s (timeouts.round_s)"
            self._strike(rank, Loss(tuple(peer.workers), rank, self._hosts[rank], self._round, why))

    def _strike(self, rank: int, loss: Loss) -> None:
        """The rank is lost. What was on its way to it may be read at any time, so the buffer is left to that."""
        peer = self._peers.pop(rank)
        self._abandoned.append(peer)
        if peer.sending:
            self._down = Frame(np.empty(self._down_nbytes, dtype=np.uint8))
        if loss.workers and not self._stopped:
            self.roll.strike(loss)
