"""What `tests/run_predict.py` starts on an emulated network: ``mpiexec -n R python job.py MEGABIT REPEATS CONFIG...``.

First, unless MEGABIT is 0, it measures the network, by plain TCP between the first two hosts, with nothing of MPI
or psopt in between; then it makes the runs in turns. Rank 0 prints a JSON line for each measurement.
"""

import json
import socket
import statistics
import sys
import time

from psopt.config import load
from psopt.runs.experiment import Plan, run
from psopt.transports.mpi import Link, abort_on_exception

PORT, TRIPS, BULK_S = 47611, 15, 0.5
SETUP_S = 30.0


def tell(**what: object) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


def measure_network(link: Link, megabit: float) -> None:
    """Round trip of a byte and back, and the rate of a long stream, between hosts 0 and 1."""
    bulk = int(megabit / 8 * 1e6 * BULK_S)
    listener = socket.create_server(("", PORT)) if link.rank == 0 else None
    hosts = link.gather(link.host, SETUP_S)
    if link.rank == 0:
        listener.settimeout(SETUP_S)
        there, _ = listener.accept()
        there.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with there, listener:
            there.settimeout(SETUP_S)
            trips = []
            for _ in range(TRIPS):
                began = time.perf_counter()
                there.sendall(b"x")
                _received(there, 1)
                trips.append(time.perf_counter() - began)
            half_s = [0.0, 0.0]
            for number in range(2):  # the first half warms the connection up
                began = time.perf_counter()
                _received(there, bulk)
                half_s[number] = time.perf_counter() - began
        tell(hosts=hosts, round_trip_ms=statistics.median(trips) * 1e3, megabit=bulk * 8e-6 / half_s[1])
    elif link.rank == 1:
        with socket.create_connection((hosts[0], PORT), SETUP_S) as there:
            there.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for _ in range(TRIPS):
                _received(there, 1)
                there.sendall(b"x")
            there.sendall(bytes(2 * bulk))
    link.gather(None, SETUP_S)


def _received(there: socket.socket, nbytes: int) -> None:
    while nbytes:
        part = len(there.recv(min(nbytes, 1 << 20)))
        if not part:
            raise ConnectionError("the other host closed the connection")
        nbytes -= part


def main(megabit: str, repeats: str, *configs: str) -> None:
    abort_on_exception()
    link = Link()
    if float(megabit):
        measure_network(link, float(megabit))
    for _ in range(int(repeats)):
        for path in configs:
            done = run(Plan(load(path), quiet=True, warns=False), link)
            if link.rank == 0:
                tell(config=path, wall_s=done.wall_s, theta=done.theta_sha256, rounds=done.rounds)


if __name__ == "__main__":
    main(*sys.argv[1:])
