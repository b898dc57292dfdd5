"""`psopt predict` against the clock: runs are recorded in this process, predicted, and made over MPI across the hosts
of emulated networks. ``make test-predict``.

Prints a line a run, predicted and measured, and leaves with 1 if one is off by more than 15 %, if the network itself is
not what it should be, or if a run over MPI is not the run that was recorded. Needs root, gcc and iproute2. With the
argument ``calibrate`` it measures instead the constants of waiting, on networks that no run is predicted for; with
numbers, it makes these stages alone.
"""

import json
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from psopt.bench.netlab import probe
from psopt.bench.netlab.network import emulated, lacking
from psopt.config import load
from psopt.runs.experiment import Plan, simulate
from psopt.views import network as described
from psopt.views.predict import predict, recorded

WORST = 0.15
WORKERS = 9
JOB_S = 580.0
HERE = Path(__file__).parent / "netlab"

CALIBRATED_ON = ((500.0, 3.0), (300.0, 8.0))
SMALL, MIDDLE, LARGE = 50, 7850, 20000


@dataclass(frozen=True)
class Case:
    """A run: a recipe, the size of theta, and what else its config says."""

    recipe: str
    dim: int
    step_size: float
    rounds: int
    every: int = 5
    downlink: str = "theta"

    @property
    def name(self) -> str:
        return f"{self.recipe}-{self.dim}{'-changes' * (self.downlink == 'changes')}"

    def config(self) -> dict[str, Any]:
        row: dict[str, Any] = {"recipe": self.recipe, "step_size": self.step_size}
        stop = {"max_rounds": self.rounds}
        if self.recipe == "local-sgd":
            row["plan"], stop = {"kind": "growing", "rounds": self.rounds}, {"max_steps": 20 * self.rounds}
        samples = 100 * WORKERS if self.dim == SMALL else 10 * WORKERS
        synthetic = {"kind": "linear", "n_samples": samples, "n_features": self.dim, "heterogeneity": 1.0}
        return {
            "name": self.name,
            "workers": WORKERS,
            "problem": {"kind": "least-squares", "reduction": "mean"},
            "data": {"source": "synthetic", "synthetic": synthetic},
            "algorithm": row,
            "f_star": "none",
            "stop": stop,
            "trace": {"every": self.every},
            "downlink": self.downlink,
        }


def small(rounds: int) -> list[Case]:
    """Where latency rules."""
    recipes = ("gd", "lag-wk", "lag-ps", "sasg", "local-sgd", "fedavg")
    return [Case(recipe, SMALL, 0.001 if recipe == "local-sgd" else 0.05, rounds, every=2) for recipe in recipes]


def middle(rounds: int) -> list[Case]:
    """62.8 kB a message: where the server's link rules, and nobody has to ask before a message is sent."""
    steps = {"gd": 5e-4, "lag-wk": 5e-4, "lag-ps": 5e-4, "sasg": 5e-5, "local-sgd": 1e-4, "fedavg": 1e-4}
    cases = [Case(recipe, MIDDLE, step, rounds) for recipe, step in steps.items()]
    return [*cases, Case("sasg", MIDDLE, 5e-5, rounds, downlink="changes")]


def large(rounds: int) -> list[Case]:
    """160 kB a message: more than MPI sends unasked."""
    return [Case(recipe, LARGE, 2e-4, rounds) for recipe in ("gd", "lag-wk", "lag-ps", "local-sgd")]


@dataclass(frozen=True)
class Stage:
    """A network, and the runs that are made on so many of its hosts.

    ``apart``: each in a job of its own, for TCP remembers what earlier ones have sent; that is no matter where messages
    are small, and the jobs take their time.
    """

    megabit: float
    latency_ms: float
    hosts: int
    cases: Sequence[Case]
    repeats: int = 3
    apart: bool = True


STAGES = (
    Stage(10, 20, 10, small(10), apart=False),
    Stage(10, 20, 10, middle(5)),
    Stage(100, 5, 10, small(20), apart=False),
    Stage(100, 5, 10, [*middle(10), *large(10)]),
    # Ten hosts that look for messages every tenth of a millisecond are more than two cores can serve: five for nine.
    Stage(200, 1, 6, small(60), apart=False),
    Stage(200, 1, 10, [*middle(20), *large(20)]),
)


@dataclass(frozen=True)
class Compared:
    """A run, predicted and measured; ``uploads`` is the share of those that were possible."""

    case: Case
    uploads: float
    predicted_s: float
    measured_s: Sequence[float]

    @property
    def error(self) -> float:
        return self.predicted_s / statistics.median(self.measured_s) - 1


def record(case: Case, folder: Path) -> Path:
    """The run in this process, without any network; returns its folder, beside which its config stands."""
    place = folder / case.name
    path = place.with_suffix(".yaml")
    path.write_text(json.dumps(case.config()))
    simulate(Plan(load(path), place, quiet=True, warns=False))
    return place


def told(said: str) -> Iterator[dict[str, Any]]:
    """The JSON lines among what a job printed."""
    for line in said.splitlines():
        if line.startswith("{"):
            yield json.loads(line)


def compare(stage: Stage, folder: Path) -> tuple[list[Compared], str]:
    """Predicts all runs of a stage, then makes them; also says how the network was.

    Raises `AssertionError` where the network, or a run, is not what it should be.
    """
    places = [record(case, folder) for case in stage.cases]
    as_described = described.Network(stage.megabit * 1e6, stage.latency_ms / 1e3, "emulated")
    predicted = [predict(recorded(place), as_described, stage.hosts).wall_s for place in places]
    configs = [str(place.with_suffix(".yaml")) for place in places]
    hosts = tuple(sorted(f"h{number}" for number in range(stage.hosts)))
    with emulated(stage.hosts, stage.megabit, stage.latency_ms) as network:
        measured = probe.measure(network)
        assert not probe.off(network, measured), probe.off(network, measured)
        job = [str(HERE / "job.py")]
        jobs = (
            [["1", config] for config in configs * stage.repeats] if stage.apart else [[str(stage.repeats), *configs]]
        )
        said = "".join(network.run(stage.hosts, [*job, *each], JOB_S) for each in jobs)
    lines = list(told(said))
    assert {tuple(sorted(set(line["hosts"]))) for line in lines if "hosts" in line} == {hosts}
    runs = [line for line in lines if "config" in line]
    found = []
    for case, place, config, seconds in zip(stage.cases, places, configs, predicted, strict=True):
        own = [run for run in runs if run["config"] == config]
        summary = json.loads((place / "summary.json").read_text())
        assert len(own) == stage.repeats
        assert {run["theta"] for run in own} == {summary["theta_sha256"]}, f"{case.name}: not the run that was recorded"
        share = summary["uploads"] / (summary["rounds"] * WORKERS)
        found.append(Compared(case, share, seconds, [run["wall_s"] for run in own]))
    return found, probe.described(network, measured)


def calibrate() -> None:
    for megabit, latency_ms in CALIBRATED_ON:
        with emulated(5, megabit, latency_ms) as network:
            said = network.run(5, [str(HERE / "calibrate.py"), str(megabit), str(latency_ms)])
        (found,) = told(said)
        print(
            f"{megabit:g} Mbit/s, {latency_ms:g} ms:", ", ".join(f"{key} {value:.2f}" for key, value in found.items())
        )


def main(arguments: Sequence[str]) -> int:
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))  # so that the network is taken down
    lacks = lacking()
    if lacks:
        print(lacks)
        return 2
    if arguments == ["calibrate"]:
        calibrate()
        return 0
    began, worst, off, made = time.monotonic(), 0.0, 0, 0
    for stage in [STAGES[int(number) - 1] for number in arguments] or STAGES:
        with tempfile.TemporaryDirectory() as folder:
            found, said = compare(stage, Path(folder))
        print(
            f"\n{said}\n{'recipe':12}{'d':>6} {'downlink':9}{'uploads':>8}{'predicted':>11}{'measured':>10}{'error':>8}"
        )
        for one in found:
            case, measured = one.case, sorted(one.measured_s)
            line = f"{case.recipe:12}{case.dim:6} {case.downlink:9}{one.uploads:8.0%}{one.predicted_s:10.3f}s"
            line += f"{statistics.median(measured):9.3f}s{one.error:+8.1%}  {measured[0]:.3f} to {measured[-1]:.3f}"
            print(line + "  OFF" * (abs(one.error) > WORST), flush=True)
            made, off, worst = made + 1, off + (abs(one.error) > WORST), max(worst, abs(one.error))
    print(f"\n{made - off} of {made} within {WORST:.0%}, the worst {worst:.1%}, in {time.monotonic() - began:.0f} s")
    return 1 if off else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
