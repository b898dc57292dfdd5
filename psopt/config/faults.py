"""The `faults:` section: what is to go wrong on purpose, where and when."""

from dataclasses import fields
from typing import TYPE_CHECKING, Annotated, Any

from psopt.algorithm import Algorithm
from psopt.bounds import Ge, Gt, Le
from psopt.config.sentences import FAULTY, show
from psopt.config.sentences import Path as KeyPath
from psopt.data import DataSpec
from psopt.data.shards import DRAWN
from psopt.data.spec import IMAGES
from psopt.errors import ConfigError
from psopt.records import record

if TYPE_CHECKING:
    from psopt.config.building import Builder

WITHOUT_FILES = ("none", "memory", *DRAWN)


@record
class Strike:
    """Something that happens once, to the process of one worker or of the server.

    Attributes
    ----------
    kind : str
        `kill`: SIGKILL. `terminate`: SIGTERM. `interrupt`: SIGINT. `raise`: an exception. `not_finite`: NaN.
        `disk_full`: no file takes a byte any more. `unreadable_data`: no file of the data can be opened any more.
    round : int
        To a worker it happens as it is about to answer in this round, or in the next one in which it is asked; to the
        server in the middle of it, when the first answer has come. Round 0 is the start-up, before data are read.
    worker : int, optional
        The worker whose process is struck.
    server : bool
        Whether it is the server's.
    """

    kind: str
    round: Annotated[int, Ge(0)]
    worker: Annotated[int, Ge(0)] | None = None
    server: bool = False

    def __post_init__(self) -> None:
        if (self.worker is None) is not self.server:
            raise ConfigError("expected either `worker`, the number of one, or `server: true`")
        if self.kind == "not_finite" and self.round == 0:
            raise ConfigError("key 'round': found 0, but gradients are first computed in round 1")

    @property
    def told(self) -> str:
        """The fault as a sentence."""
        who = "the server" if self.server else f"worker {self.worker}"
        when = f"in round {self.round}" if self.round else "in the start-up"
        since = f"from round {self.round} on" if self.round else "from the start-up on"
        match self.kind:
            case "kill":
                return f"{who} is killed {when}"
            case "terminate":
                return f"{who} is told to terminate {when}"
            case "interrupt":
                return f"{who} is interrupted {when}"
            case "raise":
                return f"{who} raises {when}"
            case "not_finite":
                return f"{'an answer to' if self.server else 'the gradient of'} {who} is NaN {when}"
            case "disk_full":
                return f"the disk of {who} is full {since}"
        return f"the data of {who} cannot be read {since}"


@record
class Freeze:
    """SIGSTOP to the process of one worker or of the server.

    Attributes
    ----------
    kind : str
        What happens.
    round : int
        As for the other faults that happen once.
    worker : int, optional
        The worker whose process is struck.
    server : bool
        Whether it is the server's.
    seconds : float, optional
        After which it goes on. Default: never.
    """

    kind: str
    round: Annotated[int, Ge(0)]
    worker: Annotated[int, Ge(0)] | None = None
    server: bool = False
    seconds: Annotated[float, Gt(0), Le(1e6)] | None = None

    def __post_init__(self) -> None:
        Strike(self.kind, self.round, self.worker, self.server)

    @property
    def told(self) -> str:
        """The fault as a sentence."""
        who = "the server" if self.server else f"worker {self.worker}"
        when = f"in round {self.round}" if self.round else "in the start-up"
        return f"{who} is frozen {when}" + (f" for {self.seconds:g} s" if self.seconds else "")


@record
class Delay:
    """Each answer of one worker comes late.

    Attributes
    ----------
    kind : str
        What happens.
    worker : int
        Which one.
    seconds : float
        How late.
    first : int
        The first round in which it does.
    last : int, optional
        The last one. Default: that of the run.
    """

    kind: str
    worker: Annotated[int, Ge(0)]
    seconds: Annotated[float, Gt(0), Le(1e6)]
    first: Annotated[int, Ge(1)] = 1
    last: Annotated[int, Ge(1)] | None = None

    def __post_init__(self) -> None:
        if self.last is not None and self.last < self.first:
            raise ConfigError(f"key 'last': found {self.last}, before the first round, which is {self.first}")

    @property
    def told(self) -> str:
        """The fault as a sentence."""
        until = f" to {self.last}" if self.last is not None else " on"
        return f"the answers of worker {self.worker} are {self.seconds:g} s late from round {self.first}{until}"


@record
class SlowNetwork:
    """A star of slow links: all messages share the server's, one after the other, in either direction.

    Attributes
    ----------
    kind : str
        What happens.
    latency_s : float
        Seconds each message is under way, however short it is.
    megabit_per_s : float, optional
        How wide each link is. Default: no limit.
    """

    kind: str
    latency_s: Annotated[float, Ge(0), Le(1e6)] = 0.0
    megabit_per_s: Annotated[float, Gt(0)] | None = None

    def __post_init__(self) -> None:
        if not self.latency_s and self.megabit_per_s is None:
            raise ConfigError("a network that is not slow: set `latency_s` or `megabit_per_s`")

    @property
    def told(self) -> str:
        """The fault as a sentence."""
        width = f" at {self.megabit_per_s:g} Mbit/s" if self.megabit_per_s else ""
        return f"each message is {self.latency_s:g} s under way{width}"


Fault = Strike | Freeze | Delay | SlowNetwork

KINDS: dict[str, type[Any]] = {
    "kill": Strike,
    "freeze": Freeze,
    "terminate": Strike,
    "interrupt": Strike,
    "raise": Strike,
    "not_finite": Strike,
    "disk_full": Strike,
    "unreadable_data": Strike,
    "delay": Delay,
    "slow_network": SlowNetwork,
}


def built(builder: "Builder", value: Any) -> Any:
    """The faults of a config, a tuple, or `FAULTY` after a complaint."""
    path: KeyPath = ("faults",)
    if not isinstance(value, list):
        if value is not FAULTY:
            builder.complaints.add(path, f"found {show(value)}, expected a list of mappings with `kind`")
        return FAULTY
    made = tuple(_one(builder, item, (*path, index)) for index, item in enumerate(value))
    return FAULTY if FAULTY in made else made


def _one(builder: "Builder", value: Any, path: KeyPath) -> Any:
    data = builder.mapping(value, path, "a mapping with `kind`")
    if data is None:
        return FAULTY
    kind = data.get("kind")
    if kind is None:
        builder.complaints.add((*path, "kind"), f"missing; expected one of {', '.join(KINDS)}")
        return FAULTY
    if not builder.known(kind, KINDS, "fault", (*path, "kind")):
        return FAULTY
    return builder.fill(KINDS[kind], data, path, "fault", kind)


def cross_check(builder: "Builder", values: dict[str, Any]) -> None:
    """Complains of faults that name a worker or a round that is not there, or need what the run has not."""
    faults, workers, row, data = (values.get(name) for name in ("faults", "workers", "algorithm", "data"))
    limits = [getattr(values.get("stop"), name, None) for name in ("max_rounds", "max_steps")]
    rounds = min((limit for limit in limits if limit is not None), default=None)
    for index, fault in enumerate(faults if isinstance(faults, tuple) else ()):
        path: KeyPath = ("faults", index)
        m = getattr(fault, "worker", None)
        if m is not None and isinstance(workers, int) and m >= workers:
            builder.complaints.add((*path, "worker"), f"found {m}, but the workers are 0 to {workers - 1}")
        for name in ("round", "first", "last"):
            k = getattr(fault, name, None)
            if k is not None and rounds is not None and k > rounds:
                builder.complaints.add((*path, name), f"found {k}, but the run ends with round {rounds} or earlier")
        if fault.kind == "not_finite" and fault.server and isinstance(row, Algorithm) and row.codec.compressor.sparse:
            builder.complaints.add(path, "`not_finite` at the server cannot be used with a sparse compressor")
        if fault.kind == "unreadable_data" and isinstance(data, DataSpec):
            if data.source in WITHOUT_FILES:
                builder.complaints.add(path, f"`unreadable_data` needs files, and data `{data.source}` has none")
            elif data.source in IMAGES and not data.path:
                builder.complaints.add(path, f"`unreadable_data` with data `{data.source}` needs `data.path`")


def plain(fault: Fault) -> dict[str, Any]:
    """A fault as a mapping."""
    return {key.name: getattr(fault, key.name) for key in fields(fault)}
