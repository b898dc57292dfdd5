"""Compressors: from a vector to the payload that crosses the wire, and back.

A payload is one contiguous array; its bytes are what the ledger counts. A sparse payload is k indices, ascending, and k
values in one buffer of bytes: the wider kind first, so that both are aligned.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal, Protocol

import numpy as np
from annotated_types import Ge, Gt, Le

from psopt.errors import ConfigError, ProtocolError
from psopt.problems.kernels import topk

FRACTION = 0.01


class Compressor(Protocol):
    """``sizes`` are those of theta's tensors, in order; dim is their sum. ``sparse``: payloads are indices and values.
    ``exact``: nothing is lost. ``contraction``: ||C(x) - x|| <= ||x|| always, which error feedback needs.
    """

    sparse: ClassVar[bool]
    exact: ClassVar[bool]

    @property
    def contraction(self) -> bool: ...

    def payload_dtype(self, dtype: np.dtype) -> np.dtype:
        """Of the arrays that payloads are, for theta of ``dtype``."""
        ...

    def capacity(self, sizes: Sequence[int], dtype: np.dtype) -> int:
        """The most bytes a payload can take."""
        ...

    def init(self, sizes: Sequence[int], dtype: np.dtype, rng: np.random.Generator) -> Any: ...

    def compress(self, state: Any, x: np.ndarray) -> np.ndarray:
        """The payload, valid until the next call or until x changes."""
        ...

    def feed_back(self, state: Any, residual: np.ndarray, x: np.ndarray, scale: float) -> np.ndarray:
        """residual <- u - C(u), where u = residual + scale x; returns the payload that says C(u)."""
        ...

    def decompress(self, payload: np.ndarray, out: np.ndarray) -> None:
        """out <- what the payload says."""
        ...

    def add(self, payload: np.ndarray, out: np.ndarray) -> None:
        """out <- out + what the payload says."""
        ...


@dataclass(frozen=True)
class Identity:
    """Everything, as it is: d numbers."""

    sparse: ClassVar[bool] = False
    exact: ClassVar[bool] = True
    contraction: ClassVar[bool] = True

    def payload_dtype(self, dtype: np.dtype) -> np.dtype:
        return dtype

    def capacity(self, sizes: Sequence[int], dtype: np.dtype) -> int:
        return sum(sizes) * dtype.itemsize

    def init(self, sizes: Sequence[int], dtype: np.dtype, rng: np.random.Generator) -> None:
        return None

    def compress(self, state: None, x: np.ndarray) -> np.ndarray:
        return x

    def feed_back(self, state: None, residual: np.ndarray, x: np.ndarray, scale: float) -> np.ndarray:
        said = residual + residual.dtype.type(scale) * x
        residual.fill(0)
        return said

    def decompress(self, payload: np.ndarray, out: np.ndarray) -> None:
        out[:] = payload

    def add(self, payload: np.ndarray, out: np.ndarray) -> None:
        out += payload


class SparseBuffer:
    """A payload of k entries and its two halves as views.

    Attributes
    ----------
    payload : ndarray, uint8
    indices : ndarray, shape (k,), int32; int64 where d asks for it
    values : ndarray, shape (k,), of the dtype that crosses
    """

    __slots__ = ("indices", "payload", "values")

    def __init__(self, k: int, dim: int, values: np.dtype) -> None:
        self.payload = np.zeros(k * (topk.index_dtype(dim).itemsize + values.itemsize), np.uint8)
        self.indices, self.values = halves(self.payload, dim, values)


def halves(payload: np.ndarray, dim: int, values: np.dtype) -> tuple[np.ndarray, np.ndarray]:
    """Indices and values of a sparse payload, as views.

    Raises `ProtocolError` when its bytes are no whole number of entries.
    """
    indices = topk.index_dtype(dim)
    k, rest = divmod(payload.size, indices.itemsize + values.itemsize)
    if rest:
        raise ProtocolError(f"a sparse payload of {payload.size} bytes is no whole number of entries")
    if indices.itemsize >= values.itemsize:
        cut = k * indices.itemsize
        return payload[:cut].view(indices), payload[cut:].view(values)
    cut = k * values.itemsize
    return payload[cut:].view(indices), payload[:cut].view(values)


def _put(chosen: np.ndarray, values: np.ndarray) -> None:
    """values <- chosen, rounded; what a shorter dtype cannot hold becomes its largest number and not infinity."""
    if values.dtype.itemsize < chosen.dtype.itemsize:
        limit = np.finfo(values.dtype).max
        chosen = np.clip(chosen, -limit, limit)
    values[:] = chosen


class _Sparse:
    """What the two sparse compressors share: how many entries are kept, and the way back."""

    sparse: ClassVar[bool] = True
    exact: ClassVar[bool] = False
    fraction: float
    count: int | None
    values: str

    def __post_init__(self) -> None:
        if self.count is not None and self.fraction != FRACTION:
            raise ConfigError("a compressor keeps a `count` or a `fraction` of the entries: set one of the two")

    def kept(self, size: int) -> int:
        """Entries kept of ``size``: ``count`` if given, else floor(fraction size), at least one."""
        # 0.29 * 100 is a little less than 29 in floating point
        return min(self.count, size) if self.count is not None else max(1, int(self.fraction * size + 1e-9))

    def entries(self, sizes: Sequence[int]) -> int:
        """k, over all tensors."""
        return sum(map(self.kept, self.groups(sizes)))

    def payload_dtype(self, dtype: np.dtype) -> np.dtype:
        return np.dtype(np.uint8)

    def value_dtype(self, dtype: np.dtype) -> np.dtype:
        return dtype if self.values == "theta" else np.dtype(self.values)

    def capacity(self, sizes: Sequence[int], dtype: np.dtype) -> int:
        return self.entries(sizes) * (topk.index_dtype(sum(sizes)).itemsize + self.value_dtype(dtype).itemsize)

    def groups(self, sizes: Sequence[int]) -> Sequence[int]:
        raise NotImplementedError

    def read(self, payload: np.ndarray, dim: int, dtype: np.dtype) -> tuple[np.ndarray, np.ndarray]:
        """Indices and values of a payload from the wire, checked.

        Raises `ProtocolError` when the indices do not ascend or leave the vector.
        """
        indices, values = halves(payload, dim, self.value_dtype(dtype))
        topk.check_indices(indices, dim)
        # Kernels know float32 and float64 alone.
        return indices, values.astype(dtype) if values.dtype.itemsize == 2 else values

    def decompress(self, payload: np.ndarray, out: np.ndarray) -> None:
        topk.write_at(*self.read(payload, out.size, out.dtype), out)

    def add(self, payload: np.ndarray, out: np.ndarray) -> None:
        topk.add_at(*self.read(payload, out.size, out.dtype), out)


class _TopKState:
    """What selection needs from call to call; ``hints`` change its speed, never its outcome."""

    SAVED = ()
    __slots__ = ("buffer", "chosen", "counts", "hints", "offsets", "room")

    def __init__(self, groups: Sequence[int], counts: Sequence[int], dtype: np.dtype, values: np.dtype) -> None:
        self.offsets = np.concatenate([[0], np.cumsum(groups)]).astype(np.int64)
        self.counts = np.array(counts, dtype=np.int64)
        self.hints = np.zeros((len(groups), 2))
        self.room = topk.scratch(self.offsets, self.counts, dtype)
        self.buffer = SparseBuffer(int(self.counts.sum()), int(self.offsets[-1]), values)
        # A shorter dtype is filled by way of `chosen`, which is rounded with care.
        self.chosen = self.buffer.values if values == dtype else np.empty(self.buffer.values.size, dtype)


@dataclass(frozen=True)
class TopK(_Sparse):
    """The largest entries by magnitude, ties to the lower index (Stich, Cordonnier, Jaggi 2018).

    Attributes
    ----------
    fraction : float
        Of a tensor of d_t entries, k_t = max(1, floor(fraction d_t)) are kept (SASG: 0.01).
    count : int, optional
        Instead of a fraction: k_t = min(count, d_t).
    per : 'tensor' or 'theta'
        Whether each tensor keeps its own, or all share one k.
    values : 'theta', 'float32' or 'float16'
        The dtype that crosses: that of theta, or a shorter one.
    """

    fraction: Annotated[float, Gt(0), Le(1)] = FRACTION
    count: Annotated[int, Ge(1)] | None = None
    per: Literal["tensor", "theta"] = "tensor"
    values: Literal["theta", "float32", "float16"] = "theta"

    contraction: ClassVar[bool] = True

    def groups(self, sizes: Sequence[int]) -> Sequence[int]:
        return sizes if self.per == "tensor" else [sum(sizes)]

    def init(self, sizes: Sequence[int], dtype: np.dtype, rng: np.random.Generator) -> _TopKState:
        groups = self.groups(sizes)
        return _TopKState(groups, [self.kept(size) for size in groups], dtype, self.value_dtype(dtype))

    def compress(self, state: _TopKState, x: np.ndarray) -> np.ndarray:
        buffer = state.buffer
        topk.select(x, state.offsets, state.counts, state.hints, state.room, buffer.indices, state.chosen)
        self._round(state)
        return buffer.payload

    def feed_back(self, state: _TopKState, residual: np.ndarray, x: np.ndarray, scale: float) -> np.ndarray:
        buffer, chosen = state.buffer, state.chosen
        operands = (state.offsets, state.counts, state.hints, state.room)
        topk.feed_back(residual, x, scale, *operands, buffer.indices, chosen)
        if chosen is not buffer.values:
            self._round(state)
            topk.retain(residual, buffer.indices, chosen, buffer.values.astype(residual.dtype))
        return buffer.payload

    def _round(self, state: _TopKState) -> None:
        if state.chosen is not state.buffer.values:
            _put(state.chosen, state.buffer.values)


class _RandomKState:
    SAVED = ("rng",)
    __slots__ = ("buffer", "rng")

    def __init__(self, k: int, dim: int, values: np.dtype, rng: np.random.Generator) -> None:
        self.buffer, self.rng = SparseBuffer(k, dim, values), rng


@dataclass(frozen=True)
class RandomK(_Sparse):
    """Entries drawn at random, without replacement, from the whole of theta.

    Attributes
    ----------
    fraction : float
        Of d entries, k = max(1, floor(fraction d)) are sent.
    count : int, optional
        Instead of a fraction: k = min(count, d).
    unbiased : bool
        Whether to multiply them by d / k, so that the mean over draws is x; this is no contraction.
    values : 'theta', 'float32' or 'float16'
        The dtype that crosses: that of theta, or a shorter one.
    """

    fraction: Annotated[float, Gt(0), Le(1)] = FRACTION
    count: Annotated[int, Ge(1)] | None = None
    unbiased: bool = False
    values: Literal["theta", "float32", "float16"] = "theta"

    @property
    def contraction(self) -> bool:
        return not self.unbiased

    def groups(self, sizes: Sequence[int]) -> Sequence[int]:
        return [sum(sizes)]

    def init(self, sizes: Sequence[int], dtype: np.dtype, rng: np.random.Generator) -> _RandomKState:
        dim = sum(sizes)
        return _RandomKState(self.kept(dim), dim, self.value_dtype(dtype), rng)

    def compress(self, state: _RandomKState, x: np.ndarray) -> np.ndarray:
        buffer = state.buffer
        k = buffer.indices.size
        buffer.indices[:] = np.sort(state.rng.choice(x.size, k, replace=False, shuffle=False))
        chosen = x[buffer.indices]
        _put(chosen * x.dtype.type(x.size / k) if self.unbiased else chosen, buffer.values)
        return buffer.payload

    def feed_back(self, state: _RandomKState, residual: np.ndarray, x: np.ndarray, scale: float) -> np.ndarray:
        residual += residual.dtype.type(scale) * x
        payload = self.compress(state, residual)
        buffer = state.buffer
        said = buffer.values.astype(residual.dtype)
        topk.retain(residual, buffer.indices, residual[buffer.indices], said)
        return payload
