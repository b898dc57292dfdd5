"""A worker rank's end of a job whose ranks outlive each other: everything comes point to point.

Whatever happens, this rank leaves by itself and non-zero, and ends no other: when a worker raises, once the server has
been told; when the server has died, is silent for `timeouts.idle_s`, or has given this rank up.
"""

import sys
from typing import NoReturn

from psopt.core.messages import GIVEN_UP, Stop
from psopt.transports.mpi import MPI
from psopt.transports.mpi_outliving import go_alone, is_death, leave
from psopt.transports.mpi_worker import SINGLE, WorkerEnd
from psopt.transports.waiting import done_within


class SurvivorEnd(WorkerEnd):
    """As `WorkerEnd`, which see for the parameters, without collectives."""

    def __init__(self, *arguments: object) -> None:
        super().__init__(*arguments, collective=False)
        go_alone()

    def serve(self) -> None:
        """Answers until the server stops the run; returns then, and only then."""
        try:
            super().serve()
        except MPI.Exception as error:
            self._part("the server died" if is_death(error) else f"MPI says {error}")
        except (Exception, SystemExit):  # noqa: BLE001  (the server has the account of it, and tells)
            leave(1)
        if self._frames[SINGLE].read() == Stop(GIVEN_UP):
            self._part("the server gave this rank up, because it did not answer in time (timeouts.round_s)")

    def _part(self, why: str) -> NoReturn:
        link = self._link
        print(f"psopt: rank {link.rank} on {link.host} leaves in round {self._round}: {why}", file=sys.stderr)
        leave(1)

    def _leave(self) -> None:
        """Sees the last answers off."""
        for outbox in self._outboxes.values():
            self._complete(outbox)

    def _next(self) -> int:
        idle_s = self._timeouts.idle_s
        test = self._receives[SINGLE].Test

        def come() -> bool:
            self._pass_on()
            return test()

        if not done_within(idle_s, come):
            self._part(f"no word from the server for {idle_s:g} s (timeouts.idle_s)")
        return SINGLE
