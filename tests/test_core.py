"""Server and workers as state machines, joined by hand: what they refuse, remember, and never change."""

import math
from dataclasses import dataclass, field, replace
from typing import ClassVar

import numpy as np
import pytest
from helpers import OwnSquares, built_in, drive, go, joined, own_problems, shards_for, tables, tiny

from psopt.algorithm import Algorithm
from psopt.config import parse
from psopt.core.frames import frame_of, frames_of
from psopt.core.history import Anchors, History
from psopt.core.messages import HEADER_NBYTES, Broadcast, Evaluate, Hello, Skip, Upload, What
from psopt.core.room import Room
from psopt.core.server import Server
from psopt.core.worker import Oracle, Worker, one_vector
from psopt.errors import ConfigError, IncompatibleParts, NotFinite, ProtocolError, WorkerFailed
from psopt.parts.aggregators import Lazy
from psopt.parts.codecs import Overwrite
from psopt.parts.compressors import Identity
from psopt.parts.rows import Rows
from psopt.parts.schedules import Constant
from psopt.parts.selections import BySmoothness, Cyclic, SmoothnessDrift
from psopt.parts.starts import Gradient, Ones, Zero
from psopt.parts.triggers import Always, Innovation
from psopt.parts.updates import Descent
from psopt.problems.base import Share
from psopt.recipes import RECIPES
from psopt.runs.experiment import Plan, simulate

each_recipe = pytest.mark.parametrize("recipe", RECIPES)
FLOAT64 = np.dtype(np.float64)


def server(workers=3, dim=2, algorithm=None, theta=None, smoothness=math.nan, joint=None):
    row = algorithm or Algorithm(step_size=Constant(0.1))
    hellos = [Hello(m, 5, dim, smoothness) for m in range(workers)]
    return Server(row, np.zeros(dim) if theta is None else theta, hellos, np.random.default_rng(0), joint)


def answer(m, k=1, value=1.0, dim=2):
    return Upload(m, k, 1, 0.0, np.full(dim, value))


def test_a_round_by_hand():
    mine = server(theta=np.array([1.0, 2.0]))
    message = mine.begin()
    assert message[:4] == (1, -math.inf, 0, 1)
    assert message.workers is None
    for m in (2, 0, 1):  # in any order
        assert m in mine.awaited
        mine.receive(answer(m, value=float(m)))
    mine.finish()
    assert mine.theta.tolist() == [1.0 - 0.1 * 3.0, 2.0 - 0.1 * 3.0]
    assert mine.squared_step == pytest.approx(2 * 0.3**2)
    assert mine.aggregate_norm() == pytest.approx(math.sqrt(18.0))
    assert mine.begin().round == 2
    for m in range(3):
        mine.receive(Skip(m, 2, 1, 0.0))
    mine.finish()
    assert not mine.uploaded.any()
    assert [mine.stale(m).tolist() for m in range(3)] == [[0.0, 0.0], [1.0, 1.0], [2.0, 2.0]]


@pytest.mark.parametrize("drop", [False, True])
def test_a_lost_worker_is_neither_awaited_nor_asked(drop):
    mine = server()
    for k, lost in ((1, None), (2, 1), (3, None)):
        mine.begin()
        for m in range(3):
            if m in mine.awaited and m != lost:
                mine.receive(answer(m, k, value=10.0**m))
        if lost is not None:
            assert mine.awaited == {lost}
            mine.lose([lost], drop)
            with pytest.raises(ProtocolError, match="worker 1"):
                mine.receive(answer(lost, k))
        mine.finish()
        assert mine.uploaded.tolist() == [True, k == 1, True]
    assert mine.living.tolist() == [0, 2]
    assert mine.aggregate_norm() == pytest.approx(math.sqrt(2) * (101.0 if drop else 111.0))


def test_the_first_theta_is_copied():
    theta = np.ones(2)
    mine = server(theta=theta)
    mine.begin()
    for m in range(3):
        mine.receive(answer(m))
    mine.finish()
    assert theta.tolist() == [1.0, 1.0]


def test_absorbed_payloads_may_be_overwritten():
    mine, buffer = server(), np.empty(2)
    mine.begin()
    for m in range(3):
        buffer[:] = m
        mine.receive(Upload(m, 1, 1, 0.0, buffer))
    assert [mine.stale(m)[0] for m in range(3)] == [0.0, 1.0, 2.0]


def test_what_arrives_in_its_row_is_held_there():
    block, frames = frames_of(3, 16)
    rows = Rows(block.view(np.float64), HEADER_NBYTES // 8, [frame.hold(2, np.dtype("f8")) for frame in frames])
    down = frame_of(2, np.dtype("f8"))
    hellos = [Hello(m, 5, 2, math.nan) for m in range(3)]
    row = Algorithm(step_size=Constant(0.1))
    mine = Server(row, np.zeros(2), hellos, np.random.default_rng(0), room=Room(down.array, rows))
    plain = server()
    for k, speaking in ((1, (0, 1, 2)), (2, (1,))):
        message = mine.begin()
        assert message.theta is down.array
        plain.begin()
        for m in range(3):
            told = answer(m, k, value=m + 10.0 * k) if m in speaking else Skip(m, k, 1, 0.0)
            frames[m].write(told)  # as the network does
            seen = frames[m].read()
            assert (seen.payload is rows.vectors[m]) if m in speaking else type(seen) is Skip
            mine.receive(seen)
            plain.receive(told)
        mine.finish()
        plain.finish()
    assert [mine.stale(m).tolist() for m in range(3)] == [[10.0, 10.0], [21.0, 21.0], [12.0, 12.0]]
    assert all(mine.stale(m) is rows.vectors[m] for m in range(3))
    assert mine.theta.tolist() == plain.theta.tolist()
    assert down.read(down.write(mine.begin())).theta is mine.theta


class Clipped(Descent):
    def step(self, state, theta, aggregate, step_size):
        return super().step(state, theta, np.clip(aggregate, -1, 1), step_size)


class Largest(Lazy):
    def total(self, state):
        return np.array([state.held.row(m) for m in range(3)]).max(axis=0)


class Halved(Overwrite):
    def absorb(self, stale, payload):
        stale[:] = payload / 2


@pytest.mark.parametrize(
    ("part", "moved"),
    [({"update": Clipped()}, 1.0), ({"aggregator": Largest()}, 4.0), ({"codec": Halved()}, (2.0 + 3.0 + 4.0) / 2)],
    ids=["update", "aggregator", "codec"],
)
def test_what_a_subclass_does_its_own_way_is_not_passed_over(part, moved):
    block, frames = frames_of(3, 16)
    rows = Rows(block.view(np.float64), HEADER_NBYTES // 8, [frame.hold(2, np.dtype("f8")) for frame in frames])
    row = Algorithm(step_size=Constant(1.0), **part)
    mine = Server(
        row, np.zeros(2), [Hello(m, 5, 2, 1.0) for m in range(3)], np.random.default_rng(0), room=Room(None, rows)
    )
    mine.begin()
    for m in range(3):
        frames[m].write(answer(m, value=m + 2.0))
        mine.receive(frames[m].read())
    mine.finish()
    assert mine.theta.tolist() == [-moved] * 2


@pytest.mark.parametrize("fill", [Zero(), Ones()])
def test_rows_begin_with_what_the_start_says(fill):
    block, frames = frames_of(3, 16)
    block.fill(255)
    rows = Rows(block.view(np.float64), HEADER_NBYTES // 8, [frame.hold(2, np.dtype("f8")) for frame in frames])
    row, hellos = Algorithm(step_size=Constant(0.5), start=fill), [Hello(m, 5, 2, 1.0) for m in range(3)]
    mine = Server(row, np.zeros(2), hellos, np.random.default_rng(0), room=Room(None, rows))
    assert [mine.stale(m).tolist() for m in range(3)] == [[fill.fill] * 2] * 3
    assert mine.aggregate_norm() == pytest.approx(3 * fill.fill * math.sqrt(2))


@pytest.mark.parametrize("message", [answer(0), Skip(0, 1, 1, 0.0)])
def test_a_duplicate_answer(message):
    mine = server()
    mine.begin()
    mine.receive(answer(0))
    with pytest.raises(ProtocolError, match=r"worker 0 for round 1 arrived in round 1, which awaits \[1, 2\]"):
        mine.receive(message)


@pytest.mark.parametrize("m", [-1, 3, 0])
def test_an_answer_of_somebody_who_was_not_asked(m):
    mine = server(algorithm=Algorithm(start=Zero(), selection=Cyclic(), step_size=Constant(0.1)))
    assert mine.begin().workers.tolist() == [1]
    with pytest.raises(ProtocolError, match=r"which awaits \[1\]"):
        mine.receive(answer(m))


@pytest.mark.parametrize("k", [0, 2])
def test_an_answer_of_another_round(k):
    mine = server()
    mine.begin()
    with pytest.raises(ProtocolError, match=f"for round {k} arrived in round 1"):
        mine.receive(answer(0, k))
    assert not mine.uploaded.any()


def test_an_answer_between_rounds():
    mine = server(1)
    with pytest.raises(ProtocolError, match="awaits nobody"):
        mine.receive(answer(0, 0))
    mine.begin()
    mine.receive(answer(0))
    mine.finish()
    with pytest.raises(ProtocolError, match="awaits nobody"):
        mine.receive(answer(0))


def test_finishing_early_twice_or_unbegun_and_beginning_twice():
    mine = server()
    with pytest.raises(ProtocolError, match="cannot be finished"):
        mine.finish()
    mine.begin()
    mine.receive(answer(1))
    with pytest.raises(ProtocolError, match=r"round 1 cannot be finished: \[0, 2\] are missing"):
        mine.finish()
    with pytest.raises(ProtocolError, match="round 1 was not finished"):
        mine.begin()
    mine.receive(answer(0))
    mine.receive(answer(2))
    mine.finish()
    with pytest.raises(ProtocolError, match="cannot be finished"):
        mine.finish()


def test_a_step_to_infinity_is_the_users_mistake():
    mine = server(1, algorithm=Algorithm(step_size=Constant(1e300)))
    mine.begin()
    mine.receive(answer(0, value=1e300))
    with pytest.raises(
        ConfigError, match="no longer finite after round 1, first in tensor `theta`: is the step size 1e"
    ):
        mine.finish()


def test_what_a_server_needs_to_know():
    with pytest.raises(ConfigError, match="formula in L, but this problem has no method"):
        server(algorithm=Algorithm())
    assert server(algorithm=Algorithm(), joint=4.0).step_size == 0.25
    for selection in (SmoothnessDrift(), BySmoothness()):
        with pytest.raises(IncompatibleParts, match="has no method `smoothness"):
            server(algorithm=Algorithm(selection=selection, step_size=Constant(0.1)))
    with pytest.raises(ConfigError, match="comes out as nan"):
        server(algorithm=Algorithm(step_size=Constant("1/(M-3)")))


def test_nobody_is_asked_while_silent():
    start = Ones(silent_rounds=2)
    mine = server(algorithm=Algorithm(start=start, trigger=Innovation(), step_size=Constant(0.25)))
    for k in (1, 2):
        assert not mine.asks_everyone_next
        assert mine.begin() is None
        assert mine.threshold == math.inf
        mine.finish()
        assert mine.theta.tolist() == [-0.75 * k] * 2  # three workers' ones
    assert mine.asks_everyone_next
    message = mine.begin()
    assert message.workers is None
    assert math.isfinite(message.threshold)


class Cliff(OwnSquares):
    """The gradient of worker ``worker`` is not finite from the third one on."""

    calls = 0

    def value_and_gradient(self, theta, out):
        value = super().value_and_gradient(theta, out)
        self.calls += 1
        if self.calls == 3:
            out[-1] = self.poison
        return value


@pytest.mark.parametrize("poison", [math.nan, math.inf, -math.inf])
def test_a_contribution_that_is_not_finite_names_worker_and_round(poison):
    problems = own_problems("squares", tables(3))
    problems[1] = Cliff(tables(3)[1], Share(1, 3, 0))
    problems[1].poison = poison
    lazy = Algorithm(step_size=Constant(1e-4), start=Gradient(), trigger=Innovation(xi=0.0))
    course = go(joined(lazy, problems), 2)
    mirror = course.workers[1].mirror.copy()
    told = r"round 3: the gradient of worker 1 is not finite in tensor `theta`: is the step size"
    with pytest.raises(NotFinite, match=told):
        course.workers[1].handle(course.server.begin())
    np.testing.assert_array_equal(course.workers[1].mirror, mirror)
    problems[1].calls = 2
    with pytest.raises(WorkerFailed, match=r"### worker 1 of 3, rank 0 on .*, round 3\n" + told):
        course.transport.exchange(Broadcast(3, 0.0, 2, 1, course.server.theta), course.server.receive)


@each_recipe
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("reorder", [None, 7])
def test_mirrors_equal_what_the_server_holds(recipe, dtype, reorder):
    problems = built_in("logistic", shards_for("logistic", 5, seed=2), dtype, l2=0.1)

    def check(course):
        for worker in course.workers:
            assert worker.mirror.dtype == dtype
            np.testing.assert_array_equal(worker.mirror, course.server.stale(worker.m))
            asked = Evaluate(course.server.round, What.MIRROR, False, course.server.theta)
            np.testing.assert_array_equal(worker.evaluate(asked).vector, course.server.stale(worker.m))

    order = None if reorder is None else np.random.default_rng(reorder)
    drive(RECIPES[recipe].row, problems, 40, each=check, dtype=dtype, reorder=order)


def test_anchors_keep_each_iterate_once_and_only_while_needed():
    rng = np.random.default_rng(0)
    thetas = rng.standard_normal((60, 3))
    anchors, held = Anchors(5, thetas[0]), [thetas[0].copy() for _ in range(5)]
    for k in range(1, 60):
        chosen = None if k % 13 == 0 else np.flatnonzero(rng.random(5) < 0.3)
        anchors.contact(chosen, k, thetas[k])
        for m in range(5) if chosen is None else chosen:
            held[m] = thetas[k].copy()
        assert len(anchors) == len({tuple(anchor) for anchor in held})
        here = rng.standard_normal(3)
        expected = [float(np.sum((anchor - here) ** 2)) for anchor in held]
        np.testing.assert_allclose(anchors.drifts(here), expected, rtol=1e-14)
        thetas[k] = np.nan  # the server moves theta in place


def test_history_is_newest_first_and_forgets():
    history = History(3)
    assert history.squared_steps() == []
    for step in (1.0, 2.0, 3.0, 4.0):
        history.advance(step)
    assert history.squared_steps() == [4.0, 3.0, 2.0]
    empty = History(0)
    empty.advance(1.0)
    assert empty.squared_steps() == []


class Counting(OwnSquares):
    """Counts its passes over the data."""

    passes = 0

    def value_and_gradient(self, theta, out):
        self.passes += 1
        return super().value_and_gradient(theta, out)


def test_looking_ahead_gives_the_same_bits_once():
    problem = Counting(tables(1)[0], Share(0, 1, 15))
    oracle, theta = Oracle(problem, FLOAT64), np.ones(6)
    plain, out = np.empty(6), np.full(6, np.nan)
    value = problem.value_and_gradient(theta, plain)
    problem.passes = 0
    assert oracle.look_ahead(theta) == value
    assert oracle.value_and_gradient(theta, out) == value
    np.testing.assert_array_equal(out, plain)
    assert problem.passes == 1
    oracle.value_and_gradient(theta, out)  # what was looked up once is asked anew
    assert problem.passes == 2
    np.testing.assert_array_equal(out, plain)


def test_looking_ahead_serves_no_other_theta():
    problem = Counting(tables(1)[0], Share(0, 1, 15))
    oracle, theta, out, elsewhere = Oracle(problem, FLOAT64), np.ones(6), np.empty(6), np.empty(6)
    oracle.look_ahead(theta)
    theta[0] = np.nextafter(theta[0], 2)  # another by one bit is another
    oracle.value_and_gradient(theta, out)
    assert problem.passes == 2
    problem.value_and_gradient(theta, elsewhere)
    np.testing.assert_array_equal(out, elsewhere)


@each_recipe
def test_evaluating_changes_nothing(recipe):
    config = {**tiny(algorithm=recipe, stop={"max_rounds": 60, "max_steps": 600}), "f_star": "none"}
    runs = [simulate(Plan(parse({**config, "trace": {"every": every}}), quiet=True)) for every in (1, 7, 1000)]
    for done in runs[1:]:
        assert done.theta.tobytes() == runs[0].theta.tobytes()
        np.testing.assert_array_equal(done.uploads, runs[0].uploads)
        for key in ("uploads", "downloads", "skips", "payload_bytes_up", "control_bytes_down", "gradient_evaluations"):
            assert done.summary[key] == runs[0].summary[key]
    rounds = runs[0].rounds
    assert rounds == 60 or RECIPES[recipe].row.plan.needs_steps or recipe == "diloco"
    recorded = [sorted({*range(0, rounds, every), rounds}) for every in (1, 7, 1000)]
    assert [done.trace["round"].tolist() for done in runs] == recorded
    if rounds == 60:
        assert runs[0].summary["evaluation_bytes"] > runs[1].summary["evaluation_bytes"]


def test_other_questions_change_nothing_either():
    problems = built_in("logistic", shards_for("logistic", 3), l2=0.1)
    row = Algorithm(trigger=Innovation(), step_size=Constant(0.01))
    plain = drive(row, problems, 30)

    def ask(course):
        for what in What:
            for soon in (False, True):
                theta = np.random.default_rng(0).standard_normal(6)
                course.transport.evaluate(Evaluate(course.server.round, what, soon, theta))

    asked = drive(row, problems, 30, each=ask)
    np.testing.assert_array_equal(np.array(asked.thetas), np.array(plain.thetas))
    np.testing.assert_array_equal(asked.uploads, plain.uploads)


def test_evaluations_answer_what_was_asked():
    problem = built_in("logistic", shards_for("logistic", 1), l2=0.1)[0]
    worker = Worker(0, 1, Algorithm(), problem, FLOAT64, np.random.default_rng(0))
    theta, gradient, product = np.linspace(0, 1, 6), np.empty(6), np.empty(6)
    value = problem.value_and_gradient(theta, gradient)
    problem.curvature_product(theta, product)
    asked = {what: worker.evaluate(Evaluate(3, what, False, theta)) for what in What}
    assert asked[What.OBJECTIVE].value == problem.value(theta)
    assert asked[What.GRADIENT].value == value
    np.testing.assert_array_equal(asked[What.GRADIENT].vector, gradient)
    np.testing.assert_array_equal(asked[What.HESSIAN].vector.reshape(6, 6), problem.hessian(theta))
    np.testing.assert_array_equal(asked[What.CURVATURE_PRODUCT].vector, product)
    assert all((one.worker, one.round) == (0, 3) for one in asked.values())
    with pytest.raises(ProtocolError, match="cannot evaluate"):
        worker.evaluate(Evaluate(3, 99, False, theta))


@pytest.mark.parametrize(("row", "told"), [(Algorithm(), False), (RECIPES["lag-ps"].row, True)])
def test_smoothness_is_computed_only_where_somebody_needs_it(row, told):
    """L comes from curvature products where there are any, L_m from the greeting where a selection weighs workers."""
    rng = np.random.default_rng(0)
    worker = Worker(0, 1, row, built_in("least-squares", tables(1))[0], FLOAT64, rng)
    assert math.isfinite(worker.hello().smoothness) is told
    own = Worker(0, 1, row, own_problems("squares", tables(1))[0], FLOAT64, rng)  # without curvature_product
    assert own.hello() == Hello(0, 15, 6, own.problem.smoothness())


@dataclass(frozen=True)
class Blended:
    """h <- (h + x) / 2, sent as it is: reads the mirror."""

    compressor: Identity = field(default_factory=Identity)
    verbatim: bool = True

    replaces: ClassVar[bool] = True
    scaled: ClassVar[bool] = False

    def init(self, sizes, dtype, rng):
        return np.empty(sum(sizes), dtype)

    def capacity(self, sizes, dtype):
        return self.compressor.capacity(sizes, dtype)

    def commit(self, state, contribution, mirror, step_size):
        np.multiply(0.5, contribution + mirror, out=state)
        np.copyto(mirror, state)
        return state, mirror

    def absorb(self, stale, payload):
        np.copyto(stale, payload)


@dataclass(frozen=True)
class Watching(Always):
    """Reads the mirror in the method that it replaces."""

    def decide(self, state, view):
        assert view.round == 1 or (view.mirror != view.contribution).any()
        return True


def test_who_reads_the_mirror_has_one():
    made = parse(tiny(algorithm={"recipe": "gd", "step_size": 0.1}))
    watched = replace(made.algorithm, trigger=Watching())
    blended = [replace(made.algorithm, codec=Blended(verbatim=verbatim)) for verbatim in (True, False)]
    shas = [simulate(Plan(replace(made, algorithm=row), quiet=True)).theta_sha256 for row in (*blended, watched)]
    plain = simulate(Plan(made, quiet=True)).theta_sha256
    assert shas[0] == shas[1] != plain == shas[2]
    assert one_vector(made.algorithm)
    assert not any(map(one_vector, (*blended, watched)))
