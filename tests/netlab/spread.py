"""What `tests/run_broadcasts.py` starts on an emulated network: ``mpiexec -n R python spread.py KINDS SIZES SECONDS``.

The server's end and a worker on each rank, as in a run with `downlink: changes`, talk in rounds that are all wire: a
message of so many bytes to everyone, and a header back from each. Rank 0 prints a JSON line for each kind and size.
"""

import json
import statistics
import sys
import time
from types import SimpleNamespace

import numpy as np

from psopt.core.messages import Broadcast, Hello, Skip
from psopt.transports.base import Timeouts
from psopt.transports.mpi import Link, abort_on_exception
from psopt.transports.mpi_server import ServerEnd
from psopt.transports.mpi_worker import WorkerEnd
from psopt.transports.spreading import Spreading

ROUNDS, FEWEST = 7, 2
DIM = 8


def measure(link: Link, spreading: Spreading, sizes: list[int], longest_s: float) -> list[list[float]]:
    """Seconds of the rounds of each size, the first left out; at rank 0."""
    workers, dtype, timeouts = link.size - 1, np.dtype(np.float64), Timeouts()
    if link.rank:
        m = link.rank - 1
        worker = SimpleNamespace(m=m, hello=lambda: Hello(m, 1, DIM, 1.0), frames=())
        as_it_came = SimpleNamespace(lazy=True, expand=lambda message: message)
        handle = lambda worker, message: Skip(m, message.round, 0, 0.0)  # noqa: E731
        end = (link, [worker], workers, DIM, dtype, timeouts, as_it_came, None, handle)
        WorkerEnd(*end, spreading=spreading).serve()
        return []
    server = ServerEnd(link, workers, DIM, dtype, 8, timeouts, [""] * link.size, max(sizes), spreading)
    server.hellos()
    found, k = [], 0
    for size in sizes:
        taken: list[float] = []
        content = np.random.default_rng(k).integers(0, 256, size, dtype=np.uint8)
        while len(taken) < FEWEST or (len(taken) <= ROUNDS and sum(taken) < longest_s):
            k += 1
            began = time.perf_counter()
            server.exchange(Broadcast(k, 0.0, 0, 1, content), lambda answer: None)
            taken.append(time.perf_counter() - began)
        found.append(taken[1:])
    server.stop(k)
    return found


def main(kinds: str, sizes: str, longest_s: str) -> None:
    link = Link()
    wanted = [int(size) for size in sizes.split(",")]
    for text in kinds.split(","):
        kind, *rest = text.split(":")
        options = dict(zip(("arity", "segment"), [int(n) if n else None for n in rest], strict=False))
        options = {name: value for name, value in options.items() if value is not None}
        found = measure(link, Spreading(kind, **options), wanted, float(longest_s))
        if link.rank == 0:
            medians = [statistics.median(taken) for taken in found]
            print(json.dumps({"kind": text, "seconds": medians, "rounds": [len(taken) for taken in found]}), flush=True)


if __name__ == "__main__":
    abort_on_exception()
    main(*sys.argv[1:])
