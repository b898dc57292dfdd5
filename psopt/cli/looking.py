"""Commands that show what there is."""

from pathlib import Path

import click

from psopt.cli.group import Finite, cli, folder


@cli.command(name="list")
@click.argument("what", required=False, type=click.Choice(["recipes", "parts", "data", "problems"]))
def list_(what: str | None) -> int:
    """What exists: recipes, parts, data, problems."""
    from psopt import commands

    return commands.catalogue(what)


@cli.command()
def doctor() -> int:
    """Examine MPI library and launcher, a mismatch of the two, ranks, threads and cores."""
    from psopt.doctor import examine

    return examine()


@cli.command()
@click.argument("folders", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="DIR...")
@click.option("--interval", type=Finite(min=0.1), default=1.0, show_default=True, help="Seconds between looks.")
@click.option("--once", is_flag=True, help="Print the table once, and leave.")
def watch(folders: tuple[Path, ...], interval: float, once: bool) -> int:
    """Show how the runs in DIR... are getting on, live, from another shell.

    DIR is a run folder, one that does not exist yet, or the folder of a sweep or of `psopt reproduce`. Of jobs that
    `psopt submit` made, Slurm tells whether they wait, and at which place of the queue. Nothing is written to the
    folders, and the runs notice nothing.

    \b
      psopt watch runs/mine
      psopt watch runs/seeds runs/other --interval 5
      psopt watch runs/mine --once

    Ends when all runs have ended: 0 if all came to their end, else 1. With --once it is 1 if one failed or was cut off
    so far. Without a terminal it prints a line when something changes.
    """
    from psopt.views.watching.watch import watch as look

    return look(folders, interval, once)


@cli.command()
@click.argument("folders", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="DIR...")
@click.option(
    "--out",
    callback=folder,
    metavar="FILE",
    help="CSV file to write, over an older export at most.  [default: standard output]",
)
@click.option("--what", type=click.Choice(["trace", "uploads"]), default="trace", show_default=True)
def export(folders: tuple[Path, ...], out: Path | None, what: str) -> int:
    """Write the runs in DIR... as CSV: a line a record of the trace, or a round and worker.

    DIR is a run folder, or the folder of a sweep or of `psopt reproduce`. The first columns name the run, its recipe,
    its seed, its number of workers and the values of a sweep's axes.

    \b
      psopt export runs/mine > mine.csv
      psopt export runs/sweep --out sweep.csv
      psopt export runs/mine --what uploads
    """
    from psopt.views.exporting import export as write

    return write(folders, out, what)


@cli.command()
@click.argument("folder", type=click.Path(path_type=Path), metavar="DIR")
@click.option("--round", "k", type=int, metavar="K", help="Which round, from 1.  [default: the last]")
@click.option("--worker", "m", type=int, metavar="M", help="One worker, from 0, with the rounds before.")
@click.option("--json", "as_json", is_flag=True, help="Print the same as JSON.")
def explain(folder: Path, k: int | None, m: int | None, as_json: bool) -> int:
    """Say why each worker uploaded, or stayed silent, in a round of the run in DIR.

    Both sides of the rule, their ratio, the age of the last upload, and what half and double the threshold would have
    done in that round. The run may still be under way.

    \b
      psopt explain runs/mine --round 312
      psopt explain runs/mine --round 312 --worker 7
    """
    from psopt.views.explain_shown import tell

    tell(folder, k, m, as_json)
    return 0


@cli.command()
@click.argument("folders", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="DIR...")
@click.option(
    "--out", callback=folder, metavar="FILE", help="File to write; its suffix tells the format.  [default: report.html]"
)
@click.option(
    "--x",
    "lead",
    type=click.Choice(["uploads", "bytes", "rounds", "seconds"]),
    default="uploads",
    show_default=True,
    help="What the first picture, or the only one, is drawn against.",
)
@click.option(
    "--format",
    "form",
    type=click.Choice(["html", "png", "svg", "csv"]),
    help="html: the page; png, svg: pictures alone; csv: all traces as one table.  [default: html]",
)
@click.option(
    "--baseline",
    metavar="LABEL",
    help="What ratios refer to: a label, recipe or folder.  [default: gd, sgd, the first]",
)
@click.option(
    "--target",
    "targets",
    multiple=True,
    metavar="VALUE",
    help="A gap, or accuracy, whose cost is told; may be given several times.  [default: round ones]",
)
def report(
    folders: tuple[Path, ...],
    out: Path | None,
    lead: str,
    form: str | None,
    baseline: str | None,
    targets: tuple[str, ...],
) -> int:
    """Show the runs in each DIR side by side, on one page that needs nothing else.

    Curves against rounds, uploads, bytes and seconds; who uploaded when, beside each worker's smoothness; what each
    target cost; where bytes and seconds went; how the configs differ; and what to be warned of. DIR is the folder of
    a run, finished or not, of a sweep, of a reproduced table, or any folder of these. Runs that differ in the seed
    alone are one line with a band.

    \b
      psopt report runs/gd runs/lag-wk
      psopt report runs/sweep --out sweep.html --baseline gd --target 1e-4 --target 1e-8
      psopt report runs/gd runs/lag-wk --x bytes --out curves.png
      psopt report runs/sweep --format csv --out traces.csv

    A page, picture or table that an earlier report wrote is written over; any other file is left alone. Needs the extra
    `report` (pip install 'psopt[report]'); csv does without.
    """
    from psopt.views.reporting.report import report as write

    made, runs = write(folders, out, lead, form, baseline, targets)
    print(f"{made}: {runs} run{'s' * (runs != 1)}")
    return 0


@cli.command()
@click.argument("folders", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="DIR...")
@click.option(
    "--bandwidth",
    "rates",
    multiple=True,
    required=True,
    metavar="RATE",
    help="Of each host's cable, as in 100Mbit, 1Gbit or 10MB/s; several: again, or with commas.",
)
@click.option(
    "--latency",
    "latencies",
    multiple=True,
    required=True,
    metavar="TIME",
    help="From host to host, one way, as in 5ms or 20us; as many as there are rates, or one for all.",
)
@click.option("--ranks", type=int, metavar="N", help="Hosts, the server's among them.  [default: 1 + workers]")
@click.option("--workers", type=int, metavar="M", help="The number of workers that the runs are expected to have.")
@click.option("--json", "as_json", is_flag=True, help="Print the same as JSON.")
def predict(
    folders: tuple[Path, ...],
    rates: tuple[str, ...],
    latencies: tuple[str, ...],
    ranks: int | None,
    workers: int | None,
    as_json: bool,
) -> int:
    """Tell how long the finished runs in DIR... would take on another network.

    From who was asked and who uploaded in each round, what that weighed, and how long the work took. The runs may have
    been made without any network, by `psopt simulate`. DIR is a run folder, or the folder of a sweep.

    \b
      psopt predict runs/mine --bandwidth 100Mbit --latency 5ms
      psopt predict runs/gd runs/lag-wk --bandwidth 10Mbit,1Gbit --latency 20ms,100us
      psopt predict runs/mine --bandwidth 100Mbit --latency 5ms --ranks 4

    With N hosts, worker m lives on host 1 + m mod (N - 1), and the workers of a host compute one after the other.
    """
    from psopt.views.predict_shown import tell

    tell(folders, rates, latencies, workers, ranks, as_json)
    return 0


@cli.command()
@click.argument("topic", required=False, metavar="[TOPIC]")
@click.option("--path", is_flag=True, help="Print where the pages lie, or that of TOPIC, instead.")
def docs(topic: str | None, path: bool) -> int:
    """Show a page of the documentation, or a section of one; without TOPIC, what there is.

    TOPIC is a page, PAGE#SECTION, or a section alone, such as the name of a recipe or a key of a config. In a terminal
    it is typeset, in a pipe it is Markdown.

    \b
      psopt docs
      psopt docs quickstart
      psopt docs lag-wk
      psopt docs config#stop
    """
    from psopt.cli import pages

    if path:
        print(pages.path_of(topic) if topic else pages.folder())
        return 0
    if topic:
        pages.show(pages.page_of(topic))
        return 0
    topics = pages.topics()
    width = max(map(len, topics))
    for name, title in topics.items():
        print(f"{name:{width}}  {title}")
    print("\npsopt docs TOPIC shows one; psopt docs lag-wk the section of that name; psopt docs --path where they lie.")
    return 0


@cli.command()
def schema() -> int:
    """Print the JSON Schema of a config, with which an editor completes keys and marks mistakes.

    \b
      psopt schema > psopt.schema.json

    and, as the first line of a config beside it (`psopt docs config` tells more):

    \b
      # yaml-language-server: $schema=psopt.schema.json
    """
    import json

    from psopt.config import json_schema

    print(json.dumps(json_schema(), indent=2))
    return 0


@cli.command()
@click.argument("what", metavar="CONFIG|MODULE:NAME")
@click.option("--family", metavar="FAMILY", help="Of which family a class is.  [default: whose members it has]")
@click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="A.B=C",
    help="Change one key of the config, or give one to the class, as in --set xi=0.5.",
)
def check(what: str, family: str | None, overrides: tuple[str, ...]) -> int:
    """Check what you wrote yourself: parts, recipes and problems.

    Of CONFIG everything is checked that it names as package.module:NAME, then the whole, for five rounds in this
    process. MODULE:NAME is one class of parts, or one recipe. A line a promise: ok, or broken and with what numbers.

    \b
      psopt check peak.yaml
      psopt check my_trigger:Peak --set xi=0.5

    The promises are those that psopt's own parts are tested with. 0 if all are kept, else 1.
    """
    from psopt.runs.checking import check as look

    return look(what, family, overrides)
