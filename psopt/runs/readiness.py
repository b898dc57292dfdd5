"""Kernels made ready before a run's clock starts: those that the run will call, and no others."""

import sys
import threading
from contextlib import AbstractContextManager, nullcontext
from time import perf_counter

import numpy as np

from psopt.config import RunConfig
from psopt.launch import COMMAND
from psopt.parts.aggregators import held_dtype
from psopt.parts.updates import Descent
from psopt.problems.kernels.lean import cache_first
from psopt.problems.kernels.warm import (
    LINEAR,
    NETWORKS,
    NOISY,
    warm_calls,
    warm_model,
    warm_packing,
    warm_problem,
    warm_rounding,
    warm_rows,
    warm_steps,
    warm_top_k,
    warm_vectors,
)

SILENT_S = 2.0

FIRST, SECOND = range(2)
"""The ranks of a host that compile, each a half, while the others wait for the cache."""


def ready(config: RunConfig, sparse: bool, tell: bool, place: int | None = None, model: bool = True) -> float:
    """Compiles, or loads from the cache, what the run will compute with; returns the seconds it took.

    With ``tell``, says so when it takes long enough for a person to wonder. With ``place``, makes ready only what is
    that rank's share on its host, which for `SECOND` is also what waits for messages, and for later ones nothing.
    Without ``model``, not what moves the server's theta.
    """
    start = perf_counter()
    telling = threading.Timer(
        SILENT_S, print, ["psopt: compiling kernels, once for this kind of run"], {"file": sys.stderr}
    )
    telling.daemon = True
    if tell:
        telling.start()
    try:
        with _quickly():
            _compile(config, sparse, place, model or config.downlink.lazy)
    finally:
        telling.cancel()
    return perf_counter() - start


def ready_to_wait() -> float:
    """Compiles, or loads from the cache, what waits for messages of other ranks; returns the seconds it took."""
    start = perf_counter()
    with _quickly():
        warm_calls()
    return perf_counter() - start


def _quickly() -> AbstractContextManager[None]:
    """Cached code without Numba's tables, unless a program of the user's may load cached code of its own meanwhile."""
    return cache_first() if COMMAND in sys.modules else nullcontext()


def _compile(config: RunConfig, sparse: bool, place: int | None, model: bool) -> None:
    # Local steps and noise call the kernels of vectors: these are then the same rank's, or they would be made twice.
    calls_vectors = config.algorithm.work.local or config.problem.kind in NOISY
    if place in (None, FIRST):
        _compile_problem(config, sparse)
    if place in (None, FIRST if calls_vectors else SECOND):
        _compile_vectors(config, model)
    if place == SECOND:
        warm_calls()


def _compile_problem(config: RunConfig, sparse: bool) -> None:
    row, kind = config.algorithm, config.problem.kind
    if kind in (*NETWORKS, *LINEAR, *NOISY):
        batches = not row.work.whole or config.data.test is not None
        warm_problem(config.problem.dtype, sparse, True, kind, batches, row.work.local)


def _compile_vectors(config: RunConfig, model: bool) -> None:
    row, dtype = config.algorithm, config.problem.dtype
    warm_vectors(dtype)
    if model:
        _compile_model(config)
    if row.work.local:
        warm_steps(dtype)
    compressor = row.codec.compressor
    if compressor.sparse:
        warm_top_k(dtype, compressor.value_dtype(np.dtype(dtype)))
    if getattr(compressor, "indices", "") == "packed":
        warm_packing()
    if getattr(compressor, "values", "theta") != "theta" or config.downlink.values != "theta":
        warm_rounding(dtype)


def _compile_model(config: RunConfig) -> None:
    row, dtype = config.algorithm, config.problem.dtype
    warm_model(dtype)
    if not isinstance(row.update, Descent):
        warm_steps(dtype)
    held = held_dtype(row.codec, np.dtype(dtype))
    if held != dtype:
        warm_rows(dtype, held)
