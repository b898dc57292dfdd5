"""Whether an emulated network is what it should be: plain TCP between hosts 0 and 1, without MPI or psopt in between.

python -m psopt.bench.netlab.probe NBYTES [HOST]    on either host; HOST is the other one, which waits
"""

import json
import socket
import statistics
import sys
import time

from psopt.bench.netlab.network import LOOK_S, Network
from psopt.records import record

PORT, TRIPS, BULK_S = 47611, 15, 0.5
SETUP_S = 30.0
MOST_LATE, LEAST_RATE = 1.15, 0.85
"""How far round trip and rate may be from what they should be, before nothing is concluded."""
ATTEMPTS = 3
FRAME_NBYTES = 90
"""What an Ethernet frame of TCP takes on the wire beside its content."""


@record
class Measured:
    """Round trip of a byte and back, and the rate of a long stream."""

    round_trip_ms: float
    megabit: float


def measure(network: Network) -> Measured:
    """Measures; on a busy machine a trip can be late for reasons of its own, so the best of some attempts counts."""
    for _ in range(ATTEMPTS):
        found = _measured(network)
        if not off(network, found):
            break
    return found


def off(network: Network, measured: Measured) -> str | None:
    """What is wrong with the network; None when it is as exact as it has to be."""
    best = 2 * network.latency_ms + 4 * (1 + FRAME_NBYTES) * 8e-3 / network.megabit
    late = not 2 * network.latency_ms < measured.round_trip_ms < MOST_LATE * best + 0.1
    slow = not LEAST_RATE * network.megabit < measured.megabit < network.megabit
    return f"the emulated network is not exact: {described(network, measured)}" if late or slow else None


def described(network: Network, measured: Measured) -> str:
    """The network and what was found of it."""
    return (
        f"{network.megabit:g} Mbit/s, {network.latency_ms:g} ms, {network.hosts} hosts; plain TCP: round trip "
        f"{measured.round_trip_ms:.2f} ms, {measured.megabit:.1f} Mbit/s"
    )


def _measured(network: Network) -> Measured:
    program = ["-m", "psopt.bench.netlab.probe", str(int(network.megabit / 8 * 1e6 * BULK_S))]
    told = json.loads(network.run_on([(0, program), (1, [*program, "h0"])], 2 * SETUP_S)[0].splitlines()[-1])
    return Measured(**told)


def _answer(bulk: int) -> None:
    with socket.create_server(("", PORT)) as listener:
        listener.settimeout(SETUP_S)
        there, _ = listener.accept()
    with there:
        there.settimeout(SETUP_S)
        there.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
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
    found = {"round_trip_ms": statistics.median(trips) * 1e3, "megabit": bulk * 8e-6 / half_s[1]}
    sys.stdout.write(json.dumps(found) + "\n")


def _send(bulk: int, host: str) -> None:
    with _connected(host) as there:
        there.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for _ in range(TRIPS):
            _received(there, 1)
            there.sendall(b"x")
        there.sendall(bytes(2 * bulk))


def _connected(host: str) -> socket.socket:
    """A connection to the other host, which may take its time to listen."""
    deadline = time.monotonic() + SETUP_S
    while True:
        try:
            return socket.create_connection((host, PORT), SETUP_S)
        except ConnectionRefusedError:
            if time.monotonic() > deadline:
                raise
            time.sleep(LOOK_S)


def _received(there: socket.socket, nbytes: int) -> None:
    while nbytes:
        part = len(there.recv(min(nbytes, 1 << 20)))
        if not part:
            raise ConnectionError("the other host closed the connection")
        nbytes -= part


if __name__ == "__main__":
    _answer(int(sys.argv[1])) if len(sys.argv) == 2 else _send(int(sys.argv[1]), sys.argv[2])
