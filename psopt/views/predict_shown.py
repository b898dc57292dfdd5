"""``psopt predict`` on the terminal."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from psopt.runs.finding import find_runs
from psopt.runs.progress import console
from psopt.views.network import Network, parse_networks
from psopt.views.predict import Prediction, Recorded, check_ranks, predict, recorded

COLUMNS = ("computing", "downlink", "uplink", "latency", "waiting", "server")


MUCH = 0.1
"""The share of the time that is told when evaluations take more."""


def tell(
    folders: Sequence[Path],
    rates: Sequence[str],
    latencies: Sequence[str],
    workers: int | None,
    ranks: int | None,
    as_json: bool,
) -> None:
    """Prints what each run would take on each network.

    Raises `ConfigError` where an option cannot be read, or a folder does not tell.
    """
    networks = parse_networks(rates, latencies)
    runs = [recorded(folder) for folder in find_runs(folders)]
    for run in runs:
        check_ranks(run, workers, ranks)
    found = [(network, [(run, predict(run, network, ranks)) for run in runs]) for network in networks]
    if as_json:
        told = [_as_data(run, prediction) for _, predictions in found for run, prediction in predictions]
        print(json.dumps(told, indent=2, allow_nan=False))
    else:
        _show(found)


def _as_data(run: Recorded, prediction: Prediction) -> dict[str, Any]:
    network = prediction.network
    sent, received = prediction.server_link
    return {
        "folder": run.label,
        "recipe": run.recipe,
        "ended_by": run.ended,
        "rounds": run.rounds[-1].number,
        "workers": run.workers,
        "hosts": prediction.ranks,
        "network": {"bits_per_s": network.bits_per_s, "latency_s": network.latency_s},
        "wall_s": prediction.wall_s,
        "evaluating_s": prediction.looking_s,
        "seconds": {kind: prediction.spent[kind] for kind in COLUMNS},
        "server_link": {"out": sent, "in": received},
        "recorded": {"wall_s": run.measured_s, "ranks": run.ranks},
    }


def _show(found: Sequence[tuple[Network, Sequence[tuple[Recorded, Prediction]]]]) -> None:
    """A table, a row a network and run, what the runs are, and, where several compete, which is over first."""
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    out = console()
    names = short_names([run.label for run, _ in found[0][1]])
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("network", no_wrap=True)
    table.add_column("run", overflow="fold")
    for heading in ("wall s", *COLUMNS, "hub out", "hub in"):
        table.add_column(heading, justify="right", no_wrap=True)
    for network, predictions in found:
        for number, (name, (_, prediction)) in enumerate(zip(names, predictions, strict=True)):
            cells = [_seconds(value) for value in (prediction.wall_s, *(prediction.spent[kind] for kind in COLUMNS))]
            shares = [f"{share:.0%}" for share in prediction.server_link]
            table.add_row(escape("" if number else network.name), escape(name), *cells, *shares)
        table.add_section()
    out.print(table)
    out.print("Seconds, which add up to the wall time; hub: how much of it the server's cable is taken, out and in.")
    for name, (run, prediction) in zip(names, found[0][1], strict=True):
        out.print(
            escape(f"{name}: {_what(run)}; here {run.workers} workers and the server on {prediction.ranks} hosts")
        )
    for network, predictions in found:
        asked = [
            f"{name} {prediction.looking_s / prediction.wall_s:.0%}"
            for name, (_, prediction) in zip(names, predictions, strict=True)
            if prediction.looking_s > MUCH * prediction.wall_s
        ]
        if asked:
            out.print(
                escape(
                    f"{network.name}: much of the time goes to evaluations, off the books, at each record of the "
                    f"trace: {', '.join(asked)}. A larger `trace.every` spares it."
                )
            )
    if len({run.minimises for run, _ in found[0][1]}) > 1:
        out.print("These runs have different problems or data: which is over first says nothing of their methods.")
        return
    for network, predictions in found:
        if len(predictions) > 1:
            out.print(escape(_verdict(network, names, [prediction for _, prediction in predictions])))


def _what(run: Recorded) -> str:
    where = "in one process" if run.ranks == 1 else f"on {run.ranks} ranks"
    rounds = run.rounds[-1].number
    return f"{run.recipe}, {rounds} rounds, ended by {run.ended}; took {_seconds(run.measured_s)} s {where}"


def short_names(labels: Sequence[str]) -> list[str]:
    """The last part of each path, with as many before it as tell them apart."""
    parts = [Path(label).parts for label in labels]
    for depth in range(1, max(map(len, parts)) + 1):
        names = ["/".join(own[-depth:]) for own in parts]
        if len(set(names)) == len(names):
            return names
    return list(labels)


def _verdict(network: Network, names: Sequence[str], predictions: Sequence[Prediction]) -> str:
    """Which run is over first, and how much longer the others take."""
    walls = sorted((prediction.wall_s, name) for name, prediction in zip(names, predictions, strict=True))
    (least, first), *others = walls
    slower = ", ".join(f"{name} takes {wall / least:.3g} times as long" for wall, name in others)
    return f"{network.name}: {first} is over first; {slower}"


def _seconds(value: float) -> str:
    return f"{value:.1f}" if value >= 100 else f"{value:.2f}" if value >= 10 else f"{value:.3f}"
