"""The group that all commands belong to, and the options that several of them share."""

import math
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


class Finite(click.FloatRange):
    """A range of numbers; neither infinity nor what is none lies in it."""

    def convert(self, value: Any, param: click.Parameter | None, context: click.Context | None) -> float:
        number = super().convert(value, param, context)
        if not math.isfinite(number):
            self.fail(f"{value} is no finite number", param, context)
        return number


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
      psopt report DIR...                  runs side by side: curves, costs, who spoke when
      psopt watch DIR...                   how runs are getting on
      psopt list                           the recipes, parts, data sets and problems there are
      psopt docs                           the manual
      psopt doctor                         whether MPI works here

    Exit codes: 0 success, 1 failure, 2 wrong input, 75 warned of its end (SIGUSR1) and to be started again, 130
    interrupted.
    """
