"""The binary form of every message: it comes back as it went, its size is as declared, and garbage is refused."""

import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from psopt.core import messages
from psopt.core.frames import Frame, nbytes
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
    mask_nbytes,
)
from psopt.errors import ProtocolError

int32, int64 = st.integers(-(2**31), 2**31 - 1), st.integers(-(2**63), 2**63 - 1)
whole = st.integers(-(2**53), 2**53)  # what crosses as a float64
numbers = st.floats(width=64)
DTYPES = ("uint8", "float32", "float64", "int32", "int64")


@st.composite
def arrays(draw, dtypes=DTYPES):
    """Any bits, NaNs included."""
    dtype, count = np.dtype(draw(st.sampled_from(dtypes))), draw(st.integers(0, 40))
    if not count:
        return NO_VECTOR
    return np.frombuffer(draw(st.binary(min_size=count * dtype.itemsize, max_size=count * dtype.itemsize)), dtype)


@st.composite
def broadcasts(draw):
    theta, rounds = draw(arrays(("float32", "float64"))), [draw(int64), draw(int64), draw(whole)]
    workers, mask = None, 0
    if draw(st.booleans()):
        total = draw(st.integers(1, 200))
        workers = np.array(sorted(draw(st.sets(st.integers(0, total - 1), min_size=1))))
        mask = mask_nbytes(total)
    return Broadcast(rounds[0], draw(numbers), rounds[1], rounds[2], theta, workers, mask)


ANY = {
    Kind.HELLO: st.builds(Hello, int32, int64, whole, numbers),
    Kind.BROADCAST: broadcasts(),
    Kind.UPLOAD: st.builds(Upload, int32, int64, int64, numbers, arrays(), numbers),
    Kind.SKIP: st.builds(Skip, int32, int64, int64, numbers, numbers),
    Kind.EVALUATE: st.builds(Evaluate, int64, st.sampled_from(What), st.booleans(), arrays()),
    Kind.VALUE: st.builds(Value, int32, int64, numbers, st.floats(0, 1e6), arrays()),
    Kind.FAILURE: st.builds(Failure, int32, int64, int32, st.text(max_size=20), st.text(max_size=200), st.booleans()),
    Kind.STOP: st.builds(Stop, int64),
    Kind.KEEP_ALIVE: st.builds(KeepAlive, int64),
    Kind.SAVE: st.builds(Save, int64),
    Kind.SAVED: st.builds(Saved, int32, int64, st.text(max_size=200)),
    Kind.INTERRUPT: st.builds(Interrupt, int32),
}


def bits(value):
    """Fields as what can be compared: arrays and floats by their bytes."""
    if isinstance(value, np.ndarray):
        return (str(value.dtype) if value.size else "", value.shape, value.tobytes())
    return struct.pack("<d", value) if isinstance(value, float) else value


def same(a, b):
    if isinstance(a, Value) and isinstance(b, Value) and abs(a.seconds - b.seconds) < 2e-9:
        a = a._replace(seconds=b.seconds)  # whole nanoseconds cross
    return type(a) is type(b) and [bits(x) for x in a] == [bits(x) for x in b]


def pack_into(message, buffer):
    return Frame(buffer).write(message)


def unpack(buffer, received):
    return Frame(buffer).read(received)


def packed(message, room=0):
    buffer = np.full(nbytes(message) + room, 0xA5, dtype=np.uint8)
    return buffer, pack_into(message, buffer)


def test_every_kind_has_a_row():
    assert set(ANY) == set(Kind)
    assert {cls.__name__ for cls in Message.__args__} == {kind.name.title().replace("_", "") for kind in Kind}


@pytest.mark.parametrize("kind", Kind)
def test_there_and_back(kind):
    @settings(max_examples=60, deadline=None)
    @given(ANY[kind], st.integers(0, 70))
    def check(message, room):
        buffer, size = packed(message, room)
        assert size == nbytes(message)
        assert (buffer[size:] == 0xA5).all()  # nothing beyond
        assert buffer[0] == kind
        assert same(unpack(buffer, size), message)
        assert same(unpack(buffer[:size], size), message)
        assert same(unpack(buffer, len(buffer)), message)  # a collective brings more bytes than the message has
        array = next((field for field in message if isinstance(field, np.ndarray) and field.dtype != np.int64), None)
        if kind in (Kind.STOP, Kind.KEEP_ALIVE, Kind.HELLO, Kind.SKIP):
            assert size == HEADER_NBYTES == 48
        elif kind in (Kind.UPLOAD, Kind.EVALUATE, Kind.VALUE) and array is not None:
            assert size == HEADER_NBYTES + array.nbytes

    check()


@settings(max_examples=100, deadline=None)
@given(st.lists(st.one_of(*ANY.values()), max_size=6))
def test_one_frame_for_message_after_message(messages):
    frame = Frame(np.empty(max(map(nbytes, messages), default=HEADER_NBYTES), dtype=np.uint8))
    for message in messages:
        size = frame.write(message)
        assert frame.nbytes == size == nbytes(message)
        assert same(frame.read(), message)
        assert frame.nbytes == size


@pytest.mark.parametrize("kind", Kind)
def test_truncated_or_in_too_small_a_buffer(kind):
    @settings(max_examples=40, deadline=None)
    @given(ANY[kind], st.data())
    def check(message, data):
        buffer, size = packed(message)
        short = data.draw(st.integers(0, size - 1))
        with pytest.raises(ProtocolError):
            unpack(buffer[:short], short)
        with pytest.raises(ProtocolError):
            unpack(buffer, short)
        with pytest.raises(ProtocolError):
            pack_into(message, np.empty(short, dtype=np.uint8))

    check()


def test_the_array_is_a_view_of_the_buffer():
    buffer, size = packed(Upload(1, 2, 3, 0.5, np.arange(4.0)))
    payload = unpack(buffer, size).payload
    buffer[HEADER_NBYTES:size] = 0
    assert payload.tolist() == [0.0] * 4


@pytest.mark.parametrize("workers", [1, 7, 8, 9, 63, 64, 65, 128, 129, 200])
def test_masks(workers):
    assert mask_nbytes(workers) % 8 == 0
    assert workers <= 8 * mask_nbytes(workers) < workers + 64
    rng = np.random.default_rng(workers)
    for chosen in (
        np.array([0]),
        np.array([workers - 1]),
        np.arange(workers),
        np.flatnonzero(rng.random(workers) < 0.5),
    ):
        message = Broadcast(4, 0.5, 3, 1, np.ones(3), chosen, mask_nbytes(workers))
        buffer, size = packed(message)
        assert size == HEADER_NBYTES + 24 + mask_nbytes(workers)
        for short in (size - 1, HEADER_NBYTES + 24):  # within the mask, and all of it
            with pytest.raises(ProtocolError):
                pack_into(message, np.empty(short, dtype=np.uint8))
            with pytest.raises(ProtocolError):
                unpack(buffer, short)
        seen = unpack(buffer, size).workers
        if chosen.size:
            assert seen.tolist() == chosen.tolist()
        assert seen is not None


def understood(data):
    """Whether bytes are a message; everything but a message and a `ProtocolError` gets out."""
    buffer = np.frombuffer(data, dtype=np.uint8)
    try:
        message = unpack(buffer, len(buffer))
    except ProtocolError:
        return None
    assert nbytes(message) <= len(buffer) or isinstance(message, Failure)
    return message


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200))
def test_random_bytes(data):
    understood(data)


@settings(max_examples=600, deadline=None)
@given(
    st.integers(0, 12),
    st.integers(0, 7),
    int32 | st.integers(-9, 60),
    int64,
    int64 | st.integers(-2, 7),
    int64,
    numbers,
    int64 | st.integers(-3, 60),
    st.binary(max_size=120),
)
def test_random_headers(kind, code, worker, k, first, second, number, count, rest):
    message = understood(HEADER.pack(kind, code, worker, k, first, second, number, count) + rest)
    assert message is None or kind in set(Kind)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{}",
        b"[]",
        b"[1, 2, 3]",
        b'["0", "host", "text"]',
        b'[0, "host"]',
        b"\xff\xfe",
        b"[0,",
        b"[" * 100_000,
        b"null",
    ],
    ids=range(10),
)
def test_failures_that_cannot_be_read(text):
    data = HEADER.pack(Kind.FAILURE, 0, 1, 2, 0, 0, 0.0, len(text)) + text
    with pytest.raises(ProtocolError, match="cannot be read"):
        unpack(np.frombuffer(data, np.uint8), len(data))


@pytest.mark.parametrize(
    ("header", "sentence"),
    [
        ((99, 0, 0, 0, 0, 0, 0.0, 0), "kind 99, which does not exist"),
        ((Kind.UPLOAD, 5, 0, 0, 0, 0, 0.0, 0), "dtype 5, which does not exist"),
        ((Kind.UPLOAD, 2, 0, 0, 0, 0, 0.0, -1), "-1 elements"),
        ((Kind.UPLOAD, 2, 0, 0, 0, 0, 0.0, 2**62), "elements in 48 bytes"),
        ((Kind.EVALUATE, 0, -1, 0, 99, 0, 0.0, 0), "asks for 99"),
        ((Kind.BROADCAST, 0, 8, 0, 0, 0, 0.0, 0), "a mask of 8 bytes and 0 are left"),
        ((Kind.BROADCAST, 0, -8, 0, 0, 0, 0.0, 0), "a mask of -8 bytes"),
    ],
)
def test_what_is_said_of_broken_headers(header, sentence):
    data = np.frombuffer(HEADER.pack(*header), np.uint8)
    with pytest.raises(ProtocolError, match=sentence):
        unpack(data, len(data))


def test_no_binary_form():
    with pytest.raises(ProtocolError, match="no binary form for str"):
        pack_into("hello", np.empty(100, np.uint8))


def test_the_header_is_fixed():
    assert HEADER_NBYTES == 48
    assert messages.HEADER.format == "<HHiqqddq"
