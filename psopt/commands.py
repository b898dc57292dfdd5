"""What the commands do, once parsed. Each returns an exit code."""

import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from psopt import launch
from psopt.errors import ConfigError
from psopt.runs.folder import Held, check_free, default_folder, read_summary
from psopt.runs.progress import TERMINAL_WIDTH, closing_table

if TYPE_CHECKING:
    from psopt.config import RunConfig
    from psopt.transports.mpi import Link

JOIN_S = 60.0


def run(
    path: Path, ranks: int | None, overrides: Sequence[str], out: Path | None, quiet: bool, go_on: bool = False
) -> int:
    """``psopt run``: joins the job it is started in, or starts one."""
    from psopt.config import load, parse_resolved

    if go_on and out is None:
        raise ConfigError("--resume needs --out: which folder may hold the beginning of the run?")
    if launch.told_ranks() is None:
        config = load(path, overrides)
        folder = out or default_folder(config.name)
        if not go_on:
            check_free(folder)
        count = ranks or launch.default_ranks(config.workers, config.repeat)
        options = [*_options(overrides, quiet), *["--resume"] * go_on]
        return start(count, ["run", str(path), "--out", str(folder), *options], folder, config)
    from psopt.runs.agreement import decided  # what computes is not loaded where a job is only started
    from psopt.runs.experiment import Plan
    from psopt.runs.experiment import run as run_over
    from psopt.runs.resume import plan_for

    link = join(ranks)
    checked = launch.handed()
    listed = decided(link, JOIN_S, lambda: _settle(checked or load(path, overrides).resolved(), out))
    config, folder = parse_resolved(listed["config"]), Path(listed["folder"])
    plan = plan_for(config, folder, link) if go_on else Plan(config, folder)
    first = link.rank == 0
    if plan is None:
        if first:
            closing_table(read_summary(folder), str(folder))
            print("psopt: nothing to do: the run has come to its end before")
        return 0
    done = run_over(replace(plan, quiet=quiet, started=launch.started()), link)
    if first:
        closing_table(done.summary, str(folder))
    return 0


def resume(folder: Path, ranks: int | None, overrides: Sequence[str], quiet: bool) -> int:
    """``psopt resume``: joins the job it is started in, or starts one of as many ranks as there were."""
    from psopt.config import parse_resolved
    from psopt.runs import resume as resuming
    from psopt.runs.agreement import decided
    from psopt.runs.experiment import run as run_over
    from psopt.runs.experiment import simulate as simulate_here

    checked = launch.handed()

    def settle() -> dict[str, Any]:
        config = parse_resolved(checked) if checked else resuming.config_of(folder, overrides)
        return {"config": config.resolved(), "done": resuming.finished(folder, config)}

    link = None if launch.told_ranks() is None else join(ranks)
    listed = settle() if link is None else decided(link, JOIN_S, settle)
    first = link is None or link.rank == 0
    if listed["done"]:
        if first:
            closing_table(listed["done"], str(folder))
            print(
                f"psopt: nothing to do: the run ended by {listed['done']['stop_reason']}. To go on, change how it "
                "stops: --set stop.max_rounds=..."
            )
        return 0
    config = parse_resolved(listed["config"])
    if link is None:
        count = ranks or resuming.ranks_of(folder)
        resuming.check_early(config, folder)
        if count > 1:
            return start(count, ["resume", str(folder), *_options(overrides, quiet)], folder, config)
    plan = replace(resuming.going_on(config, folder, link), quiet=quiet, started=launch.started())
    done = simulate_here(plan) if link is None else run_over(plan, link)
    if first:
        closing_table(done.summary, str(folder))
    return 0


def _options(overrides: Sequence[str], quiet: bool) -> list[str]:
    """What was typed, for the ranks."""
    return repeated("--set", overrides) + ["--quiet"] * quiet


def repeated(option: str, values: Sequence[str]) -> list[str]:
    """The option before each of its values."""
    return [word for value in values for word in (option, value)]


def _settle(config: dict[str, Any], out: Path | None) -> dict[str, Any]:
    return {"config": config, "folder": str(out or default_folder(config["name"]))}


def start(ranks: int, arguments: Sequence[str], folder: Path | None = None, config: "RunConfig | None" = None) -> int:
    """Starts this program again on several ranks, and tells rank 0 how wide the terminal is.

    With folder and config of the run that this makes, an interrupt reaches rank 0 by itself, which ends the run in good
    order; of a job that died without a word it is said how the run can go on; and where the run survives the loss of
    ranks, the exit code is by its summary and not by mpiexec. So it is where mpiexec says 0 of a run that did not end:
    under Slurm that may come of daemons that got the same signal as the job.
    """
    from psopt.runs.checkpoint import how_to_go_on
    from psopt.runs.occupancy import ask_to_end

    width = shutil.get_terminal_size().columns if sys.stderr.isatty() else 0
    extra = {TERMINAL_WIDTH: str(width), launch.STARTED: str(launch.started() or "")}
    if folder is None:
        return launch.mpiexec(ranks, arguments, extra)
    extra |= launch.handing_over(arguments, config.resolved())
    frozen_s, before = None, _stamp(folder / "summary.json")
    if config.failure.survives:
        launch.check_outliving(launch.find_mpiexec(), f"`failure.policy: {config.failure.policy}`")
        frozen_s = config.timeouts.idle_s
    code = launch.mpiexec(ranks, arguments, extra, lambda number: ask_to_end(folder, number), frozen_s)
    over = _stamp(folder / "summary.json") not in (None, before)
    if over and (config.failure.survives or code == 0):
        return 0 if _is_finished(folder) else code or 1
    told = code == 2 or (code == 0 and _is_finished(folder))  # the ranks have said why, or that there is nothing to do
    if not over and not told and (folder / "trace.jsonl").is_file():  # else it would be told in the summary
        print("psopt: the job died without a word", file=sys.stderr)
        print(how_to_go_on(folder) or "psopt: there is no checkpoint yet", file=sys.stderr, flush=True)
        return code or 1
    return code


def _is_finished(folder: Path) -> bool:
    return (folder / "summary.json").is_file() and read_summary(folder)["status"] == Held.FINISHED.value


def _stamp(path: Path) -> tuple[int, int] | None:
    """What tells one file from another of the same name; None where there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns


def join(ranks: int | None) -> "Link":
    """This process's place in the job that it was started in.

    Raises `ConfigError` when the launcher and the MPI library do not belong together.
    """
    from psopt.runs.agreement import together
    from psopt.transports.mpi import Link, library, world

    told, (_, size) = launch.told_ranks(), world()
    if told != size:
        raise ConfigError(
            f"the launcher says that this job has {told} ranks, but the MPI library ({library()}) sees {size}: mpiexec "
            "or srun belongs to another MPI than the one in this environment; `psopt doctor` tells more"
        )
    if ranks is not None and ranks != size:
        raise together(ConfigError(f"--ranks {ranks} cannot change a job that was started with {size} ranks"))
    return Link()


def simulate(path: Path, overrides: Sequence[str], out: Path | None, quiet: bool, reorder: bool) -> int:
    """``psopt simulate``."""
    from psopt.config import load
    from psopt.runs.experiment import Plan
    from psopt.runs.experiment import simulate as simulate_here

    config = load(path, overrides)
    plan = Plan(config, out or default_folder(config.name), quiet=quiet, started=launch.started())
    done = simulate_here(plan, reorder)
    closing_table(done.summary, str(plan.folder))
    return 0


def sweep(
    path: Path,
    grid: Sequence[str],
    overrides: Sequence[str],
    out: Path,
    processes: int,
    number: int | None,
    collect: bool,
    dry_run: bool,
    ranks: int | None = None,
) -> int:
    """``psopt sweep``: all points that are not finished, or one; then the table."""
    from psopt.runs import sweep_table
    from psopt.runs.agreement import together
    from psopt.runs.grid import axes_of, check_folders, points_of
    from psopt.runs.sweep import done_before, run_points, tell

    if sum((number is not None, collect, dry_run)) > 1:
        raise together(ConfigError("--point, --collect and --dry-run exclude each other"))
    if number is not None and processes > 1:
        raise together(ConfigError("--processes cannot be used with --point, which runs one point alone"))
    if ranks is not None and number is None:
        raise together(ConfigError("--ranks is for one point: use it with --point"))
    if number is not None:
        return _sweep_point(path, grid, overrides, out, number, ranks)
    if launch.told_ranks() is not None:
        raise together(
            ConfigError(
                "in an MPI job `psopt sweep` runs one point: add --point I; or start it without mpiexec or srun, where "
                "--processes N runs N points at a time"
            )
        )
    axes = axes_of(grid, overrides)
    points = points_of(path, axes, overrides, out)
    held = check_folders(points)
    for point in points:  # an axis of recipes does not undo the parts that the file changes
        if "algorithm.recipe" in point.values and point.config.algorithm_name != point.config.recipe:
            tell(f"WARNING: {point}: runs {point.config.algorithm_name}, from {path} or --set")
    if dry_run:
        sweep_table.show_points(points, held)
        return 0
    failed: dict[int, str] = {}
    sweep_table.make_folder(out)
    if not collect:
        done_before(points, held)
        failed = run_points([point for point in points if held[point.number] is not Held.FINISHED], processes)
    rows = sweep_table.rows_of(points, failed)
    if collect:
        for point, row in zip(points, rows, strict=True):
            if row["status"] != Held.FINISHED.value:
                tell(f"{point}: {row['status']}")
    sweep_table.write(out, axes, rows)
    sweep_table.show(out, axes, rows)
    return 0 if all(row["status"] == Held.FINISHED.value for row in rows) else 1


def _sweep_point(
    path: Path, grid: Sequence[str], overrides: Sequence[str], out: Path, number: int, ranks: int | None
) -> int:
    """One point: on all ranks of the job that it was started in, or of one that is started, or in this process."""
    from psopt.config import parse_resolved
    from psopt.runs.agreement import decided
    from psopt.runs.experiment import run as run_over
    from psopt.runs.experiment import simulate as simulate_here
    from psopt.runs.grid import axes_of, points_of
    from psopt.runs.resume import plan_for
    from psopt.runs.sweep import settled, tell

    def settle() -> dict[str, Any]:
        return settled(points_of(path, axes_of(grid, overrides), overrides, out), number)

    link = None if launch.told_ranks() is None else join(ranks)
    listed = settle() if link is None else decided(link, JOIN_S, settle)
    first = link is None or link.rank == 0
    if link is None and ranks is not None:
        arguments = ["sweep", str(path), *repeated("--grid", grid), *repeated("--set", overrides)]
        arguments += ["--out", str(out), "--point", str(number)]
        return start(ranks, arguments, Path(listed["folder"]), parse_resolved(listed["config"]))
    plan = plan_for(parse_resolved(listed["config"]), Path(listed["folder"]), link)
    if first:
        tell(listed["point"] + ": done already" * (plan is None))
    if plan is None:
        return 0
    plan = replace(plan, started=launch.started())
    done = simulate_here(plan) if link is None else run_over(plan, link)
    if first:
        closing_table(done.summary, str(plan.folder))
    return 0


def validate(path: Path, overrides: Sequence[str], resolved: bool, memory: bool, ranks: int | None) -> int:
    """``psopt validate``."""
    from psopt.config import load

    if memory and resolved:
        raise ConfigError("--memory cannot be used with --resolved")
    if ranks and not memory:
        raise ConfigError("--ranks cannot be used without --memory")
    config = load(path, overrides)
    if memory:
        from psopt.runs.memory import foreseen

        print(f"{path}: {foreseen(config, ranks or launch.default_ranks(config.workers, config.repeat))}")
    elif resolved:
        print(config.to_yaml(), end="")
    else:
        print(f"{path}: valid ({config.algorithm_name}, {config.workers} workers, {config.data.source})")
    return 0


def catalogue(what: str | None) -> int:
    """``psopt list``."""
    from psopt.data import catalogue as data
    from psopt.parts import FAMILIES
    from psopt.problems import PROBLEMS
    from psopt.recipes import RECIPES

    sections = {
        "recipes": [(name, recipe.title) for name, recipe in RECIPES.items()]
        + [("package.module:NAME", "your own: a psopt.recipes.Recipe, or a psopt.algorithm.Algorithm")],
        "parts": [(family, ", ".join(kinds)) for family, kinds in FAMILIES.items()]
        + [("package.module:Class", "your own, of any family: see `psopt docs adding_a_part`")],
        "data": data(),
        "problems": [(name, entry.description) for name, entry in PROBLEMS.items()]
        + [("package.module:Class", "your own: any class with the methods of psopt.problems.base.Problem")],
    }
    width = max(len(name) for rows in sections.values() for name, _ in rows)
    for section, rows in sections.items():
        if what in (None, section):
            print(f"{section}:")
            for name, title in rows:
                print(f"  {name:{width}}  {title}")
    return 0


def reproduce(
    experiment: str, task: str, workers: int, protocol: str, methods: str, ranks: int | None, out: Path
) -> int:
    """``psopt reproduce``: all methods in one MPI job."""
    from psopt.runs import choices
    from psopt.runs import reproduce as tables

    wanted = choices.names("methods", methods, tables.METHODS)
    if launch.told_ranks() is None:
        tables.check_free(out)
    arguments = [experiment, "--task", task, "--methods", methods, "--out", str(out)]
    if experiment == "lag-real":
        arguments += ["--workers", str(workers), "--protocol", protocol]

    def table(link: "Link") -> Any:
        return tables.reproduce(link, experiment, task, workers, protocol, wanted, out)

    return _reproduced(ranks, workers, arguments, table, tables.show)


def reproduce_sasg(data: str | None, methods: str, seeds: str, epochs: int, ranks: int | None, out: Path) -> int:
    """``psopt reproduce sasg-mnist``: all methods and seeds in one MPI job."""
    from psopt.runs import choices
    from psopt.runs import reproduce_sasg as tables

    wanted, drawn = choices.names("methods", methods, tables.ALGORITHMS), choices.whole_numbers("seeds", seeds, 0)
    arguments = ["sasg-mnist", "--methods", methods, "--seeds", seeds, "--epochs", str(epochs), "--out", str(out)]
    arguments += ["--data", data] if data else []

    def table(link: "Link") -> Any:
        return tables.reproduce(link, data, wanted, drawn, epochs, out)

    return _reproduced(ranks, tables.WORKERS, arguments, table, tables.show)


def reproduce_local(experiment: str, given: Mapping[str, Any], ranks: int | None, out: Path) -> int:
    """``psopt reproduce local-sgd``: all runs of one experiment in one MPI job; ``given``: the options, None if not."""
    from psopt.runs import reproduce_local as tables
    from psopt.runs.local_experiments import settle

    wanted = settle(experiment, given)
    if launch.told_ranks() is None and wanted.data and not Path(wanted.data).is_file():
        found = "is a folder; expected a file" if Path(wanted.data).is_dir() else "there is no such file"
        raise ConfigError(f"--data {wanted.data}: {found}")
    arguments = ["local-sgd", "--experiment", experiment, "--out", str(out)]
    for name, value in given.items():
        arguments += [f"--{name}", str(value)] if value is not None else []

    def table(link: "Link") -> Any:
        return tables.reproduce(link, wanted, out)

    return _reproduced(ranks, max(wanted.workers), arguments, table, tables.show)


def _reproduced(
    ranks: int | None,
    workers: int,
    arguments: Sequence[str],
    table: Callable[["Link"], Any],
    show: Callable[[Any], None],
) -> int:
    """Makes a table on all ranks of this job, and shows it; outside of any, starts ``psopt reproduce ARGUMENTS``."""
    if launch.told_ranks() is None:
        return start(ranks or launch.default_ranks(workers), ["reproduce", *arguments])
    link = join(ranks)
    made = table(link)
    if link.rank == 0:
        show(made)
    return 0
