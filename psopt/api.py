"""From Python: `minimize` runs an algorithm on data at hand, `load_run` and `load_runs` read finished runs.

Called in a plain Python process, `minimize` runs in that process. Called on every rank of a program under mpiexec, it
runs over MPI, and every rank gets the whole result; `rank` tells a program which of them it is.
"""

import functools
import inspect
import math
import os
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from psopt import launch, signals
from psopt.config import RunConfig, parse
from psopt.config.fields import keys_of
from psopt.config.sentences import nearest
from psopt.data import CSR, Table
from psopt.errors import ConfigError
from psopt.runs.agreement import agreed, decided, together
from psopt.runs.experiment import Plan, run, simulate
from psopt.runs.folder import Run, load_run
from psopt.runs.frames import load_runs
from psopt.runs.reference import LARGEST_NEWTON_DIM
from psopt.runs.resume import finished, going_on

if TYPE_CHECKING:
    from psopt.transports.mpi import Link

__all__ = ["load_run", "load_runs", "minimize"]

JOIN_S = 60.0


def minimize(
    problem: str | Mapping[str, Any] | type,
    data: tuple[Any, np.ndarray] | str | Mapping[str, Any],
    algorithm: str | Mapping[str, Any] = "lag-wk",
    workers: int = 9,
    *,
    stop: Mapping[str, Any] | None = None,
    seed: int = 0,
    standardise: str = "none",
    partition: str | Mapping[str, Any] = "contiguous",
    theta0: np.ndarray | None = None,
    out: str | os.PathLike[str] | None = None,
    progress: bool = False,
    resume: bool = False,
    **sections: Any,
) -> Run:
    """Minimise F(theta) = sum over workers of f_m(theta).

    Parameters
    ----------
    problem : str, mapping or class
        ``"logistic"``; ``{"kind": "logistic", "l2": 1e-3}``; or a class with the methods of
        `psopt.problems.base.Problem`, built as ``Class(shard, share)`` for each worker.
    data : (features, labels), str or mapping
        Arrays, shape (n, d) and (n,); features may be a `psopt.data.CSR` or a scipy sparse matrix. Or what a config's
        ``data`` may be, as ``"lag-logistic"``.
    algorithm : str or mapping
        What a config's ``algorithm`` may be.
    workers : int
        M.
    stop : mapping, optional
        As in a config; by default ``{"gap": 1e-8, "max_rounds": 20000}`` where f* can be found, else 1000 rounds.
    seed : int
    standardise, partition : str, str or mapping
        As in a config's ``data``; for arrays only.
    theta0 : ndarray, shape (d,), optional
        The first iterate, zero by default.
    out : path, optional
        A run folder to write; by default the run is kept in memory.
    progress : bool
        Show the progress line.
    resume : bool
        Go on with the run that ``out`` holds, from its last checkpoint: with the same arguments, but that ``stop``,
        ``timeouts``, ``checkpoint``, ``failure``, ``faults`` and ``debug`` may differ. A run that has ended is read;
        where there is none, one begins.
    **sections
        Other keys of a config: ``trace``, ``timeouts``, ``checkpoint``, ``failure``, ``f_star``, ``name``, ``repeat``,
        ``downlink``, ``faults``.

    Returns
    -------
    Run
        ``theta``, ``uploads``, ``trace``, ``summary``, and each field of the summary as an attribute; the same on
        every rank.

    Raises
    ------
    ConfigError
        For wrong input, one sentence a mistake.
    IncompatibleParts
        For a row of parts that makes no sense.
    WorkerFailed
        When a problem raised; with its traceback.
    KeyboardInterrupt
        On Ctrl-C, on every rank; with ``out`` after the round, and with a checkpoint for ``resume=True``.
    Warned
        With ``out``, after SIGUSR1, by which schedulers warn of a time limit: as Ctrl-C.
    """
    own_class = None if isinstance(problem, str | Mapping) else problem

    def prepared() -> Plan:
        _check_keywords(sections)
        config: dict[str, Any] = {**sections, "seed": seed, "workers": workers, "algorithm": algorithm}
        if own_class is not None and not callable(own_class):
            raise ConfigError(f"problem is a {type(problem).__name__}; expected a name, a mapping or a class")
        config["problem"] = _class_name(own_class) if own_class is not None else problem
        table = None if isinstance(data, str | Mapping) else _table(data)
        config["stop"] = stop if stop is not None else _default_stop(own_class, table)
        memory = {"source": "memory", "standardise": standardise, "partition": partition}
        config["data"] = data if table is None else memory
        if resume and out is None:
            raise ConfigError("`resume` needs `out`, the folder that holds the beginning of the run")
        return Plan(parse(config, "minimize"), Path(out) if out is not None else None, table=table)

    link = None if launch.told_ranks() is None else _joined()
    plan = prepared() if link is None else agreed(link, _join_s(sections), prepared)
    found = _found(plan, link) if resume else "nothing"
    if found == "all":
        return load_run(plan.folder)
    if found == "a beginning":
        plan = replace(going_on(plan.config, plan.folder, link), table=plan.table)
    plan = replace(
        plan,
        problem=own_class,
        theta=None if theta0 is None else np.asarray(theta0),
        quiet=not progress,
    )
    if link is None:
        with _heeding(plan, first=True):
            return simulate(plan)
    if plan.config.failure.survives:
        raise together(
            ConfigError(
                f"`failure.policy: {plan.config.failure.policy}` cannot be used with `minimize` under mpiexec, because "
                "MPI cannot be trusted after a rank has died, and your program goes on: use `psopt run`"
            )
        )
    with _heeding(plan, link.rank == 0):
        return _on_every_rank(run(plan, link), plan, link)


def _check_keywords(sections: Mapping[str, Any]) -> None:
    """Raises `ConfigError` for a keyword that is none of `minimize` and no section of a config."""
    own = inspect.signature(minimize).parameters
    valid = [name for name in own if name != "sections"]
    valid += [name for name in keys_of(RunConfig) if name not in (*own, "recipe")]
    unknown = [f"minimize: unknown keyword `{name}`; {nearest(name, valid)}" for name in sections if name not in valid]
    if unknown:
        raise ConfigError("\n".join(unknown))


def _join_s(sections: Mapping[str, Any]) -> float:
    """How long ranks wait for each other before their configs are read; a wrong `timeouts.start_s` is told then."""
    timeouts = sections.get("timeouts")
    given = timeouts.get("start_s") if isinstance(timeouts, Mapping) else None
    return max(JOIN_S, given) if isinstance(given, int | float) and math.isfinite(given) else JOIN_S


def _heeding(plan: Plan, first: bool) -> AbstractContextManager[None]:
    """Without a folder there is nothing to be saved, and an interrupt may come at once."""
    return nullcontext() if plan.folder is None else signals.answering(first)


def _on_every_rank(done: Run, plan: Plan, link: "Link") -> Run:
    """The run, with what so far rank 0 alone had of it."""
    if plan.config.repeat > 1:
        return replace(done, folder=plan.folder)  # each rank has the rest
    first, start_s = link.rank == 0, plan.config.timeouts.start_s
    described = [[name, values.dtype.str, values.size] for name, values in done.trace.items()]
    manifest, described = link.share([done.manifest, described] if first else None, start_s)
    trace = dict(done.trace) if first else {name: np.empty(size, dtype) for name, dtype, size in described}
    for values in trace.values():
        link.share_array(values, start_s)
    return replace(done, folder=plan.folder, manifest=manifest, trace=trace)


def _found(plan: Plan, link: "Link | None") -> str:
    """What the folder holds of the run, as rank 0 sees it."""

    def look() -> str:
        if not (plan.folder / "config.yaml").is_file():
            return "nothing"
        return "all" if finished(plan.folder, plan.config) else "a beginning"

    return look() if link is None else decided(link, plan.config.timeouts.start_s, look)


@functools.cache
def _joined() -> "Link":
    """The job this program runs in; from now on an exception on one rank ends all of them."""
    from psopt.commands import join
    from psopt.transports.mpi import abort_on_exception

    abort_on_exception()
    return join(None)


def _class_name(own: Any) -> str:
    """A label for the config; the class itself is what is built."""
    name = getattr(own, "__qualname__", type(own).__name__).rsplit(".", 1)[-1]
    return f"{own.__module__}:{name}"


def _default_stop(own: Any, table: Table | None) -> dict[str, Any]:
    findable = own is None or hasattr(own, "hessian")
    if findable and (table is None or table.n_features <= LARGEST_NEWTON_DIM):
        return {"gap": 1e-8, "max_rounds": 20000}
    return {"max_rounds": 1000}


def _table(data: Any) -> Table:
    try:
        features, labels = data
    except (TypeError, ValueError):
        raise ConfigError("data must be a pair (features, labels), the name of a source or a mapping") from None
    if hasattr(features, "tocsr"):
        matrix = features.tocsr().sorted_indices()
        matrix.sum_duplicates()
        indices, indptr = matrix.indices.astype(np.int32), matrix.indptr.astype(np.int64)
        features = CSR(matrix.data.astype(np.float64), indices, indptr, matrix.shape)
    elif not isinstance(features, CSR):
        features = np.ascontiguousarray(features, dtype=np.float64)
        if features.ndim != 2:
            raise ConfigError(f"features have {features.ndim} dimensions; expected shape (n, d)")
    labels = np.ascontiguousarray(labels, dtype=np.float64)
    if labels.shape != (features.shape[0],):
        raise ConfigError(f"labels have shape {labels.shape}; expected ({features.shape[0]},), one a row of features")
    values = features.data if isinstance(features, CSR) else features
    if not (np.isfinite(values).all() and np.isfinite(labels).all()):
        raise ConfigError("features and labels must be finite, and these hold NaN or infinity")
    return Table(features, labels)
