"""Waiting for messages in compiled code, which calls MPI and the system by the addresses of their functions.

Between two looks a process gives its core away. From Python each look, with all around it, takes microseconds, and more
of them when other processes were on that core meanwhile: where ranks share cores, most of an empty round was that.
"""

import numpy as np
from llvmlite import ir
from numba import carray, int64, njit, types
from numba.extending import intrinsic

_WHOLE = ir.IntType(32)
_PLACE = ir.IntType(8).as_pointer()

START_ALL, TEST_SOME, TEST_ALL, GIVE_WAY, HANDLES, HANDLE_NBYTES, WORKERS, SENDS, FOUND, STATUSES = range(10)
"""Where ``places`` has the addresses of MPI_Startall, MPI_Testsome, MPI_Testall, sched_yield, and of a row of requests,
one to receive each worker's answer, then, where these start with them, the sends of the question; the bytes of a handle
in it; M; how many sends there are; and the addresses of what MPI tells: how many are done, which, and whether all are,
in 1 + `AT_ONCE` + 1 int32; and their statuses.
"""

COURSE, SAID, WORDS, WIDTH, UPLOADED, SKIPPED, LEFT, RANKS, WORKED = range(STATUSES + 1, STATUSES + 10)
"""Where it has the addresses of arrays, which come so because each argument that is one takes time in every call:

* int64, see `ROUND`;
* int64, shape (M, 3): `STATE` of each worker's answer, the `GRADIENTS` that it took, and the `HOME` of the worker, a
  rank;
* what the receives receive into, in rows of ``WIDTH`` words of eight bytes, one a worker;
* bool, shape (M,): whose plain upload, and whose plain skip has come, once none is missing;
* float64, shape (M,): the left side of each worker's rule;
* float64, shape (``RANKS``,): seconds that each rank's workers took, together; in place of rank 0, which has none, the
  sum over all earlier rounds, of each the rank that took longest.
"""

PLACES = 1 + WORKED

ROUND, UPLOAD, COUNT, SKIP, FIRST, MISSING, UNREAD, UPLOADS, SKIPS, LEAST, MOST, SENT = range(12)
"""Where ``course`` has k, the first word of a plain upload of worker 0 and its number of elements, the first word of a
plain skip of worker 0; then the first worker whose answer may be missing, how many answers are, how many of those that
came have to be read, how many were plain uploads and plain skips, the least and the most gradients that one of these
took, and whether the sends that started with the receives are done: 1, or 0; -1 when there are none.
"""

CAME, HAS_UNREAD, HAS_SENT, STILL = 1, 2, 4, 8
"""What `collect` returns: whether any came, whether some have to be read, whether the sends that started with the
receives are done, and how many are missing, times `STILL`.
"""

IDLE, AWAITED, LANDED, SILENT, READ = range(5)
"""What is known of a worker's answer: none is awaited, it is, it was a plain upload, a skip, or has to be read."""

STATE, GRADIENTS, HOME = range(3)

AT_ONCE = 128
"""Requests that are looked at in one call: it costs as much as it looks at, and of thousands only the next few, in the
order in which ranks answer, can have come.
"""

_MANY = 2**62
_INT = 4

WATCH = "(int64[::1], int64[::1], int32[::1], int64)"
START = "(int64[::1], int64, boolean, boolean)"
COLLECT = "(int64[::1], int64)"
"""What the functions below are called with, so that they can be compiled before there is anything to wait for."""


def _by_address(*kinds):
    """A call of the C function at an address, which returns an int; its arguments, int64, are of these kinds."""

    def made(context, builder, signature, arguments):
        address, *values = arguments
        given = [
            builder.trunc(value, kind) if kind is _WHOLE else builder.inttoptr(value, kind)
            for value, kind in zip(values, kinds, strict=True)
        ]
        function = builder.inttoptr(address, ir.FunctionType(_WHOLE, kinds).as_pointer())
        return builder.call(function, given)

    return types.int32(types.int64, *(types.int64 for _ in kinds)), made


@intrinsic
def _pointer(typing_context, address):
    """What is at an address."""

    def made(context, builder, signature, arguments):
        return builder.inttoptr(arguments[0], _PLACE)

    return types.voidptr(types.int64), made


@intrinsic
def _test(typing_context, address, request, flag, status):
    """MPI_Test."""
    return _by_address(_PLACE, _PLACE, _PLACE)


@intrinsic
def _start_all(typing_context, address, count, requests):
    """MPI_Startall."""
    return _by_address(_WHOLE, _PLACE)


@intrinsic
def _test_all(typing_context, address, count, requests, flag, statuses):
    """MPI_Testall."""
    return _by_address(_WHOLE, _PLACE, _PLACE, _PLACE)


@intrinsic
def _test_some(typing_context, address, count, requests, found, indices, statuses):
    """MPI_Testsome."""
    return _by_address(_WHOLE, _PLACE, _PLACE, _PLACE, _PLACE)


@intrinsic
def _give_way(typing_context, address):
    """sched_yield."""
    return _by_address()


@njit(cache=True, nogil=True, error_model="numpy")
def watch(places, requests, flag, looks):
    """Looks at some requests in turn until one is done, at most ``looks`` times each.

    Parameters
    ----------
    places : ndarray, shape (4,), int64
        The addresses of MPI_Test, sched_yield, ``flag``, and of room for a status.
    requests : ndarray, shape (n,), int64
        The addresses of the handles.
    flag : ndarray, shape (1,), int32
    looks : int

    Returns
    -------
    int
        Which is done; n when none is; where MPI fails, its error code, negative.
    """
    for _ in range(looks):
        for i in range(requests.size):
            error = _test(places[0], requests[i], places[2], places[3])
            if error:
                return -error
            if flag[0]:
                return i
        _give_way(places[1])
    return requests.size


@njit(cache=True, nogil=True, error_model="numpy")
def start(places, k, everyone, with_sends):
    """Before the answers of round k: none has come.

    With ``everyone`` all receives are started, and ``with_sends`` the sends after them; without, the states of those
    who are awaited stand already, and their receives are started by somebody else. Returns MPI's error code, negative.

    ``places``, shape (`PLACES`,), int64, tells where all is, see `START_ALL` and `COURSE`; ``course[UPLOAD:FIRST]``
    stands.
    """
    workers, error, missing = places[WORKERS], 0, 0
    course = carray(_pointer(places[COURSE]), (1 + SENT,), np.int64)
    said = carray(_pointer(places[SAID]), (workers, 1 + HOME), np.int64)
    worked = carray(_pointer(places[WORKED]), (places[RANKS],), np.float64)
    if everyone:
        count = workers + (places[SENDS] if with_sends else 0)
        error = _start_all(places[START_ALL], count, places[HANDLES])
    for m in range(workers):
        if everyone:
            said[m, STATE] = AWAITED
        missing += said[m, STATE] == AWAITED
    course[MISSING] = missing
    course[ROUND] = k
    course[FIRST] = course[UNREAD] = course[UPLOADS] = course[SKIPS] = course[MOST] = 0
    course[LEAST] = _MANY
    course[SENT] = 0 if with_sends else -1
    longest = 0.0
    for rank in range(1, worked.size):
        longest = max(longest, worked[rank])
        worked[rank] = 0.0
    worked[0] += longest
    return -error


@njit(cache=True, nogil=True, error_model="numpy")
def collect(places, looks):
    """Takes the answers of a round that have come; looks until all have, one has to be read, or ``looks`` looks have
    found nothing: so often the processor was given away, for who knows how long, and other duties wait.

    An answer is plain when its header is that of a skip, or of an upload of the awaited length and dtype, by the worker
    and for the round that it is awaited of: its payload lies where it is to be.

    ``places`` as those of `start`. Returns what `CAME` describes; where MPI fails, its error code, negative.
    """
    workers, width, came, quiet = places[WORKERS], places[WIDTH], 0, 0
    course = carray(_pointer(places[COURSE]), (1 + SENT,), np.int64)
    said = carray(_pointer(places[SAID]), (workers, 1 + HOME), np.int64)
    found = carray(_pointer(places[FOUND]), (1 + AT_ONCE + 1,), np.int32)
    words = carray(_pointer(places[WORDS]), (workers, width), np.int64)
    while course[MISSING] > 0 and course[UNREAD] == 0 and quiet < looks:
        first = course[FIRST]
        while said[first, STATE] != AWAITED:
            first += 1
        course[FIRST] = first
        handles = places[HANDLES] + first * places[HANDLE_NBYTES]
        count = min(AT_ONCE, workers - first)
        which = places[FOUND] + _INT
        error = _test_some(places[TEST_SOME], count, handles, places[FOUND], which, places[STATUSES])
        if error:
            return -error
        if found[0] <= 0:
            quiet += 1
            _give_way(places[GIVE_WAY])
            continue
        numbers = carray(_pointer(places[WORDS]), (workers, width), np.float64)
        left = carray(_pointer(places[LEFT]), (workers,), np.float64)
        worked = carray(_pointer(places[WORKED]), (places[RANKS],), np.float64)
        for i in range(found[0]):
            m = first + int64(found[1 + i])
            kind, gradients, elements = words[m, 0] - (m << 32), words[m, 2], words[m, 5]
            state = READ
            if words[m, 1] == course[ROUND]:
                if kind == course[UPLOAD] and elements == course[COUNT]:
                    state = LANDED
                elif kind == course[SKIP] and elements == 0:
                    state = SILENT
            said[m, STATE] = state
            if state == READ:
                course[UNREAD] += 1
                continue
            course[UPLOADS if state == LANDED else SKIPS] += 1
            course[LEAST], course[MOST] = min(course[LEAST], gradients), max(course[MOST], gradients)
            said[m, GRADIENTS] = gradients
            left[m] = numbers[m, 3]
            worked[said[m, HOME]] += numbers[m, 4]
        came += found[0]
        course[MISSING] -= found[0]
    missing = course[MISSING]
    if missing == 0:
        uploaded = carray(_pointer(places[UPLOADED]), (workers,), np.bool_)
        skipped = carray(_pointer(places[SKIPPED]), (workers,), np.bool_)
        for m in range(workers):
            uploaded[m], skipped[m] = said[m, STATE] == LANDED, said[m, STATE] == SILENT
        if course[SENT] == 0:
            handles, flag = places[HANDLES] + workers * places[HANDLE_NBYTES], places[FOUND] + (1 + AT_ONCE) * _INT
            error = _test_all(places[TEST_ALL], places[SENDS], handles, flag, places[STATUSES])
            if error:
                return -error
            course[SENT] = found[1 + AT_ONCE]
    outcome = missing * STILL
    if came:
        outcome |= CAME
    if course[UNREAD]:
        outcome |= HAS_UNREAD
    if course[SENT] == 1:
        outcome |= HAS_SENT
    return outcome
