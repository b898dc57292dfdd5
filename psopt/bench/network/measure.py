"""Seconds of a row on an emulated network: a part of its run, or all of it, and what the whole run comes to."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from itertools import pairwise
from typing import Any

from psopt.bench.netlab.network import Network
from psopt.bench.network.clock import Limits
from psopt.bench.network.table import Experiment, Row
from psopt.bench.network.targets import Target, Targets
from psopt.config import parse
from psopt.records import record
from psopt.runs.folder import write_json
from psopt.runs.readiness import ready, ready_to_wait

WHOLE = 40
"""Runs of no more rounds are measured from the first to the last."""

PORT = 29500
SLACK_S = 240.0
SLOWEST_ROUND_S = 60.0


@record
class Found:
    """What a row came to.

    Attributes
    ----------
    rounds : int
        To the target.
    seconds : float
        To the target.
    measured : int
        Rounds on the clock.
    share_s : tuple of float
        Seconds a round in each place that was measured.
    hub_up, hub_down : float
        Bytes a round out of and into host 0 (psopt's server, torch's rank 0), as its network device counts them.
    ledger_up, ledger_down : float or None
        Bytes a round that psopt's ledger books: all workers' uploads, and what is sent to them.
    job_up, job_down : int
        Bytes out of and into host 0 over the whole job, start-up included, as the switch counts them.
    """

    rounds: int
    seconds: float
    measured: int
    share_s: tuple[float, ...]
    hub_up: float
    hub_down: float
    ledger_up: float | None = None
    ledger_down: float | None = None
    job_up: int = 0
    job_down: int = 0

    @property
    def whole(self) -> bool:
        """Whether every round was on the clock."""
        return self.measured >= self.rounds


def measure(network: Network, experiment: Experiment, row: Row, targets: Targets, quick: bool) -> Found | None:
    """Measures a row; None where it does not reach its target. Raises `RuntimeError` when a job fails."""
    target = targets.of(experiment, row)
    if target.rounds is None:
        return None
    before = network.carried()[0]
    parts = (_torch if row.peer else _psopt)(network, experiment, row, targets, target, quick)
    after = network.carried()[0]
    if after.dropped != before.dropped:
        raise RuntimeError(f"the switch dropped {after.dropped - before.dropped} frames for host 0")
    found = whole_run(target.rounds, parts, row.options.get("start", 0) if row.peer == "postlocal" else 0)
    return Found(**{**found, "job_up": after.up - before.up, "job_down": after.down - before.down})


def whole_run(rounds: int, parts: Sequence[dict[str, Any]], started: int = 0) -> dict[str, Any]:
    """From what parts of a run took to the run of so many rounds: each round takes what those nearest to it took.

    ``started``: the steps before the first period of local steps, which were all measured and are one of the rounds.
    """
    if len(parts) == 1 and parts[0].get("whole_s") is not None:
        part = parts[0]
        seconds, measured = part["whole_s"], rounds
        shares = (seconds / rounds,)
    else:
        shares = tuple(part["seconds"] / part["rounds"] for part in parts)
        measured = sum(part["rounds"] for part in parts)
        middles = [part.get("after", 0) + part["rounds"] / 2 for part in parts]
        borders = [0.0, *(sum(pair) / 2 for pair in pairwise(middles)), float(rounds)]
        lengths = [stop - start for start, stop in pairwise(borders)]
        seconds = sum(share * length for share, length in zip(shares, lengths, strict=True))
        if started:
            first = parts[0]["start"]
            seconds += started * first["seconds"] / first["rounds"] - shares[0]
    weights = [part["rounds"] for part in parts]
    mean = {key: _mean([part[key] for part in parts], weights) for key in ("hub_up", "hub_down")}
    ledger: dict[str, float] = {}
    if "a_round" in parts[0]:
        for way in ("up", "down"):
            booked = [
                part["a_round"][f"payload_bytes_{way}"] + part["a_round"][f"control_bytes_{way}"] for part in parts
            ]
            ledger[f"ledger_{way}"] = _mean(booked, weights)
    return {"rounds": rounds, "seconds": seconds, "measured": measured, "share_s": shares, **mean, **ledger}


def _mean(values: Sequence[float], weights: Sequence[float]) -> float:
    return sum(value * weight for value, weight in zip(values, weights, strict=True)) / sum(weights)


def _limits(places: int, quick: bool) -> Limits:
    if quick:
        return Limits(1, 2, 10, 2.0)
    return Limits(3, 3, 400, 20.0 / places)


def _psopt(
    network: Network, experiment: Experiment, row: Row, targets: Targets, target: Target, quick: bool
) -> list[dict[str, Any]]:
    places = [(0, "")] if target.rounds <= WHOLE else list(target.places) or [(0, "")]
    whole = target.rounds <= WHOLE and not quick
    limits = Limits(1, target.rounds - 1, target.rounds - 1, 0.0) if whole else _limits(len(places), quick)
    path = network.folder / "psopt.json"
    config = targets.config(experiment, row)
    ready(parse(config), config["data"].get("format") == "libsvm", False)  # else each host would compile for itself
    ready_to_wait()
    write_json(path, {"config": config, "places": [place for _, place in places], "limits": asdict(limits)})
    ranks = min(experiment.workers + 1, network.hosts)
    timeout_s = SLACK_S + (limits.fewest + limits.warm) * len(places) * SLOWEST_ROUND_S
    parts = _told(network.run(ranks, ["-m", "psopt.bench.network.job", str(path)], timeout_s))
    if whole:
        parts[0]["whole_s"] = parts[0]["since_start_s"]
    return parts


def _torch(
    network: Network, experiment: Experiment, row: Row, targets: Targets, target: Target, quick: bool
) -> list[dict[str, Any]]:
    """All its ranks; where there are fewer hosts, neighbours in the ring share one."""
    path = network.folder / "torch.json"
    limits = _limits(1, quick)
    timeout_s = SLACK_S + (limits.fewest + limits.warm + row.options.get("start", 0)) * SLOWEST_ROUND_S
    spec = targets.peer_spec(experiment, row)
    spec |= {"address": f"tcp://h0:{PORT}", "timeout_s": timeout_s, "limits": asdict(limits)}
    write_json(path, spec)
    M, hosts = experiment.workers, min(experiment.workers, network.hosts)
    homes = [rank * hosts // M for rank in range(M)]
    commands = [(home, ["-m", "psopt.bench.peers.host", str(path), str(rank)]) for rank, home in enumerate(homes)]
    return _told(network.run_on(commands, timeout_s, {"GLOO_SOCKET_IFNAME": "eth0"})[0])


def _told(said: str) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in said.splitlines() if line.startswith("{")]
    if not found:
        raise RuntimeError(f"a job on the emulated network said nothing of its rounds:\n{said}")
    return found
