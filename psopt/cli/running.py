"""Commands that run an experiment, or check one."""

from pathlib import Path
from typing import Any

import click

from psopt.cli.group import CONFIG, OUT, QUIET, SET, cli, folder


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
@click.option("--memory", is_flag=True, help="Read the data, and print what memory a run would take.")
@click.option(
    "--ranks", type=click.IntRange(min=1), help="For --memory, 1: in one process.  [default: as psopt run starts them]"
)
def validate(config: Path, overrides: tuple[str, ...], resolved: bool, memory: bool, ranks: int | None) -> int:
    """Check CONFIG and say all that is wrong with it, without running anything."""
    from psopt import commands

    return commands.validate(config, overrides, resolved, memory, ranks)
