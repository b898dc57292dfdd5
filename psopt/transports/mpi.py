"""The MPI binding: the only file that imports mpi4py.

Every wait is psopt's own (`Patience`): tests in a loop that yields, then sleeps, and gives up at a deadline, so that
more ranks than cores, a dead rank or a frozen one neither burn a core nor hang the job.
"""

import itertools
import json
import os
import socket
import sys
import time
from collections.abc import Callable
from typing import Any

import mpi4py
import numpy as np

mpi4py.rc.thread_level = "serialized"
_WISHES = {  # beside those that a launcher has to hear: `launch.ENVIRONMENT`
    # Open MPI's one-sided transport over libfabric, which psopt has no use for, sleeps for a second when it is closed.
    "OMPI_MCA_btl": "^ofi",
    # Between ranks of a host up to this many bytes leave at once, and what is longer waits to be fetched. With the 4096
    # that Open MPI has by itself a round of 1000 float64 took a third longer.
    "OMPI_MCA_btl_sm_eager_limit": "32768",
}
for _name, _value in _WISHES.items():
    os.environ.setdefault(_name, _value)

from mpi4py import MPI  # noqa: E402  (what it reads as it is imported must be set first)

from psopt import launch  # noqa: E402
from psopt.core.downlink import CHECKSUM_NBYTES  # noqa: E402
from psopt.core.messages import HEADER_NBYTES, What  # noqa: E402
from psopt.errors import ConfigError, DeadlinePassed, WorkerFailed  # noqa: E402
from psopt.transports.base import SERVER  # noqa: E402
from psopt.transports.spreading import Spreading  # noqa: E402
from psopt.transports.waiting import done_within, sleep_precisely  # noqa: E402

LARGEST_NBYTES = 2**31 - 1
FIRST_UPLOAD_TAG = 32
FORWARDING_S = 0.2
JOIN_S = 60.0
PERSISTENT_COLLECTIVES = MPI.VERSION >= 4


class Link:
    """This process's place in an MPI job, and the few collectives of the set-up.

    Parameters
    ----------
    comm : mpi4py.MPI.Comm, optional
        COMM_WORLD by default; duplicated, so that psopt's traffic is its own.

    Attributes
    ----------
    one_host : bool
        Whether all ranks are known to be on one host; every rank knows the same.
    """

    def __init__(self, comm: Any = None) -> None:
        origin = MPI.COMM_WORLD if comm is None else comm
        self.rank: int = origin.Get_rank()
        self.size: int = origin.Get_size()
        self.host = socket.gethostname()
        self.one_host = launch.told_local_ranks() == MPI.COMM_WORLD.Get_size()
        self.comm, duplicated = origin.Idup()
        self._wait(duplicated, JOIN_S)
        sleep_precisely()
        self.setup_bytes = 0
        self._second: Any = None

    def share(self, value: Any, timeout_s: float) -> Any:
        """Rank 0's JSON value, on every rank."""
        text = json.dumps(value).encode() if self.rank == SERVER else b""
        size = np.array([len(text)], dtype=np.int64)
        self._wait(self.comm.Ibcast(size, root=SERVER), timeout_s)
        buffer = np.frombuffer(text, np.uint8).copy() if self.rank == SERVER else np.empty(int(size[0]), np.uint8)
        self._wait(self.comm.Ibcast([buffer, MPI.BYTE], root=SERVER), timeout_s)
        self.setup_bytes += (self.size - 1) * (8 + int(size[0]))
        return json.loads(buffer.tobytes())

    def share_array(self, array: np.ndarray, timeout_s: float) -> None:
        """Rank 0's content of a contiguous array, on every rank."""
        self._wait(self.comm.Ibcast([array, array.nbytes, MPI.BYTE], root=SERVER), timeout_s)
        self.setup_bytes += (self.size - 1) * array.nbytes

    def gather(self, value: Any, timeout_s: float) -> list[Any]:
        """Every rank's JSON value, in rank order, on every rank."""
        text = np.frombuffer(json.dumps(value).encode(), np.uint8).copy()
        sizes = np.zeros(self.size, dtype=np.int64)
        mine = np.array([text.size], dtype=np.int64)
        self._wait(self.comm.Igather(mine, sizes, root=SERVER), timeout_s)
        values = None
        if self.rank == SERVER:
            everything = np.empty(int(sizes.sum()), dtype=np.uint8)
            starts = np.concatenate([[0], np.cumsum(sizes)])
            target = [everything, sizes.tolist(), starts[:-1].tolist(), MPI.BYTE]
            self._wait(self.comm.Igatherv([text, MPI.BYTE], target, root=SERVER), timeout_s)
            self.setup_bytes += 8 * (self.size - 1) + int(sizes[1:].sum())
            cuts = itertools.pairwise(starts)
            values = [json.loads(everything[start:end].tobytes()) for start, end in cuts]
        else:
            self._wait(self.comm.Igatherv([text, MPI.BYTE], None, root=SERVER), timeout_s)
        return self.share(values, timeout_s)

    def second(self) -> Any:
        """Another communicator of the same ranks, which all of them ask for together the first time."""
        if self._second is None:
            self._second, duplicated = self.comm.Idup()
            self._wait(duplicated, JOIN_S)
        return self._second

    def standing_broadcast(self, buffer: np.ndarray) -> Any:
        """A collective from rank 0 that all ranks make together once, then ``Start`` and ``Test`` over and over."""
        target = [buffer, MPI.BYTE]
        if PERSISTENT_COLLECTIVES:
            return self.comm.Bcast_init(target, root=SERVER)
        return Repeated(lambda: self.comm.Ibcast(target, root=SERVER))

    def standing_fan(self, buffer: np.ndarray, tag: int) -> "Fan":
        """Rank 0's standing sends of one buffer, one to each other rank."""
        target = [buffer, MPI.BYTE]
        return Fan([self.comm.Send_init(target, rank, tag) for rank in range(self.size) if rank != SERVER])

    def _wait(self, request: Any, timeout_s: float) -> None:
        try:
            done = done_within(timeout_s, request.Test)
        except MPI.Exception as error:  # only where ranks outlive each other
            raise WorkerFailed(
                f"rank {self.rank} on {self.host}: a rank was lost in the set-up, before any `failure.policy` holds: "
                f"{error}"
            ) from None
        if not done:
            raise DeadlinePassed(
                f"rank {self.rank} on {self.host}: the other ranks did not reach this step within {timeout_s:g} s; "
                "reading data and compiling kernels have `timeouts.start_s`"
            )


class Fan:
    """Standing sends that start together, and are done when all are."""

    def __init__(self, sends: list[Any]) -> None:
        self.sends = sends

    def Start(self) -> None:
        for send in self.sends:
            send.Start()

    def Test(self) -> bool:
        return all(send.Test() for send in self.sends)

    def Free(self) -> None:
        for send in self.sends:
            send.Free()


class Repeated:
    """What MPI before version 4 lacks: an operation that can be started over and over."""

    def __init__(self, begin: Callable[[], Any]) -> None:
        self._begin = begin
        self.request = MPI.REQUEST_NULL

    def Start(self) -> None:
        self.request = self._begin()

    def Test(self) -> bool:
        return self.request.Test()

    def Free(self) -> None:
        return None


def library() -> str:
    """The MPI library's own version line."""
    return MPI.Get_library_version().splitlines()[0].strip("\x00 ")


def world() -> tuple[int, int]:
    """Rank and size of the world this process is in."""
    return MPI.COMM_WORLD.Get_rank(), MPI.COMM_WORLD.Get_size()


def is_active() -> bool:
    """Whether MPI is initialised and not yet finalised."""
    return MPI.Is_initialized() and not MPI.Is_finalized()


def upload_tag(m: int) -> int:
    """The tag of worker m's answers to broadcasts: each arrives where the worker's vector is held."""
    return FIRST_UPLOAD_TAG + m


def check_tags(workers: int) -> None:
    """Raises `ConfigError` when this MPI has too few tags."""
    most = MPI.COMM_WORLD.Get_attr(MPI.TAG_UB) - FIRST_UPLOAD_TAG + 1
    if workers > most:
        raise ConfigError(f"`workers` is {workers}, and this MPI library ({library()}) can tell {most} apart")


def value_nbytes(what: What, dim: int) -> int:
    """Bytes that the array of an answer may take: a float64 vector like theta, a Hessian, a score's two counts."""
    if what in (What.OBJECTIVE, What.SCORE):
        return 16
    return check_size(HEADER_NBYTES + 8 * (dim**2 if what is What.HESSIAN else dim)) - HEADER_NBYTES


def check_size(size: int) -> int:
    if size > LARGEST_NBYTES:
        raise ConfigError(
            f"a message of {size} bytes would exceed the {LARGEST_NBYTES} bytes one MPI message carries: theta is too "
            "large for this version (dtype float32 halves it)"
        )
    return size


def needs_collective(link: Link, spreading: Spreading) -> bool:
    """Whether theta for everyone goes by a collective, else by a send to each rank, unless ranks pass it on.

    Measured on one host of 2 cores, d = 123: a round took 28 us either way on 4 ranks, 98 and 62 us on 10, 2.7 and 0.6
    ms on 28. Across hosts the server's link is what is short, and a tree spares it.
    """
    if spreading.kind == "auto":
        return not link.one_host
    return spreading.kind == "collective"


def check_changes_size(workers: int, changes_nbytes: int) -> None:
    """Raises `ConfigError` when what is told after a round in which all workers spoke would not fit one message."""
    size = HEADER_NBYTES + changes_nbytes + CHECKSUM_NBYTES
    if size > LARGEST_NBYTES:
        raise ConfigError(
            f"downlink `changes` would send {size} bytes after a round in which all {workers} workers speak, and one "
            f"MPI message carries {LARGEST_NBYTES}: use `theta`, or uploads that say less"
        )


def abort_on_exception() -> None:
    """Lets an uncaught exception of this process end the whole job, where otherwise the other ranks would wait.

    What all ranks have agreed upon, a mistake of input or a failure in the set-up, lets each leave by itself, and rank
    0 alone prints it.
    """
    earlier = sys.excepthook

    def hook(kind: type[BaseException], error: BaseException, trace: Any) -> None:
        known = getattr(error, "agreed", False)
        if not known or world()[0] == SERVER:
            earlier(kind, error, trace)
        if not known and is_active() and world()[1] > 1:
            abort(1)

    sys.excepthook = hook


def abort(code: int) -> None:
    """Ends every rank of the job, once mpiexec has had a moment to pass on what was printed."""
    sys.stdout.flush()
    sys.stderr.flush()
    time.sleep(FORWARDING_S)
    MPI.COMM_WORLD.Abort(code)
