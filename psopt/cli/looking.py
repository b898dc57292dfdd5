"""Commands that show what there is."""

import click

from psopt.cli.group import cli


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
