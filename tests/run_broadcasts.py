"""How long a message for everyone takes over emulated networks, by every kind of `broadcast`. ``make test-broadcasts``.

Prints a table a network: milliseconds from the server's sending to the last of ten answers, the median of some rounds.
Needs root, gcc and iproute2. Arguments, all optional: RATE_MBIT DELAY_MS HOSTS.
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from psopt.bench.netlab.network import emulated, lacking

SPREAD = Path(__file__).parent / "netlab" / "spread.py"
KINDS = ("star", "collective", "chain", "tree:2", "tree:3", "tree", "chain::16384", "tree:2:16384", "mesh")
SIZES = (200, 20_000, 100_000, 1_600_000)
NETWORKS = ((10.0, 20.0), (100.0, 5.0))
HOSTS = 11
LONGEST_S = 4.0
"""Of one kind and size; two rounds are made all the same."""


def main(arguments: Sequence[str]) -> int:
    lacks = lacking()
    if lacks:
        print(lacks)
        return 2
    networks = [(float(arguments[0]), float(arguments[1]))] if arguments else NETWORKS
    hosts = int(arguments[2]) if arguments[2:] else HOSTS
    for megabit, latency_ms in networks:
        print(f"\n{megabit:g} Mbit/s, {latency_ms:g} ms, {hosts} hosts; milliseconds")
        print(f"{'bytes':14}" + "".join(f"{size:>10}" for size in SIZES))
        with emulated(hosts, megabit, latency_ms) as network:
            job = [str(SPREAD), ",".join(KINDS), ",".join(map(str, SIZES)), str(LONGEST_S)]
            for line in network.run(hosts, job, 500.0).splitlines():
                if line.startswith("{"):
                    told = json.loads(line)
                    print(f"{told['kind']:14}" + "".join(f"{1e3 * s:10.1f}" for s in told["seconds"]), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
