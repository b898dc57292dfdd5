"""Every transport holds the scripted conversation of conversation.py; and how waits are bounded."""

import os
import socket
import time

import conversation
import numpy as np
import pytest

from psopt.transports import waiting
from psopt.transports.base import failure_header
from psopt.transports.inprocess import InProcess
from psopt.transports.waiting import Patience


def in_process():
    return InProcess(conversation.workers())


def in_process_reordered():
    return InProcess(conversation.workers(), np.random.default_rng(3))


TRANSPORTS = {"inprocess": in_process, "inprocess-reordered": in_process_reordered}
"""Those whose workers live in this process: everybody's rank is 0."""

each_transport = pytest.mark.parametrize("make", TRANSPORTS.values(), ids=TRANSPORTS)


@each_transport
def test_the_conversation(make):
    conversation.converse(make())


@each_transport
def test_a_remote_failure(make):
    conversation.fail(make(), lambda m: 0, socket.gethostname())


@each_transport
def test_stopping_at_once(make):
    conversation.stop(make())


def test_a_failure_keeps_its_cause():
    transport = in_process()
    with pytest.raises(Exception, match="### worker 3 of 5") as caught:
        conversation.exchange(transport, 7, conversation.theta(conversation.POISON))
    assert isinstance(caught.value.__cause__, RuntimeError)
    assert "round 7" in str(caught.value)


def test_the_header():
    assert failure_header(3, 9, 2, "node17", 412) == "### worker 3 of 9, rank 2 on node17, round 412"
    assert failure_header(-1, 9, 2, "node17", 0) == "### no worker at work, rank 2 on node17, round 0"


class Clock:
    """Time that passes only where somebody sleeps or yields."""

    def __init__(self):
        self.now, self.slept = 100.0, []

    def perf_counter(self):
        return self.now

    def sleep(self, seconds):
        self.slept.append(seconds)
        self.now += seconds

    def sched_yield(self):
        self.now += 1e-5


@pytest.fixture
def clock(monkeypatch):
    mine = Clock()
    monkeypatch.setattr(waiting.time, "perf_counter", mine.perf_counter)
    monkeypatch.setattr(waiting.time, "sleep", mine.sleep)
    monkeypatch.setattr(waiting.os, "sched_yield", mine.sched_yield)
    return mine


def test_patience_ends_at_its_deadline(clock):
    patience, began = Patience(2.0), clock.now
    while patience.pause():
        assert clock.now - began <= 2.0 + waiting.LAST_SLEEP_S
    assert 2.0 <= clock.now - began <= 2.0 + 2 * waiting.LAST_SLEEP_S
    assert not patience.pause()


def test_patience_yields_first_and_then_sleeps_in_proportion(clock):
    patience, began = Patience(10.0), clock.now
    while not clock.slept:
        patience.pause()
    assert clock.now - began == pytest.approx(waiting.YIELD_S, abs=1e-4)
    assert clock.slept == [waiting.FIRST_SLEEP_S]
    while clock.now - began < 1.0:
        quiet = clock.now - began
        patience.pause()
        share = max(waiting.FIRST_SLEEP_S, waiting.SLEEP_SHARE * quiet)
        assert clock.slept[-1] == pytest.approx(min(share, waiting.LAST_SLEEP_S))
    assert clock.slept == sorted(clock.slept)
    assert clock.slept[-1] == waiting.LAST_SLEEP_S


def test_activity_starts_the_sleeps_over_but_not_the_deadline(clock):
    patience = Patience(0.5)
    clock.now += 0.3
    patience.pause()
    assert clock.slept == [waiting.LAST_SLEEP_S]
    patience.reset()
    assert patience.pause()
    assert len(clock.slept) == 1  # it yields again
    clock.now += 0.3
    assert not patience.pause()


def test_a_wait_does_not_burn_the_core():
    before, patience = os.times(), Patience(0.3)
    began = time.perf_counter()
    while patience.pause():
        pass
    assert 0.3 <= time.perf_counter() - began < 1.5
    after = os.times()
    assert after.user + after.system - before.user - before.system < 0.2


def test_sleeping_precisely_can_be_asked_for():
    waiting.sleep_precisely()
