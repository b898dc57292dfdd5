"""Memory in common: what one rank writes all see, nobody is left with half of it, and messages name what lies there."""

import gc
import os
import threading
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from psopt.config import parse
from psopt.core.frames import LENT, Frame, first_word, nbytes
from psopt.core.messages import HEADER_NBYTES, Broadcast, Evaluate, Kind, Skip, Stop, Upload, What
from psopt.errors import ProtocolError
from psopt.parts.triggers import Always
from psopt.runs import in_common
from psopt.runs.experiment import Plan
from psopt.transports import commons
from psopt.transports.commons import commons_of

FLOAT32, FLOAT64 = np.dtype("f4"), np.dtype("f8")
DIM, WORKERS = 1001, 3


def asked_by(ranks, *arguments):
    """What each of so many ranks gets; here they are threads, with collectives of their own."""
    told, met = [None] * ranks, threading.Barrier(ranks, timeout=20)
    found = [None] * ranks

    def gather(rank, value):
        told[rank] = value
        met.wait()
        everyone = list(told)
        met.wait()
        return everyone

    def ask(rank):
        link = SimpleNamespace(
            rank=rank,
            share=lambda value, timeout_s: gather(rank, value)[0],
            gather=lambda value, timeout_s: gather(rank, value),
        )
        found[rank] = commons_of(link, *arguments, 1.0)

    threads = [threading.Thread(target=ask, args=(rank,)) for rank in range(ranks)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


def open_files():
    return len(os.listdir("/proc/self/fd"))


@pytest.mark.parametrize("dtype", [FLOAT32, FLOAT64])
def test_what_one_writes_all_see(dtype):
    found = asked_by(3, WORKERS, DIM, dtype, True)
    for other in found[1:]:
        assert not np.shares_memory(found[0].theta, other.theta)  # another place of the same memory
    found[0].theta[:] = np.arange(DIM)
    for m in range(WORKERS):
        found[1 + m % 2].rows[1][m].array[:] = m + 1
    for theta, (block, frames) in found:
        assert (theta == np.arange(DIM)).all()
        assert theta.dtype == dtype
        assert theta.ctypes.data % 64 == 0  # begins with a line
        assert [frame.array.tolist() for frame in frames] == [[m + 1.0] * DIM for m in range(WORKERS)]
        rows = block.view(dtype)[:, HEADER_NBYTES // dtype.itemsize :][:, :DIM]
        assert (rows == [[1], [2], [3]]).all()


def test_theta_alone():
    assert all(one.rows is None and one.theta.size == DIM for one in asked_by(2, WORKERS, DIM, FLOAT64, False))


def test_nothing_stays_open_and_theta_keeps_no_rows():
    before = open_files()
    found = asked_by(2, WORKERS, DIM, FLOAT64, True)
    kept = found[0].theta
    kept[:] = 1
    del found
    gc.collect()
    maps = [line for line in Path("/proc/self/maps").read_text().splitlines() if "memfd:psopt" in line]
    assert len(maps) == 1
    assert open_files() == before + 1  # which its map holds
    assert kept.sum() == DIM


def refuses(*arguments):
    raise OSError("no such memory")


@pytest.mark.parametrize("lacking", ["memfd_create", "posix_fallocate", "open"])
def test_where_one_finds_none_nobody_has_any(monkeypatch, lacking):
    before = open_files()
    monkeypatch.setattr(os, lacking, refuses)
    assert asked_by(3, WORKERS, DIM, FLOAT64, True) == [None] * 3
    monkeypatch.undo()
    gc.collect()
    assert open_files() == before


def test_a_system_without_it(monkeypatch):
    monkeypatch.delattr(os, "memfd_create")
    assert asked_by(2, WORKERS, DIM, FLOAT64, True) == [None] * 2


@pytest.mark.parametrize("difference", ["token", "size", "kind"])
def test_memory_of_somebody_else_is_not_taken_for_rank_0s(monkeypatch, tmp_path, difference):
    made = commons._made

    def elsewhere(sizes):
        file, found, (place, token) = made(sizes)
        if difference == "token":
            token = bytes(16).hex()
        elif difference == "size":
            os.ftruncate(file, os.fstat(file).st_size + 1)
        else:
            place = str(tmp_path / "pipe")
            os.mkfifo(place)
        return file, found, (place, token)

    monkeypatch.setattr(commons, "_made", elsewhere)
    assert asked_by(2, WORKERS, DIM, FLOAT64, True) == [None] * 2


class Seldom(Always):
    """A lazy trigger that looks at no mirror."""

    lazy = True


@pytest.mark.parametrize(
    ("recipe", "kind", "trigger", "lies"),
    [
        ("gd", "logistic", None, "rows"),
        ("num-iag", "logistic", None, "rows"),
        ("lag-wk", "logistic", None, "theta"),
        ("gd", "logistic", Seldom(), "theta"),  # a row holds what was said, and it may say nothing
        ("gd", "torch", None, None),
        ("gd", "mine:Problem", None, None),
    ],
)
def test_what_lies_in_common(monkeypatch, recipe, kind, trigger, lies):
    asked = []
    monkeypatch.setattr(in_common, "commons_of", lambda *arguments: asked.append(arguments[-2]) or "found")
    config = parse(
        {
            "name": "common",
            "workers": 3,
            "algorithm": {"recipe": recipe, "step_size": 0.1},
            "problem": {"kind": "logistic"},
            "data": {"source": "lag-increasing"},
            "stop": {"max_rounds": 3},
        }
    )
    config = replace(config, problem=replace(config.problem, kind=kind))
    if trigger:
        config = replace(config, algorithm=replace(config.algorithm, trigger=trigger))
    plan, link = Plan(config), SimpleNamespace(one_host=True)
    found = in_common.commons(plan, link, 1 << 13)
    assert asked == ([] if lies is None else [lies == "rows"])
    assert (found is None) == (lies is None)
    assert in_common.commons(plan, link, 1000) is None  # too short
    assert in_common.commons(replace(plan, problem=object), link, 1 << 13) is None  # a user's own


def lending(array, room=0):
    frame = Frame(np.full(HEADER_NBYTES + room, 0xA5, np.uint8))
    frame.lend(array)
    return frame


def test_a_message_whose_array_lies_where_both_see_it_is_a_header():
    theta, row = np.arange(5.0), np.zeros(5)
    down, up = lending(theta), lending(row)
    for message in (Broadcast(7, 0.5, 3, 1, theta), Evaluate(7, What.OBJECTIVE, True, theta)):
        assert down.write(message) == HEADER_NBYTES
        assert down.nbytes == nbytes(message) == HEADER_NBYTES + 40
        there = lending(theta)
        there.buffer[:] = down.buffer
        read = there.read(HEADER_NBYTES)
        assert read.theta is theta
        assert read[:4] == message[:4] or type(message) is Evaluate
        assert there.nbytes == HEADER_NBYTES + 40
    assert up.write(Upload(2, 7, 1, 0.1, np.full(5, 3.0))) == HEADER_NBYTES  # put there first
    assert row.tolist() == [3.0] * 5
    assert up.buffer[:8].view(np.int64)[0] == first_word(Kind.UPLOAD, FLOAT64, lent=True) + (2 << 32)
    for message in (Skip(2, 7, 1, 0.1), Stop(7)):
        assert up.write(message) == up.nbytes == HEADER_NBYTES
        assert type(up.read()) is type(message)
    assert up.write(Upload(2, 8, 1, 0.1, row)) == HEADER_NBYTES
    assert up.read().payload is row


def test_the_bits_of_who_is_asked_follow_the_header():
    theta = np.arange(4.0)
    down = lending(theta, room=8)
    assert down.write(Broadcast(1, 0.0, 0, 1, theta, np.array([0, 5]), 8)) == HEADER_NBYTES + 8
    assert down.nbytes == HEADER_NBYTES + 32 + 8
    read = down.read()
    assert read.workers.tolist() == [0, 5]
    assert read.theta is theta
    assert down.nbytes == HEADER_NBYTES + 32 + 8
    assert theta.tolist() == [0.0, 1.0, 2.0, 3.0]


def test_in_a_frame_that_lends_arrays_may_follow_the_header_as_well():
    theta = np.arange(4.0)
    there = lending(theta, room=64)
    here = Frame(np.empty(HEADER_NBYTES + 64, np.uint8))
    for array in (np.full(4, 9.0), np.full(8, 8.0), np.full(4, 7.0, "f4")):
        here.write(Evaluate(1, What.OBJECTIVE, False, array))
        there.buffer[:] = here.buffer
        read = there.read().theta
        assert read is not theta
        assert read.tobytes() == array.tobytes()
        named = lending(theta)
        named.write(Broadcast(1, 0.0, 0, 1, theta))
        there.buffer[:HEADER_NBYTES] = named.buffer
        assert there.read().theta is theta
    assert theta.tolist() == [0.0, 1.0, 2.0, 3.0]


@pytest.mark.parametrize("other", [np.arange(4.0), np.arange(5.0, dtype="f4")], ids=["elements", "dtype"])
def test_what_is_not_lent_cannot_be_named(other):
    frame = lending(other, room=100)
    frame.write(Broadcast(1, 0.0, 0, 1, other))
    for there in (lending(np.arange(5.0), room=100), Frame(np.empty(HEADER_NBYTES + 100, np.uint8))):
        there.buffer[:] = frame.buffer
        with pytest.raises(ProtocolError, match=f"names dtype {LENT + (1 if other.dtype == FLOAT32 else 2)}, which"):
            there.read()
