"""Answers that need no reading: which the compiled wait takes for such; they count as if they had been read."""

import ctypes

import numpy as np
import pytest
from helpers import built_in, drive, joined, shards_for

from psopt.core.frames import first_word, frames_of, nbytes
from psopt.core.ledger import Ledger
from psopt.core.messages import NO_VECTOR, Kind, Landed, Skip, Upload
from psopt.errors import ProtocolError
from psopt.problems.kernels import calls
from psopt.recipes import RECIPES
from psopt.transports.inprocess import InProcess

M, DIM, K = 4, 3, 7
FLOAT64 = np.dtype(np.float64)
FAILED = 13


class Fake:
    """Stands for MPI: each look finds the workers of one list, or fails."""

    def __init__(self, *looks):
        self.looks, self.yields, self.asked = list(looks), 0, []
        self.sent, self.sends_asked = 1, []
        some = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int, *4 * [ctypes.c_void_p])
        every = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int, *3 * [ctypes.c_void_p])
        self.kept = some(self.test_some), ctypes.CFUNCTYPE(ctypes.c_int)(self.give_way), every(self.test_all)
        some_at, way_at, all_at = (ctypes.cast(function, ctypes.c_void_p).value for function in self.kept)
        self.found = np.zeros(1 + calls.AT_ONCE + 1, np.int32)
        self.places = np.zeros(calls.PLACES, np.int64)
        self.places[[calls.TEST_SOME, calls.GIVE_WAY, calls.TEST_ALL]] = some_at, way_at, all_at
        self.places[[calls.HANDLES, calls.HANDLE_NBYTES]] = 0x1000, 8
        self.places[calls.FOUND] = self.found.ctypes.data

    def test_some(self, count, handles, found, ordinals, statuses):
        first = (handles - 0x1000) // 8
        self.asked.append((first, count))
        done = self.looks.pop(0) if self.looks else []
        if done is None:
            return FAILED
        ctypes.c_int.from_address(found).value = len(done) or -32766  # MPI_UNDEFINED, where none is active
        for i, m in enumerate(done):
            ctypes.c_int.from_address(ordinals + 4 * i).value = m - first
        return 0

    def test_all(self, count, handles, flag, statuses):
        self.sends_asked.append(((handles - 0x1000) // 8, count))
        if self.sent is None:
            return FAILED
        ctypes.c_int.from_address(flag).value = self.sent
        return 0

    def give_way(self):
        self.yields += 1
        return 0


class Waiting:
    """Everyone's answers for round K are awaited; ``look`` takes what has come."""

    def __init__(self, fake, answers, asked=None, with_sends=False):
        workers = len(answers)
        block, slots = frames_of(workers, 8 * DIM)
        for slot, message in zip(slots, answers, strict=True):
            slot.write(message)
        self.course = np.zeros(1 + calls.SENT, np.int64)
        words = first_word(Kind.UPLOAD, FLOAT64), DIM, first_word(Kind.SKIP, NO_VECTOR.dtype)
        self.course[[calls.UPLOAD, calls.COUNT, calls.SKIP]] = words
        said = np.zeros((workers, 3), np.int64)
        said[:, calls.HOME] = [1 + m % 2 for m in range(workers)]
        said[asked or slice(None), calls.STATE] = calls.AWAITED
        self.states, self.worked, self.left = said[:, calls.STATE], np.zeros(3), np.zeros(workers)
        self.uploaded, self.skipped = np.zeros(workers, bool), np.zeros(workers, bool)
        self.block, self.said, self.places = block, said, fake.places
        for place, array in (
            (calls.COURSE, self.course),
            (calls.SAID, said),
            (calls.WORDS, block),
            (calls.UPLOADED, self.uploaded),
            (calls.SKIPPED, self.skipped),
            (calls.LEFT, self.left),
            (calls.WORKED, self.worked),
        ):
            self.places[place] = array.ctypes.data
        self.places[[calls.WORKERS, calls.WIDTH, calls.RANKS]] = workers, block.shape[1] // 8, self.worked.size
        self.start(with_sends)

    def start(self, with_sends=False):
        assert calls.start(self.places, K, False, with_sends) == 0

    def look(self, looks=5):
        return calls.collect(self.places, looks)


def upload(m, k=K, gradients=1, payload=None, left=0.0):
    return Upload(m, k, gradients, 0.25, np.full(DIM, float(m)) if payload is None else payload, left)


def plain():
    return [upload(0), Skip(1, K, 2, 0.5, 8.0), upload(2, left=3.0), upload(3, gradients=4)]


def test_plain_answers_need_no_reading():
    fake = Fake([2], [], [0, 3], [1])
    mine = Waiting(fake, plain())
    assert mine.look() == calls.CAME
    assert mine.course[[calls.MISSING, calls.UNREAD]].tolist() == [0, 0]
    assert mine.uploaded.tolist() == [True, False, True, True]
    assert mine.skipped.tolist() == [False, True, False, False]
    assert mine.left.tolist() == [0.0, 8.0, 3.0, 0.0]
    assert mine.worked.tolist() == [0.0, 0.5, 0.75]
    assert mine.course[[calls.UPLOADS, calls.SKIPS, calls.LEAST, calls.MOST]].tolist() == [3, 1, 1, 4]
    assert fake.yields == 1
    assert fake.asked == [(0, 4), (0, 4), (0, 4), (1, 3)]  # from the first that is missing
    mine.start()
    assert mine.worked.tolist() == [0.75, 0.0, 0.0]  # of the rank that took longest


@pytest.mark.parametrize(
    "strange",
    [
        upload(3),
        upload(1, k=K - 1),
        upload(1, payload=np.zeros(DIM - 1)),
        upload(1, payload=np.zeros(DIM, np.float32)),
        upload(1, payload=np.zeros(DIM, np.int64)),
        Skip(2, K, 1, 0.0),
        Skip(1, K + 1, 1, 0.0),
    ],
    ids=["of another", "of an earlier round", "short", "float32", "int64", "skip of another", "skip of a later round"],
)
def test_what_is_not_as_awaited_has_to_be_read(strange):
    mine = Waiting(Fake([0, 1], [2, 3]), [upload(0), strange, upload(2), upload(3)])
    assert mine.look() == 2 * calls.STILL + calls.HAS_UNREAD + calls.CAME  # at once: somebody is to look at it
    assert mine.course[[calls.MISSING, calls.UNREAD, calls.UPLOADS]].tolist() == [2, 1, 1]
    assert mine.states.tolist() == [calls.LANDED, calls.READ, calls.AWAITED, calls.AWAITED]
    mine.course[calls.UNREAD] = 0
    assert mine.look() == calls.CAME
    assert mine.uploaded.tolist() == [True, False, True, True]
    assert not mine.skipped.any()


def test_it_gives_up_after_so_many_looks_and_tells_what_mpi_says():
    fake = Fake([0], [], [], [], [1], None)
    mine = Waiting(fake, plain())
    assert mine.look(looks=2) == 3 * calls.STILL + calls.CAME
    assert fake.yields == 2
    assert mine.look(looks=0) == 3 * calls.STILL
    assert mine.look(looks=2) == -FAILED


def test_of_a_few_only_these_are_awaited():
    mine = Waiting(Fake([3]), plain(), asked=[3])
    assert mine.look() == calls.CAME
    assert mine.uploaded.tolist() == [False, False, False, True]


@pytest.mark.parametrize(
    ("sent", "outcome"),
    [(1, calls.CAME + calls.HAS_SENT), (0, calls.CAME), (None, -FAILED)],
    ids=["yes", "no", "fails"],
)
def test_once_all_have_come_it_asks_whether_the_question_has_left(sent, outcome):
    fake = Fake([0, 1, 2], [], [3])
    fake.sent, fake.places[calls.SENDS] = sent, 2
    mine = Waiting(fake, plain(), with_sends=True)
    assert mine.look(looks=1) == calls.STILL + calls.CAME
    assert fake.sends_asked == []
    assert mine.look() == outcome
    assert fake.sends_asked == [(M, 2)]


def test_of_many_workers_a_few_are_looked_at_from_the_first_that_is_missing():
    many, at_once = calls.AT_ONCE + 72, calls.AT_ONCE
    fake = Fake(range(1, at_once), [], [0], range(at_once, many))
    mine = Waiting(fake, [Skip(m, K, 1, 0.0) for m in range(many)])
    assert mine.look() == calls.CAME
    assert mine.skipped.all()
    assert fake.asked == [*3 * [(0, at_once)], (at_once, 72)]


class Landing(InProcess):
    """Hands over what is plain together, as the MPI transport does."""

    def exchange(self, message, receive, land=None):
        dim, dtype = self.workers[0].problem.dim, self.workers[0].mirror.dtype
        vectors, answers = [np.zeros(dim, dtype) for _ in self.workers], []

        def keep(answer):
            if type(answer) is Skip:
                answers.append(answer)
            elif answer.payload.size == dim and answer.payload.dtype == dtype:
                vectors[answer.worker][:] = answer.payload
                answers.append(answer)
            else:
                receive(answer)

        super().exchange(message, keep)
        if answers:
            land(landed(len(self.workers), message.round, answers, vectors))


def landed(workers, k, answers, vectors):
    uploaded, skipped, left = np.zeros(workers, bool), np.zeros(workers, bool), np.zeros(workers)
    gradients = np.zeros(workers, np.int64)
    for answer in answers:
        (skipped if type(answer) is Skip else uploaded)[answer.worker] = True
        gradients[answer.worker], left[answer.worker] = answer.gradients, answer.left
    took = {answer.gradients for answer in answers}
    each = took.pop() if len(took) == 1 else None
    counts = int(uploaded.sum()), int(skipped.sum())
    return Landed(k, *counts, uploaded, skipped, each, gradients, left, vectors)


@pytest.mark.parametrize("recipe", RECIPES)
def test_the_server_takes_them_as_if_one_by_one(recipe):
    problems = built_in("logistic", shards_for("logistic", 5, seed=2), "float64", l2=0.1)
    one_by_one, together = (drive(RECIPES[recipe].row, problems, 40, wire=wire) for wire in (InProcess, Landing))
    np.testing.assert_array_equal(one_by_one.thetas, together.thetas)
    np.testing.assert_array_equal(one_by_one.masks, together.masks)
    np.testing.assert_array_equal(one_by_one.server.left, together.server.left)


@pytest.mark.parametrize(
    "answers",
    [
        [upload(m) for m in range(M)],
        [Skip(m, K, 2, 0.0) for m in range(M)],
        plain(),
        [upload(m, gradients=m) for m in range(M)],
        [upload(2), Skip(3, K, 1, 0.0)],
    ],
    ids=["all upload", "all skip", "mixed", "more and fewer gradients", "a few"],
)
def test_the_ledger_counts_them_as_if_one_by_one(answers):
    one_by_one, together = Ledger(M), Ledger(M)
    for answer in answers:
        one_by_one.up(answer)
    together.land(landed(M, K, answers, [np.zeros(DIM)] * M))
    assert together.totals() == one_by_one.totals()
    for column in ("uploads", "skips", "payload_bytes_up", "control_bytes_up", "gradient_evaluations"):
        np.testing.assert_array_equal(getattr(together, column), getattr(one_by_one, column), column)
    assert (together.wire.messages_up, together.wire.bytes_up) == (
        len(answers),
        sum(nbytes(answer) for answer in answers),
    )


def test_the_server_takes_none_that_it_did_not_ask_for():
    course = joined(RECIPES["lag-ps"].row, built_in("logistic", shards_for("logistic", M, seed=2), "float64", l2=0.1))
    course.server.begin()
    dim = course.server.theta.size
    vectors = [np.zeros(dim)] * M
    with pytest.raises(ProtocolError, match=r"worker \[0, 1, 2, 3\] for round 9 arrived in round 1, which awaits"):
        course.server.land(landed(M, 9, [upload(m) for m in range(M)], vectors))
    course.server.land(landed(M, 1, [upload(0)], vectors))
    with pytest.raises(ProtocolError, match=r"worker \[0\] for round 1 arrived in round 1, which awaits \[1, 2, 3\]"):
        course.server.land(landed(M, 1, [upload(0)], vectors))
