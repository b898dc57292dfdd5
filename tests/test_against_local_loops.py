"""psopt in process against the literal loops of Local SGD, FedAvg, DiLoCo and local top-k: iterates to 1e-10.

The loops are given the batches that psopt's workers drew, and NumPy gradients.
"""

import numpy as np
import pytest
from helpers import drive, joint_smoothness, own_problems, shards_for
from reference import local_sgd as loops

from psopt.algorithm import Algorithm
from psopt.data.table import Table
from psopt.parts.aggregators import FreshMean
from psopt.parts.batches import Batches
from psopt.parts.codecs import Overwrite
from psopt.parts.compressors import TopK
from psopt.parts.local_work import LocalAdamW, LocalSGD
from psopt.parts.plans import Fixed, Growing, OneShot
from psopt.parts.schedules import Inverse
from psopt.parts.selections import Sampled
from psopt.parts.starts import Zero
from psopt.parts.updates import Momentum, Nesterov

STEPS = 60
KINDS = pytest.mark.parametrize("kind", ["squares", "logistic"])
WORKERS = pytest.mark.parametrize("workers", [1, 2, 5])


class Case:
    """Unequal shards, a step that is small enough, and the batches each worker will draw."""

    def __init__(self, kind, workers, weigh_by="equal", size=4):
        shards = [Table(s.features[: 15 - m], s.labels[: 15 - m]) for m, s in enumerate(shards_for(kind, workers))]
        self.problems = own_problems(kind, shards)
        top = 0.1 / joint_smoothness(kind, shards, self.problems[0].l2)
        self.schedule = Inverse(top * 20.0, 1.0, 20.0)
        self.step = lambda t: top * 20.0 / (t + 20.0)
        samples = [p.samples for p in self.problems]
        self.weights = [1 / workers] * workers if weigh_by == "equal" else [n / sum(samples) for n in samples]
        self.batches = []
        for m, problem in enumerate(self.problems):
            drawing = np.random.default_rng(m)
            drawing.spawn(1)
            stream = Batches(problem, drawing, size, replace=False)
            self.batches.append([stream.draw().copy() for _ in range(STEPS)])

    @property
    def gradients(self):
        """Of F_m = f_m / p_m."""

        def gradient(m):
            def of(x, rows):
                out = np.empty(x.size)
                self.problems[m].batch_value_and_gradient(x, rows, out)
                return out / self.weights[m]

            return of

        return [gradient(m) for m in range(len(self.problems))]

    def check(self, row, expected, rounds=STEPS):
        course = drive(row, self.problems, rounds, max_steps=STEPS)
        assert len(course.thetas) - 1 == len(expected)
        np.testing.assert_allclose(np.array(course.thetas[1:]), np.array(expected), rtol=1e-10, atol=1e-12)
        return course


@KINDS
@WORKERS
@pytest.mark.parametrize("rounds", [1, 4, 9])
def test_local_sgd_with_growing_rounds(kind, workers, rounds):
    case = Case(kind, workers)
    plan = Growing(rounds) if rounds > 1 else OneShot()
    row = Algorithm(plan, Zero(), work=LocalSGD(4), aggregator=FreshMean(), step_size=case.schedule)
    instants = loops.growing(STEPS, rounds)
    course = case.check(row, loops.local_sgd(case.gradients, case.batches, np.zeros(6), case.step, instants))
    assert course.uploads.all()
    assert course.uploads.shape == (rounds, workers)
    assert (course.transport.ledger.gradient_evaluations == STEPS).all()


@KINDS
@WORKERS
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_federated_averaging(kind, workers, momentum):
    case = Case(kind, workers, "samples")
    update = {"update": Momentum(momentum)} if momentum else {}
    row = Algorithm(
        Fixed(5),
        Zero(),
        Sampled(0.5),
        LocalSGD(4),
        aggregator=FreshMean("samples"),
        step_size=case.schedule,
        **update,
    )
    course = drive(row, case.problems, STEPS, max_steps=STEPS)
    chosen = [np.flatnonzero(mask) for mask in course.uploads]
    assert all(len(some) == max(1, round(workers / 2)) for some in chosen)
    expected = loops.fedavg(case.gradients, case.batches, np.zeros(6), case.step, 5, chosen, case.weights, momentum)
    np.testing.assert_allclose(np.array(course.thetas[1:]), np.array(expected), rtol=1e-10, atol=1e-12)


@KINDS
@WORKERS
def test_diloco(kind, workers):
    case = Case(kind, workers)
    inner = (0.8, 0.95, 1e-6, 0.1)
    row = Algorithm(
        Fixed(12),
        Zero(),
        work=LocalAdamW(4, "epoch", *inner),
        aggregator=FreshMean(),
        update=Nesterov(0.9, 0.7),
        step_size=case.schedule,
    )
    case.check(row, loops.diloco(case.gradients, case.batches, np.zeros(6), case.step, 12, 5, inner, 0.7, 0.9))


@KINDS
@WORKERS
def test_local_steps_with_top_k_and_error_feedback(kind, workers):
    case = Case(kind, workers)
    codec = Overwrite(TopK(count=2), feedback=True)
    row = Algorithm(Fixed(6), Zero(), work=LocalSGD(4), codec=codec, aggregator=FreshMean(), step_size=case.schedule)
    case.check(row, loops.local_top_k(case.gradients, case.batches, np.zeros(6), case.step, 6, 10, 2))
