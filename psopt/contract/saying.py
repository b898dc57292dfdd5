"""Promises of what is said: compressors and codecs."""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from psopt.contract.promises import (
    DTYPES,
    demand,
    demand_near,
    demand_same,
    gone_on,
    has,
    promise,
    saved,
    tells,
)

SHAPES = ([1], [7], [1000], [5, 1, 300])
"""Sizes of theta's tensors."""

SHORTEST = 1e-3
"""The rounding of numbers that cross as float16."""


def vectors(dim: int, dtype: np.dtype, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Zeros, ones, one large entry, ties, and numbers of one and of many scales; shape (dim,) each."""
    yield np.zeros(dim, dtype)
    yield np.ones(dim, dtype)
    spike = np.full(dim, 1e-3, dtype)
    spike[dim // 2] = 100.0
    yield spike
    yield rng.choice([-1.0, 1.0, 0.5], dim).astype(dtype)
    for _ in range(4):
        yield rng.standard_normal(dim).astype(dtype)
    yield (rng.standard_normal(dim) * 10.0 ** rng.integers(-4, 4, dim)).astype(dtype)


def _cases(part: Any) -> Iterator[tuple[Any, list[int], np.ndarray]]:
    """A fresh state, the sizes and a vector, in both dtypes."""
    for dtype in DTYPES:
        rng = np.random.default_rng(0)
        for sizes in SHAPES:
            state = part.init(sizes, dtype, np.random.default_rng(1))
            for x in vectors(sum(sizes), dtype, rng):
                yield state, sizes, x


def said(part: Any, payload: np.ndarray, like: np.ndarray) -> np.ndarray:
    """What a payload says; raises `ContractBroken` where decompress leaves something unwritten."""
    out = np.full(like.size, math.nan, like.dtype)
    part.decompress(payload, out)
    left = int((~np.isfinite(out)).sum())
    demand(not left, f"decompress left {left} of {out.size} numbers unwritten, or not finite")
    return out


def demand_payload(compressor: Any, payload: Any, capacity: int, dtype: np.dtype) -> None:
    """Raises `ContractBroken` unless that can cross the wire as it was declared."""
    demand(isinstance(payload, np.ndarray), f"the payload is a {type(payload).__name__}, expected an array")
    demand(payload.flags.c_contiguous, "the payload is not contiguous")
    declared = np.dtype(compressor.payload_dtype(dtype))
    demand(payload.dtype == declared, f"payload_dtype declares {declared}, but the payload is {payload.dtype}")
    demand(
        payload.nbytes <= capacity, f"capacity declares at most {capacity} bytes, but a payload has {payload.nbytes}"
    )


tells("compressor")


@promise("compressor", "its payloads are of the dtype that it declares, and within the bytes that it declares")
def _bytes(part: Any) -> None:
    for state, sizes, x in _cases(part):
        demand_payload(part, part.compress(state, x), part.capacity(sizes, x.dtype), x.dtype)


@promise("compressor", "leaves alone what it compresses, and writes all of what it decompresses")
def _inputs(part: Any) -> None:
    for state, _, x in _cases(part):
        kept = x.copy()
        payload = part.compress(state, x)
        demand_same(kept, x, "compress wrote into the vector")
        words = payload.copy()
        said(part, payload, x)
        demand_same(words, payload, "decompress wrote into the payload")


@promise("compressor", "adds what it decompresses")
def _adds(part: Any) -> None:
    for state, _, x in _cases(part):
        payload = part.compress(state, x).copy()
        once = said(part, payload, x)
        twice = once.copy()
        part.add(payload, twice)
        demand_same(once + once, twice, "add gave something else than the sum")


@promise("compressor", "loses nothing if it is `exact`, and never more than the whole if it is a `contraction`")
def _loses(part: Any) -> None:
    for state, _, x in _cases(part):
        out = said(part, part.compress(state, x), x)
        if part.exact:
            demand_same(x, out, "`exact` is true, but what came out is another vector")
        if part.contraction:
            left, whole = (float(np.linalg.norm(v.astype(np.float64))) for v in (out - x, x))
            within = left <= whole * (1 + SHORTEST)
            demand(
                within, f"`contraction` is true, but ||C(x) - x|| = {left:.6g} with ||x|| = {whole:.6g}, d = {x.size}"
            )


@promise("compressor", "is unbiased if it says so: the mean over many draws is the vector")
def _unbiased(part: Any) -> None:
    if not getattr(part, "unbiased", False):
        return
    x, draws = np.arange(1.0, 9.0), 4000
    state = part.init([8], x.dtype, np.random.default_rng(5))
    all_said = np.array([said(part, part.compress(state, x), x) for _ in range(draws)])
    error = all_said.std(axis=0) / math.sqrt(draws)
    bound = 5 * error + SHORTEST * np.abs(x)
    off = np.abs(all_said.mean(axis=0) - x)
    worst = int(np.argmax(off / bound))
    demand(
        off[worst] <= bound[worst],
        f"`unbiased` is true, but the mean of {draws} draws at {worst} is {all_said[:, worst].mean():.4g} instead of "
        f"{x[worst]:g}, with a standard error of {error[worst]:.2g}",
    )


@promise("compressor", "feeds back all that it leaves out: what is said and the residual add up")
def _feeds_back(part: Any) -> None:
    for dtype in DTYPES:
        rng = np.random.default_rng(0)
        for sizes in SHAPES:
            dim, scale = sum(sizes), 0.3
            state, residual = part.init(sizes, dtype, np.random.default_rng(1)), np.zeros(dim, dtype)
            for x in vectors(dim, dtype, rng):
                kept, before = x.copy(), residual.astype(np.float64)
                payload = part.feed_back(state, residual, x, scale)
                demand_payload(part, payload, part.capacity(sizes, dtype), dtype)
                demand_same(kept, x, "feed_back wrote into the contribution")
                whole = before + scale * kept.astype(np.float64)
                total = said(part, payload, x).astype(np.float64) + residual
                within = 40 * float(np.finfo(dtype).eps) * (np.abs(whole).max() + np.abs(total).max() + 1)
                demand_near(whole, total, within, "residual and what was said do not add up to residual + scale x")


@promise("compressor", "draws from its own generator alone, and a checkpoint restores it")
def _compressor_carries_on(part: Any) -> None:
    def run(cut: int | None) -> list[np.ndarray]:
        state, spoken = part.init([5, 30], DTYPES[0], np.random.default_rng(1)), []
        for k, x in enumerate(vectors(35, DTYPES[0], np.random.default_rng(0))):
            if k == cut:
                state = gone_on(part.init([5, 30], DTYPES[0], np.random.default_rng(9)), saved(state))
            spoken.append(said(part, part.compress(state, x), x))
        return spoken

    first = run(None)
    demand(all(map(np.array_equal, first, run(None))), "the same seed and vectors gave other payloads")
    demand(all(map(np.array_equal, first, run(4))), "restored from a checkpoint, it gave other payloads")


@promise("compressor", "if `sparse`, its payloads can be read as indices, ascending, and values")
def _sparse(part: Any) -> None:
    if not part.sparse:
        return
    for state, sizes, x in _cases(part):
        payload = part.compress(state, x)
        indices, values = part.read(payload, x.size, x.dtype)
        demand((np.diff(indices) > 0).all() if indices.size > 1 else True, f"its indices do not ascend: {indices}")
        entries = part.entries(sizes)
        demand(indices.size <= entries, f"`entries` declares at most {entries}, but a payload has {indices.size}")
        out = np.zeros_like(x)
        out[indices] = values
        demand_same(said(part, payload, x), out, "read and decompress disagree")


CODEC_SIZES = (1, 7, 32)
CODEC_DIM = sum(CODEC_SIZES)


def conversation(part: Any, dtype: np.dtype, seed: int, decisions: Sequence[bool]) -> None:
    """Two ends of a codec over some rounds; in those that are true the worker speaks."""
    rng = np.random.default_rng(seed)
    state, mirror, stale = part.init(CODEC_SIZES, dtype, rng), np.ones(CODEC_DIM, dtype), np.ones(CODEC_DIM, dtype)
    step = 0.3 if part.scaled else 1.0
    given, spoken = np.zeros(CODEC_DIM), np.zeros(CODEC_DIM)
    capacity = part.capacity(CODEC_SIZES, dtype)
    for uploads in decisions:
        contribution = (rng.standard_normal(CODEC_DIM) * 10.0 ** rng.integers(-3, 4)).astype(dtype)
        before = contribution.copy()
        if uploads:
            payload, mirror = part.commit(state, contribution, mirror, step)
            demand_payload(part.compressor, payload, capacity, dtype)
            part.absorb(stale, payload.copy())  # as it arrives at the other end
            demand_same(stale, mirror, "the worker's mirror is not what the server holds")
            given += step * before
            spoken += stale
            if part.compressor.exact:
                within = 1e-6 * np.abs(step * before) + 1e4 * float(np.finfo(dtype).eps)
                demand_near(step * before, stale, within, "the compressor is exact, but something else was said")
        demand_same(before, contribution, "commit wrote into the contribution")
    if getattr(part, "feedback", False) and decisions:
        scale = np.abs(given).max() + np.abs(spoken).max() + 1
        within = 40 * float(np.finfo(dtype).eps) * scale
        demand_near(
            given, spoken + state.residual, within, "what was said and the residual do not add up to what was given"
        )


tells("codec")


@promise("codec", "holds a compressor")
def _holds(part: Any) -> None:
    demand(has("compressor", part.compressor), f"`compressor` is a {type(part.compressor).__name__}")


@promise("codec", "keeps both ends equal, within the bytes that it declares, and loses nothing unseen")
def _both_ends(part: Any) -> None:
    for dtype in DTYPES:
        for seed in range(12):
            decisions = np.random.default_rng(100 + seed).random(20) < (0.5 if seed % 3 else 1.0)
            conversation(part, dtype, seed, decisions.tolist())


@promise("codec", "a checkpoint restores it")
def _codec_carries_on(part: Any) -> None:
    def run(cut: int | None) -> list[np.ndarray]:
        rng, spoken = np.random.default_rng(4), []
        state = part.init(CODEC_SIZES, DTYPES[0], np.random.default_rng(1))
        mirror = np.ones(CODEC_DIM)
        for k in range(8):
            if k == cut:
                fresh = part.init(CODEC_SIZES, DTYPES[0], np.random.default_rng(9))
                state, mirror = gone_on(fresh, saved(state)), mirror.copy()
            _, mirror = part.commit(state, rng.standard_normal(CODEC_DIM), mirror, 0.3)
            spoken.append(mirror.copy())
        return spoken

    first = run(None)
    demand(all(map(np.array_equal, first, run(None))), "the same seed gave other payloads")
    demand(all(map(np.array_equal, first, run(4))), "restored from a checkpoint, it said something else")
