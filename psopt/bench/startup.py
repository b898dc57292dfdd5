"""`psopt bench startup`: how soon the first round begins, and `psopt --help`, beside what Python and MPI cost alone.

Each job is run in turns with the least job there is, which imports NumPy and MPI on as many ranks and meets once. Two
rows tell of each: the wall's seconds to the first round, and the seconds of all cores together for a whole job of one
round, which others on the machine spoil less.
"""

import functools
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from statistics import median

from psopt import launch
from psopt.bench import machine
from psopt.bench.result import Case, Row, show, write
from psopt.bench.turns import FEWEST_TURNS
from psopt.errors import ConfigError

WORKERS = 9
LIMIT_S = 900.0
CONFIG = f"""
name: startup
seed: 1
workers: {WORKERS}
problem: {{kind: logistic, l2: 1e-3, reduction: sum}}
data: {{source: lag-logistic, labels: signed, partition: {{kind: blocks}}}}
algorithm: {{recipe: lag-wk, step_size: 1/L}}
stop: {{max_rounds: 1}}
timeouts: {{start_s: 600}}
"""
LEAST = "import numpy\nfrom mpi4py import MPI\nMPI.COMM_WORLD.Barrier()"


class Start:
    """A command that is started again and again: its seconds on the wall, and of all cores, but for the first time.

    Parameters
    ----------
    command : callable
        Given a fresh folder, the words of the command.
    first_round : callable, optional
        Given that folder, the seconds to what matters; the whole command's otherwise.
    cold : bool
        With an empty cache of compiled kernels each time.
    """

    def __init__(
        self,
        command: Callable[[Path], Sequence[str]],
        first_round: Callable[[Path], float] | None = None,
        cold: bool = False,
    ) -> None:
        self._command, self._first_round, self._cold = command, first_round, cold
        self._wall: list[float] = []
        self._cores: list[float] = []

    def __call__(self) -> None:
        """Starts it once, and waits for its end; raises `ConfigError` where it fails, with what it said."""
        with tempfile.TemporaryDirectory(prefix="psopt-startup-") as name:
            folder = Path(name)
            extra = {"NUMBA_CACHE_DIR": str(folder / "cache")} if self._cold else {}
            before, start = _cores_s(), time.perf_counter()
            done = subprocess.run(
                self._command(folder),
                env={**launch.environment(), **extra},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=LIMIT_S,
                check=False,
            )
            wall = time.perf_counter() - start
            if done.returncode:
                said = done.stderr.strip() or done.stdout.strip()
                raise ConfigError(f"a start that was to be measured failed: {said}")
            self._wall.append(self._first_round(folder) if self._first_round else wall)
            self._cores.append(_cores_s() - before)

    @property
    def wall_s(self) -> float:
        """The median."""
        return median(self._wall[1:])

    @property
    def cores_s(self) -> float:
        """The median."""
        return median(self._cores[1:])


def bench_startup(out: Path | None, ranks: int, seconds: float, cold: bool = True) -> list[Row]:
    """Measures and prints a line at a time; with ``out`` writes ``bench.json`` into that folder."""
    rows = show(row for case in cases(ranks, cold) for row in case(seconds))
    write(out, rows, machine.describe())
    return rows


def cases(ranks: int = 1 + WORKERS, cold: bool = True) -> Iterator[Case]:
    """Every comparison, in the order of the table; ``cold``: also with an empty cache of compiled kernels."""
    yield _help
    yield functools.partial(_first_round, "warm cache", ranks)
    if cold:
        yield functools.partial(_first_round, "cold cache", ranks)


def _help(seconds: float) -> list[Row]:
    bare = Start(lambda folder: [sys.executable, "-c", "pass"])
    ours = Start(lambda folder: [sys.executable, "-m", "psopt", "--help"])
    _alternate((bare, ours), seconds)
    return _rows("psopt --help", (), ours, "Python alone", bare)


def _first_round(what: str, ranks: int, seconds: float) -> list[Row]:
    words = [launch.find_mpiexec(), "-n", str(ranks), sys.executable, "-c", LEAST]
    bare = Start(lambda folder: words)
    ours = Start(lambda folder: _run(folder, ranks), _startup_s, cold=what == "cold cache")
    _alternate((bare, ours), seconds)
    return _rows(f"first round, {what}", (ranks,), ours, "NumPy and mpi4py", bare)


def _run(folder: Path, ranks: int) -> list[str]:
    config = folder / "startup.yaml"
    config.write_text(CONFIG)
    options = ["--ranks", str(ranks), "--quiet", "--out", str(folder / "run")]
    return [sys.executable, "-m", "psopt", "run", str(config), *options]


def _startup_s(folder: Path) -> float:
    return json.loads((folder / "run" / "summary.json").read_text())["startup_s"]


def _alternate(sides: Sequence[Start], seconds: float) -> None:
    """Each side in turn for about so many seconds, four times at least: the first time is forgotten."""
    end, turns = time.perf_counter() + seconds, 0
    while turns < 1 + FEWEST_TURNS or time.perf_counter() < end:
        for side in sides:
            side()
        turns += 1


def _rows(what: str, shape: tuple[int, ...], ours: Start, who: str, bare: Start) -> list[Row]:
    return [
        Row(f"{what}: wall", shape, "", ours.wall_s, who, bare.wall_s),
        Row(f"{what}: all cores", shape, "", ours.cores_s, who, bare.cores_s),
    ]


def _cores_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
