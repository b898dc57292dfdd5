"""The commands: parse, call, exit code. Nothing heavy is imported before a command needs it."""

from pathlib import Path
from typing import Any

import click

import psopt

CONFIG = click.argument("config", type=click.Path(path_type=Path))
SET = click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="A.B=C",
    help="Change one key of the config, as in --set stop.gap=1e-6; may be given several times.",
)


def folder(context: click.Context, option: click.Parameter, value: str | None) -> Path | None:
    """A folder's name as a path; an empty one, as of a shell variable that is not set, is not the present folder."""
    if value is not None and not value.strip():
        raise click.BadParameter("the name of the folder is empty", context, option)
    return None if value is None else Path(value)


OUT = click.option("--out", callback=folder, help="Folder to write into; one that holds a run is refused.")
QUIET = click.option("--quiet", is_flag=True, help="No progress line.")


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(psopt.__version__, prog_name="psopt")
def cli() -> None:
    """Train one model with many machines that talk as little as possible.

    \b
    Start here:
      psopt run configs/lag_wk.yaml        nine workers over MPI, on real data
      psopt simulate configs/lag_wk.yaml   the same bits in one process, without MPI
      psopt sweep configs/lag_wk.yaml ...  a run for each combination of values, and one table
      psopt submit configs/lag_wk.yaml     a run as a job on a Slurm cluster
      psopt validate configs/lag_wk.yaml   what is wrong with a config, all of it at once
      psopt list                           the recipes, parts, data sets and problems there are
      psopt doctor                         whether MPI works here

    Exit codes: 0 success, 1 failure, 2 wrong input, 75 warned of its end (SIGUSR1) and to be started again, 130
    interrupted.
    """


@cli.command()
@CONFIG
@click.option(
    "--ranks",
    type=click.IntRange(min=2),
    help="MPI ranks to start: the server and those that host workers.  [default: 1 + min(workers, cores)]",
)
@SET
@OUT
@QUIET
@click.option(
    "--resume",
    "go_on",
    is_flag=True,
    help="Go on where OUT holds the beginning of this run; if it is done, do nothing.",
)
def run(config: Path, ranks: int | None, overrides: tuple[str, ...], out: Path | None, quiet: bool, go_on: bool) -> int:
    """Run CONFIG over MPI.

    Started by mpiexec or srun, it joins that job. Started alone, it starts mpiexec itself, on this machine. The number
    of ranks changes where workers live, never the result.

    \b
      psopt run configs/lag_wk.yaml
      psopt run configs/lag_wk.yaml --ranks 10 --set stop.gap=1e-6 --out runs/mine
      mpiexec -n 4 psopt run configs/lag_wk.yaml

    \b
    Your own mpiexec decides how many ranks a machine takes. Open MPI wants to be told to start more than there are
    cores: mpiexec --map-by :OVERSUBSCRIBE -n 10 psopt run ... `psopt run --ranks 10` does that by itself.
    """
    from psopt import commands

    return commands.run(config, ranks, overrides, out, quiet, go_on)


@cli.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option(
    "--ranks",
    type=click.IntRange(min=1),
    help="MPI ranks, 1: in this process, without MPI.  [default: as many as there were]",
)
@SET
@QUIET
def resume(folder: Path, ranks: int | None, overrides: tuple[str, ...], quiet: bool) -> int:
    """Go on with the run in FOLDER from its last checkpoint, with the bits of never having stopped.

    On any number of ranks: started by mpiexec or srun it joins that job, started alone it starts mpiexec itself. What
    was computed after the checkpoint is computed again. A checkpoint that is damaged is told of, and the one before it
    is used. A run that has ended goes on with another stopping rule.

    
      psopt resume runs/mine
      psopt resume runs/mine --set stop.max_rounds=20000
      mpiexec -n 4 psopt resume runs/mine

    Of the config, `stop`, `timeouts`, `checkpoint`, `failure`, `slurm`, `faults` and `debug` may change, by --set or in
    FOLDER/config.yaml; another change is refused, because the run would be another one.
    """
    from psopt import commands

    return commands.resume(folder, ranks, overrides, quiet)


@cli.command()
@CONFIG
@SET
@OUT
@QUIET
@click.option("--reorder", is_flag=True, help="Let answers arrive in random order; changes no bit of the result.")
def simulate(config: Path, overrides: tuple[str, ...], out: Path | None, quiet: bool, reorder: bool) -> int:
    """Run CONFIG in this one process, without MPI: the same bits."""
    from psopt import commands

    return commands.simulate(config, overrides, out, quiet, reorder)


@cli.command()
@CONFIG
@click.option(
    "--grid",
    multiple=True,
    required=True,
    metavar="A.B=V1,V2,...",
    help="One axis: a key of the config and its values, as in --grid seed=1,2,3; may be given several times.",
)
@SET
@click.option("--out", callback=folder, required=True, help="Folder for the runs and the table.")
@click.option(
    "--processes", type=click.IntRange(min=1), default=1, show_default=True, help="How many points run at a time."
)
@click.option("--point", type=int, metavar="I", help="Run this point alone, and make no table.")
@click.option("--collect", is_flag=True, help="Run nothing; make the table of what is there.")
@click.option("--dry-run", is_flag=True, help="Run nothing; print the points.")
@click.option("--ranks", type=click.IntRange(min=2), help="With --point: start that many MPI ranks for it.")
def sweep(
    config: Path,
    grid: tuple[str, ...],
    overrides: tuple[str, ...],
    out: Path,
    processes: int,
    point: int | None,
    collect: bool,
    dry_run: bool,
    ranks: int | None,
) -> int:
    """Run CONFIG once for each combination of values, and collect one table.

    The runs stand in OUT/point-000, OUT/point-001, ..., the last axis fastest, and the table in OUT/table.json and
    OUT/table.csv. Finished points are not run again, so that the same command goes on after Ctrl-C; a point that
    fails is told, stops no other, and makes the exit code 1.

    \b
      psopt sweep configs/local_sgd.yaml --grid algorithm.plan.rounds=1,8,64 --grid workers=4,8 --out runs/mine
      mpiexec -n 4 psopt sweep configs/sasg.yaml --grid seed=1,2,3 --out runs/seeds --point $SLURM_ARRAY_TASK_ID

    The second line is what a job array needs: one point a job, over MPI; `--collect` makes the table when all are done.
    Values are YAML, so a mapping can be one, quoted for the shell: "algorithm.plan=every,{kind: fixed, rounds: M}".
    """
    from psopt import commands

    return commands.sweep(config, grid, overrides, out, processes, point, collect, dry_run, ranks)


@cli.command()
@CONFIG
@click.option("--nodes", type=click.IntRange(min=1), help="Machines.")
@click.option("--ntasks", type=click.IntRange(min=2), help="MPI ranks in all.  [default: 1 + workers]")
@click.option("--ntasks-per-node", type=click.IntRange(min=1), help="MPI ranks on each node.")
@click.option("--cpus-per-task", type=click.IntRange(min=1), help="Cores for each rank.")
@click.option("--time", metavar="LIMIT", help="Time limit: MINUTES, H:MM:SS or D-HH:MM:SS.")
@click.option("--partition", metavar="NAME")
@click.option("--account", metavar="NAME")
@click.option("--qos", metavar="NAME")
@click.option("--constraint", metavar="FEATURES")
@click.option("--mem", metavar="SIZE", help="Memory on each node.")
@click.option("--launcher", type=click.Choice(["auto", "srun", "mpiexec"]), help="What starts the ranks.")
@click.option("--mpi", metavar="KIND", help="What srun is told as --mpi.  [default: pmi2]")
@click.option("--warning-s", type=click.IntRange(min=0), help="Seconds before the limit at which the run leaves.")
@click.option("--requeue/--no-requeue", default=None, help="Whether a job that had to leave is queued again.")
@click.option("--at-once", type=click.IntRange(min=1), metavar="N", help="With --grid: points that run at a time.")
@click.option(
    "--grid",
    multiple=True,
    metavar="A.B=V1,V2,...",
    help="Submit an array, a job a point, as `psopt sweep` has them; may be given several times.",
)
@SET
@click.option("--out", callback=folder, help="Run folder.  [default: runs/NAME-TIMESTAMP]")
@click.option("--dry-run", is_flag=True, help="Print the script that would be submitted, and do nothing.")
@click.option("--wait", is_flag=True, help="Wait for the end, and exit 0 if the run has come to its own.")
def submit(
    config: Path,
    grid: tuple[str, ...],
    overrides: tuple[str, ...],
    out: Path | None,
    dry_run: bool,
    wait: bool,
    **given: Any,
) -> int:
    """Hand CONFIG to Slurm as a batch job, or with --grid as a job array.

    What is not given here comes from the config's section `slurm`. A job that is warned of its time limit writes a
    checkpoint, goes back into the queue, and goes on by itself; submitting the same config with the same --out again
    goes on as well.

    \b
      psopt submit configs/lag_wk.yaml --nodes 2 --ntasks-per-node 5 --time 0:30:00 --dry-run
      psopt submit configs/lag_wk.yaml --partition short --time 30 --out runs/mine --wait
      psopt submit configs/local_sgd.yaml --grid seed=1,2,3 --out runs/seeds

    The script and what the job prints stand in OUT.slurm, beside the run folder OUT.
    """
    from psopt.submitting import submit as hand_over

    return hand_over(config, given, overrides, grid, out, dry_run, wait)


@cli.command()
@CONFIG
@SET
@click.option("--resolved", is_flag=True, help="Print the config with every default written out.")
def validate(config: Path, overrides: tuple[str, ...], resolved: bool) -> int:
    """Check CONFIG and say all that is wrong with it, without running anything."""
    from psopt import commands

    return commands.validate(config, overrides, resolved)


@cli.command(name="list")
@click.argument("what", required=False, type=click.Choice(["recipes", "parts", "data", "problems", "schema"]))
def list_(what: str | None) -> int:
    """What exists: recipes, parts, data, problems; `schema` prints the JSON Schema of a config, for editors."""
    from psopt import commands

    return commands.catalogue(what)


@cli.command()
def doctor() -> int:
    """Examine MPI library and launcher, a mismatch of the two, ranks, threads and cores."""
    from psopt.doctor import examine

    return examine()


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


@cli.group()
def bench() -> None:
    """Measure psopt's speed beside what others take, in one run and in turns."""


@bench.command(name="kernels")
@click.option("--out", callback=folder, help="Folder for bench.json.")
@click.option(
    "--seconds", type=click.FloatRange(min=0.0), default=0.5, show_default=True, help="Time for each line's turns."
)
def bench_kernels(out: Path | None, seconds: float) -> int:
    """Exact top-k and error feedback, against NumPy's argpartition and, where it is installed, PyTorch's topk.

    Medians; candidates/k tells how many entries had to be looked at twice, over the k that are kept.
    """
    from psopt.bench.kernels import bench_kernels as measure

    measure(out, seconds)
    return 0


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
