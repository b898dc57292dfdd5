"""Compressors: from a vector to the payload that crosses the wire, and back.

A payload is one contiguous array; its bytes are what the ledger counts. A sparse payload is k indices, ascending, and k
values in one buffer of bytes, see `psopt.parts.sparse_payload`.
"""

from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Literal, Protocol

import numpy as np

from psopt.bounds import Ge, Gt, Le
from psopt.errors import ConfigError, ProtocolError
from psopt.parts.sparse_payload import (
    PackedBuffer,
    PlainBuffer,
    packed_nbytes,
    plain_nbytes,
    read_packed,
    read_plain,
)
from psopt.problems import kernels
from psopt.records import record

FRACTION = 0.01


class Compressor(Protocol):
    """``sizes`` are those of theta's tensors, in order; dim is their sum. ``sparse``: payloads are indices and values.
    ``exact``: nothing is lost. ``fits``, where there is one: a dtype that holds all that can be said.
    ``contraction``: ||C(x) - x|| <= ||x|| always, which error feedback needs.
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


@record
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


@record
class Cast:
    """Every number, rounded to a shorter type: d of them.

    What its largest number does not reach becomes that and not infinity. `increment` and error feedback both make up
    for the rounding, the one because what is left to say shrinks, the other because what was lost is said later.

    Attributes
    ----------
    values : 'float32' or 'float16'
        The dtype that crosses.
    """

    values: Literal["float32", "float16"] = "float32"

    sparse: ClassVar[bool] = False
    exact: ClassVar[bool] = False
    contraction: ClassVar[bool] = True
    fits: ClassVar[str] = "float32"  # float16 too: kernels know no shorter one

    def payload_dtype(self, dtype: np.dtype) -> np.dtype:
        # Messages have no form for float16: it crosses as bytes.
        return np.dtype(np.uint8 if self.values == "float16" else self.values)

    def capacity(self, sizes: Sequence[int], dtype: np.dtype) -> int:
        return sum(sizes) * np.dtype(self.values).itemsize

    def init(self, sizes: Sequence[int], dtype: np.dtype, rng: np.random.Generator) -> "_CastState":
        return _CastState(sum(sizes), np.dtype(self.values), self.payload_dtype(dtype))

    def compress(self, state: "_CastState", x: np.ndarray) -> np.ndarray:
        kernels.rounding.narrow(x, state.values)
        return state.payload

    def feed_back(self, state: "_CastState", residual: np.ndarray, x: np.ndarray, scale: float) -> np.ndarray:
        residual += residual.dtype.type(scale) * x
        kernels.rounding.narrow(residual, state.values)
        residual -= state.values
        return state.payload

    def decompress(self, payload: np.ndarray, out: np.ndarray) -> None:
        out[:] = self._read(payload, out)

    def add(self, payload: np.ndarray, out: np.ndarray) -> None:
        out += self._read(payload, out)

    def _read(self, payload: np.ndarray, out: np.ndarray) -> np.ndarray:
        size = out.size * np.dtype(self.values).itemsize
        if payload.nbytes != size:
            raise ProtocolError(f"a payload of {payload.nbytes} bytes holds no {out.size} numbers of {self.values}")
        return payload.view(self.values)


class _CastState:
    """The numbers that cross, and the same memory as a payload."""

    SAVED = ()
    __slots__ = ("payload", "values")

    def __init__(self, dim: int, values: np.dtype, payload: np.dtype) -> None:
        self.values = np.zeros(dim, values)
        self.payload = self.values.view(payload)


class _Sparse:
    """What the two sparse compressors share: how many entries are kept, and the way back."""

    sparse: ClassVar[bool] = True
    exact: ClassVar[bool] = False
    fraction: float
    count: int | None
    values: str
    indices: str

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
        most = packed_nbytes if self.indices == "packed" else plain_nbytes
        return most(self.entries(sizes), sum(sizes), self.value_dtype(dtype))

    def buffer(self, k: int, dim: int, dtype: np.dtype) -> PlainBuffer | PackedBuffer:
        """Room for a payload of k entries of theta, which is of ``dtype``."""
        return (PackedBuffer if self.indices == "packed" else PlainBuffer)(k, dim, self.value_dtype(dtype))

    def groups(self, sizes: Sequence[int]) -> Sequence[int]:
        raise NotImplementedError

    def read(self, payload: np.ndarray, dim: int, dtype: np.dtype) -> tuple[np.ndarray, np.ndarray]:
        """Indices and values of a payload from the wire, checked.

        Raises `ProtocolError` when the indices do not ascend or leave the vector, or cannot be read.
        """
        read = read_packed if self.indices == "packed" else read_plain
        indices, values = read(payload, dim, self.value_dtype(dtype))
        # Kernels know float32 and float64 alone.
        return indices, values.astype(dtype) if values.dtype.itemsize == 2 else values

    def decompress(self, payload: np.ndarray, out: np.ndarray) -> None:
        kernels.topk.write_at(*self.read(payload, out.size, out.dtype), out)

    def add(self, payload: np.ndarray, out: np.ndarray) -> None:
        kernels.topk.add_at(*self.read(payload, out.size, out.dtype), out)


class _TopKState:
    """What selection needs from call to call; ``hints`` change its speed, never its outcome."""

    SAVED = ()
    __slots__ = ("buffer", "chosen", "counts", "hints", "offsets", "room")

    def __init__(self, part: "TopK", sizes: Sequence[int], dtype: np.dtype) -> None:
        groups = part.groups(sizes)
        counts = [part.kept(size) for size in groups]
        self.offsets = np.concatenate([[0], np.cumsum(groups)]).astype(np.int64)
        self.counts = np.array(counts, dtype=np.int64)
        self.hints = np.zeros((len(groups), 2))
        self.room = kernels.topk.scratch(self.offsets, self.counts, dtype)
        self.buffer = part.buffer(sum(counts), sum(groups), dtype)
        # A shorter dtype is filled by way of `chosen`, which is rounded with care.
        values = self.buffer.values
        self.chosen = values if values.dtype == dtype else np.empty(values.size, dtype)


@record
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
    indices : 'plain' or 'packed'
        How the indices cross: 32 bits each, or their gaps in a code that loses nothing, 8.1 bits each at 1 % and 11.5
        at 0.1 %.
    """

    fraction: Annotated[float, Gt(0), Le(1)] = FRACTION
    count: Annotated[int, Ge(1)] | None = None
    per: Literal["tensor", "theta"] = "tensor"
    values: Literal["theta", "float32", "float16"] = "theta"
    indices: Literal["plain", "packed"] = "plain"

    contraction: ClassVar[bool] = True

    def groups(self, sizes: Sequence[int]) -> Sequence[int]:
        return sizes if self.per == "tensor" else [sum(sizes)]

    def init(self, sizes: Sequence[int], dtype: np.dtype, rng: np.random.Generator) -> _TopKState:
        return _TopKState(self, sizes, dtype)

    def compress(self, state: _TopKState, x: np.ndarray) -> np.ndarray:
        buffer = state.buffer
        kernels.topk.select(x, state.offsets, state.counts, state.hints, state.room, buffer.indices, state.chosen)
        self._round(state)
        return buffer.payload()

    def feed_back(self, state: _TopKState, residual: np.ndarray, x: np.ndarray, scale: float) -> np.ndarray:
        buffer, chosen = state.buffer, state.chosen
        operands = (state.offsets, state.counts, state.hints, state.room)
        kernels.topk.feed_back(residual, x, scale, *operands, buffer.indices, chosen)
        if chosen is not buffer.values:
            self._round(state)
            kernels.topk.retain(residual, buffer.indices, chosen, buffer.values.astype(residual.dtype))
        return buffer.payload()

    def _round(self, state: _TopKState) -> None:
        if state.chosen is not state.buffer.values:
            kernels.rounding.narrow(state.chosen, state.buffer.values)


class _RandomKState:
    SAVED = ("rng",)
    __slots__ = ("buffer", "rng")

    def __init__(self, buffer: PlainBuffer | PackedBuffer, rng: np.random.Generator) -> None:
        self.buffer, self.rng = buffer, rng


@record
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
    indices : 'plain' or 'packed'
        How the indices cross: 32 bits each, or their gaps in a code that loses nothing, 8.1 bits each at 1 % and 11.5
        at 0.1 %.
    """

    fraction: Annotated[float, Gt(0), Le(1)] = FRACTION
    count: Annotated[int, Ge(1)] | None = None
    unbiased: bool = False
    values: Literal["theta", "float32", "float16"] = "theta"
    indices: Literal["plain", "packed"] = "plain"

    @property
    def contraction(self) -> bool:
        return not self.unbiased

    def groups(self, sizes: Sequence[int]) -> Sequence[int]:
        return [sum(sizes)]

    def init(self, sizes: Sequence[int], dtype: np.dtype, rng: np.random.Generator) -> _RandomKState:
        dim = sum(sizes)
        return _RandomKState(self.buffer(self.kept(dim), dim, dtype), rng)

    def compress(self, state: _RandomKState, x: np.ndarray) -> np.ndarray:
        buffer = state.buffer
        k = buffer.indices.size
        buffer.indices[:] = np.sort(state.rng.choice(x.size, k, replace=False, shuffle=False))
        chosen = x[buffer.indices]
        kernels.rounding.narrow(chosen * x.dtype.type(x.size / k) if self.unbiased else chosen, buffer.values)
        return buffer.payload()

    def feed_back(self, state: _RandomKState, residual: np.ndarray, x: np.ndarray, scale: float) -> np.ndarray:
        residual += residual.dtype.type(scale) * x
        payload = self.compress(state, residual)
        buffer = state.buffer
        said = buffer.values.astype(residual.dtype)
        kernels.topk.retain(residual, buffer.indices, residual[buffer.indices], said)
        return payload
