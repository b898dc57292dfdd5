"""`psopt bench network`: a table for each network and experiment, and ``bench.json``, which is written row by row."""

import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from psopt.bench.netlab import probe
from psopt.bench.netlab.network import Network, emulated, lacking
from psopt.bench.network.board import Board
from psopt.bench.network.measure import measure
from psopt.bench.network.table import WIRES, Experiment, Row, Wire, experiments, wires
from psopt.bench.network.targets import Targets
from psopt.bench.turns import installed
from psopt.errors import ConfigError, PsoptError

FAILURES = (PsoptError, RuntimeError, OSError)
"""What may come of one row, and must not cost the others theirs."""


def bench_network(
    out: Path,
    data: Path | None,
    networks: Sequence[str],
    wanted: Sequence[str],
    rows: Sequence[str] = (),
    quick: bool = False,
    again: bool = False,
    count: bool = False,
    turns: int = 1,
) -> int:
    """Measures, prints, and writes ``OUT/bench.json``; returns 1 when a row failed.

    Parameters
    ----------
    out : Path
        Also keeps how many rounds each row takes, which is found first, and once.
    data : Path, optional
        Holds mnist, a9a and w8a, as far as they are needed.
    networks, wanted, rows : sequence of str
        Names; all that there are where none is given. Of a row a part of its name will do.
    quick : bool
        A few rounds of each row: whether everything works, and no measurement.
    again : bool
        Keeps the rows that ``bench.json`` holds.
    count : bool
        Finds the rounds and measures nothing.
    turns : int
        How often each row is measured; all rows in turn, every other time the other way round.

    Raises
    ------
    ConfigError
        Where nothing can be measured.
    """
    chosen, asked = experiments(wanted), wires(networks)
    lacks = None if count else lacking()
    if lacks:
        raise ConfigError(f"{lacks}; the rounds to the targets alone can be counted anywhere: --count")
    for experiment in chosen:
        experiment.needed(data)
        _check_rows(experiment, rows, wanted)
    board, targets = Board(out / "bench.json", again, quick), Targets(out / "rounds", data)
    with_torch = installed("torch")
    if not with_torch:
        print("psopt: PyTorch is not installed, so its rows are `-`: pip install 'psopt[torch]'")
    failed = 0
    with _ending_in_order():
        for experiment in chosen:
            for row in _rows(experiment, rows, with_torch, not count):
                failed += _count(targets, experiment, row)
        for wire in [] if count else asked or WIRES:
            these = [each for each in chosen if asked or wire.name in each.wires]
            if these:
                failed += _over(wire, these, rows, targets, board, with_torch, turns)
    return 1 if failed else 0


def _check_rows(experiment: Experiment, rows: Sequence[str], wanted: Sequence[str]) -> None:
    for name in rows:
        if wanted and not any(name in row.name for row in experiment.rows):
            raise ConfigError(f"--row `{name}` is in none of {', '.join(row.name for row in experiment.rows)}")


def _rows(experiment: Experiment, rows: Sequence[str], with_torch: bool, compared: bool = True) -> list[Row]:
    """Those that are asked for; if they are to be compared, the baseline among them."""
    asked = [row for row in experiment.rows if not rows or any(name in row.name for name in rows)]
    needed = [experiment.baseline(row) for row in asked] if compared else []
    return [row for row in experiment.rows if row in (*asked, *needed) and (with_torch or not row.peer)]


def _count(targets: Targets, experiment: Experiment, row: Row) -> int:
    """Finds the row's rounds, and says so where that took its time; 1 when it failed."""
    began = time.monotonic()
    try:
        found = targets.of(experiment, row)
    except FAILURES as error:
        print(f"{experiment.key}, {row.name}: rounds not found: {error}", flush=True)
        return 1
    rounds = "the target is not reached" if found.rounds is None else f"{found.rounds} rounds"
    if (took := time.monotonic() - began) > 1:
        print(f"{experiment.key}, {row.name}: {rounds}, counted in {took:.0f} s", flush=True)
    return 0


def _over(
    wire: Wire,
    chosen: Sequence[Experiment],
    rows: Sequence[str],
    targets: Targets,
    board: Board,
    with_torch: bool,
    turns: int,
) -> int:
    """All that is measured on one network; returns how often a row failed."""
    failed = 0
    hosts = min(wire.most_hosts, max(each.workers for each in chosen) + 1)
    with emulated(hosts, wire.megabit, wire.latency_ms) as network:
        for experiment in chosen:
            there = _rows(experiment, rows, with_torch)
            for turn in range(turns):
                left = [row for row in there if board.turns(wire, experiment, row) <= turn]
                if left:
                    board.head(wire, experiment, _checked(network))
                for row in left[:: -1 if turn % 2 else 1]:
                    failed += _measured(network, wire, experiment, row, targets, board)
            board.show(wire, experiment, _rows(experiment, rows, True))
    return failed


def _checked(network: Network) -> str:
    """What the network was found to be. Raises `ConfigError` where that is not what it should be."""
    found = probe.measure(network)
    wrong = probe.off(network, found)
    if wrong:
        raise ConfigError(f"{wrong}: nothing is concluded; is the machine busy with other work?")
    return probe.described(network, found)


def _measured(network: Network, wire: Wire, experiment: Experiment, row: Row, targets: Targets, board: Board) -> int:
    try:
        found = measure(network, experiment, row, targets, board.quick)
    except FAILURES as error:
        lines = str(error).strip().splitlines()
        print(f"{row.name}: failed: " + "\n    ".join(lines[-12:]), file=sys.stderr, flush=True)
        return 1
    board.add(wire, experiment, row, targets.of(experiment, row), found)
    return 0


@contextmanager
def _ending_in_order() -> Iterator[None]:
    """A termination is an exception, so that the networks are taken down."""
    before = signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
