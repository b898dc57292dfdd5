"""What k indices and k values look like on the wire: one buffer of bytes, in one of two forms.

``plain``: the indices as they are, int32 (int64 where d asks for it), and the values, the wider kind first, so that
both are aligned. ``packed``: a word of 8 bytes with k and the code's parameter (in its top byte), the values, filled
up to whole words, and the indices as `psopt.problems.kernels.gaps` packs them: nothing is lost, and at 1 % of the
entries an index takes 8.1 bits instead of 32.
"""

import numpy as np

from psopt.errors import ProtocolError
from psopt.problems import kernels

WORD = np.dtype(np.uint64).itemsize
LARGEST_PARAMETER = 62
_PARAMETER_SHIFT = 56


class PlainBuffer:
    """A payload of k entries and its two halves as views, to be filled.

    Attributes
    ----------
    indices : ndarray, shape (k,), int32; int64 where d asks for it
    values : ndarray, shape (k,), of the dtype that crosses
    """

    __slots__ = ("_payload", "indices", "values")

    def __init__(self, k: int, dim: int, values: np.dtype) -> None:
        self._payload = np.zeros(plain_nbytes(k, dim, values), np.uint8)
        self.indices, self.values = _plain(self._payload, dim, values)

    def payload(self) -> np.ndarray:
        """What was filled in, as bytes."""
        return self._payload


class PackedBuffer:
    """As `PlainBuffer`, and as long as the indices make it."""

    __slots__ = ("_bytes", "_dim", "_head", "_words", "indices", "values")

    def __init__(self, k: int, dim: int, values: np.dtype) -> None:
        self._bytes, self._dim = np.zeros(packed_nbytes(k, dim, values), np.uint8), dim
        end = WORD + k * values.itemsize
        self.indices, self.values = np.zeros(k, kernels.topk.index_dtype(dim)), self._bytes[WORD:end].view(values)
        self._head, self._words = self._bytes[:WORD].view(np.uint64), self._bytes[_whole(end) :].view(np.uint64)

    def payload(self) -> np.ndarray:
        """What was filled in, as bytes: valid until the next call."""
        used, parameter = kernels.gaps.pack(self.indices, self._dim, self._words)
        self._head[0] = self.indices.size | parameter << _PARAMETER_SHIFT
        return self._bytes[: _whole(WORD + self.values.nbytes) + WORD * used]


def plain_nbytes(k: int, dim: int, values: np.dtype) -> int:
    """Bytes of k entries of a vector of ``dim``."""
    return k * (kernels.topk.index_dtype(dim).itemsize + values.itemsize)


def packed_nbytes(k: int, dim: int, values: np.dtype) -> int:
    """The most bytes that they take packed."""
    return _whole(WORD + k * values.itemsize) + WORD * kernels.gaps.most_words(k, dim)


def read_plain(payload: np.ndarray, dim: int, values: np.dtype) -> tuple[np.ndarray, np.ndarray]:
    """Indices and values of a payload from the wire, as views, checked.

    Raises `ProtocolError` when its bytes are no whole number of entries, or the indices do not ascend or leave the
    vector.
    """
    indices, numbers = _plain(payload, dim, values)
    kernels.topk.check_indices(indices, dim)
    return indices, numbers


def read_packed(payload: np.ndarray, dim: int, values: np.dtype) -> tuple[np.ndarray, np.ndarray]:
    """As `read_plain`, of a packed payload; the indices are an array of their own.

    Raises `ProtocolError` when the bytes are no packed payload.
    """
    size = payload.size
    if size < WORD or size % WORD:
        raise ProtocolError(f"a packed sparse payload of {size} bytes is no whole number of words")
    head = int(payload[:WORD].view(np.uint64)[0])
    k, parameter = head & ((1 << _PARAMETER_SHIFT) - 1), head >> _PARAMETER_SHIFT
    end = WORD + k * values.itemsize
    if k > dim or _whole(end) > size or parameter > LARGEST_PARAMETER:
        raise ProtocolError(f"a packed sparse payload of {size} bytes announces {k} entries, parameter {parameter}")
    indices = np.empty(k, kernels.topk.index_dtype(dim))
    kernels.gaps.unpack(payload[_whole(end) :].view(np.uint64), parameter, dim, indices)
    return indices, payload[WORD:end].view(values)


def _plain(payload: np.ndarray, dim: int, values: np.dtype) -> tuple[np.ndarray, np.ndarray]:
    """The two halves as views."""
    indices = kernels.topk.index_dtype(dim)
    k, rest = divmod(payload.size, indices.itemsize + values.itemsize)
    if rest:
        raise ProtocolError(f"a sparse payload of {payload.size} bytes is no whole number of entries")
    if indices.itemsize >= values.itemsize:
        cut = k * indices.itemsize
        return payload[:cut].view(indices), payload[cut:].view(values)
    cut = k * values.itemsize
    return payload[cut:].view(indices), payload[:cut].view(values)


def _whole(nbytes: int) -> int:
    """Filled up to words."""
    return -(-nbytes // WORD) * WORD
