"""The Local SGD paper's three experiments as configs, and what was published of them.

Spiridonoff, Olshevsky, Paschalidis, "Communication-efficient SGD: From Local SGD to One-Shot Averaging", NeurIPS 2021,
arXiv 2106.04759. N workers have one distribution, take T local steps each, batch 1, and are averaged at the instants of
a plan. Steps are as the authors ran them, not as their theory has them.

A run of a noisy problem holds many copies of it side by side, which are its repetitions; a9a takes a run a seed.
"""

from collections.abc import Mapping
from typing import Any

from psopt.errors import ConfigError
from psopt.records import record
from psopt.runs import choices

PLANS: dict[str, Any] = {
    "every": "every",
    "constant": {"kind": "fixed", "rounds": "M"},
    "growing": {"kind": "growing", "rounds": "M"},
    "growing-3/4": {"kind": "growing", "rounds": "M**0.75"},
    "growing-1/2": {"kind": "growing", "rounds": "sqrt(M)"},
    "one-shot": "one_shot",
}
SINGLE = "single"
"""One worker alone, whom speed-ups are measured against."""

SINGLES = 20
"""Copies of the single worker for each repetition, as many as the workers of a one-shot run with N = 20 are."""

A9A_OPTIMUM = 0.5930221808
"""The least mean logistic loss on a9a with lambda = 1."""


@record
class Experiment:
    """What a call leaves open.

    Attributes
    ----------
    steps : int
        T.
    workers : str
        Each N, comma separated.
    samples : int
        Repetitions times T, where repetitions are copies; 0 where they are seeds.
    options : tuple of str
        The options that not every experiment has.
    """

    steps: int
    workers: str
    samples: int
    options: tuple[str, ...]


EXPERIMENTS = {
    "quadratic": Experiment(1000, "20", 400 * 1000, ("plans", "repetitions")),
    "speedup": Experiment(1000, "2,4,8,16,20,24,32", 8_000_000, ("plans", "repetitions")),
    "a9a": Experiment(4096, "1,8,64,256", 0, ("seeds", "rounds", "data")),
}


@record
class Wanted:
    """What one call runs: every plan with every N, or, for a9a, every seed with every N.

    Attributes
    ----------
    experiment : str
        A key of `EXPERIMENTS`.
    steps : int
        T.
    workers : tuple of int
        Each N.
    plans : tuple of str
        Keys of `PLANS`.
    repetitions : int
        Copies a run.
    seeds : tuple of int
        Of a9a.
    rounds : int
        R of a9a's growing plan.
    data : str or None
        The file of a9a.
    """

    experiment: str
    steps: int
    workers: tuple[int, ...]
    plans: tuple[str, ...]
    repetitions: int
    seeds: tuple[int, ...]
    rounds: int
    data: str | None


@record
class Cell:
    """One run: ``copies`` of a noisy problem, or one of a9a."""

    plan: str
    workers: int
    seed: int
    copies: int


def settle(experiment: str, given: Mapping[str, Any]) -> Wanted:
    """The call with its defaults; an option that was not given is None, or missing.

    Raises `ConfigError` for a value that makes no sense, and for an option of another experiment.
    """
    default = EXPERIMENTS[experiment]
    special = {name for other in EXPERIMENTS.values() for name in other.options}
    options = {name: value for name, value in given.items() if value is not None}
    for name in options:
        if name in special and name not in default.options:
            homes = [home for home, other in EXPERIMENTS.items() if name in other.options]
            raise ConfigError(f"--{name} belongs to experiment {' and '.join(homes)}, not to {experiment}")
    if experiment == "a9a" and not options.get("data"):
        raise ConfigError("experiment a9a needs --data, the file of a9a from the LIBSVM data page")
    steps = _above_zero(options.get("steps", default.steps), "steps")
    return Wanted(
        experiment,
        steps,
        choices.whole_numbers("workers", options.get("workers", default.workers), 1),
        choices.names("plans", options.get("plans", ",".join(PLANS)), PLANS),
        _above_zero(options.get("repetitions", max(1, default.samples // steps)), "repetitions"),
        choices.whole_numbers("seeds", options.get("seeds", "1,2,3,4,5,6,7,8,9,10"), 0),
        _above_zero(options.get("rounds", 16), "rounds"),
        options.get("data"),
    )


def _above_zero(value: int, option: str) -> int:
    if value < 1:
        raise ConfigError(f"--{option} {value}: expected a whole number, 1 or above")
    return value


def cells(wanted: Wanted) -> list[Cell]:
    """All runs, in the table's order: what speed-ups are measured against comes first where it is a run of its own."""
    if wanted.experiment == "a9a":
        return [Cell("growing", n, seed, 1) for n in wanted.workers for seed in wanted.seeds]
    # The seed is another one, because worker 0 of a one-shot run would walk as the single worker does.
    single = Cell(SINGLE, 1, 1, SINGLES * wanted.repetitions)
    return [single, *(Cell(plan, n, 0, wanted.repetitions) for n in wanted.workers for plan in wanted.plans)]


def folder_name(wanted: Wanted, cell: Cell) -> str:
    """Of the cell's run, within the table's folder."""
    if wanted.experiment == "a9a":
        return f"a9a-{cell.workers}-{cell.seed}"
    return f"{wanted.experiment}-{cell.plan.replace('/', '_')}-{cell.workers}"


def config_of(wanted: Wanted, cell: Cell) -> dict[str, Any]:
    """The cell's config, as a mapping."""
    plan = {**PLANS, SINGLE: PLANS["one-shot"]}[cell.plan]
    step_size: dict[str, Any] = {"kind": "inverse", "numerator": 3.0, "mu": 1.0, "beta": 1.0}
    problem: dict[str, Any] = {"kind": "noisy-quadratic", "copies": cell.copies}
    data: dict[str, Any] = {"source": "none"}
    if wanted.experiment == "speedup":
        step_size = {"kind": "capped", "of": {**step_size, "numerator": 2.0}, "cap": 0.5}
        problem["kind"] = "noisy-kink"
    elif wanted.experiment == "a9a":
        plan = {"kind": "growing", "rounds": wanted.rounds}
        problem = {"kind": "logistic", "l2": 1.0, "reduction": "mean", "initial_scale": 1.0}
        data = {"source": "file", "path": wanted.data, "n_features": 123, "partition": "replicated"}
    return {
        "name": f"local-sgd-{folder_name(wanted, cell)}",
        "seed": cell.seed,
        "workers": cell.workers,
        "problem": problem,
        "data": data,
        "algorithm": {
            "recipe": "local-sgd",
            "plan": plan,
            "work": {"kind": "local_sgd", "batch": 1, "draw": "replace"},
            "step_size": step_size,
        },
        "f_star": A9A_OPTIMUM if wanted.experiment == "a9a" else "none",
        "stop": {"max_steps": wanted.steps},
        "trace": {"every": wanted.steps, "objective": wanted.experiment == "a9a"},
        # One round may hold all steps of all workers that a rank hosts.
        "timeouts": {"start_s": 600.0, "round_s": 7200.0, "idle_s": 600.0},
    }


_AT_20 = {"every": 20.2, "constant": 17.4, "growing": 15.8, "growing-3/4": 13.6, "growing-1/2": 11.1, "one-shot": 8.4}
_GROWING = {2: 1.9, 4: 3.6, 8: 6.9, 16: 13.7, 24: 19.3, 32: 24.9}
_ONE_SHOT = {2: 1.9, 4: 3.4, 8: 5.7, 16: 8.1, 24: 8.9, 32: 9.5}
SPEED_UPS: dict[tuple[str, int], float] = {
    **{(plan, 20): value for plan, value in _AT_20.items()},
    **{("growing", n): value for n, value in _GROWING.items()},
    **{("one-shot", n): value for n, value in _ONE_SHOT.items()},
}
"""Plan and N -> the speed-up of experiment `speedup` with T = 1000."""

A9A_ERRORS = {1: 7.3e-4, 8: 6.3e-5, 64: 5.6e-6, 256: 1.5e-6}
"""N -> the gap of experiment `a9a` with T = 4096, whatever R."""


def published(experiment: str, steps: int, plan: str, workers: int) -> tuple[float | None, float | None]:
    """Error and speed-up from the authors' code, where they are known."""
    if steps != EXPERIMENTS[experiment].steps:
        return None, None
    if experiment == "quadratic":
        return (3.16e-5 if plan != SINGLE and workers == 20 else None), None
    if experiment == "a9a":
        return A9A_ERRORS.get(workers), None
    return (0.0403 if plan == SINGLE else None), SPEED_UPS.get((plan, workers))
