"""A slow network, acted out at the server's end of a transport.

The workers' machines form a star around the server's, whose link all messages share. A message for several machines is
sent once to each, one after the other; answers come in one after the other, each behind the one that came before it.
"""

import time
from collections.abc import Sequence
from typing import Any

from psopt.core.frames import nbytes
from psopt.core.messages import Broadcast, Evaluate, Hello, Skip, Upload, Value
from psopt.transports.base import Land, Receive, Transport

SLICE_S = 0.05


class SlowNetwork:
    """A transport over such a network.

    Parameters
    ----------
    transport : Transport
        The one that does the work.
    latency_s : float
    megabit_per_s : float or None
    homes : sequence of int
        The machine of each worker; those of one machine share one copy of a message.
    """

    def __init__(
        self, transport: Transport, latency_s: float, megabit_per_s: float | None, homes: Sequence[int]
    ) -> None:
        self._transport, self._latency_s, self._homes = transport, latency_s, homes
        self._byte_s = 0.0 if megabit_per_s is None else 8e-6 / megabit_per_s
        self._slept_s = 0.0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    @property
    def waited_s(self) -> float:
        """As of any transport, with the time that the network takes."""
        return self._transport.waited_s + self._slept_s

    def hellos(self) -> list[Hello]:
        return self._gathered(self._transport.hellos())

    def exchange(self, message: Broadcast, receive: Receive, land: Land | None = None) -> None:
        self._send(message, message.workers)
        free = 0.0

        def arrived(answer: Upload | Skip) -> None:
            nonlocal free
            free = max(free, time.perf_counter() + self._latency_s) + self._byte_s * nbytes(answer)
            receive(answer)

        self._transport.exchange(message, arrived)
        self._sleep(free - time.perf_counter())

    def evaluate(self, message: Evaluate) -> list[Value]:
        self._send(message, None)
        return self._gathered(self._transport.evaluate(message))

    def _send(self, message: Broadcast | Evaluate, asked: Sequence[int] | None) -> None:
        machines = len({self._homes[m] for m in (range(len(self._homes)) if asked is None else asked)})
        self._sleep(self._latency_s + machines * self._byte_s * nbytes(message))

    def _gathered(self, answers: list[Any]) -> list[Any]:
        self._sleep(self._latency_s + self._byte_s * sum(map(nbytes, answers)))
        return answers

    def _sleep(self, seconds: float) -> None:
        """In slices, so that ranks that wait for the server go on hearing of it."""
        began = time.perf_counter()
        while (left := seconds - (time.perf_counter() - began)) > 0:
            time.sleep(min(left, SLICE_S))
            self._transport.idle()
        self._slept_s += time.perf_counter() - began
