"""A config as typed, frozen values, every default filled in; and back to plain data."""

import hashlib
import json
import re
from dataclasses import field, fields, is_dataclass
from typing import Annotated, Any, Literal

from psopt.algorithm import ROW, Algorithm
from psopt.bounds import Ge, Gt, Le
from psopt.config import yaml_source
from psopt.config.faults import Fault, plain
from psopt.config.own import nested, recipe_named
from psopt.data import DataSpec
from psopt.errors import ConfigError
from psopt.parts import kind_of
from psopt.records import record
from psopt.slurm import Slurm
from psopt.transports.base import Timeouts
from psopt.transports.spreading import Spreading

DEFAULT_ROUNDS = 1000
MOST_WORKERS = 1_000_000
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,99}")


@record
class ProblemConfig:
    """What is minimised.

    Attributes
    ----------
    kind : str
        A built-in problem, or your own class as `package.module:Class`.
    dtype : str
        Type of theta, of the features and of what is sent: `float64`, or `float32` for half the bytes.
    options : dict
        The other keys, which are the problem's own.
    """

    kind: str
    dtype: Literal["float64", "float32"] = "float64"
    options: dict[str, Any] = field(default_factory=dict)


@record
class Stop:
    """When to stop: at whichever limit is met first. At least one has to be set; keys left out set no limit.

    Attributes
    ----------
    gap : float, optional
        Stop once F(theta) - f* is no more than this. Needs an `f_star`.
    gradient_norm : float, optional
        Stop once the norm of the aggregate that the last step was taken along is no more than this; for lazy rules it
        holds parts that are stale.
    max_rounds : int, optional
        Stop after this many rounds.
    test_accuracy : float, optional
        Stop once this share of the test rows, from 0 to 1, is predicted right. Needs `data.test`.
    max_steps : int, optional
        T: stop once each worker has taken this many local steps, all rounds together; where workers take none, a round
        is one step. Plans are cut to it, and those of R rounds are laid out over it.
    max_uploads : int, optional
        Stop after this many uploads, those of all workers together.
    max_seconds : float, optional
        Stop after this many seconds of wall-clock time.
    """

    gap: Annotated[float, Gt(0)] | None = None
    gradient_norm: Annotated[float, Gt(0)] | None = None
    test_accuracy: Annotated[float, Gt(0), Le(1)] | None = None
    max_rounds: Annotated[int, Ge(1)] | None = None
    max_steps: Annotated[int, Ge(1)] | None = None
    max_uploads: Annotated[int, Ge(1)] | None = None
    max_seconds: Annotated[float, Gt(0)] | None = None

    def __post_init__(self) -> None:
        if all(getattr(self, key.name) is None for key in fields(self)):
            raise ConfigError(f"nothing would ever stop the run; set one of {', '.join(f.name for f in fields(self))}")


@record
class Trace:
    """What is recorded while the run goes on.

    Attributes
    ----------
    every : int
        Rounds from one record to the next.
    objective : bool
        Whether a record holds F(theta), which is a pass over all data. Without it there is no gap.
    decisions : bool
        Whether a lazy rule's two sides are kept in every round, for `psopt explain`: 8 bytes a worker and round.
    """

    every: Annotated[int, Ge(1)] = 1
    objective: bool = True
    decisions: bool = True


@record
class Checkpoint:
    """When the whole state of a run is written into its folder, for `psopt resume`; always at its end, too, and when it
    is interrupted.

    Attributes
    ----------
    every_rounds : int, optional
        Rounds from one checkpoint to the next.
    every_seconds : float
        Seconds after which one is due at the latest; more where writing takes more than a fiftieth of that.
    keep : int
        How many stay, the last ones; 0: none are written.
    """

    every_rounds: Annotated[int, Ge(1)] | None = None
    every_seconds: Annotated[float, Gt(0)] = 60.0
    keep: Annotated[int, Ge(0)] = 2


@record
class Debug:
    """Checks that cost time and change no result.

    Attributes
    ----------
    check_mirror : bool
        In every round, compare what the server and each worker hold of what that worker last said.
    """

    check_mirror: bool = False


@record
class Failure:
    """What a run does when it loses workers: their process dies, freezes for longer than `timeouts.round_s`, or raises.

    Attributes
    ----------
    policy : 'stop', 'continue_stale' or 'drop'
        `stop` ends the run. The others go on with the workers that are left, over Open MPI alone: with `continue_stale`
        the last gradient of a lost worker stays in the sum, with `drop` its part leaves the objective.
    """

    policy: Literal["stop", "continue_stale", "drop"] = "stop"

    @property
    def survives(self) -> bool:
        """Whether the run goes on without lost workers."""
        return self.policy != "stop"


@record
class Downlink:
    """What the server sends everyone each round; `changes` for `{kind: changes}`.

    Attributes
    ----------
    kind : 'theta' or 'changes'
        Theta, or what changed of the aggregate, from which each rank makes theta itself, bit for bit: nothing after a
        silent round; what the workers said, where that is sparse or short, which costs each rank the server's memory;
        else, with aggregator `lazy`, what it came to, as long as theta, however many spoke, which costs each rank a
        vector.
    values : 'theta' or 'float32'
        The dtype in which theta crosses: its own, or rounded, and then the workers compute at what came.
    """

    kind: Literal["theta", "changes"] = "theta"
    values: Literal["theta", "float32"] = "theta"

    def __post_init__(self) -> None:
        if self.lazy and self.values != "theta":
            raise ConfigError(
                "`values` is for `theta`, and the kind is `changes`, from which ranks make theta itself, bit for bit: "
                "a compressor such as `cast` makes uploads shorter"
            )

    @property
    def lazy(self) -> bool:
        """Whether the ranks make theta themselves."""
        return self.kind == "changes"


@record
class RunConfig:
    """One experiment.

    Attributes
    ----------
    name : str
        Names the run and its files: letters, digits, `.`, `_`, `+` and `-`. Default: the config file's name.
    seed : int
        All random numbers come from it.
    workers : int
        M, the number of logical workers; they are dealt to however many MPI ranks there are.
    problem : ProblemConfig
        What is minimised: a name, or a mapping with `kind` and the problem's own keys.
    data : DataSpec
        What is learnt from: the name of a source, or a mapping with `source`.
    algorithm : Algorithm
        A recipe's name, a mapping with `recipe` and the parts to change, or parts alone, which change plain gradient
        descent. Recipes and parts of your own are `package.module:NAME` and `package.module:Class`.
    recipe : str, optional
        The name of the recipe the algorithm came from.
    f_star : 'auto', 'none' or float
        The least value of F, for the gap: `auto` lets psopt compute it, `none` does without.
    stop : Stop
        Without it the run stops after 1000 rounds.
    trace : Trace
        What is recorded while the run goes on.
    timeouts : Timeouts
        Deadlines, in seconds.
    checkpoint : Checkpoint
        When the whole state of the run is written into its folder.
    failure : Failure
        What the run does when it loses workers.
    slurm : Slurm
        What `psopt submit` asks Slurm for; changes no run.
    debug : Debug
        Checks that cost time and change no result.
    repeat : int
        How many independent replicas to run, with seeds `seed`, `seed + 1`, ...: whole runs in one process each, spread
        over the ranks; trace and summary hold their means and, in fields that end in `_se`, standard errors.
    downlink : Downlink
        What the server sends everyone each round: `theta`, `changes`, or a mapping.
    broadcast : Spreading
        How a message for everyone goes from the server to all ranks of an MPI job: a kind, or a mapping.
    threads : 'auto' or int
        With how many threads each rank computes gradients and values of large shards; changes no result. `auto`: with
        its share of the cores that it may run on.
    faults : list of faults
        What goes wrong on purpose, for tests and rehearsals: see `psopt docs faults`. Default: nothing.
    """

    workers: Annotated[int, Ge(1)]
    problem: ProblemConfig
    data: DataSpec
    name: str = "run"
    seed: Annotated[int, Ge(0)] = 0
    algorithm: Algorithm = field(default_factory=Algorithm)
    recipe: str | None = None
    f_star: Literal["auto", "none"] | float = "auto"
    stop: Stop = field(default_factory=lambda: Stop(max_rounds=DEFAULT_ROUNDS))
    trace: Trace = field(default_factory=Trace)
    timeouts: Timeouts = field(default_factory=Timeouts)
    checkpoint: Checkpoint = field(default_factory=Checkpoint)
    failure: Failure = field(default_factory=Failure)
    slurm: Slurm = field(default_factory=Slurm)
    debug: Debug = field(default_factory=Debug)
    repeat: Annotated[int, Ge(1)] = 1
    downlink: Downlink = field(default_factory=Downlink)
    broadcast: Spreading = field(default_factory=Spreading)
    threads: Annotated[int, Ge(1), Le(1024)] | Literal["auto"] = "auto"
    faults: tuple[Fault, ...] = ()

    def resolved(self) -> dict[str, Any]:
        """Plain data with every default written out; `parse` makes an equal config of it."""
        return {
            "name": self.name,
            "seed": self.seed,
            "workers": self.workers,
            "problem": {"kind": self.problem.kind, "dtype": self.problem.dtype, **_copied(self.problem.options)},
            "data": _plain(self.data),
            "algorithm": {"recipe": self.recipe, **{f: plain_part(f, getattr(self.algorithm, f)) for f in ROW}},
            "f_star": self.f_star,
            "stop": _plain(self.stop),
            "trace": _plain(self.trace),
            "timeouts": _plain(self.timeouts),
            "checkpoint": _plain(self.checkpoint),
            "failure": _plain(self.failure),
            "slurm": _plain(self.slurm),
            "debug": _plain(self.debug),
            "repeat": self.repeat,
            "downlink": _plain(self.downlink),
            "broadcast": _plain(self.broadcast),
            "threads": self.threads,
            "faults": [plain(fault) for fault in self.faults],
        }

    @property
    def sent_dtype(self) -> str:
        """In which theta crosses."""
        return self.problem.dtype if self.downlink.values == "theta" else self.downlink.values

    @property
    def algorithm_name(self) -> str:
        """The recipe, and which of its parts are others than its own; the step size is everybody's own affair."""
        if self.recipe is None:
            return "a row of parts"
        own = recipe_named(self.recipe).row
        parts = [family for family in ROW if family != "step_size"]
        changed = [family for family in parts if getattr(self.algorithm, family) != getattr(own, family)]
        return self.recipe + (f" with another {', '.join(changed)}" if changed else "")

    def sha256(self) -> str:
        """Of the canonical JSON of `resolved` but for `slurm` and `threads`, which change no run: what means the same
        has the same one.
        """
        meant = {name: value for name, value in self.resolved().items() if name not in ("slurm", "threads")}
        text = json.dumps(meant, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
        return hashlib.sha256(text.encode("ascii")).hexdigest()

    def to_yaml(self) -> str:
        """`resolved` as YAML text, which `load` reads."""
        return yaml_source.dump(self.resolved())


def plain_part(family: str, part: Any) -> dict[str, Any]:
    """A part as a mapping with its kind and all its fields."""
    plain: dict[str, Any] = {"kind": kind_of(family, part)}
    for key in fields(part):
        value = getattr(part, key.name)
        inner = nested(type(part), key.name)
        plain[key.name] = plain_part(inner, value) if inner else _plain(value)
    return plain


def _plain(value: Any) -> Any:
    if is_dataclass(value):
        return {key.name: _plain(getattr(value, key.name)) for key in fields(value)}
    return _copied(value)


def _copied(value: Any) -> Any:
    match value:
        case dict():
            return {key: _copied(inner) for key, inner in value.items()}
        case list() | tuple():
            return [_copied(inner) for inner in value]
    return value
