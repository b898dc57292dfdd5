"""`psopt bench rounds`: the job in which all sides take turns, and joining it."""

from pathlib import Path

from psopt import launch


def bench_rounds(out: Path | None, seconds: float, workers: int) -> int:
    """Starts 1 + ``workers`` ranks, or, on one of them, takes part. Prints a line at a time on rank 0, and with ``out``
    writes ``bench.json`` into that folder.
    """
    if launch.told_ranks() is None:
        arguments = ["bench", "rounds", "--seconds", str(seconds), "--workers", str(workers)]
        return launch.mpiexec(1 + workers, [*arguments, *(["--out", str(out)] if out else [])])
    from psopt.bench.round_job import take_part  # MPI begins with this

    take_part(out, seconds, workers)
    return 0
