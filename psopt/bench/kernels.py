"""`psopt bench kernels`: one thread against NumPy, SciPy and PyTorch, and two against one."""

import itertools
from collections.abc import Iterator
from pathlib import Path

from threadpoolctl import threadpool_limits

from psopt.bench import linear, local_steps, machine, networks, threads, topk, vectors
from psopt.bench.result import Case, Row, show, write


def cases() -> Iterator[Case]:
    """Every comparison, in the order of the table."""
    rooms = (linear, threads, networks, local_steps, vectors, topk)
    return itertools.chain.from_iterable(room.cases() for room in rooms)


def bench_kernels(out: Path | None, seconds: float) -> list[Row]:
    """Measures and prints a line at a time; with ``out`` writes ``bench.json`` into that folder."""
    with threadpool_limits(1):
        rows = show(row for case in cases() for row in case(seconds))
        write(out, rows, machine.describe(seconds))
    return rows
