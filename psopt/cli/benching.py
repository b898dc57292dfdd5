"""`psopt bench`: measurements that a person can repeat."""

import os
from pathlib import Path
from typing import Any

import click

from psopt.cli.group import Finite, cli, folder


@cli.group()
def bench() -> None:
    """Measure psopt's speed beside what others take, in one run and in turns."""


def made(context: click.Context, option: click.Parameter, value: str | None) -> Path | None:
    """A folder that is there now, so that nobody measures for minutes what cannot be written."""
    found = folder(context, option, value)
    if found is not None:
        try:
            found.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise click.BadParameter(f"{found} cannot be made: {error.strerror}", context, option) from None
        if not os.access(found, os.W_OK):
            raise click.BadParameter(f"{found} cannot be written to", context, option)
    return found


def unused(context: click.Context, option: click.Parameter, value: str | None) -> Path | None:
    """A folder that is there now, and holds no measurement."""
    found = made(context, option, value)
    if found is not None and (found / "bench.json").exists():
        raise click.BadParameter(f"{found / 'bench.json'} is there already: choose another folder", context, option)
    return found


BENCH_OUT = click.option("--out", callback=unused, help="Folder for bench.json, which is written at the end.")
SECONDS = click.option(
    "--seconds",
    type=Finite(min=0.0),
    default=0.5,
    show_default=True,
    help="About how long the turns of each comparison take; some turns are taken anyway.",
)


@bench.command(name="kernels")
@BENCH_OUT
@SECONDS
def bench_kernels(out: Path | None, seconds: float) -> int:
    """Gradients, local steps, passes over vectors and top-k, on one thread, against NumPy, SciPy and PyTorch.

    PyTorch and SciPy only where they are installed. `psopt docs benchmarks` tells what the columns mean. Takes some
    minutes, more on a busy machine.
    """
    from psopt.bench import machine

    machine.clear_the_way()
    from psopt.bench.kernels import bench_kernels as measure

    measure(out, seconds)
    return 0


@bench.command(name="rounds")
@BENCH_OUT
@click.option(
    "--seconds",
    type=Finite(min=0.0),
    default=5.0,
    show_default=True,
    help="About how long the turns of each comparison take; seven turns at least.",
)
@click.option("--workers", type=click.IntRange(min=1, max=1000), default=3, show_default=True, help="M.")
def bench_rounds(out: Path | None, seconds: float, workers: int) -> int:
    """A round of 1 + M ranks against a hand-written mpi4py loop, MPI.Allreduce, and PyTorch's gloo and DDP.

    Starts its job by itself, or joins the one it is started in. PyTorch only where it is installed. Takes a minute,
    more on a busy machine.
    """
    from psopt.bench import machine

    machine.clear_the_way()
    from psopt.bench.rounds import bench_rounds as measure

    return measure(out, seconds, workers)


@bench.command(name="startup")
@BENCH_OUT
@click.option("--ranks", type=click.IntRange(min=2), default=10, show_default=True, help="MPI ranks.")
@SECONDS
@click.option("--no-cold", "warm_only", is_flag=True, help="Leave out the start that compiles every kernel.")
def bench_startup(out: Path | None, ranks: int, seconds: float, warm_only: bool) -> int:
    """From `psopt run` to the first round, beside a job that only imports NumPy and mpi4py; and `psopt --help`.

    Each is started four times at least. The seconds of all cores together tell more than the wall's on a busy machine.
    """
    from psopt.bench.startup import bench_startup as measure

    measure(out, ranks, seconds, not warm_only)
    return 0


HISTORY = click.argument("history", type=click.Path(path_type=Path, dir_okay=False))


@bench.command(name="check")
@HISTORY
@SECONDS
@click.option(
    "--tolerance",
    type=Finite(min=0.0, max=1.0, max_open=True),
    default=0.25,
    show_default=True,
    help="By how much ratios may fall, as a share of them.",
)
def bench_check(history: Path, seconds: float, tolerance: float) -> int:
    """Measure what is quick, and exit 1 where a row is slower than it was when HISTORY was recorded.

    Ratios to the baselines are compared, not times, because machines differ; with the last record of this kind of CPU
    where there is one, else with the last. A row is slower where all of its ratios are lower, because baselines have
    fast and slow days, too; it is measured once more before that is told. Measured are the rows of `kernels`, and of
    `startup` with a warm cache on four ranks: some minutes.
    """
    from psopt.bench import machine

    machine.clear_the_way()
    from psopt.bench.history import check

    return check(history, seconds, tolerance)


@bench.command(name="record")
@HISTORY
@SECONDS
def bench_record(history: Path, seconds: float) -> int:
    """Measure what is quick, three times over, and add the lowest ratios, a line, to the file HISTORY."""
    from psopt.bench import machine

    machine.clear_the_way()
    from psopt.bench.history import record

    record(history, seconds)
    return 0


@bench.command(name="network")
@click.option("--out", callback=made, required=True, help="Folder for bench.json and the counts of rounds.")
@click.option("--data", callback=folder, help="Folder that holds mnist (its four IDX files), a9a and w8a.")
@click.option(
    "--network", "networks", multiple=True, metavar="MBIT/MS", help="10/20, 100/5, 10/5, 200/1.  [default: each row's]"
)
@click.option("--experiment", "experiments", multiple=True, metavar="KEY", help="A, B, C-linear, ...; C: all of C.")
@click.option("--row", "rows", multiple=True, metavar="NAME", help="Only rows with this in their name.")
@click.option("--quick", is_flag=True, help="A few rounds a row: to see whether everything works.")
@click.option("--continue", "again", is_flag=True, help="Keep the rows that OUT/bench.json holds.")
@click.option(
    "--turns", type=click.IntRange(1, 99), default=1, show_default=True, help="How often each row is measured."
)
@click.option("--count", is_flag=True, help="Count the rounds to the targets, and measure nothing.")
def bench_network(out: Path, data: Path | None, **given: Any) -> int:
    """Seconds to a target over emulated slow networks, psopt's and those of torch.distributed (gloo).

    Needs root, gcc and iproute2; without PyTorch its rows are `-`. How many rounds a row takes is counted first,
    without the network, and kept in OUT. Then a part of it is measured on the network, and scaled by the rounds.

    \b
      psopt bench network --experiment C-linear --network 100/5 --out runs/network
      psopt bench network --data /scratch/me/data --out runs/network --continue
    """
    from psopt.bench.network.command import bench_network as measure

    networks, experiments, rows = (given.pop(name) for name in ("networks", "experiments", "rows"))
    return measure(out, data, networks, experiments, rows, **given)
