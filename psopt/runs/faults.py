"""Faults on purpose: what `faults:` in a config asks for, brought into the processes of a run.

A process without any gets back what it gave: the worker's own `handle`, the transport itself. Nothing goes wrong
silently: each fault is told at the start, as it comes, and at the end if it did not come.
"""

import os
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from psopt.config import RunConfig
from psopt.config.faults import Delay, Fault, Freeze, SlowNetwork, Strike
from psopt.core.messages import Broadcast, Skip, Upload
from psopt.core.worker import Worker
from psopt.errors import WorkerLost
from psopt.runs import slow_network
from psopt.runs.strikes import InjectedFault, strike
from psopt.transports.base import Land, Receive, Transport

THE_SERVER = -1
IN_PROCESS = "in process"


def announce(config: RunConfig) -> None:
    """Says on standard error what will go wrong, however quiet the run is."""
    for fault in config.faults:
        _say(fault.told)


class Faults:
    """Those of this process.

    Parameters
    ----------
    config : RunConfig
    here : sequence of int
        The workers that live in this process; `THE_SERVER` for the server.
    where : str
        This process, as people know it.
    homes : sequence of int
        The machine that each worker lives on.
    after : int
        The round that a resumed run goes on from: what was to come until then has come.
    """

    def __init__(
        self, config: RunConfig, here: Sequence[int], where: str, homes: Sequence[int], after: int = 0
    ) -> None:
        self._config, self._where, self._homes = config, where, homes
        mine = [fault for fault in config.faults if _victim(fault) in here]
        self._strikes = [
            fault for fault in mine if isinstance(fault, Strike | Freeze) and (fault.round > after or not after)
        ]
        self._delays = [fault for fault in mine if isinstance(fault, Delay)]
        self._networks = [fault for fault in mine if isinstance(fault, SlowNetwork)]
        self._told_delays: set[Delay] = set()

    def start_up(self) -> None:
        """The faults of round 0."""
        for fault in [fault for fault in self._strikes if fault.round == 0]:
            self.come(fault)

    @property
    def handle(self) -> Callable[[Worker, Broadcast], Upload | Skip]:
        """What a worker of this process does with a broadcast."""
        return self._handle if self._of_workers else Worker.handle

    def around(self, transport: Transport) -> Transport:
        """The server's end of the transport, with what goes wrong there."""
        for network in self._networks:
            transport = slow_network.SlowNetwork(transport, network.latency_s, network.megabit_per_s, self._homes)
        return _Struck(transport, self) if self.due(THE_SERVER, sys.maxsize) else transport

    def end(self) -> None:
        """Says which faults have not come."""
        for fault in self._strikes:
            _say(f"did not come: {fault.told}")
        for fault in self._delays:
            if fault not in self._told_delays:
                _say(f"did not come: {fault.told}")

    @property
    def _of_workers(self) -> bool:
        return bool(self._delays) or any(fault.worker is not None for fault in self._strikes)

    def _handle(self, worker: Worker, message: Broadcast) -> Upload | Skip:
        due = self.due(worker.m, message.round)
        for fault in [fault for fault in due if fault.kind == "not_finite"]:
            self.come(fault)
            Worker.handle(worker, message._replace(theta=np.full_like(message.theta, np.nan)))
            raise InjectedFault(f"the problem of worker {worker.m} has a finite gradient where theta is NaN")
        answer = Worker.handle(worker, message)
        for fault in self._delays:
            if fault.worker == worker.m and fault.first <= message.round <= (fault.last or sys.maxsize):
                if fault not in self._told_delays:
                    self._told_delays.add(fault)
                    self._tell(fault.told)
                time.sleep(fault.seconds)
        for fault in due:
            self.come(fault)
        return answer

    def due(self, victim: int, k: int) -> list[Any]:
        """The faults that are to come to a worker or the server by round k, and have not yet."""
        return [fault for fault in self._strikes if _victim(fault) == victim and fault.round <= k]

    def come(self, fault: Strike | Freeze) -> None:
        """Says that a fault comes, and lets it."""
        self._strikes.remove(fault)
        self._tell(fault.told)
        if self._where == IN_PROCESS and fault.kind == "kill" and self._survived(fault):
            raise WorkerLost(fault.told)
        strike(fault, self._config)

    def _survived(self, fault: Strike | Freeze) -> bool:
        """Whether the run goes on without the victim; a kill in the one process then is a loss of the worker alone."""
        return self._config.failure.survives and fault.worker is not None and fault.round > 0

    def _tell(self, sentence: str) -> None:
        _say(f"now, {self._where}, process {os.getpid()}: {sentence}")


class _Struck:
    """A transport whose server is struck: in a round's middle, when its first answer has come."""

    def __init__(self, transport: Transport, faults: Faults) -> None:
        self._transport, self._faults = transport, faults

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def exchange(self, message: Broadcast, receive: Receive, land: Land | None = None) -> None:
        due = self._faults.due(THE_SERVER, message.round)

        def struck(answer: Upload | Skip) -> None:
            while due and (due[0].kind != "not_finite" or type(answer) is Upload):
                fault = due.pop(0)
                self._faults.come(fault)
                if fault.kind == "not_finite":
                    answer = answer._replace(payload=np.full_like(answer.payload, np.nan))
            receive(answer)

        if due:
            self._transport.exchange(message, struck)
        else:
            self._transport.exchange(message, receive, land)


def _victim(fault: Fault) -> int:
    """The worker that is struck, or `THE_SERVER`, which also has the network's hub."""
    worker = getattr(fault, "worker", None)
    return THE_SERVER if worker is None else worker


def _say(sentence: str) -> None:
    print(f"psopt: faults: {sentence}", file=sys.stderr, flush=True)
