"""Measures the constants of waiting in `psopt.views.conversation`, on a network that no prediction is tested on.

    mpiexec -n 5 python calibrate.py MEGABIT LATENCY_MS        on five hosts of such a network

With a fixed pause between two looks, a message and its answer take longer than the network needs, by
LOOKS (pause + LOOK_S) at each end. So the slope over several pauses is LOOKS: of a message, and, with a broadcast that
rank 1 passes on to rank 3, of a part of a collective. Rank 0 prints both, and LOOK_S, as a JSON line.
"""

import json
import statistics
import sys
import time

import numpy as np

from psopt.transports.mpi import MPI, abort_on_exception
from psopt.transports.waiting import sleep_precisely
from psopt.views.network import wire_nbytes

PAUSES_S = (0.25e-3, 0.5e-3, 1e-3, 1.5e-3, 2e-3, 3e-3)
TURNS = 60
TAG = 5


def until(test, pause_s):
    while not test():
        time.sleep(pause_s)


def there_and_back_s(comm, pause_s, collective):
    """Mean seconds from rank 0's question to the answer of rank 1, or, by a collective, of rank 3."""
    question, answer, took = np.zeros(48, np.uint8), np.zeros(48, np.uint8), []
    rank, asked = comm.Get_rank(), 3 if collective else 1
    for _ in range(TURNS):
        until(comm.Ibarrier().Test, 1e-3)
        time.sleep(pause_s * float(np.random.default_rng().random()))  # looks are not to fall into step
        began = time.perf_counter()
        if collective:
            request = comm.Ibcast([question, MPI.BYTE], 0)
            if rank:
                until(request.Test, pause_s)
        elif rank == 0:
            request = comm.Isend([question, MPI.BYTE], asked, TAG)
        elif rank == asked:
            until(comm.Irecv([question, MPI.BYTE], 0, TAG).Test, pause_s)
        if rank == asked:
            until(comm.Isend([answer, MPI.BYTE], 0, TAG).Test, PAUSES_S[0])
        elif rank == 0:
            until(comm.Irecv([answer, MPI.BYTE], asked, TAG).Test, pause_s)
            took.append(time.perf_counter() - began)
            until(request.Test, PAUSES_S[0])
    return statistics.fmean(sorted(took)[: TURNS * 9 // 10]) if rank == 0 else 0.0


def excess(comm, collective, network_s):
    """Slope and constant of the seconds beyond what the network needs, over the pauses."""
    took = [there_and_back_s(comm, pause, collective) - network_s for pause in PAUSES_S]
    slope, constant = np.polyfit(PAUSES_S, took, 1)
    return float(slope), float(constant)


def main(megabit, latency_ms):
    abort_on_exception()
    sleep_precisely()
    comm = MPI.COMM_WORLD
    hop_s = float(latency_ms) / 1e3 + 2 * wire_nbytes(48) * 8e-6 / float(megabit)
    there_and_back_s(comm, PAUSES_S[0], True)
    (single, rest), (both, rest_2) = excess(comm, False, 2 * hop_s), excess(comm, True, 3 * hop_s)
    if comm.Get_rank() == 0:
        said = {
            "single_looks": single / 2,
            "collective_looks": (both - single / 2) / 2,  # two hops, and the answer
            "look_us": 1e6 * (rest + rest_2) / (single + both),
        }
        sys.stdout.write(json.dumps(said) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
