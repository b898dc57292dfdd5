"""The one binary form of messages.

A message is a fixed header of 48 bytes, then at most one contiguous array (theta, an upload's payload, a value's
vector), then, for a broadcast to a few, one bit a worker. Nothing is ever pickled. A `Frame` is a buffer that messages
are written into, or read from as views. An array in memory that both ends see is named by the header, and stays there.
"""

import json

import numpy as np

from psopt.core.messages import (
    HEADER,
    HEADER_NBYTES,
    NO_VECTOR,
    Broadcast,
    Evaluate,
    Failure,
    Hello,
    Interrupt,
    KeepAlive,
    Kind,
    Message,
    Save,
    Saved,
    Skip,
    Stop,
    Upload,
    Value,
    What,
    made,
)
from psopt.errors import ProtocolError
from psopt.lines import LINE_NBYTES
from psopt.parts.mapped import mapped

_pack, _unpack = HEADER.pack_into, HEADER.unpack_from

_DTYPES = tuple(np.dtype(name) for name in ("uint8", "float32", "float64", "int32", "int64"))
_CODES = {dtype.char: code for code, dtype in enumerate(_DTYPES)} | {"l": 4, "q": 4}  # int64 goes by two letters
_ITEMSIZES = tuple(dtype.itemsize for dtype in _DTYPES)
LENT = 8
"""Added to the code of its dtype where the array does not follow the header, but lies where both ends see it."""
MOST_WHOLE = 2**53
_BROADCAST, _UPLOAD = int(Kind.BROADCAST), int(Kind.UPLOAD)
_QUESTIONS = frozenset(What)


def nbytes(message: Message) -> int:
    """Bytes of the binary form."""
    array = _written(message)[-1]
    return HEADER_NBYTES + array.nbytes + (message.mask_nbytes if type(message) is Broadcast else 0)


def width_of(nbytes: int) -> int:
    """Bytes from frame to frame where each has room for ``nbytes`` behind the header."""
    return -(-(HEADER_NBYTES + nbytes) // LINE_NBYTES) * LINE_NBYTES


def frames_of(
    count: int, nbytes: int, mapped_in: str | None = None, memory: np.ndarray | None = None
) -> tuple[np.ndarray, list["Frame"]]:
    """A block of memory, shape (count, width), uint8, and a frame in each row of it, with room for ``nbytes`` behind
    the header, which begin with a cache line. The block may be mapped into a file in a folder, or be in memory that is
    there, a line longer than the block.

    Vectors that cross lie in such frames at both ends: where a copy's target lies less than a cache line behind its
    source, counted within pages of 4 kB, some processors copy five times as slowly (measured on Zen 3, between
    processes, 800 kB: 0.5 ms, else 0.11 ms), and which it is would be left to the allocator.
    """
    width = width_of(nbytes)
    size = count * width + LINE_NBYTES
    if memory is None:
        memory = np.empty(size, np.uint8) if mapped_in is None else mapped((size,), np.dtype(np.uint8), mapped_in)
    start = -(memory.ctypes.data + HEADER_NBYTES) % LINE_NBYTES
    block = memory[start : start + count * width].reshape(count, width)
    return block, [Frame(row[: HEADER_NBYTES + nbytes]) for row in block]


def first_word(kind: Kind, dtype: np.dtype, lent: bool = False) -> int:
    """The first eight bytes of a header of worker 0, as an int64 of a machine whose bytes are as those of messages:
    worker m's is larger by m 2^32. ``lent``: of a message whose array is.
    """
    code = _CODES[dtype.char] + (LENT if lent else 0)
    return int.from_bytes(HEADER.pack(kind, code, *6 * (0,))[:8], "little")


def frame_of(vector: int, dtype: np.dtype) -> "Frame":
    """A frame for one vector of that many elements, and its `Frame.array`."""
    _, (frame,) = frames_of(1, vector * dtype.itemsize)
    frame.hold(vector, dtype)
    return frame


class Frame:
    """A buffer for one message at a time, which it can write and read over and over.

    The view of the buffer that holds the array is kept: messages of one kind follow each other, and making views costs
    more than filling them. A message whose array is this view is written without a copy.

    Parameters
    ----------
    buffer : ndarray, shape (capacity,), uint8

    Attributes
    ----------
    nbytes : int
        Bytes of the message that was last written or read, those of a lent array among them.
    """

    __slots__ = ("_array", "_code", "_count", "_dtype", "_end", "_head", "_lent", "_lent_nbytes", "buffer", "nbytes")

    def __init__(self, buffer: np.ndarray) -> None:
        self.buffer = buffer
        self._head = memoryview(buffer)
        self._lent, self._lent_nbytes = None, 0
        self._array, self._dtype, self._code, self._count, self._end = NO_VECTOR[:], None, 0, 0, HEADER_NBYTES
        self.nbytes = 0

    @property
    def array(self) -> np.ndarray:
        """The view of the buffer that held the last array."""
        return self._array

    def hold(self, count: int, dtype: np.dtype) -> np.ndarray:
        """The view for ``count`` elements of ``dtype``: arrays like that leave from it, and arrive in it."""
        self._check_room(_UPLOAD, 0, HEADER_NBYTES + count * dtype.itemsize)
        return self._view(_CODES[dtype.char], count)

    def lend(self, array: np.ndarray) -> None:
        """Who reads what this frame writes sees this array as well, and the other way round: messages that hold it, or
        one like it, are a header alone, and the array is, or is put, there.
        """
        self._lent = array
        self._show_lent(array)

    def _show_lent(self, array: np.ndarray) -> None:
        self._array, self._dtype, self._count, self._end = array, array.dtype, array.size, HEADER_NBYTES
        self._code, self._lent_nbytes = _CODES[array.dtype.char] + LENT, array.nbytes

    def holding(self, nbytes: int) -> "Frame":
        """This frame, or a new and empty one when a message of that size would not fit."""
        return self if nbytes <= self.buffer.size else frames_of(1, nbytes - HEADER_NBYTES)[1][0]

    def write(self, message: Message) -> int:
        """Puts the binary form into the buffer and returns its bytes, those that are to be sent.

        Raises `ProtocolError` when it is too long, or when there is none.
        """
        # The two that come most often go without a call, and an array like the last one without a check.
        if type(message) is Upload:
            worker, k, first, number, array, second = message
            kind = _UPLOAD
        elif type(message) is Broadcast:
            k, number, first, second, array, _, worker = message
            kind = _BROADCAST
        else:
            kind, worker, k, first, second, number, array = _written(message)
        count = array.size
        if array is self._array:
            code, end = self._code, self._end
        elif count == self._count and array.dtype is self._dtype:
            code, end = self._code, self._end
            self._array[:] = array
        else:
            code, end = self._put(kind, k, array)
        if kind == _BROADCAST and worker:
            end = self._put_mask(message, end)
        _pack(self._head, 0, kind, code, worker, k, first, second, number, count)
        self.nbytes = end if code < LENT else end + self._lent_nbytes
        return end

    def _put(self, kind: int, k: int, array: np.ndarray) -> tuple[int, int]:
        """Puts an array behind the header; returns the code of its dtype, and where it ends."""
        end = HEADER_NBYTES + array.nbytes
        self._check_room(kind, k, end)
        code = _CODES.get(array.dtype.char)
        if code is None:
            raise ProtocolError(f"{Kind(kind).name} of round {k} has no binary form for dtype {array.dtype}")
        if array.size:
            self._view(code, array.size)[:] = array
        return code, end

    def _put_mask(self, message: Broadcast, start: int) -> int:
        """Puts one bit a worker behind the array; returns where they end."""
        end = start + message.mask_nbytes
        self._check_room(_BROADCAST, message.round, end)
        bits = np.zeros(message.mask_nbytes * 8, dtype=bool)
        bits[message.workers] = True
        self.buffer[start:end] = np.packbits(bits, bitorder="little")
        return end

    def _check_room(self, kind: int, k: int, size: int) -> None:
        if size > self.buffer.size:
            raise ProtocolError(f"{Kind(kind).name} of round {k} takes {size} bytes; its buffer has {self.buffer.size}")

    def read(self, received: int | None = None) -> Message:
        """The message at the buffer's start, of at most ``received`` bytes; its array is a view of the buffer.

        Raises `ProtocolError` when the bytes are no message.
        """
        if received is None:
            received = self.buffer.size
        if received < HEADER_NBYTES:
            raise ProtocolError(f"a message of {received} bytes is shorter than its header")
        kind, code, worker, k, first, second, number, count = _unpack(self._head)
        if count == self._count and code == self._code and self._end <= received:
            array, end = self._array, self._end
        else:
            array, end = self._found(kind, code, count, received)
        self.nbytes = end if code < LENT else end + self._lent_nbytes
        if kind == _UPLOAD:
            return made(Upload, (worker, k, first, number, array, second))
        if kind == _BROADCAST:
            if not worker:
                return made(Broadcast, (k, number, first, _whole(second), array, None, 0))
            rest = self.buffer[end:received]
            self.nbytes += worker
            return _read_broadcast(rest, worker, k, first, _whole(second), number, array)
        read = _READ.get(kind)
        if read is None:
            raise ProtocolError(f"a message names kind {kind}, which does not exist")
        return read(worker, k, first, second, number, array)

    def _found(self, kind: int, code: int, count: int, received: int) -> tuple[np.ndarray, int]:
        """The array that a header announces, and where the message's own bytes end."""
        lent = self._lent
        if lent is not None and code == _CODES[lent.dtype.char] + LENT and count == lent.size:
            self._show_lent(lent)
            return lent, HEADER_NBYTES
        if code >= len(_DTYPES):
            raise ProtocolError(f"a message of kind {kind} names dtype {code}, which does not exist")
        end = HEADER_NBYTES + count * _ITEMSIZES[code]
        if count < 0 or end > received:
            raise ProtocolError(f"a message of kind {kind} announces {count} elements in {received} bytes")
        return self._view(code, count) if count else NO_VECTOR, end

    def announced(self) -> int:
        """Bytes of the message whose header alone has arrived."""
        _, code, *_, count = _unpack(self._head)
        if code >= len(_DTYPES) or count < 0:
            raise ProtocolError(f"a header announces {count} elements of dtype {code}")
        return HEADER_NBYTES + count * _ITEMSIZES[code]

    def _view(self, code: int, count: int) -> np.ndarray:
        """The ``count`` elements behind the header, as the dtype of that code; they must fit."""
        dtype = _DTYPES[code]
        array = self.buffer[HEADER_NBYTES : HEADER_NBYTES + count * dtype.itemsize].view(dtype)
        self._array, self._dtype, self._code, self._count = array, dtype, code, count
        self._end = HEADER_NBYTES + array.nbytes
        return array


_WRITTEN = {
    Hello: lambda x: (Kind.HELLO, x.worker, 0, x.samples, x.dim, x.smoothness, NO_VECTOR),
    Broadcast: lambda x: (Kind.BROADCAST, x.mask_nbytes, x.round, x.t_start, x.local_steps, x.threshold, x.theta),
    Upload: lambda x: (Kind.UPLOAD, x.worker, x.round, x.gradients, x.left, x.seconds, x.payload),
    Skip: lambda x: (Kind.SKIP, x.worker, x.round, x.gradients, x.left, x.seconds, NO_VECTOR),
    Evaluate: lambda x: (Kind.EVALUATE, -1, x.round, x.what, x.soon, 0.0, x.theta),
    Value: lambda x: (Kind.VALUE, x.worker, x.round, int(x.seconds * 1e9), 0, x.value, x.vector),
    Failure: lambda x: (Kind.FAILURE, x.worker, x.round, x.fatal, 0, 0.0, _text(x)),
    Stop: lambda x: (Kind.STOP, -1, x.round, 0, 0, 0.0, NO_VECTOR),
    KeepAlive: lambda x: (Kind.KEEP_ALIVE, -1, x.round, 0, 0, 0.0, NO_VECTOR),
    Save: lambda x: (Kind.SAVE, -1, x.round, 0, 0, 0.0, NO_VECTOR),
    Interrupt: lambda x: (Kind.INTERRUPT, -1, 0, x.rank, x.warned, 0.0, NO_VECTOR),
    Saved: lambda x: (Kind.SAVED, -1, x.round, x.rank, 0, 0.0, np.frombuffer(x.text.encode(), np.uint8)),
}
"""Message -> kind, worker (of a broadcast: bytes of its mask), round, an integer, two numbers, an array."""

_READ = {
    int(Kind.HELLO): lambda m, k, first, second, number, array: Hello(m, first, _whole(second), number),
    int(Kind.SKIP): lambda m, k, first, second, number, array: Skip(m, k, first, number, second),
    int(Kind.EVALUATE): lambda m, k, first, second, number, array: _read_evaluate(k, first, second, array),
    int(Kind.VALUE): lambda m, k, first, second, number, array: Value(m, k, number, first * 1e-9, array),
    int(Kind.FAILURE): lambda m, k, first, second, number, array: Failure(m, k, *_read_text(array), bool(first)),
    int(Kind.STOP): lambda m, k, first, second, number, array: Stop(k),
    int(Kind.KEEP_ALIVE): lambda m, k, first, second, number, array: KeepAlive(k),
    int(Kind.SAVE): lambda m, k, first, second, number, array: Save(k),
    int(Kind.INTERRUPT): lambda m, k, first, second, number, array: Interrupt(first, bool(second)),
    int(Kind.SAVED): lambda m, k, first, second, number, array: Saved(first, k, _decoded(array)),
}
"""The way back, but for uploads, which come most often, and broadcasts, which have a mask beyond the array."""


def _written(message: Message) -> tuple[Kind, int, int, int, int, float, np.ndarray]:
    try:
        return _WRITTEN[type(message)](message)
    except KeyError:
        raise ProtocolError(f"no binary form for {type(message).__name__}") from None


def _read_broadcast(
    rest: np.ndarray, mask: int, k: int, t_start: int, steps: int, threshold: float, theta: np.ndarray
) -> Broadcast:
    if mask < 0 or mask > rest.size:
        raise ProtocolError(f"a broadcast announces a mask of {mask} bytes and {rest.size} are left")
    workers = np.flatnonzero(np.unpackbits(rest[:mask], bitorder="little"))
    return Broadcast(k, threshold, t_start, steps, theta, workers, mask)


def _read_evaluate(k: int, what: int, soon: int, theta: np.ndarray) -> Evaluate:
    if what not in _QUESTIONS:
        raise ProtocolError(f"an evaluation asks for {what}, which does not exist")
    return Evaluate(k, What(what), bool(soon), theta)


def _whole(number: float) -> int:
    """An integer that crossed as a float64, which holds those up to 2^53."""
    if not abs(number) <= MOST_WHOLE:
        raise ProtocolError(f"a message holds {number}; expected a whole number")
    return int(number)


def _decoded(array: np.ndarray) -> str:
    try:
        return array.tobytes().decode()
    except UnicodeDecodeError as error:
        raise ProtocolError(f"a text of {array.nbytes} bytes cannot be read: {error}") from None


def _text(message: Failure) -> np.ndarray:
    return np.frombuffer(json.dumps([message.rank, message.host, message.text]).encode(), np.uint8)


def _read_text(array: np.ndarray) -> tuple[int, str, str]:
    """Rank, host and traceback of a failure."""
    try:
        read = json.loads(array.tobytes())
    except (ValueError, RecursionError):
        read = None
    match read:
        case [int(rank), str(host), str(text)]:
            return rank, host, text
    raise ProtocolError(f"a failure was announced, and its {array.nbytes} bytes cannot be read")
