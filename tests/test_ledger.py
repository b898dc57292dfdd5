"""The ledger against messages spied on at the transport: counts by their meaning, bytes as they were packed."""

import dataclasses

import numpy as np
import pytest
from helpers import built_in, drive, joined, shards_for, tiny

from psopt.config import parse
from psopt.core.frames import Frame, nbytes
from psopt.core.ledger import COLUMNS, Ledger
from psopt.core.messages import (
    HEADER_NBYTES,
    Broadcast,
    Evaluate,
    Hello,
    KeepAlive,
    Skip,
    Stop,
    Upload,
    Value,
    What,
    mask_nbytes,
)
from psopt.recipes import RECIPES
from psopt.runs.experiment import Plan, simulate

WORKERS = 5
each_recipe = pytest.mark.parametrize("recipe", RECIPES)
each_dtype = pytest.mark.parametrize("dtype", ["float64", "float32"])


@pytest.fixture
def packed(monkeypatch):
    """Every message that took its binary form in process, with the bytes written."""
    seen = []

    def spy(frame, message):
        size = write(frame, message)
        kept = [field.copy() if isinstance(field, np.ndarray) else field for field in message]
        seen.append((type(message)(*kept), size))
        return size

    write = Frame.write
    monkeypatch.setattr(Frame, "write", spy)
    return seen


def asked(message):
    return list(range(WORKERS)) if getattr(message, "workers", None) is None else message.workers.tolist()


@each_recipe
@each_dtype
def test_totals_are_sums_over_the_messages(recipe, dtype, packed):
    problems = built_in("logistic", shards_for("logistic", WORKERS, seed=2), dtype, l2=0.1)
    course = drive(RECIPES[recipe].row, problems, 40, dtype=dtype, evaluate=True)
    course.transport.stop(40)
    ledger, itemsize = course.transport.ledger, np.dtype(dtype).itemsize
    payload_nbytes = RECIPES[recipe].row.codec.capacity([6], np.dtype(dtype))
    up = [(message, size) for message, size in packed if isinstance(message, Upload | Skip | Value | Hello)]
    down = [(message, size) for message, size in packed if isinstance(message, Broadcast | Evaluate)]
    assert len(up) + len(down) == len(packed)
    for m in range(WORKERS):
        mine = [(message, size) for message, size in up if message.worker == m]
        heard = [(message, size) for message, size in down if m in asked(message)]
        uploads = [message for message, _ in mine if isinstance(message, Upload)]
        skips = [message for message, _ in mine if isinstance(message, Skip)]
        rounds = [(message, size) for message, size in heard if isinstance(message, Broadcast)]
        of_values = sum(size for message, size in mine if isinstance(message, Value))
        of_questions = sum(size for message, size in heard if isinstance(message, Evaluate))
        expected = {
            "uploads": len(uploads),
            "skips": len(skips),
            "downloads": len(rounds),
            "payload_bytes_up": payload_nbytes * len(uploads),
            "payload_bytes_down": 6 * itemsize * len(rounds),
            "control_bytes_up": HEADER_NBYTES * (len(uploads) + len(skips) + 1),
            "control_bytes_down": sum(size for _, size in rounds) - 6 * itemsize * len(rounds) + HEADER_NBYTES,
            "evaluation_bytes_up": of_values,
            "evaluation_bytes_down": of_questions,
            "gradient_evaluations": sum(message.gradients for message in uploads + skips),
        }
        assert {name: int(getattr(ledger, name)[m]) for name in COLUMNS} == expected
        sent = expected["payload_bytes_up"] + expected["control_bytes_up"] + of_values
        assert sent == sum(size for _, size in mine)  # every byte is on one book, none on two
        assert len(uploads) + len(skips) == len(rounds)
        assert len(uploads) == course.uploads[:, m].sum()
        assert expected["gradient_evaluations"] >= len(rounds)
    assert dataclasses.asdict(ledger.totals()) == {name: int(getattr(ledger, name).sum()) for name in COLUMNS}


@each_recipe
def test_evaluations_are_on_no_other_book(recipe):
    """The algorithm's columns are the same whether F is evaluated every round or never."""
    problems = built_in("logistic", shards_for("logistic", WORKERS, seed=2), l2=0.1)
    watched, alone = (drive(RECIPES[recipe].row, problems, 30, evaluate=evaluate) for evaluate in (True, False))
    rounds = len(watched.masks)
    assert rounds == 30 or recipe in ("local-sgd", "one-shot")
    watched, alone = (dataclasses.asdict(course.transport.ledger.totals()) for course in (watched, alone))
    for name in COLUMNS:
        if name.startswith("evaluation"):
            assert alone[name] == 0
            assert watched[name] == rounds * WORKERS * (HEADER_NBYTES + (48 if name.endswith("down") else 0))
        else:
            assert watched[name] == alone[name]


@pytest.mark.parametrize(("recipe", "downloads"), [("gd", 40), ("lag-wk", 40), ("cyc-iag", 5 + 7), ("num-iag", 5 + 7)])
def test_logical_counts_of_a_whole_run(recipe, downloads):
    done = simulate(Plan(parse(tiny(workers=5, algorithm=recipe)), quiet=True))
    got = done.summary
    assert got["downloads"] == downloads
    assert got["uploads"] == done.uploads.sum()
    assert got["skips"] == downloads - got["uploads"]
    assert got["gradient_evaluations"] == downloads
    assert got["payload_bytes_up"] == got["uploads"] * 4 * 8
    assert got["payload_bytes_down"] == downloads * 4 * 8
    masked = 7 if recipe.endswith("iag") else 0
    assert got["control_bytes_down"] == HEADER_NBYTES * (downloads + 5) + mask_nbytes(5) * masked
    assert got["control_bytes_up"] == HEADER_NBYTES * (downloads + 5)
    assert got["evaluation_bytes"] > 0
    assert (got["wire_bytes_up"], got["wire_bytes_down"], got["wire_setup_bytes"]) == (0, 0, 0)


def test_the_unselected_cost_nothing():
    course = joined(RECIPES["lag-ps"].row, built_in("logistic", shards_for("logistic", WORKERS, seed=2), l2=0.1))
    before = course.transport.ledger.totals()
    course.transport.exchange(Broadcast(1, 0.0, 0, 1, np.zeros(6), np.array([1, 3]), 8), lambda answer: None)
    ledger = course.transport.ledger
    assert ledger.downloads.tolist() == [0, 1, 0, 1, 0]
    assert ledger.control_bytes_down.tolist() == [0, 56, 0, 56, 0]
    assert ledger.totals().control_bytes_up - before.control_bytes_up == 2 * HEADER_NBYTES


def test_keep_alives_stops_and_greetings_are_control():
    ledger = Ledger(3)
    ledger.down(KeepAlive(4), [2])
    ledger.down(Stop(4), None)
    ledger.up(Hello(1, 10, 2, 0.5))
    assert ledger.control_bytes_down.tolist() == [48, 48, 96]
    assert ledger.control_bytes_up.tolist() == [0, 48, 0]
    rest = [name for name in COLUMNS if not name.startswith("control")]
    assert all(getattr(ledger.totals(), name) == 0 for name in rest)


def test_any_sizes():
    """Payloads need not be as long as theta, nor answers to questions."""
    ledger = Ledger(2)
    ledger.up(Upload(0, 1, 3, 0.0, np.zeros(5, np.uint8)))
    ledger.up(Value(1, 1, 0.5, 0.0, np.zeros(9)))
    question = Evaluate(1, What.HESSIAN, False, np.zeros(3))
    ledger.down(question, None)
    totals = ledger.totals()
    assert (totals.uploads, totals.payload_bytes_up, totals.gradient_evaluations) == (1, 5, 3)
    assert (totals.evaluation_bytes_up, totals.evaluation_bytes_down) == (48 + 72, 2 * nbytes(question))
    with pytest.raises(AttributeError):
        _ = ledger.nothing
