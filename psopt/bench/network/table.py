"""What is measured: networks, experiments, and the rows of each. A new row is one line."""

from collections.abc import Mapping, Sequence
from dataclasses import field
from pathlib import Path
from typing import Any

from psopt.errors import ConfigError
from psopt.records import record

MNIST_PIXELS = {"kind": "fixed", "divide": 255}
MNIST_AUTHORS = {**MNIST_PIXELS, "mean": 0.1307, "scale": 0.3081}
ENDLESS = 1_000_000


@record
class Wire:
    """A network: each host's cable, the time from host to host, one way, and how many hosts it joins at most."""

    megabit: float
    latency_ms: float
    most_hosts: int = 11

    @property
    def name(self) -> str:
        return f"{self.megabit:g}/{self.latency_ms:g}"


WIRES = (Wire(10, 20), Wire(100, 5), Wire(10, 5), Wire(200, 1, most_hosts=4))


@record
class Row:
    """One method.

    Attributes
    ----------
    name : str
    algorithm : mapping
        The section ``algorithm`` of psopt's config.
    changes : mapping
        Other sections of it that differ from the experiment's.
    peer : str
        The way of torch.distributed, instead of psopt: see `psopt.bench.peers.ways`.
    options : mapping
        Of the peer.
    rounds_as : str
        The row of psopt's that takes the same rounds, because it computes the same; then they are not counted again.
    varies : bool
        Whether rounds weigh unequally, so that seconds are measured in several places of the run.
    gap : float, optional
        The target, where it is another than the experiment's.
    """

    name: str
    algorithm: Mapping[str, Any] = field(default_factory=dict)
    changes: Mapping[str, Any] = field(default_factory=dict)
    peer: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    rounds_as: str = ""
    varies: bool = False
    gap: float | None = None


@record
class Experiment:
    """Rows that reach the same target on the same problem.

    Attributes
    ----------
    key, title : str
    config : mapping
        What all of psopt's configs have in common; ``{data}`` in ``data.path`` stands for the folder of the data.
    rows : sequence of Row
    wires : sequence of str
        The networks it is made for when none is asked for.
    every : int
        Rounds from one look at the target to the next.
    piece : int
        Rounds from one place where a run can be gone on from to the next.
    f_star_alone : bool
        Whether f* has to be found before, because the problem is too large for Newton's method.
    needs : str
        What has to stand in the folder of the data; empty: nothing.
    """

    key: str
    title: str
    config: Mapping[str, Any]
    rows: Sequence[Row]
    wires: Sequence[str]
    every: int = 1
    piece: int = 250
    f_star_alone: bool = False
    needs: str = ""

    @property
    def workers(self) -> int:
        return self.config["workers"]

    def baseline(self, row: Row) -> Row:
        """What torch's users do without further thought, to the same target: ratios are to its seconds."""
        return next(each for each in self.rows if each.peer == "ddp" and each.gap == row.gap)

    @property
    def plain(self) -> Row:
        """psopt's first row: what the baseline computes, too."""
        return next(row for row in self.rows if not row.peer)

    def row(self, name: str) -> Row:
        return next(row for row in self.rows if row.name == name)

    def config_of(self, row: Row, data: Path | None) -> dict[str, Any]:
        """psopt's config of a row of its own."""
        config = {
            "name": slug(f"{self.key}-{row.name}"),
            **self.config,
            **row.changes,
            "algorithm": dict(row.algorithm),
        }
        if self.needs:
            config["data"] = {**config["data"], "path": str(self.needed(data))}
        return config

    def needed(self, data: Path | None) -> Path | None:
        """Where its data are. Raises `ConfigError` where they are not in the folder ``data``."""
        if not self.needs:
            return None
        if data is None:
            raise ConfigError(f"experiment {self.key} needs --data: the folder that holds {self.needs}")
        file = self.config["data"]["source"] == "file"
        names = [self.needs, f"{self.needs}.gz", f"{self.needs}/{self.needs}", f"{self.needs}/{self.needs}.gz"]
        for path in (data / name for name in (names if file else [self.needs])):
            if path.is_file() == file and path.exists():
                return path.absolute()
        raise ConfigError(f"experiment {self.key} needs {self.needs} in {data}, and it is not there")


def slug(name: str) -> str:
    """A name as a file may have it."""
    return "".join(letter if letter.isalnum() or letter in ".+-" else "-" for letter in name).replace("--", "-")


SASG = {"recipe": "sasg", "step_size": "0.005*M"}
CHANGES = {"downlink": "changes"}
STEP = {"batch": 10, "step_size": 0.05}
"""Of torch's: psopt's 0.005 M."""


def every(local_steps: int, step_size: float, **parts: Any) -> dict[str, Any]:
    """Local SGD of rounds of equal length, everyone in each."""
    plan = {"kind": "fixed", "local_steps": local_steps}
    return {"recipe": "fedavg", "selection": "all", "plan": plan, "step_size": step_size, **parts}


TREE, MESH = {"broadcast": "tree"}, {"broadcast": "mesh"}
PACKED = {"compressor": {"indices": "packed"}}
TOP = {"kind": "overwrite", "compressor": {"kind": "top_k", "fraction": 0.02}, "feedback": True}
LOOKS = {"trace": {"every": 1}, "stop": {"max_rounds": 100}}

PERCEPTRON = Experiment(
    "A",
    "MNIST, perceptron 784-512-10 (d = 407050), M = 10, batches of 10, float32, to more than 98 % of the test set",
    {
        "seed": 1,
        "workers": 10,
        "problem": {"kind": "perceptron", "classes": 10, "hidden": [512], "dtype": "float32"},
        "data": {"source": "mnist", "standardise": MNIST_AUTHORS, "partition": "iid", "test": "official"},
        "f_star": "none",
        "stop": {"test_accuracy": 0.9801, "max_rounds": 12000},
    },
    (
        Row("torch DDP SGD", peer="ddp", options=STEP),
        Row("torch PowerSGD", peer="powersgd", options={**STEP, "rank": 2, "start": 10}),
        Row(
            "torch PostLocalSGD, H = 200",
            peer="postlocal",
            options={**STEP, "step_size": 0.1, "period": 200, "start": 10},
        ),
        Row("psopt SGD", {"recipe": "sgd"}),
        Row("psopt Sparse", {"recipe": "sparse"}),
        Row("psopt SASG", SASG, varies=True),
        Row("psopt SASG, changes", SASG, CHANGES, rounds_as="psopt SASG", varies=True),
        Row(
            "psopt SASG, changes, tree, packed",
            {**SASG, "codec": PACKED},
            {**CHANGES, **TREE},
            rounds_as="psopt SASG",
            varies=True,
        ),
        Row("psopt SGD, tree", {"recipe": "sgd"}, TREE, rounds_as="psopt SGD"),
        Row("psopt local SGD, H = 200", every(200, 0.1), LOOKS),
        Row("psopt local SGD, H = 600", every(600, 0.1), LOOKS),
        Row("psopt local SGD, H = 600, tree", every(600, 0.1), {**LOOKS, **TREE}, rounds_as="psopt local SGD, H = 600"),
        Row("psopt local SGD, H = 200, top 2 %", every(200, 0.1, codec=TOP), {**LOOKS, **CHANGES}),
    ),
    ("10/20", "100/5"),
    every=100,
    piece=1000,
    needs="mnist",
)

LONG = {"step_size": "8/L"}
"""L bounds the curvature for two classes; ten that are equally likely have a fifth of it."""

SOFTMAX = Experiment(
    "B",
    "MNIST, softmax regression (d = 7850), M = 9, full batch, float64, l2 = 1e-3 on the mean loss, to a gap of 1e-6",
    {
        "seed": 1,
        "workers": 9,
        "problem": {"kind": "softmax", "classes": 10, "l2": 1e-3},
        "data": {"source": "mnist", "standardise": MNIST_PIXELS},
        "stop": {"gap": 1e-6, "max_rounds": ENDLESS},
    },
    (
        Row("torch DDP GD", peer="ddp", rounds_as="psopt GD"),
        Row("psopt GD", {"recipe": "gd", **LONG}),
        Row("psopt LAG-WK", {"recipe": "lag-wk", **LONG}, varies=True),
        Row("psopt LAG-WK, changes", {"recipe": "lag-wk", **LONG}, CHANGES, rounds_as="psopt LAG-WK", varies=True),
        Row(
            "psopt LAG-WK, changes, tree",
            {"recipe": "lag-wk", **LONG},
            {**CHANGES, **TREE},
            rounds_as="psopt LAG-WK",
            varies=True,
        ),
        Row(
            "psopt LAG-WK, changes, mesh",
            {"recipe": "lag-wk", **LONG},
            {**CHANGES, **MESH},
            rounds_as="psopt LAG-WK",
            varies=True,
        ),
        Row(
            "psopt LAG-WK, float32, changes, mesh",
            {"recipe": "lag-wk", **LONG, "codec": {"compressor": "cast"}},
            {**CHANGES, **MESH},
            varies=True,
        ),
        Row("psopt LAG-PS", {"recipe": "lag-ps", **LONG}, varies=True),
    ),
    ("10/5",),
    every=10,
    piece=1000,
    f_star_alone=True,
    needs="mnist",
)

COARSE = 1e-4
MOST_LOCAL = 100
"""Rounds; the last one then has as many steps, so that such a run has 5050."""


def convex(
    key: str, title: str, problem: Mapping[str, Any], data: Mapping[str, Any], local: Mapping[str, Any], needs: str = ""
) -> Experiment:
    """Gradient descent and LAG on a small problem, and local steps to the coarser target that they are good for."""
    config = {
        "seed": 1,
        "workers": 9,
        "problem": problem,
        "data": data,
        "stop": {"gap": 1e-8, "max_rounds": ENDLESS},
    }
    rows = (
        Row("torch DDP GD", peer="ddp", rounds_as="psopt GD"),
        Row("psopt GD", {"recipe": "gd"}),
        Row("psopt LAG-WK", {"recipe": "lag-wk"}, varies=True),
        Row("psopt LAG-WK, changes", {"recipe": "lag-wk"}, CHANGES, rounds_as="psopt LAG-WK", varies=True),
        Row("psopt LAG-PS", {"recipe": "lag-ps"}, varies=True),
        Row("torch DDP GD, coarse", peer="ddp", rounds_as="psopt GD", gap=COARSE),
        Row("psopt local, growing, coarse", local, {"stop": {"max_rounds": MOST_LOCAL}}, gap=COARSE),
    )
    return Experiment(key, f"{title}, M = 9, to a gap of 1e-8", config, rows, ("100/5",), every=1, needs=needs)


def growing(step_size: float) -> dict[str, Any]:
    """Local full-batch steps, in rounds that grow by one step each; the step is 1 / (M max L_m), rounded down."""
    return {
        "recipe": "local-sgd",
        "plan": {"kind": "growing", "increment": 1},
        "work": {"kind": "local_sgd", "batch": ENDLESS},
        "step_size": step_size,
    }


LOGISTIC = {"kind": "logistic", "l2": 1e-3, "reduction": "mean"}

SMALL = (
    convex(
        "C-linear", "LAG's linear problem (d = 8)", {"kind": "least-squares"}, {"source": "lag-linear"}, growing(1.9e-4)
    ),
    convex(
        "C-logistic",
        "LAG's logistic problem (d = 34)",
        {"kind": "logistic", "l2": 1e-3},
        {"source": "lag-logistic"},
        growing(2.5e-4),
    ),
    convex(
        "C-a9a",
        "a9a, logistic (d = 123), l2 = 1e-3 on the mean loss",
        LOGISTIC,
        {"source": "file", "format": "libsvm", "n_features": 123, "partition": "iid"},
        growing(0.6),
        needs="a9a",
    ),
    convex(
        "C-w8a",
        "w8a, logistic (d = 300), l2 = 1e-3 on the mean loss",
        LOGISTIC,
        {"source": "file", "format": "libsvm", "n_features": 300, "partition": "iid"},
        growing(1.5),
        needs="w8a",
    ),
)

EXPERIMENTS = (PERCEPTRON, SOFTMAX, *SMALL)


def experiments(wanted: Sequence[str]) -> list[Experiment]:
    """Those of these keys, or beginnings of keys; all where none is given. Raises `ConfigError`."""
    for name in wanted:
        if not any(each.key == name or each.key.startswith(f"{name}-") for each in EXPERIMENTS):
            keys = ", ".join(each.key for each in EXPERIMENTS)
            raise ConfigError(f"--experiment `{name}` is none of {keys} (or C for all that begin with it)")
    return [
        each
        for each in EXPERIMENTS
        if not wanted or any(each.key == name or each.key.startswith(f"{name}-") for name in wanted)
    ]


def wires(wanted: Sequence[str]) -> list[Wire]:
    """The networks ``MEGABIT/MILLISECONDS`` of these names. Raises `ConfigError`."""
    known = {wire.name: wire for wire in WIRES}
    found = []
    for name in wanted:
        if name not in known:
            raise ConfigError(f"--network `{name}` is none of {', '.join(known)} (Mbit/s and milliseconds, one way)")
        found.append(known[name])
    return found
