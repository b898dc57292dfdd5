"""``psopt predict``: the wall time that a finished run would take on another network.

Who was asked and who spoke in each round is taken from the run folder, so is what was sent and how long the work took;
`psopt.views.conversation` tells how long it takes to say so over that network.
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from psopt.config import RunConfig, load
from psopt.core.downlink import CHECK_EVERY, sums_up
from psopt.core.messages import HEADER_NBYTES, mask_nbytes
from psopt.errors import ConfigError
from psopt.records import record
from psopt.runs.decisions import DECISIONS, asked_in, read_decisions
from psopt.runs.folder import Run, load_run
from psopt.transports.base import rank_of
from psopt.transports.spreading import Spreading
from psopt.views.conversation import EAGER_NBYTES, KINDS, Conversation, Question, dealt
from psopt.views.network import Network

SCORE_NBYTES = 16
RECORD_HEAD_NBYTES = 16
MOST_ROUNDS = 1_000_000


@record
class Round:
    """What happened in a round, or, with number 0, before the first.

    Attributes
    ----------
    asked : tuple of int or None
        The workers, None for everyone.
    spoke : frozenset of int
        Those that uploaded.
    upload_nbytes : int
        Payload of an upload.
    answer_s : float
        Seconds of work for each answer of a worker.
    server_s : float
        Seconds the server was busy with itself.
    looks : int
        How often a question off the books was asked after it: the objective, a score.
    """

    number: int
    asked: tuple[int, ...] | None
    spoke: frozenset[int]
    upload_nbytes: int
    answer_s: float
    server_s: float
    looks: int


@record
class Recorded:
    """A finished run, as far as a prediction needs it."""

    label: str
    recipe: str
    workers: int
    theta_nbytes: int
    lazy_downlink: bool
    collective: bool
    score: bool
    rounds: tuple[Round, ...]
    measured_s: float
    ranks: int
    ended: str
    minimises: str
    """The problem and its data, as text."""
    sent_nbytes: int | None = None
    """Bytes of theta as a round sends it, where that is rounded."""
    spreading: Spreading | None = None
    """How ranks pass messages for everyone on, where they do."""
    sums_up: bool = False
    """Whether the lazy downlink tells the aggregate, and not the uploads."""


@record
class Prediction:
    """Seconds on one network; ``spent`` by `KINDS` and ``server``, which add up to ``wall_s``.

    ``server_link`` is the share of the wall time in which the server's cable would be taken, down and up, and
    ``looking_s`` what of it goes to questions off the books: the objective, a score.
    """

    network: Network
    ranks: int
    wall_s: float
    spent: dict[str, float]
    server_link: tuple[float, float]
    looking_s: float


def recorded(folder: Path) -> Recorded:
    """What a run folder tells.

    Raises `ConfigError` for a run that has not finished, or of which it is not known who was asked, or that lost
    workers or was disturbed on purpose, or that is the mean of replicas.
    """
    run, config = load_run(folder), load(folder / "config.yaml")
    summary = run.summary
    if config.repeat > 1:
        raise ConfigError(
            f"{folder} holds the mean of {config.repeat} replicas: give one of its folders replica-000, ..."
        )
    if summary["status"] != "ok":
        raise ConfigError(f"{folder} holds a run that ended with `{summary['status']}`; expected a finished one")
    if summary["lost"] or config.faults:
        raise ConfigError(f"{folder} holds a run with lost workers or `faults`, whose times are none of the method's")
    if config.broadcast.segment > EAGER_NBYTES:
        raise ConfigError(
            f"{folder} holds a run with `broadcast.segment: {config.broadcast.segment}`; predictions know of "
            f"{EAGER_NBYTES} bytes at most, which MPI sends unasked"
        )
    if not summary["rounds"] or summary["rounds"] > MOST_ROUNDS:
        raise ConfigError(f"{folder} holds a run of {summary['rounds']} rounds; expected 1 to {MOST_ROUNDS}")
    return Recorded(
        label=str(folder),
        recipe=str(summary["recipe"] or config.name),
        workers=config.workers,
        theta_nbytes=summary["dim"] * np.dtype(config.problem.dtype).itemsize,
        lazy_downlink=config.downlink.lazy,
        collective=not config.failure.survives and config.broadcast.kind != "star",
        score=config.data.test is not None,
        rounds=tuple(_rounds(folder, run, config)),
        measured_s=summary["wall_s"],
        ranks=summary["ranks"],
        ended=str(summary["stop_reason"]),
        minimises=json.dumps([run.config["problem"], run.config["data"]], sort_keys=True),
        sent_nbytes=None if config.sent_dtype == config.problem.dtype else 4 * summary["dim"],
        spreading=config.broadcast if config.broadcast.relays(config.downlink.lazy) else None,
        sums_up=sums_up(config.algorithm, summary["dim"], np.dtype(config.problem.dtype)),
    )


def _rounds(folder: Path, run: Run, config: RunConfig) -> Iterator[Round]:
    """Interval by interval: what a record's times say is dealt evenly to the rounds since the last one."""
    trace, asked = run.trace, _asked(folder, run, config)
    questions = int(config.trace.objective) + int(config.data.test is not None)
    before, before_s, before_server_s, before_sent = 0, 0.0, 0.0, (0, 0)
    mean_nbytes = _share(run.summary["payload_bytes_up"], run.summary["uploads"])
    ends = [int(k) for k in trace["round"]]
    server_s = trace["rest_s"] + trace.get("serialise_s", 0.0)
    for i, end in enumerate(ends):
        between = range(before + 1, end + 1)
        computed_s, busy_s = float(trace["compute_s"][i]) - before_s, float(server_s[i]) - before_server_s
        sent = (int(trace["payload_bytes_up"][i]), int(trace["uploads"][i]))
        uploads = sent[1] - before_sent[1]
        nbytes = (sent[0] - before_sent[0]) // uploads if uploads else mean_nbytes
        in_turn = [_in_turn(asked[k - 1], config.workers, run.summary["ranks"]) for k in between]
        looked = questions * _in_turn(None, config.workers, run.summary["ranks"])
        answer_s = max(0.0, _ratio(computed_s, sum(in_turn) + looked))
        each_s = max(0.0, busy_s / max(1, len(between)))
        if not between:
            yield Round(before, (), frozenset(), 0, answer_s, each_s, questions)
        for k in between:
            spoke = frozenset(np.flatnonzero(run.uploads[k - 1]).tolist())
            yield Round(k, asked[k - 1], spoke, nbytes, answer_s, each_s, questions if k == end else 0)
        before, before_s, before_server_s, before_sent = end, before_s + computed_s, before_server_s + busy_s, sent


def _share(whole: int, parts: int) -> int:
    return whole // parts if parts else 0


def _ratio(whole: float, parts: int) -> float:
    return whole / parts if parts else 0.0


def _in_turn(asked: Sequence[int] | None, workers: int, ranks: int) -> int:
    """How many of the answers one rank of the recorded run had to compute one after the other, at most."""
    asked = range(workers) if asked is None else asked
    if ranks == 1:
        return len(asked)
    homes = [rank_of(m, ranks) for m in asked]
    return max(map(homes.count, set(homes)), default=0)


def _asked(folder: Path, run: Run, config: RunConfig) -> list[tuple[int, ...] | None]:
    """By round the workers that were asked, None for everyone."""
    row, workers = config.algorithm, config.workers
    if row.selection.everyone:
        silent = row.start.silent_rounds
        return [() if k < silent else None for k in range(len(run.uploads))]
    if not row.trigger.lazy:
        masks = run.uploads  # whoever is asked answers with an upload
    elif (folder / DECISIONS).is_file():
        masks = asked_in(read_decisions(folder / DECISIONS, workers), workers)
        if len(masks) != len(run.uploads):
            raise ConfigError(f"{folder / DECISIONS} holds {len(masks)} rounds; expected {len(run.uploads)}")
    else:
        raise ConfigError(
            f"{folder} does not tell who was asked in each round, which a selection and a trigger together leave open: "
            "record it with `trace.decisions: true`"
        )
    return [None if mask.all() else tuple(np.flatnonzero(mask).tolist()) for mask in masks]


def predict(run: Recorded, network: Network, ranks: int | None = None) -> Prediction:
    """The run on that network: a host a worker and one for the server, or ``ranks`` hosts.

    Worker m lives on host 1 + m mod (ranks - 1), as on the ranks of a job.
    """
    ranks = 1 + run.workers if ranks is None else ranks
    hosts, spent, server_s = Conversation(network, ranks), np.zeros(len(KINDS)), 0.0
    everyone = tuple(range(run.workers))
    said: tuple[int, int] | None = None
    looking_s = 0.0
    # Off the clock: theta goes to everyone, for the first iterate, L or f*, and TCP's windows have grown a little.
    hosts.ask(_looked(run, dealt(everyone, [0.0] * run.workers, [HEADER_NBYTES] * run.workers, ranks)))
    hosts.begin()
    for each in run.rounds:
        asked = everyone if each.asked is None else each.asked
        answer_s = float(f"{each.answer_s:.2e}")  # so that many rounds are alike
        if asked:
            sizes = [HEADER_NBYTES + (each.upload_nbytes if m in each.spoke else 0) for m in asked]
            work = dealt(asked, [answer_s] * len(asked), sizes, ranks)
            parts = _parts(run, each, said)
            spreading = run.spreading if each.asked is None else None
            collective = run.collective and each.asked is None and spreading is None
            parts = parts if collective else (sum(parts),)  # header and content are one
            spent += hosts.ask(Question(parts, work, collective, spreading))
            said = (len(each.spoke), each.upload_nbytes)
        began_s = hosts.elapsed_s
        for number in range(each.looks):
            nbytes = HEADER_NBYTES + (SCORE_NBYTES if run.score and number == each.looks - 1 else 0)
            work = dealt(everyone, [answer_s] * run.workers, [nbytes] * run.workers, ranks)
            spent += hosts.ask(_looked(run, work))
        looking_s += hosts.elapsed_s - began_s
        hosts.pass_time(each.server_s)
        server_s += each.server_s
    sent, received = (
        nbytes / network.bytes_per_s / hosts.elapsed_s for nbytes in (hosts.server_sent, hosts.server_received)
    )
    by_kind = {**dict(zip(KINDS, spent.tolist(), strict=True)), "server": server_s}
    return Prediction(network, ranks, hosts.elapsed_s, by_kind, (sent, received), looking_s)


def _looked(run: Recorded, work: tuple) -> Question:
    """One that carries theta to everyone, as it is."""
    if run.spreading:
        return Question((HEADER_NBYTES + run.theta_nbytes,), work, False, run.spreading)
    if not run.collective or run.sent_nbytes:  # longer than what stands for a round's message
        return Question((HEADER_NBYTES + run.theta_nbytes,), work, False)
    if run.lazy_downlink:
        return Question((HEADER_NBYTES, run.theta_nbytes), work, True)
    return Question((HEADER_NBYTES + run.theta_nbytes,), work, True)


def _parts(run: Recorded, each: Round, said: tuple[int, int] | None) -> tuple[int, ...]:
    """The messages of a round's broadcast."""
    if not run.lazy_downlink:
        named = 0 if each.asked is None else mask_nbytes(run.workers)
        return (HEADER_NBYTES + (run.sent_nbytes or run.theta_nbytes) + named,)
    if said is None:
        return (HEADER_NBYTES, 8 + run.theta_nbytes)
    uploads, nbytes = (min(1, said[0]), run.theta_nbytes) if run.sums_up else said
    content = uploads * (RECORD_HEAD_NBYTES + -(-nbytes // 8) * 8)
    content += (RECORD_HEAD_NBYTES + 8) * (each.number % CHECK_EVERY == 0)
    return (HEADER_NBYTES, content) if content else (HEADER_NBYTES,)


def check_ranks(run: Recorded, workers: int | None, ranks: int | None) -> None:
    """Raises `ConfigError` where the options do not fit the run."""
    if workers is not None and workers != run.workers:
        raise ConfigError(
            f"{run.label} has {run.workers} workers, and who of {workers} would have spoken is not known: record a run "
            f"with `workers: {workers}`, or deal these to fewer hosts with --ranks"
        )
    if ranks is not None and not 2 <= ranks <= 1 + run.workers:
        raise ConfigError(
            f"--ranks {ranks}: expected 2 to {1 + run.workers} for the {run.workers} workers of {run.label}"
        )
