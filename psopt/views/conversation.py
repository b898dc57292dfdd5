"""How long the server and its workers take to talk, over a network that is described and not there.

The model of `docs/predict.md`: one host a rank, Open MPI's messages over TCP, psopt's own way of waiting. All constants
are facts of these, or were measured once on a network of another kind; none was fitted to a run.
"""

import math
import random
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import NamedTuple

from psopt.transports.base import SERVER, rank_of
from psopt.transports.spreading import Spreading
from psopt.transports.waiting import FIRST_SLEEP_S, LAST_SLEEP_S, SLEEP_SHARE, YIELD_S
from psopt.views.cables import Cables, Passed
from psopt.views.network import ENVELOPE, SEGMENT, Network, wire_nbytes
from psopt.views.relayed import Relayed
from psopt.views.windows import UNUSED, Window, grown, lateness_s

EAGER_NBYTES = 65536 - 48
"""Open MPI announces what is longer than this, and sends it once the receiver says that it is ready: a round trip."""

ANNOUNCEMENT_NBYTES = 48

LINEAR_RANKS = 4
"""Up to so many ranks Open MPI's broadcast is a message to each, beyond it a binomial tree."""

LOOK_S = 50e-6
"""What a look for messages takes beside the pause before it, and what the end of a sleep adds."""

TURNS = 8
"""When in a pause a message comes is drawn, alike in every so many questions."""

SINGLE_LOOKS, COLLECTIVE_LOOKS, OTHER_CHANNEL_LOOKS = 1.5, 2.0, 1.5
"""Looks from a message's arrival to the moment a rank acts on it, in the mean: half a pause until MPI sees it, and one
more until MPI says so, or somewhat more until it has passed on its part of a collective; both were measured
(``tests/netlab/calibrate.py``). A worker looks at the channel that its last message did not come by every fourth time.
"""

FRAME_NBYTES = wire_nbytes(SEGMENT - ENVELOPE)

KINDS = ("computing", "downlink", "uplink", "latency", "waiting")
COMPUTING, DOWNLINK, UPLINK, LATENCY, WAITING = range(len(KINDS))


class Moment(NamedTuple):
    """A time, and what the path of events that led to it spent on each of `KINDS`, in seconds."""

    time: float
    spent: tuple[float, ...] = (0.0,) * len(KINDS)

    def later(self, seconds: float, kind: int) -> "Moment":
        spent = tuple(own + seconds * (kind == number) for number, own in enumerate(self.spent))
        return Moment(self.time + seconds, spent)


class Question(NamedTuple):
    """What the server asks.

    Attributes
    ----------
    parts : sequence of int
        Bytes of each message that a rank is sent; two with the lazy downlink.
    asked : sequence of (int, sequence of (float, int))
        By rank, for each of its workers that is asked: seconds of its work, bytes of its answer.
    collective : bool
        The message is for everyone, and goes by a tree.
    spreading : Spreading, optional
        How ranks pass the message on, instead.
    """

    parts: tuple[int, ...]
    asked: tuple[tuple[int, tuple[tuple[float, int], ...]], ...]
    collective: bool
    spreading: Spreading | None = None


def pause_s(quiet_s: float) -> float:
    """How long a rank sleeps between two looks that has waited so long, as `psopt.transports.waiting` has it."""
    return 0.0 if quiet_s < YIELD_S else min(max(FIRST_SLEEP_S, SLEEP_SHARE * quiet_s), LAST_SLEEP_S)


@cache
def children(rank: int, ranks: int) -> tuple[int, ...]:
    """Whom a rank passes a broadcast of rank 0 on to, in order."""
    if ranks <= LINEAR_RANKS:
        return tuple(range(1, ranks)) if rank == SERVER else ()
    return tuple(rank + (1 << r) for r in range(rank.bit_length(), ranks.bit_length()) if rank + (1 << r) < ranks)


class _Outcome(NamedTuple):
    """What a question changed; times since it was asked."""

    seconds: float
    spent: tuple[float, ...]
    sent: float
    received: float
    since: dict[int, float]
    by_collective: dict[int, bool]
    windows: dict[tuple[int, int], Window]


@dataclass
class Conversation:
    """The hosts of a job, from message to message.

    A question like an earlier one, in a like state, takes as long as that did: thousands of rounds are then no matter.

    Parameters
    ----------
    network : Network
    ranks : int
        Hosts, the server's among them.

    Attributes
    ----------
    now : float
        Seconds since the start.
    server_sent, server_received : float
        Bytes that crossed the server's cable since `begin`, with all overhead.
    """

    network: Network
    ranks: int
    now: float = 0.0
    server_sent: float = 0.0
    server_received: float = 0.0
    _since: dict[int, float] = field(default_factory=lambda: defaultdict(float))
    _by_collective: dict[int, bool] = field(default_factory=lambda: defaultdict(lambda: True))
    _windows: dict[tuple[int, int], Window] = field(default_factory=dict)
    _known: dict[tuple, _Outcome] = field(default_factory=dict)
    _asked: int = 0
    _began: float = 0.0
    _draws: random.Random = field(default_factory=random.Random)

    def begin(self) -> None:
        """From now on time and bytes are counted."""
        self._began = self.now
        self.server_sent = self.server_received = 0.0

    @property
    def elapsed_s(self) -> float:
        return self.now - self._began

    def pass_time(self, seconds: float) -> None:
        """The server is busy with itself."""
        self.now += seconds

    def ask(self, question: Question) -> tuple[float, ...]:
        """Sends a question and waits for all answers; returns the seconds of each of `KINDS`, which add up."""
        self._since[SERVER] = self.now
        turn = self._asked = (self._asked + 1) % TURNS
        self._draws.seed(turn)
        likeness = (turn, *self._likeness(question))
        outcome = self._known.get(likeness)
        if outcome is None:
            outcome = self._known[likeness] = self._played(question)
        start = self.now
        self.now = start + outcome.seconds
        self.server_sent += outcome.sent
        self.server_received += outcome.received
        self._since.update((rank, start + after) for rank, after in outcome.since.items())
        self._by_collective.update(outcome.by_collective)
        self._windows.update((pair, own._replace(used=start + own.used)) for pair, own in outcome.windows.items())
        return outcome.spent

    def _played(self, question: Question) -> _Outcome:
        """Lets the question happen, event by event."""
        start, sent, received = self.now, self.server_sent, self.server_received
        since, windows = dict(self._since), dict(self._windows)
        exchange = _Exchange(self, question)
        exchange.cables.run()
        outcome = _Outcome(
            exchange.end.time - start,
            exchange.end.spent,
            self.server_sent - sent,
            self.server_received - received,
            {rank: time - start for rank, time in self._since.items() if since.get(rank) != time},
            dict(self._by_collective),
            {p: own._replace(used=own.used - start) for p, own in self._windows.items() if windows.get(p) != own},
        )
        self.server_sent, self.server_received = sent, received
        return outcome

    def _likeness(self, question: Question) -> tuple:
        """Equal for questions that take equally long, near enough: waits within a fifth, windows within a half."""
        waited = tuple(
            (rank, self._by_collective[rank], round(4 * math.log2(max(self.now - self._since[rank], YIELD_S / 4))))
            for rank in range(1, self.ranks)
        )
        windows = tuple((pair, int(2 * math.log2(own.at(self.now)))) for pair, own in sorted(self._windows.items()))
        return question, waited, windows

    def reaction(self, rank: int, moment: Moment, looks: float) -> Moment:
        """When a rank that waits acts on what has come at that moment, with so many looks in the mean."""
        quiet_s = max(0.0, moment.time - self._since[rank])
        pause = pause_s(quiet_s)
        drawn = looks + self._draws.random() - 0.5
        return moment.later(drawn * (pause + LOOK_S) if pause else 0.0, WAITING)

    def waits_from(self, rank: int, time: float) -> None:
        self._since[rank] = max(self._since[rank], time)

    def came_by_other(self, rank: int, collective: bool) -> bool:
        """Whether a rank's message came by the other of its two channels than the last one; notes which it was."""
        other = self._by_collective[rank] != collective
        self._by_collective[rank] = collective
        return other

    def window(self, source: int, target: int) -> Window:
        return self._windows.get((source, target), UNUSED)

    def note_window(self, source: int, target: int, window: Window) -> None:
        self._windows[source, target] = window


class _Exchange:
    """One question, from the moment it is sent to the last answer."""

    def __init__(self, hosts: Conversation, question: Question) -> None:
        self.hosts, self.question = hosts, question
        self.cables = Cables(hosts.network.bytes_per_s, hosts.network.latency_s, hosts.now)
        self.end = Moment(hosts.now)
        self._latency_s = hosts.network.latency_s
        self._work = dict(question.asked)
        self._heads: dict[int, Moment] = {}
        self._held: dict[int, Moment] = {}
        start = Moment(hosts.now)
        if question.spreading:
            Relayed(self, question.spreading, sum(question.parts), self._work_on).begin(start)
        elif question.collective:
            for number in range(len(question.parts)):
                self._pass_on(SERVER, number, start)
        else:
            (nbytes,) = question.parts
            for rank in self._work:
                self._send(SERVER, rank, nbytes, DOWNLINK, start, lambda moment, rank=rank: self._asked(rank, moment))

    def at(self, moment: Moment, call: Callable[[], None]) -> None:
        """``call()`` at that moment."""
        self.cables.at(moment.time, call)

    def relay_looks(self, rank: int, moment: Moment, first: bool) -> Moment:
        """When a rank acts on a segment; the first one may come by the other of its channels."""
        looks = SINGLE_LOOKS
        if first:
            looks += OTHER_CHANNEL_LOOKS * self.hosts.came_by_other(rank, True)
        return self.hosts.reaction(rank, moment, looks)

    def _pass_on(self, rank: int, number: int, moment: Moment) -> None:
        """A rank has part ``number`` of a broadcast: it goes to the rank's children, and the rank gets to work."""
        to = children(rank, self.hosts.ranks)
        awaited = len(to)

        def left(sent: Moment) -> None:
            nonlocal awaited, moment
            awaited -= 1
            moment = max(moment, sent)
            if not awaited:
                self._has(rank, number, moment)

        for child in to:
            arrived = lambda came, child=child: self._part_arrived(child, number, came)  # noqa: E731
            self._send(rank, child, self.question.parts[number], DOWNLINK, moment, arrived, left)
        if not to:
            self._has(rank, number, moment)

    def _part_arrived(self, rank: int, number: int, moment: Moment) -> None:
        """Acted upon when the rank looks; a second part not before the first."""
        if number and rank not in self._heads:
            self._held[rank] = moment
            return
        begin = max(moment, self._heads[rank]) if number else moment
        reacted = self.hosts.reaction(rank, begin, COLLECTIVE_LOOKS)
        self.at(reacted, lambda: self._pass_on(rank, number, reacted))

    def _has(self, rank: int, number: int, moment: Moment) -> None:
        if rank == SERVER:
            return
        if number < len(self.question.parts) - 1:
            self._heads[rank] = moment
            held = self._held.pop(rank, None)
            if held is not None:
                self._part_arrived(rank, number + 1, held)
            return
        if self.hosts.came_by_other(rank, True):  # passing on was done at any look
            moment = self.hosts.reaction(rank, moment, OTHER_CHANNEL_LOOKS)
        self._work_on(rank, moment)

    def _asked(self, rank: int, moment: Moment) -> None:
        looks = SINGLE_LOOKS + OTHER_CHANNEL_LOOKS * self.hosts.came_by_other(rank, False)
        self._work_on(rank, self.hosts.reaction(rank, moment, looks))

    def _work_on(self, rank: int, moment: Moment) -> None:
        """The rank's workers compute one after the other, and each answer leaves at once."""
        for seconds, nbytes in self._work.get(rank, ()):
            moment = moment.later(seconds, COMPUTING)
            self.at(moment, lambda moment=moment, nbytes=nbytes: self._answer(rank, nbytes, moment))
        self.hosts.waits_from(rank, moment.time)

    def _answer(self, rank: int, nbytes: int, moment: Moment) -> None:
        self._send(rank, SERVER, nbytes, UPLINK, moment, self._answered)

    def _answered(self, moment: Moment) -> None:
        taken = self.hosts.reaction(SERVER, moment, SINGLE_LOOKS)
        self.hosts.waits_from(SERVER, taken.time)
        self.end = max(self.end, taken)

    def _send(
        self,
        source: int,
        target: int,
        nbytes: int,
        kind: int,
        moment: Moment,
        arrived: Callable[[Moment], None],
        left: Callable[[Moment], None] = lambda moment: None,
    ) -> None:
        """A message. ``left``: the sender is free of it, which is once the receiver has said it is ready."""
        if nbytes <= EAGER_NBYTES:
            self._ship(source, target, nbytes, kind, moment, arrived)
            left(moment)
            return

        def announced(came: Moment) -> None:
            ready = self.hosts.reaction(target, came, SINGLE_LOOKS).later(self._latency_s, LATENCY)
            free = self.hosts._since[source]
            if free > ready.time:
                ready = ready.later(free - ready.time, WAITING)
            told = self.hosts.reaction(source, ready, SINGLE_LOOKS)
            self.at(told, lambda: (self._ship(source, target, nbytes, kind, told, arrived), left(told)))

        self._ship(source, target, ANNOUNCEMENT_NBYTES, kind, moment, announced)

    def _ship(
        self, source: int, target: int, nbytes: int, kind: int, moment: Moment, arrived: Callable[[Moment], None]
    ) -> None:
        """Bytes through TCP: a window at a time, the next when the first of the last is confirmed."""
        hosts = self.hosts
        if source == SERVER:
            hosts.server_sent += wire_nbytes(nbytes)
        if target == SERVER:
            hosts.server_received += wire_nbytes(nbytes)
        last = hosts.window(source, target)
        limit, window = last.limit, last.at(moment.time)
        late_s = lateness_s(self._latency_s)
        unhindered_s = self._latency_s + 2 * FRAME_NBYTES / hosts.network.bytes_per_s

        def step(begun: Moment, left: int, window: float) -> None:
            part = min(left, int(window))
            last_part = part == left

            def growth(passed: Passed) -> float:
                nonlocal limit
                late = passed.first - begun.time - unhindered_s > late_s
                size, limit = grown(window, part, limit, late)
                return size

            def through(passed: Passed) -> None:
                if last_part:
                    round_trip_s = passed.last - begun.time + self._latency_s
                    size = growth(passed)
                    hosts.note_window(source, target, Window(passed.sent, size, round_trip_s, limit))
                    on_cables_s = passed.last - begun.time - self._latency_s
                    came = begun.later(on_cables_s, kind).later(self._latency_s, LATENCY)
                    self.at(came, lambda: arrived(came))

            def confirmed(passed: Passed) -> None:
                """The first frame has been, so that twice as much may be on the way."""
                sent = begun.later(passed.sent - begun.time, kind)
                ready = sent.later(max(0.0, passed.first + self._latency_s - passed.sent), LATENCY)
                self.at(ready, lambda: step(ready, left - part, growth(passed)))

            self.cables.send(source, target, wire_nbytes(part), FRAME_NBYTES, through if last_part else confirmed)

        step(moment, nbytes, window)


def dealt(workers: Sequence[int], seconds: Sequence[float], nbytes: Sequence[int], ranks: int) -> tuple:
    """The workers that are asked, their work and their answers, by rank, as `Question` has them."""
    homes: dict[int, list[tuple[float, int]]] = {}
    for m, own_s, own_nbytes in zip(workers, seconds, nbytes, strict=True):
        homes.setdefault(rank_of(m, ranks), []).append((own_s, own_nbytes))
    return tuple((rank, tuple(work)) for rank, work in sorted(homes.items()))
