"""Commands that make a paper's table again."""

from pathlib import Path
from typing import Any

import click

from psopt.cli.group import cli, folder


@cli.group()
def reproduce() -> None:
    """Run a paper's experiment again, and print its numbers beside psopt's."""


TASK = click.option("--task", type=click.Choice(["linear", "logistic"]), required=True)
METHODS = click.option(
    "--methods",
    default="gd,lag-ps,lag-wk,cyc-iag,num-iag",
    show_default=True,
    help="Which rows of the table, comma separated.",
)
RANKS = click.option("--ranks", type=click.IntRange(min=2), help="MPI ranks.  [default: 1 + min(workers, cores)]")
INTO = click.option("--out", callback=folder, required=True, help="Folder for table.json and the runs.")


@reproduce.command(name="lag-real")
@TASK
@click.option("--workers", type=click.Choice(["9", "18", "27"]), default="9", show_default=True)
@click.option(
    "--protocol",
    type=click.Choice(["authors", "clean"]),
    default="clean",
    show_default=True,
    help="authors: start, labels and counting of the paper's scripts; clean: labels -1/+1, every upload counted once.",
)
@METHODS
@RANKS
@INTO
def lag_real(task: str, workers: str, protocol: str, methods: str, ranks: int | None, out: Path) -> int:
    """The LAG paper's main table: uploads to a gap of 1e-8 on six real data sets, over MPI."""
    from psopt import commands

    return commands.reproduce("lag-real", task, int(workers), protocol, methods, ranks, out)


@reproduce.command(name="lag-synthetic")
@TASK
@METHODS
@RANKS
@INTO
def lag_synthetic(task: str, methods: str, ranks: int | None, out: Path) -> int:
    """The LAG paper's synthetic figures: growing L_m (linear) and equal L_m (logistic), 9 workers, over MPI."""
    from psopt import commands

    return commands.reproduce("lag-synthetic", task, 9, "authors", methods, ranks, out)


@reproduce.command(name="sasg-mnist")
@click.option(
    "--data",
    type=click.Path(),
    help="Folder with MNIST's four IDX files.  [default: download them, with the extra `download`]",
)
@click.option("--methods", default="sasg,lasg,sparse,sgd", show_default=True, help="Which rows, comma separated.")
@click.option("--seeds", default="1,19,31,42,80", show_default=True, help="Which seeds, comma separated.")
@click.option("--epochs", type=click.IntRange(min=1), default=20, show_default=True)
@RANKS
@INTO
def sasg_mnist(data: str | None, methods: str, seeds: str, epochs: int, ranks: int | None, out: Path) -> int:
    """SASG's MNIST table: uploads and bits to 98 % test accuracy, over MPI.

    Minutes a run and 20 runs; --out may hold finished runs, which are not run again.
    """
    from psopt import commands

    return commands.reproduce_sasg(data, methods, seeds, epochs, ranks, out)


@reproduce.command(name="local-sgd")
@click.option("--experiment", type=click.Choice(["quadratic", "speedup", "a9a"]), required=True)
@click.option("--steps", type=int, help="T, local steps of each worker.  [default: 1000; a9a: 4096]")
@click.option("--workers", help="Each N, comma separated.  [default: 20; speedup: 2,4,8,16,20,24,32; a9a: 1,8,64,256]")
@click.option(
    "--plans", help="every, constant, growing, growing-3/4, growing-1/2, one-shot; not for a9a.  [default: all]"
)
@click.option(
    "--repetitions",
    type=int,
    help="Copies of a run side by side; not for a9a.  [default: 400000 / T; speedup: 8000000 / T]",
)
@click.option("--seeds", help="For a9a: which seeds, a run for each.  [default: 1,2,...,10]")
@click.option("--rounds", type=int, help="For a9a: R of the growing plan.  [default: 16]")
@click.option("--data", type=click.Path(), help="For a9a: its file, from the LIBSVM data page.")
@RANKS
@INTO
def local_sgd(experiment: str, ranks: int | None, out: Path, **given: Any) -> int:
    """The Local SGD paper's experiments: errors and speed-ups by plan and number of workers, over MPI.

    \b
    quadratic  averaging is free: every plan ends at the same error
    speedup    a kink at the optimum: N growing rounds keep the speed-up linear in N, one alone stops it near 12
    a9a        logistic regression on real data: the error falls with 1/N

    --out may hold finished runs, which are not run again.
    """
    from psopt import commands

    return commands.reproduce_local(experiment, given, ranks, out)
