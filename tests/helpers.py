"""What the tests share: problems in plain NumPy, shards that differ, a server and its workers joined in process."""

from dataclasses import dataclass, field

import numpy as np

from psopt.algorithm import Algorithm
from psopt.core.messages import Evaluate, What
from psopt.core.server import Server
from psopt.core.worker import Worker
from psopt.data.table import Table
from psopt.problems import build
from psopt.problems.base import Share
from psopt.transports.inprocess import InProcess


class Alone:
    """A link of one rank, for what ranks decide together."""

    rank, size, host = 0, 1, "here"

    def gather(self, value, timeout_s):
        return [value]

    def share(self, value, timeout_s):
        return value


def squares_value(X, y, theta):
    return 0.5 * float((((X * theta).sum(axis=1) - y) ** 2).sum())


def squares_gradient(X, y, theta):
    """Without BLAS, so that the bits depend on the numbers alone and not on how theta lies in memory."""
    return (X * ((X * theta).sum(axis=1) - y)[:, None]).sum(axis=0)


def logistic_value(X, y, theta):
    return float(np.logaddexp(0.0, -y * (X * theta).sum(axis=1)).sum()) + 0.05 * float((theta**2).sum())


def logistic_gradient(X, y, theta):
    """With an l2 term of 0.1."""
    weight = -y / (1.0 + np.exp(y * (X * theta).sum(axis=1)))
    return (X * weight[:, None]).sum(axis=0) + 0.1 * theta


class OwnSquares:
    """A user's problem: least squares."""

    of_value, of_gradient, bend, l2 = staticmethod(squares_value), staticmethod(squares_gradient), 1.0, 0.0

    def __init__(self, shard, share):
        self.X, self.y = shard.features, shard.labels
        self.samples, self.dim = self.X.shape

    def value(self, theta):
        return self.of_value(self.X, self.y, theta)

    def value_and_gradient(self, theta, out):
        out[:] = self.of_gradient(self.X, self.y, theta)
        return self.value(theta)

    def batch_value_and_gradient(self, theta, rows, out):
        """The gradient of the rows' losses, times n_m / B; the l2 term whole."""
        X, y, scale = self.X[rows], self.y[rows], self.samples / rows.size
        term, whole = self.l2 * theta, 0.5 * self.l2 * float(theta @ theta)
        out[:] = scale * (self.of_gradient(X, y, theta) - term) + term
        return scale * (self.of_value(X, y, theta) - whole) + whole

    def smoothness(self):
        return self.bend * float(np.linalg.eigvalsh(self.X.T @ self.X)[-1]) + self.l2


class OwnLogistic(OwnSquares):
    """A user's problem: logistic regression with an l2 term."""

    of_value, of_gradient, bend, l2 = staticmethod(logistic_value), staticmethod(logistic_gradient), 0.25, 0.1


OWN = {"squares": OwnSquares, "logistic": OwnLogistic}


def tables(workers, dim=6, rows=15, seed=0, spread=3.0, labels="real"):
    """One table a worker; the scale of the features grows from 1/spread to spread, so L_m grows by spread^4."""
    rng = np.random.default_rng(seed)
    scales = np.geomspace(1 / spread, spread, workers) if workers > 1 else [1.0]
    made = []
    for scale in scales:
        X = scale * rng.standard_normal((rows, dim))
        y = rng.standard_normal(rows)
        made.append(Table(X, y if labels == "real" else np.where(y > 0, 1.0, -1.0)))
    return made


def shards_for(kind, workers, **options):
    return tables(workers, labels="signs" if kind == "logistic" else "real", **options)


def own_problems(kind, shards):
    return [OWN[kind](shard, Share(m, len(shards), 0)) for m, shard in enumerate(shards)]


def built_in(kind, shards, dtype="float64", **options):
    total = sum(shard.samples for shard in shards)
    shards = [Table(shard.features.astype(dtype), shard.labels.astype(dtype)) for shard in shards]
    return [build(kind, shard, Share(m, len(shards), total), dtype, options) for m, shard in enumerate(shards)]


def joint_smoothness(kind, shards, l2=0.0):
    """L of the sum: lambda_max of all rows' X^T X, times the loss's bend, plus each worker's l2."""
    X = np.vstack([shard.features for shard in shards])
    bend = 0.25 if kind == "logistic" else 1.0
    return bend * float(np.linalg.eigvalsh(X.T @ X)[-1]) + l2 * len(shards)


@dataclass
class Course:
    """What a joined run left: theta^1, theta^2, ... and who uploaded, who was asked, in each round."""

    server: Server
    transport: InProcess
    thetas: list = field(default_factory=list)
    masks: list = field(default_factory=list)
    values: list = field(default_factory=list)

    @property
    def uploads(self):
        return np.array(self.masks)

    @property
    def workers(self):
        return self.transport.workers


def joined(
    algorithm,
    problems,
    theta=None,
    *,
    seed=0,
    dtype="float64",
    reorder=None,
    smoothness=None,
    wire=InProcess,
    max_steps=None,
):
    """A server and workers that have said hello, and no round yet."""
    M, dtype_ = len(problems), np.dtype(dtype)
    if algorithm.plan.needs_steps and max_steps is None:
        max_steps = 400
    weights = algorithm.aggregator.weights([p.samples for p in problems])
    workers = [
        Worker(m, M, algorithm, p, dtype_, np.random.default_rng(m), weight=weights[m]) for m, p in enumerate(problems)
    ]
    transport = wire(workers, reorder)
    theta = np.zeros(problems[0].dim, dtype) if theta is None else theta.astype(dtype)
    hellos = transport.hellos()
    if algorithm.needs_joint_smoothness and smoothness is None:
        smoothness = sum(problem.smoothness() for problem in problems)
    server = Server(algorithm, theta, hellos, np.random.default_rng(seed), smoothness, max_steps=max_steps)
    return Course(server, transport, [server.theta.copy()])


def go(course, rounds, each=None, evaluate=False):
    """Runs on, to the plan's end at most; ``each(course)`` is called after every round."""
    server, transport = course.server, course.transport
    for _ in range(rounds):
        if server.over:
            break
        if evaluate:
            question = Evaluate(server.round, What.OBJECTIVE, server.asks_everyone_next, server.theta)
            course.values.append(sum(answer.value for answer in transport.evaluate(question)))
        message = server.begin()
        if message is not None:
            transport.exchange(message, server.receive, server.land)
        server.finish()
        course.thetas.append(server.theta.copy())
        course.masks.append(server.uploaded)
        if each:
            each(course)
    return course


def drive(algorithm: Algorithm, problems, rounds, theta=None, each=None, evaluate=False, **options) -> Course:
    return go(joined(algorithm, problems, theta, **options), rounds, each, evaluate)


def tiny(**changes):
    """A small config as data: least squares, three workers that differ, eight rounds."""
    return {
        "seed": 3,
        "workers": 3,
        "problem": {"kind": "least-squares", "reduction": "mean"},
        "data": {"source": "synthetic", "synthetic": {"n_samples": 60, "n_features": 4, "heterogeneity": 1.0}},
        "algorithm": "lag-wk",
        "stop": {"max_rounds": 8, "max_steps": 400},
        **changes,
    }
