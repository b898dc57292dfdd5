"""A message for everyone that ranks pass on in segments, over a network that is described and not there.

As `psopt.transports.relay` does it. All segments for one rank go through one connection, one behind the other, and as
many bytes of them as TCP's window leaves are on their way at a time.
"""

from collections import defaultdict, deque
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from psopt.transports.base import SERVER
from psopt.transports.spreading import Spreading
from psopt.views.cables import Passed
from psopt.views.network import ENVELOPE, FRAME_OVERHEAD, SEGMENT
from psopt.views.windows import Window, grown, lateness_s

if TYPE_CHECKING:
    from psopt.views.conversation import Moment, _Exchange

FRAME_NBYTES = SEGMENT + FRAME_OVERHEAD

Arrived = Callable[["Moment"], None]


class _Waiting(NamedTuple):
    """Bytes of a segment that have not left yet, since when, and what is to happen when the last one is there."""

    nbytes: int
    since: "Moment"
    arrived: Arrived


class _Stream:
    """One connection, from rank to rank."""

    def __init__(self, exchange: "_Exchange", source: int, target: int) -> None:
        from psopt.views.conversation import DOWNLINK, LATENCY

        self._kinds = DOWNLINK, LATENCY
        self._exchange, self._pair = exchange, (source, target)
        hosts = self._hosts = exchange.hosts
        last = hosts.window(source, target)
        self._window, self._limit = last.at(exchange.cables.now), last.limit
        self._under_way = 0
        self._waiting: deque[_Waiting] = deque()
        self._bytes_per_s, self._latency_s = hosts.network.bytes_per_s, hosts.network.latency_s

    def put(self, nbytes: int, moment: "Moment", arrived: Arrived) -> None:
        """A segment is to go now."""
        self._waiting.append(_Waiting(nbytes + ENVELOPE, moment, arrived))
        self._go_on(moment)

    def _go_on(self, moment: "Moment") -> None:
        """Sends what the window leaves, of all that waits."""
        room = int(self._window) - self._under_way
        part, ends = 0, []
        while self._waiting and part < room:
            nbytes, since, arrived = self._waiting.popleft()
            moment = max(moment, since)
            taken = min(nbytes, room - part)
            part += taken
            if taken < nbytes:
                self._waiting.appendleft(_Waiting(nbytes - taken, since, arrived))
            else:
                ends.append((part, arrived))
        if part:
            self._under_way += part
            self._ship(moment, part, ends, self._under_way)

    def _ship(self, begun: "Moment", part: int, ends: list[tuple[int, Arrived]], under_way: int) -> None:
        exchange, (source, target), (downlink, latency) = self._exchange, self._pair, self._kinds
        on_cable = part + -(-part // SEGMENT) * FRAME_OVERHEAD
        if source == SERVER:
            self._hosts.server_sent += on_cable

        def through(passed: Passed) -> None:
            for end, arrived in ends:
                came_s = passed.last - (part - end) / self._bytes_per_s - begun.time
                there = begun.later(max(0.0, came_s - self._latency_s), downlink).later(self._latency_s, latency)
                exchange.at(there, lambda there=there, arrived=arrived: arrived(there))
            sent = begun.later(passed.sent - begun.time, downlink)
            ready = sent.later(max(0.0, passed.first + self._latency_s - passed.sent), latency)
            unhindered_s = self._latency_s + 2 * FRAME_NBYTES / self._bytes_per_s
            late = passed.first - begun.time - unhindered_s > lateness_s(self._latency_s)
            exchange.at(ready, lambda: self._confirmed(ready, part, under_way, late))
            round_trip_s = passed.last - begun.time + self._latency_s
            self._hosts.note_window(source, target, Window(passed.sent, self._window, round_trip_s, self._limit))

        exchange.cables.send(source, target, on_cable, FRAME_NBYTES, through)

    def _confirmed(self, moment: "Moment", part: int, under_way: int, late: bool) -> None:
        """The first frame has been: the window may have grown, and the rest of it is free again."""
        self._under_way -= part
        self._window, self._limit = grown(self._window, part, self._limit, late, under_way)
        noted = self._hosts.window(*self._pair)
        self._hosts.note_window(*self._pair, noted._replace(size=self._window, limit=self._limit))
        self._go_on(moment)


class Relayed:
    """One message on its way down the tree, or through the mesh.

    Parameters
    ----------
    exchange : _Exchange
    spreading : Spreading
    nbytes : int
    whole : callable
        ``whole(rank, moment)``: a rank has all of it, and has passed it on.
    """

    def __init__(
        self, exchange: "_Exchange", spreading: Spreading, nbytes: int, whole: Callable[[int, "Moment"], None]
    ) -> None:
        self._exchange, self._whole = exchange, whole
        self._ranks = 1 + max(rank for rank, _ in exchange.question.asked)  # who hosts no worker is not in the tree
        self._way = spreading.way(nbytes, self._ranks)
        self._sizes = [end - start for start, end in self._way.cuts]
        self._streams: dict[tuple[int, int], _Stream] = {}
        self._came: defaultdict[int, int] = defaultdict(int)
        self._early: defaultdict[int, list[int]] = defaultdict(list)
        self._acted: dict[int, Moment] = {}

    def begin(self, moment: "Moment") -> None:
        """The server sends all segments: to one rank after the other where nobody passes them on."""
        way = self._way
        order = [(number, child) for number in range(len(way.cuts)) for child in way.to(SERVER, number)]
        for number, child in sorted(order, key=lambda each: each[1]) if way.one_by_one else order:
            self._put(SERVER, child, number, moment)

    def _put(self, rank: int, child: int, number: int, moment: "Moment") -> None:
        stream = self._streams.get((rank, child))
        if stream is None:
            stream = self._streams[rank, child] = _Stream(self._exchange, rank, child)
        stream.put(self._sizes[number], moment, lambda there: self._arrived(child, number, there))

    def _arrived(self, rank: int, number: int, there: "Moment") -> None:
        """A rank acts on a segment when it looks, and never before it has acted on the one before. It knows nothing of
        a message until its first segment has come.
        """
        if number and rank not in self._acted:
            self._early[rank].append(number)
            return
        acted = self._exchange.relay_looks(rank, there, first=number == 0)
        if number:
            acted = max(acted, self._acted[rank])
        self._acted[rank] = acted
        self._exchange.hosts.waits_from(rank, acted.time)
        for came in (number, *self._early.pop(rank, ())):
            self._exchange.at(acted, lambda came=came: self._act(rank, came, acted))

    def _act(self, rank: int, number: int, moment: "Moment") -> None:
        for child in self._way.to(rank, number):
            self._put(rank, child, number, moment)
        self._came[rank] += 1
        if self._came[rank] == len(self._sizes):
            self._whole(rank, moment)
