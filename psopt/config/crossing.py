"""What one section of a config asks of another."""

from typing import Any

from psopt import problems
from psopt.algorithm import Algorithm
from psopt.config.model import MOST_WORKERS, Checkpoint, Failure, ProblemConfig, Stop, Trace
from psopt.config.sentences import Complaints
from psopt.data import DataSpec
from psopt.errors import ConfigError
from psopt.parts.plans import Rounds
from psopt.parts.selections import Sampled

LARGEST_F_STAR = 1e300  # gaps are averaged


def cross_check(complaints: Complaints, values: dict[str, Any]) -> None:
    """What one section asks of another."""
    stop, trace, data = values.get("stop"), values.get("trace"), values.get("data")
    row = values["algorithm"]
    _check_source(complaints, values.get("problem"), data)
    f_star = values.get("f_star")
    if isinstance(f_star, int | float) and abs(f_star) > LARGEST_F_STAR:
        complaints.add(("f_star",), f"found {f_star!r}, expected at most {LARGEST_F_STAR:g} in magnitude")
    if isinstance(values.get("workers"), int) and values["workers"] > MOST_WORKERS:
        complaints.add(("workers",), f"found {values['workers']}, expected at most {MOST_WORKERS}")
    if isinstance(row, Algorithm):
        _check_row(complaints, row, values)
    _check_failure(complaints, values)
    repeat, saved = values.get("repeat"), values.get("checkpoint", Checkpoint())
    if isinstance(repeat, int) and repeat > 1 and isinstance(saved, Checkpoint) and saved != Checkpoint():
        complaints.add(
            ("checkpoint",),
            "cannot be used with `repeat`, where a replica that is done is kept and another begins again",
        )
    if not isinstance(stop, Stop):
        return
    if stop.gradient_norm is not None and isinstance(row, Algorithm) and row.workers_step:
        who = f"work `{row.name('work')}`" if row.work.local else "a codec of `scale: step`"
        complaints.add(
            ("stop", "gradient_norm"),
            f"cannot be used with {who}, because the aggregate then holds steps and no gradients",
        )
    if stop.gap is not None and values.get("f_star") == "none":
        complaints.add(
            ("stop", "gap"), "cannot be used with `f_star: none`, because the gap is the distance of F from f_star"
        )
    if stop.gap is not None and isinstance(trace, Trace) and not trace.objective:
        complaints.add(("stop", "gap"), "cannot be used with `trace.objective: false`, which leaves no gap")
    if stop.test_accuracy is not None and isinstance(data, DataSpec) and data.test is None:
        complaints.add(("stop", "test_accuracy"), "needs test rows: set `data.test`")


def _check_failure(complaints: Complaints, values: dict[str, Any]) -> None:
    """What a run that is to survive the loss of workers cannot be."""
    failure, repeat, path = values.get("failure"), values.get("repeat"), ("failure", "policy")
    if not (isinstance(failure, Failure) and failure.survives):
        return
    if getattr(values.get("downlink"), "lazy", False):
        complaints.add(
            path,
            f"`{failure.policy}` cannot be used with `downlink: changes`, because the ranks' copies of theta "
            "follow what all workers say",
        )
    if getattr(values.get("broadcast"), "kind", "auto") not in ("auto", "star"):
        complaints.add(
            path,
            f"`{failure.policy}` cannot be used with `broadcast: {values['broadcast'].kind}`, because what goes by way "
            "of a rank that dies does not arrive: use `star`",
        )
    if isinstance(repeat, int) and repeat > 1:
        complaints.add(
            path,
            f"`{failure.policy}` cannot be used with `repeat`, because a replica lives in one process",
        )


def _check_row(complaints: Complaints, row: Algorithm, values: dict[str, Any]) -> None:
    """What the row asks of the length of the run, the number of workers and the downlink."""
    lazy_downlink = getattr(values.get("downlink"), "lazy", False)
    unheard = "" if row.selection.everyone else f"selection `{row.name('selection')}`"
    unheard = unheard or ("`silent_rounds`" if row.start.silent_rounds else "")
    if lazy_downlink and unheard:
        complaints.add(
            ("downlink",),
            f"`changes` cannot be used with {unheard}, because a worker that is not asked would not hear what the "
            "others said",
        )
    if lazy_downlink and getattr(row.aggregator, "mapped_in", None) is not None:
        complaints.add(
            ("algorithm", "aggregator", "mapped_in"),
            "a folder near rank 0 cannot be used with `downlink: changes`, because other ranks may hold what all said",
        )
    stop, workers = values.get("stop", Stop(max_rounds=1)), values.get("workers")
    if row.plan.needs_steps and isinstance(stop, Stop) and stop.max_steps is None:
        complaints.add(("algorithm", "plan"), f"`{row.name('plan')}` needs the length of the run: set `stop.max_steps`")
    elif isinstance(stop, Stop) and isinstance(workers, int):
        try:
            Rounds(row.plan, stop.max_steps, workers)
        except ConfigError as error:
            complaints.add(("algorithm", "plan"), f"{error.message}, with M = {workers}")
    kind = getattr(values.get("problem"), "kind", None)
    if kind in problems.PROBLEMS and not problems.PROBLEMS[kind].data and getattr(row.work, "draw", "") == "epoch":
        complaints.add(
            ("algorithm", "work", "draw"),
            f"`epoch` cannot be used with problem `{kind}`, because its samples have no end: set `replace`",
        )
    if isinstance(row.selection, Sampled) and isinstance(workers, int) and (row.selection.count or 0) > workers:
        complaints.add(
            ("algorithm", "selection", "count"), f"found {row.selection.count}, but there are {workers} workers"
        )


def _check_source(complaints: Complaints, problem: Any, data: Any) -> None:
    """A built-in problem learns from data or has none; a class may do either."""
    if not (isinstance(problem, ProblemConfig) and isinstance(data, DataSpec)):
        return
    entry = problems.PROBLEMS.get(problem.kind)
    if entry and entry.data and data.source == "none":
        complaints.add(("data",), f"`none` cannot be used with problem `{problem.kind}`, because that learns from data")
    elif entry and not entry.data and data.source != "none":
        complaints.add(
            ("data",),
            f"`{data.source}` cannot be used with problem `{problem.kind}`, because that draws samples of its own: "
            "set `data: none`",
        )
