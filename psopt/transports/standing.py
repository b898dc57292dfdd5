"""Standing requests by MPI's own handles: many of them start, or are looked at, in one call."""

import ctypes
from collections.abc import Sequence
from typing import Any

import numpy as np

from psopt.problems import kernels
from psopt.transports.mpi import MPI, Repeated


class Handles:
    """MPI's own handles of standing requests, in a row of memory, for calls that take many at once.

    Parameters
    ----------
    requests : sequence of standing requests
        They keep their handles until they are freed.

    Attributes
    ----------
    address : int
        Of the first.
    itemsize : int
        Bytes of each.
    """

    def __init__(self, requests: Sequence[Any]) -> None:
        self.itemsize: int = MPI._sizeof(MPI.Request)
        handles = [ctypes.string_at(place_of(request), self.itemsize) for request in requests]
        self._row = np.array(handles, f"V{self.itemsize}")
        self._few = np.empty_like(self._row)
        self.address: int = self._row.ctypes.data

    def start(self, chosen: Sequence[int]) -> None:
        """Starts the chosen ones."""
        count = len(chosen)
        self._few[:count] = self._row[chosen]
        check(-_LIBRARY.MPI_Startall(count, ctypes.c_void_p(self._few.ctypes.data)))


class Watch:
    """Looks at some standing requests in turn.

    A look at one moves all of MPI along, and one at many in a single call costs several times more.
    """

    def __init__(self, requests: Sequence[Any]) -> None:
        self._requests = requests
        self._handles = np.zeros(len(requests), np.int64)
        self._flag, self._status = np.zeros(1, np.int32), np.zeros(MPI._sizeof(MPI.Status), np.uint8)
        functions = address_of("MPI_Test"), address_of("sched_yield")
        self._places = np.array([*functions, self._flag.ctypes.data, self._status.ctypes.data], np.int64)
        self._changing = [i for i, request in enumerate(requests) if isinstance(request, Repeated)]
        for i, request in enumerate(requests):
            if i not in self._changing:
                self._handles[i] = place_of(request)

    def look(self, looks: int) -> int | None:
        """Which is done; None when after so many looks, each with a pause, none is."""
        for i in self._changing:
            self._handles[i] = place_of(self._requests[i].request)
        found = kernels.calls.watch(self._places, self._handles, self._flag, looks)
        check(found)
        return found if found < len(self._requests) else None


_LIBRARY = ctypes.PyDLL(MPI.__file__)
"""By the binding one finds the MPI library that it was loaded with, and by that the system's."""


def address_of(function: str) -> int:
    """Where a C function of MPI, or of the system, is, for compiled code."""
    return ctypes.cast(getattr(_LIBRARY, function), ctypes.c_void_p).value


def place_of(request: Any) -> int:
    """Where the handle of a request is."""
    return MPI._addressof(request)


def check(code: int) -> None:
    """Raises what a negative number tells, an error code of MPI."""
    if code < 0:
        raise MPI.Exception(-code)
