"""Aggregators: how the server combines what it holds of each worker, the absent ones included."""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, ClassVar, Literal, Protocol

import numpy as np

from psopt.parts.codecs import Codec
from psopt.parts.mapped import check_folder
from psopt.parts.rows import Rows
from psopt.problems import kernels
from psopt.records import record


class Aggregator(Protocol):
    """``samples``: n_m of every worker, for those that weigh by it.

    Three methods make rounds faster, where there are vectors of the workers. ``move(state, rows)``, right after `init`:
    they live in `Rows` that uploads arrive in, and `absorb` finds the payload in its row already. With it goes
    ``land(state, uploaded)``: that is so of all workers with ``uploaded[m]``, shape (M,), bool, at least one. And
    ``owed(state)``, if
    `total` is their sum: the rows, and the array that who asks will sum them into; None when there is nothing to do.

    ``sums``, where it is there and true, beside `total`: that is the sum of what `stale` gives of all workers, added in
    worker order from zero, in silent rounds as well. Then `downlink: changes` need not tell every upload.
    """

    def init(self, dim: int, dtype: np.dtype, fill: float, codec: Codec, samples: Sequence[int]) -> Any: ...

    def open(self, state: Any) -> None:
        """A round begins."""
        ...

    def absorb(self, state: Any, m: int, payload: np.ndarray) -> None: ...

    def total(self, state: Any) -> np.ndarray:
        """The aggregate of the round, shape (dim,), owned by the state."""
        ...

    def stale(self, state: Any, m: int) -> np.ndarray:
        """What the server holds of worker m, shape (dim,)."""
        ...

    def drop(self, state: Any, m: int) -> None:
        """Worker m is gone, and its part leaves the aggregate."""
        ...

    def weights(self, samples: Sequence[int]) -> list[float]:
        """w_m, what each contribution is multiplied with when everyone speaks."""
        ...

    def nbytes(self, workers: int, sizes: Sequence[int], dtype: np.dtype, fill: float, codec: Codec) -> int:
        """Bytes of a state, once everyone has spoken."""
        ...


class _Dense:
    """``rows``: what each worker last said, shape (dim,), where ``place`` has it."""

    SAVED = ("rows",)
    __slots__ = ("_absorb", "_fill", "_make", "place", "rows")

    def __init__(
        self, workers: int, dim: int, dtype: np.dtype, fill: float, codec: Codec, mapped_in: str | None
    ) -> None:
        self._fill, self._make = fill, partial(Rows.plain, workers, dim, dtype, fill, mapped_in)
        self._absorb = codec.absorb

    def __getattr__(self, name: str) -> Any:
        """Rows of its own, as soon as somebody asks for them: not where it moves into others before."""
        if name not in ("place", "rows"):
            raise AttributeError(name)
        self._live_in(self._make())
        return getattr(self, name)

    def _live_in(self, rows: Rows) -> None:
        self.place, self.rows = rows, rows.vectors

    def move(self, rows: Rows) -> None:
        for row in rows.vectors:
            row.fill(self._fill)
        self._live_in(rows)

    def absorb(self, m: int, payload: np.ndarray) -> None:
        row = self.rows[m]
        if payload is not row:
            self._absorb(row, payload)

    def row(self, m: int) -> np.ndarray:
        return self.rows[m]

    def clear(self, m: int) -> None:
        self.rows[m][:] = 0

    def add_up(self, out: np.ndarray) -> None:
        """out <- the sum of all rows, in worker order."""
        kernels.vector.sum_rows(self.place.block, self.place.first, out)

    def weigh(self, chosen: np.ndarray, shares: np.ndarray, out: np.ndarray) -> None:
        """out <- the sum of the chosen rows, each times its share, in worker order."""
        kernels.vector.weigh_rows(self.place.block, self.place.first, chosen, shares.astype(out.dtype), out)


class _Sparse:
    """Sparse messages as they came, one a worker: O(k) a message, and M k numbers instead of M d.

    The sums have the bits of `_Dense`'s: in worker order, from zero.
    """

    SAVED = ("_messages",)
    __slots__ = ("_codec", "_dim", "_dtype", "_messages", "_nothing", "_written")

    def __init__(self, workers: int, dim: int, dtype: np.dtype, codec: Codec) -> None:
        self._nothing = np.empty(0, kernels.topk.index_dtype(dim)), np.empty(0, dtype)
        self._messages = [self._nothing] * workers
        self._written: list[np.ndarray] = []  # the indices that ``out`` holds more than zeros at
        self._dim, self._dtype, self._codec = dim, dtype, codec

    def absorb(self, m: int, payload: np.ndarray) -> None:
        indices, values = self._codec.compressor.read(payload, self._dim, self._dtype)
        self._messages[m] = indices.copy(), values.astype(self._dtype)

    def row(self, m: int) -> np.ndarray:
        row = np.zeros(self._dim, self._dtype)
        kernels.topk.add_at(*self._messages[m], row)
        return row

    def clear(self, m: int) -> None:
        self._messages[m] = self._nothing

    def add_up(self, out: np.ndarray) -> None:
        self._put(self._messages, out)

    def weigh(self, chosen: np.ndarray, shares: np.ndarray, out: np.ndarray) -> None:
        weighed = zip((self._messages[m] for m in chosen), shares.astype(self._dtype), strict=True)
        self._put([(indices, share * values) for (indices, values), share in weighed], out)

    def _put(self, messages: Sequence[tuple[np.ndarray, np.ndarray]], out: np.ndarray) -> None:
        for indices in self._written:
            kernels.topk.clear_at(indices, out)
        for indices, values in messages:
            kernels.topk.add_at(indices, values, out)
        self._written = [indices for indices, _ in messages]


def _holds_messages(fill: float, codec: Codec) -> bool:
    return codec.replaces and codec.compressor.sparse and fill == 0


def _held(
    workers: int, dim: int, dtype: np.dtype, fill: float, codec: Codec, mapped_in: str | None
) -> _Dense | _Sparse:
    """Where sparse messages replace each other they are held as they are, and in memory."""
    if _holds_messages(fill, codec):
        return _Sparse(workers, dim, dtype, codec)
    return _Dense(workers, dim, held_dtype(codec, dtype), fill, codec, mapped_in)


def held_dtype(codec: Codec, dtype: np.dtype) -> np.dtype:
    """In which dtype whole vectors are held: what replaces what was there, in one that its compressor says it fits."""
    fits = getattr(codec.compressor, "fits", None) if codec.replaces else None
    return np.dtype(fits or dtype)


def _held_nbytes(
    workers: int, sizes: Sequence[int], dtype: np.dtype, fill: float, codec: Codec, mapped_in: str | None
) -> int:
    """Of memory: what is mapped into a file is none."""
    dim = sum(sizes)
    total = dim * dtype.itemsize
    if not _holds_messages(fill, codec):
        return total + (workers * dim * held_dtype(codec, dtype).itemsize if mapped_in is None else 0)
    entry = kernels.topk.index_dtype(sum(sizes)).itemsize + dtype.itemsize
    return total + workers * codec.compressor.entries(sizes) * entry


def row_of(tree: Any, load: Callable[[Any], Any], m: int, dim: int, dtype: np.dtype) -> np.ndarray:
    """What a saved state holds of worker m, shape (dim,); ``load`` reads a part of the tree, and reads nothing else."""
    held = tree["held"]
    if "rows" in held:
        return load(held["rows"][m])
    row = np.zeros(dim, dtype)
    kernels.topk.add_at(*load(held["_messages"][m]), row)
    return row


def added_up(vectors: Iterable[np.ndarray], dim: int, dtype: np.dtype) -> np.ndarray:
    """The sum of vectors, shape (dim,), with the bits of a sum of rows: from zero, one after the other."""
    total = np.zeros(dim, dtype)
    for vector in vectors:
        total += vector
    return total


class _Sum:
    """``held``, and the sum of it; ``dirty`` when somebody has spoken since."""

    SAVED = ("held",)
    __slots__ = ("dirty", "held", "total")

    def __init__(self, held: _Dense | _Sparse, dim: int, dtype: np.dtype, dirty: bool) -> None:
        self.held, self.total, self.dirty = held, np.zeros(dim, dtype=dtype), dirty

    def resumed(self) -> None:
        self.dirty = True


@record
class Lazy:
    """The sum over all workers of what each said last, LAG (4).

    Difference from the paper, which adds differences to a running sum: the sum is formed anew, in worker order, in each
    round in which somebody spoke. It costs one pass over what is held, carries no rounding error from round to round (a
    running float32 sum never forgets the size of the first gradients), and lets uploads be absorbed in any order.

    Attributes
    ----------
    mapped_in : str, optional
        A folder on a disk near rank 0: what is held of the workers lives there, in a file without a name, and not in
        memory. Changes no result. Sparse messages that replace each other stay in memory, which they hardly fill.
    """

    mapped_in: str | None = None

    sums: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_folder(self.mapped_in)

    def init(self, dim: int, dtype: np.dtype, fill: float, codec: Codec, samples: Sequence[int]) -> _Sum:
        return _Sum(_held(len(samples), dim, dtype, fill, codec, self.mapped_in), dim, dtype, dirty=fill != 0)

    def open(self, state: _Sum) -> None:
        return None

    def move(self, state: _Sum, rows: Rows) -> None:
        state.held.move(rows)

    def absorb(self, state: _Sum, m: int, payload: np.ndarray) -> None:
        state.held.absorb(m, payload)
        state.dirty = True

    def land(self, state: _Sum, uploaded: np.ndarray) -> None:
        state.dirty = True

    def total(self, state: _Sum) -> np.ndarray:
        if state.dirty:
            state.held.add_up(state.total)
            state.dirty = False
        return state.total

    def owed(self, state: _Sum) -> tuple[Rows, np.ndarray] | None:
        if not state.dirty or type(state.held) is _Sparse:
            return None
        state.dirty = False
        return state.held.place, state.total

    def stale(self, state: _Sum, m: int) -> np.ndarray:
        return state.held.row(m)

    def drop(self, state: _Sum, m: int) -> None:
        state.held.clear(m)
        state.dirty = True

    def weights(self, samples: Sequence[int]) -> list[float]:
        return [1.0] * len(samples)

    def nbytes(self, workers: int, sizes: Sequence[int], dtype: np.dtype, fill: float, codec: Codec) -> int:
        return _held_nbytes(workers, sizes, dtype, fill, codec, self.mapped_in)


class _Mean:
    """``held``; who ``spoke`` this round; the mean of these, once it is formed; the ``weights`` of all, shape (M,)."""

    SAVED = ("held", "spoke")
    __slots__ = ("formed", "held", "spoke", "total", "weights")

    def __init__(self, held: _Dense | _Sparse, dim: int, dtype: np.dtype, weights: np.ndarray) -> None:
        self.held, self.weights = held, weights
        self.total = np.zeros(dim, dtype=dtype)
        self.spoke = np.zeros(weights.size, dtype=bool)
        self.formed = True

    def resumed(self) -> None:
        self.formed = False


@record
class FreshMean:
    """The mean of what was said this round; who is absent or silent counts nothing, and if all are it is zero.

    Attributes
    ----------
    weigh_by : 'equal' or 'samples'
        All workers alike, or each by its number of samples n_m (FedAvg: McMahan et al., AISTATS 2017).
    mapped_in : str, optional
        As that of `lazy`.
    """

    weigh_by: Literal["equal", "samples"] = "equal"
    mapped_in: str | None = None

    def __post_init__(self) -> None:
        check_folder(self.mapped_in)

    def init(self, dim: int, dtype: np.dtype, fill: float, codec: Codec, samples: Sequence[int]) -> _Mean:
        held = _held(len(samples), dim, dtype, fill, codec, self.mapped_in)
        return _Mean(held, dim, dtype, np.array(self.weights(samples)))

    def open(self, state: _Mean) -> None:
        state.spoke[:] = False
        state.formed = False

    def move(self, state: _Mean, rows: Rows) -> None:
        state.held.move(rows)

    def absorb(self, state: _Mean, m: int, payload: np.ndarray) -> None:
        state.held.absorb(m, payload)
        state.spoke[m] = True

    def land(self, state: _Mean, uploaded: np.ndarray) -> None:
        state.spoke |= uploaded

    def total(self, state: _Mean) -> np.ndarray:
        if not state.formed:
            chosen = np.flatnonzero(state.spoke)
            weights = state.weights[chosen]
            state.held.weigh(chosen, weights / weights.sum(), state.total)
            state.formed = True
        return state.total

    def stale(self, state: _Mean, m: int) -> np.ndarray:
        return state.held.row(m)

    def drop(self, state: _Mean, m: int) -> None:
        return None  # the absent count nothing here

    def weights(self, samples: Sequence[int]) -> list[float]:
        if self.weigh_by == "equal":
            return [1.0 / len(samples)] * len(samples)
        return [n / sum(samples) for n in samples]

    def nbytes(self, workers: int, sizes: Sequence[int], dtype: np.dtype, fill: float, codec: Codec) -> int:
        return _held_nbytes(workers, sizes, dtype, fill, codec, self.mapped_in)
