"""Cases of configs: a config of the checkout or a recipe on some data, mutated; what is accepted runs a few rounds."""

import contextlib
import copy
import random
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from fuzz import texts, trees
from fuzz.judge import Case, Wrong, untimed
from psopt import config
from psopt.config import RunConfig, yaml_source
from psopt.config.sentences import Complaints
from psopt.errors import ConfigError, WorkerFailed
from psopt.recipes import RECIPES
from psopt.runs.experiment import Plan, simulate
from psopt.runs.grid import axes_of, points_of
from psopt.runs.readiness import ready

CONFIGS = Path(__file__).parent.parent.parent / "configs"
MOST_WORKERS, MOST_STEPS, MOST_NUMBERS = 100, 20_000, 1_000_000

PROBLEMS: dict[str, tuple[Any, Any]] = {
    "synthetic": ("least-squares", {"source": "synthetic", "synthetic": {"n_samples": 40, "n_features": 4}}),
    "logistic": (
        {"kind": "logistic", "l2": 0.01, "dtype": "float32"},
        {
            "source": "synthetic",
            "synthetic": {"kind": "logistic", "n_samples": 30, "n_features": 3, "heterogeneity": 0.5},
            "test": {"fraction": 0.2},
            "partition": {"kind": "dirichlet", "alpha": 1.0},
        },
    ),
    "bundled": ({"kind": "logistic", "reduction": "mean"}, {"source": "ionosphere", "standardise": "z-score"}),
    "softmax": (
        {"kind": "softmax", "classes": 7, "l2": 1e-3},
        {"source": "dermatology", "labels": "classes", "partition": {"kind": "by_label", "classes_per_worker": 2}},
    ),
    "perceptron": (
        {"kind": "perceptron", "classes": 2, "hidden": [3], "activation": "tanh"},
        {"source": "file", "path": "train.csv", "label": "y", "standardise": {"kind": "min-max"}},
    ),
    "noisy": ({"kind": "noisy-quadratic", "curvature": [1.0, 3.0], "additive": 0.1}, "none"),
    "libsvm": (
        "logistic",
        {"source": "file", "path": "train.libsvm", "n_features": 5, "test": {"path": "test"}, "positive": 1},
    ),
    "shards": ("logistic", {"source": "shards", "path": "shard_{worker}.npz", "positive": 1, "standardise": "fixed"}),
}
"""Problems and data that every recipe runs on here; the files are written by `samples`."""


def samples(folder: Path) -> None:
    """The files that `PROBLEMS` names."""
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((12, 5)).round(3), rng.integers(0, 2, 12)
    lines = ["a,b,c,d,e,y", *(",".join(map(str, [*x, label])) for x, label in zip(X, y, strict=True))]
    (folder / "train.csv").write_text("\n".join(lines) + "\n")
    svm = "".join(f"{label} 1:{x[0]} 4:{x[3]} 5:{x[4]}\n" for x, label in zip(X, y, strict=True))
    for name in ("train.libsvm", "test"):
        (folder / name).write_text(svm)
    for m in range(4):
        np.savez(folder / f"shard_{m}.npz", X=X[3 * m : 3 * m + 3], y=np.array([0, 1, 1]))


@cache
def bases() -> tuple[tuple[str, str], ...]:
    """(name, YAML text) of every config to begin with."""
    found = [(path.stem, path.read_text()) for path in sorted(CONFIGS.glob("*.yaml"))]
    for recipe in RECIPES:
        for name, (problem, data) in PROBLEMS.items():
            row: dict[str, Any] = {"recipe": recipe}
            if name == "noisy" and not RECIPES[recipe].row.work.whole:
                row["work"] = {"batch": 2, "draw": "replace"}
            tree = {"seed": 1, "workers": 3, "problem": problem, "data": data, "algorithm": row}
            text = yaml_source.dump({**tree, "stop": {"max_rounds": 3, "max_steps": 40}})
            found.append((f"{recipe}-{name}", text))
    return tuple(found)


@cache
def _trees() -> tuple[dict, ...]:
    """All bases as data; those that are valid also with every part written out, so that much can be exchanged."""
    plain = [yaml_source.read(text, name, Complaints(name)) for name, text in bases()]
    full = []
    for tree in plain:
        with contextlib.suppress(ConfigError):  # not every recipe goes with every problem
            full.append(config.parse(tree).resolved())
    return (*plain, *full)


def text_case(rng: random.Random, here: Path) -> Case:
    """Mutated text."""
    kind = rng.choice(list(texts.MUTATIONS))
    text: str | bytes = rng.choice(bases())[1]
    for _ in range(rng.choice([1, 1, 2, 4])):
        if isinstance(text, str):
            text = rng.choice(texts.MUTATIONS[kind])(rng, text)
    path = here / "c.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass"))
    return _loading(f"config text: {kind}", lambda: config.load(path), (str(path),))


def tree_case(rng: random.Random, here: Path) -> Case:
    """Mutated data: as mappings of Python, or written as YAML."""
    kind, odd = rng.choice(list(trees.MUTATIONS)), rng.random() < 0.3
    tree = trees.mutated(rng, rng.choice(_trees()), list(_trees()), kind, odd)
    path = here / "c.yaml"
    if odd:
        path.with_suffix(".txt").write_text(ascii(tree))
        return _loading("config in Python", lambda: config.parse(copy.deepcopy(tree)), ("config",))
    path.write_bytes(yaml_source.dump(tree).encode("utf-8", "surrogatepass"))
    return _loading(f"config data: {kind}", lambda: config.load(path), (str(path),))


def flag_case(rng: random.Random, here: Path) -> Case:
    """``--set`` and ``--grid``."""
    path = here / "c.yaml"
    path.write_text(rng.choice(bases())[1])
    sets = [trees.flag(rng) for _ in range(rng.choice([1, 1, 2, 5]))]
    names = (str(path), "--set", "--grid")
    if rng.random() < 0.6:
        (here / "flags.txt").write_text(ascii({"set": sets}))
        return _loading("config flags: --set", lambda: config.load(path, sets), names)
    grid = [trees.flag(rng) for _ in range(rng.choice([1, 1, 2, 3]))]
    if rng.random() < 0.1:
        grid += [
            f"{key}=[{','.join(map(str, range(1, 60)))}]"[:-1].replace("=[", "=")
            for key in ("seed", "repeat", "workers")
        ]
    sets = sets[:1] if rng.random() < 0.3 else []
    (here / "flags.txt").write_text(ascii({"set": sets, "grid": grid}))

    def sweep() -> None:
        for point in points_of(path, axes_of(grid, sets), sets, here / "out")[:20]:
            _check_round_trip(point.config)

    return Case("config flags: --grid", sweep, names)


def _loading(kind: str, load: Callable[[], RunConfig], names: tuple[str, ...]) -> Case:
    def act() -> None:
        made = load()
        _check_round_trip(made)
        case.names = ()  # what a run finds to be wrong need not stand in the file
        _run(made)

    case = Case(kind, act, names)
    return case


def _check_round_trip(made: RunConfig) -> None:
    """What was understood, written out and read again, means the same."""
    again = yaml_source.read(made.to_yaml(), "again", Complaints("again"))
    if config.parse(made.resolved()) != made or config.parse(again).sha256() != made.sha256():
        raise Wrong("the resolved config means something else")


def _run(made: RunConfig) -> None:
    """A few rounds, where they cost little; theta has to come out finite."""
    if not affordable(made):
        return
    stop = replace(made.stop, max_rounds=min(3, made.stop.max_rounds or 3), max_seconds=2.0)
    short = replace(made, stop=stop, repeat=min(2, made.repeat))
    with untimed():
        for sparse in {False, made.data.source in ("file", "shards")}:
            ready(short, sparse, False)
    try:
        done = simulate(Plan(short, quiet=True, warns=False))
    except ConfigError as error:
        if "after round 0" in str(error):
            raise Wrong("the first objective is not finite") from error
        raise
    except WorkerFailed:
        if ":" in made.problem.kind:
            return  # what the config names is somebody's code, whose traceback is to be seen
        raise
    if not (np.isfinite(done.theta).all() and done.summary["status"] == "ok"):
        raise Wrong("a run that ended well has no finite theta")


def affordable(made: RunConfig) -> bool:
    """Whether a run takes a second or so. What asks for absurd amounts counts: it has to be refused, not tried."""
    row, data, absurd = made.algorithm, made.data, 2**31
    if made.problem.kind == "torch" or (data.source in ("mnist", "fashion-mnist") and not data.path):
        return False  # PyTorch takes too long; no download
    sizes = [made.workers, getattr(row.work, "batch", 1), made.problem.options.get("classes") or 1]
    if any(MOST_WORKERS < size < absurd for size in sizes):
        return False
    steps = getattr(row.plan, "local_steps", None) or 1
    steps = max(steps) if isinstance(steps, tuple) else steps
    if row.plan.needs_steps:
        steps = made.stop.max_steps
    if steps * min(sizes[1], 1000) > MOST_STEPS or (getattr(row.plan, "increment", 0) and row.plan.increment > 1000):
        return False
    options = data.synthetic
    return options is None or not MOST_NUMBERS < options.n_samples * options.n_features < absurd**2
