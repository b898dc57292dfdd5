"""What crosses downlink where it is not theta as it is: theta rounded, or the lazy downlink.

The latter: instead of theta, what changed of the last round's aggregate, from which every rank makes theta itself.

No paper has it, and it changes no iterate. The first message of a run holds the value of the step size's formula and
theta whole. Each later one tells of the last round, and is empty when nobody spoke. Where uploads are short it holds
them as they came, in worker order, and every rank holds what each worker said last. Where they are not, see `sums_up`,
it holds the aggregate that they came to, however many they were, and a rank holds nothing else of the workers.

Every `CHECK_EVERY` rounds a checksum of theta comes along; copies that have drifted apart are a `ProtocolError`, never
a wrong result.
"""

import itertools
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np

from psopt.algorithm import Algorithm
from psopt.core.messages import Broadcast
from psopt.core.model import Model, goes_with
from psopt.core.state import Tree, restored
from psopt.errors import ProtocolError
from psopt.parts.aggregators import added_up, held_dtype
from psopt.parts.codecs import Codec
from psopt.records import record

CHECK_EVERY = 100
CHECKSUM, AGGREGATE = -1, -2
"""Stand for a worker's number before the checksum, and before the aggregate."""
_WORD = 8
CHECKSUM_NBYTES = 3 * _WORD


def first_message(initial_step: float, theta: np.ndarray) -> np.ndarray:
    """What starts every copy: a uint8 array."""
    return np.concatenate([np.array([initial_step]).view(np.uint8), theta.view(np.uint8)])


def first_nbytes(theta: int) -> int:
    """Bytes of that message, where theta has so many."""
    return _WORD + theta


def sums_up(algorithm: Algorithm, dim: int, dtype: np.dtype) -> bool:
    """Whether the aggregate goes down instead of the uploads it was made of: where two of these are as long, and where
    it is their sum, so that it stays as it is while nobody speaks. Uploads are as long as they would be if theta were
    one tensor.
    """
    aggregator, codec = algorithm.aggregator, algorithm.codec
    promised = goes_with(aggregator, "sums", "total") and aggregator.sums
    return promised and 2 * codec.capacity((dim,), dtype) >= dim * dtype.itemsize


def followed(algorithm: Algorithm, dim: int, dtype: np.dtype) -> Algorithm:
    """The row as the ranks' copies of the model have it."""
    return replace(algorithm, aggregator=Told()) if sums_up(algorithm, dim, dtype) else algorithm


def changes(said: Iterable[tuple[int, np.ndarray]], theta: np.ndarray | None) -> np.ndarray:
    """The uploads (worker, payload) of a round, in worker order, or its aggregate (`AGGREGATE`, vector), and the
    checksum of ``theta`` where one is given.

    Each is two int64, worker and bytes, then the payload, filled up to whole words. Returned as a uint8 array.
    """
    records = [(m, payload.view(np.uint8)) for m, payload in sorted(said, key=lambda one: one[0])]
    if theta is not None:
        records.append((CHECKSUM, np.array([checksum(theta)], dtype=np.int64).view(np.uint8)))
    parts = []
    for m, content in records:
        parts += [np.array([m, content.size], dtype=np.int64).view(np.uint8), content]
        parts.append(np.zeros(-content.size % _WORD, dtype=np.uint8))
    return np.concatenate(parts) if parts else np.empty(0, dtype=np.uint8)


def most_nbytes(algorithm: Algorithm, sizes: Sequence[int], dtype: np.dtype, workers: int) -> int:
    """The most bytes of changes that a message can hold, but for the checksum."""
    dim = sum(sizes)
    if sums_up(algorithm, dim, dtype):
        return 2 * _WORD + _filled_up(dim * dtype.itemsize)
    return workers * (2 * _WORD + _filled_up(algorithm.codec.capacity(sizes, dtype)))


def costs(algorithm: Algorithm, sizes: Sequence[int], dtype: np.dtype, workers: int) -> str:
    """What both kinds of downlink cost: each rank's memory, and the most a round sends to each worker."""
    dim = sum(sizes)
    whole, most = dim * dtype.itemsize, most_nbytes(algorithm, sizes, dtype, workers)
    own = followed(algorithm, dim, dtype)
    held = whole + own.aggregator.nbytes(workers, sizes, dtype, own.start.fill, own.codec)
    if own is algorithm:
        sent = f"{_size(most // workers)} for each upload of the round before, so up to {_size(most)}"
    else:
        sent = f"{_size(most)} after a round with uploads, however many, and nothing after a silent one"
    return (
        f"each rank holds {_size(held)} of the server's state, with `theta` {_size(whole)}; a round sends a worker "
        f"{sent}, with `theta` {_size(whole)}"
    )


def _filled_up(nbytes: int) -> int:
    return nbytes + -nbytes % _WORD


def _size(nbytes: int) -> str:
    if nbytes < 1000:
        return f"{nbytes} B"
    return f"{nbytes / 1e3:.3g} kB" if nbytes < 1e6 else f"{nbytes / 1e6:.4g} MB"


def checksum(theta: np.ndarray) -> int:
    return zlib.crc32(theta.view(np.uint8))


@record
class Told:
    """Stands for the aggregator in the ranks' copies of the model, where the aggregate comes as it is: that is its
    state, shape (dim,).
    """

    def init(self, dim: int, dtype: np.dtype, fill: float, codec: Codec, samples: Sequence[int]) -> np.ndarray:
        """What the server's sum begins with: ``fill`` of every worker, added up as the server adds."""
        row = np.full(dim, fill, held_dtype(codec, np.dtype(dtype)))
        return added_up(itertools.repeat(row, len(samples)), dim, dtype)

    def open(self, state: np.ndarray) -> None:
        return None

    def absorb(self, state: np.ndarray, m: int, payload: np.ndarray) -> None:
        """Takes the aggregate. Raises `ProtocolError` where it has another length."""
        if payload.nbytes != state.nbytes:
            raise ProtocolError(f"an aggregate of {payload.nbytes} bytes came; expected {state.nbytes}")
        state[:] = payload.view(state.dtype)

    def total(self, state: np.ndarray) -> np.ndarray:
        return state

    def nbytes(self, workers: int, sizes: Sequence[int], dtype: np.dtype, fill: float, codec: Codec) -> int:
        return sum(sizes) * dtype.itemsize


class Widened:
    """What a rank makes of theta that came rounded: one of its own dtype again, which its workers share.

    Parameters
    ----------
    dim, dtype : int, numpy dtype
        Of theta.
    """

    lazy = False

    def __init__(self, dim: int, dtype: np.dtype) -> None:
        self._theta = np.empty(dim, dtype)

    def expand(self, message: Broadcast) -> Broadcast:
        """The message with theta as the workers want it. Raises `ProtocolError` where it has another length."""
        if message.theta.size != self._theta.size:
            raise ProtocolError(f"theta came with {message.theta.size} numbers; expected {self._theta.size}")
        self._theta[:] = message.theta
        return message._replace(theta=self._theta)


class Replica:
    """A rank's own copy of the server's model, moved on by each message.

    Parameters
    ----------
    algorithm : Algorithm
    dim, dtype : int, numpy dtype
        Of theta.
    samples : sequence of int
        n_m of every worker.

    Attributes
    ----------
    told : bool
        Whether the aggregate comes, and not the uploads.
    """

    lazy = True

    def __init__(self, algorithm: Algorithm, dim: int, dtype: np.dtype, samples: Sequence[int]) -> None:
        self._algorithm, self._dim, self._dtype = followed(algorithm, dim, dtype), dim, dtype
        self._samples = samples
        self.told = self._algorithm is not algorithm
        self._speakers = (AGGREGATE,) if self.told else range(len(samples))
        self._payload_dtype = dtype if self.told else algorithm.codec.compressor.payload_dtype(dtype)
        self._model: Model | None = None
        self._initial_step = 0.0
        self._round = self._t_start = 0
        self._ahead = False

    def go_on(self, k: int, initial_step: float, tree: Tree) -> None:
        """Takes the state of the server's own model after round ``k``, where this copy is `told` with the aggregate in
        place of the aggregator's state. It is a round ahead of what the next message tells of, which therefore changes
        nothing.
        """
        self._model = restored(Model(self._algorithm, np.zeros(self._dim, self._dtype), self._samples), tree)
        self._initial_step, self._round, self._ahead = initial_step, k, True

    def expand(self, message: Broadcast) -> Broadcast:
        """The message with theta in it.

        Raises `ProtocolError` when what came is not what the copy needs, or when the copies have drifted apart.
        """
        content = message.theta
        if self._model is None:
            self._begin(content)
        else:
            self._advance(message.round, content)
        self._round, self._t_start = message.round, message.t_start
        return message._replace(theta=self._model.theta)

    def _begin(self, content: np.ndarray) -> None:
        if content.size != _WORD + self._dim * self._dtype.itemsize:
            raise ProtocolError(f"the first message holds {content.size} bytes; expected a step size and theta")
        self._initial_step = float(content[:_WORD].view(np.float64)[0])
        self._model = Model(self._algorithm, content[_WORD:].view(self._dtype), self._samples)

    def _advance(self, k: int, content: np.ndarray) -> None:
        """Repeats the step of round k - 1, of which the message tells."""
        if k != self._round + 1:
            raise ProtocolError(f"the message of round {k} follows that of round {self._round}")
        model, check = self._model, None
        model.open()
        for m, payload in _records(content):
            if m == CHECKSUM:
                check = int(payload.view(np.int64)[0])
            elif m not in self._speakers:
                raise ProtocolError(f"round {k}: a change of worker {m} of {len(self._samples)}")
            elif not self._ahead:
                model.absorb(m, payload.view(self._payload_dtype))
        if not self._ahead:
            model.step(float(self._algorithm.step_size.at(self._initial_step, self._t_start + 1)))
        self._ahead = False
        if check is not None and check != checksum(model.theta):
            raise ProtocolError(f"round {k}: this rank's copy of theta differs from the server's")


def _records(content: np.ndarray) -> Iterable[tuple[int, np.ndarray]]:
    at = 0
    while at < content.size:
        if content.size - at < 2 * _WORD:
            raise ProtocolError(f"{content.size - at} bytes of changes are left over")
        m, nbytes = content[at : at + 2 * _WORD].view(np.int64).tolist()
        at += 2 * _WORD
        if not 0 <= nbytes <= content.size - at:
            raise ProtocolError(f"a change of {nbytes} bytes in a message that has {content.size - at} left")
        yield m, content[at : at + nbytes]
        at += _filled_up(nbytes)
