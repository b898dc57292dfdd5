"""What `tests/run_predict.py` starts on an emulated network: ``mpiexec -n R python job.py REPEATS CONFIG...``.

It makes the runs in turns. Rank 0 prints a JSON line of the ranks' hosts, and one for each run.
"""

import json
import sys

from psopt.config import load
from psopt.runs.experiment import Plan, run
from psopt.transports.mpi import Link, abort_on_exception

SETUP_S = 30.0


def tell(**what: object) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


def main(repeats: str, *configs: str) -> None:
    abort_on_exception()
    link = Link()
    hosts = link.gather(link.host, SETUP_S)
    if link.rank == 0:
        tell(hosts=hosts)
    for _ in range(int(repeats)):
        for path in configs:
            done = run(Plan(load(path), quiet=True, warns=False), link)
            if link.rank == 0:
                tell(config=path, wall_s=done.wall_s, theta=done.theta_sha256, rounds=done.rounds)


if __name__ == "__main__":
    main(*sys.argv[1:])
