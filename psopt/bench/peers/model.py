"""psopt's problems as PyTorch has them: a module, the loss of one worker, and its stream of rows.

Worker m's loss is M f_m, so that the mean over workers, which DDP takes of gradients, is F: the objective of psopt.
"""

from collections.abc import Callable, Iterator

import numpy as np
import torch

from psopt import problems
from psopt.bench.torch_modules import perceptron
from psopt.config import RunConfig
from psopt.data import CSR, open_shards
from psopt.errors import ConfigError
from psopt.parts.batches import Batches
from psopt.problems.base import Problem, Share
from psopt.records import record
from psopt.runs.hosting import INITIAL, WORK, generator

LOSSES = {"least-squares": "squares", "logistic": "margin", "softmax": "classes", "perceptron": "classes"}
Scores = Callable[[torch.Tensor], torch.Tensor]


@record
class Part:
    """What one worker has.

    Attributes
    ----------
    features, labels : Tensor
    rows : iterator of Tensor or None
        The rows of its batches, as psopt's worker draws them; None where each gradient is of all rows.
    weight : float
        What the mean loss of a batch is multiplied with.
    l2 : float
    """

    features: torch.Tensor
    labels: torch.Tensor
    rows: Iterator[torch.Tensor] | None
    weight: float
    l2: float

    def batch(self) -> tuple[torch.Tensor, torch.Tensor]:
        """The next features and labels."""
        if self.rows is None:
            return self.features, self.labels
        rows = next(self.rows)
        return self.features[rows], self.labels[rows]


class Peer:
    """One of psopt's problems for PyTorch.

    Parameters
    ----------
    config : RunConfig
        Whose problem, data, seed and number of workers count.
    batch : int, optional
        Samples a step; all by default.
    """

    def __init__(self, config: RunConfig, batch: int | None) -> None:
        self.config, self.batch = config, batch
        self.dtype = getattr(torch, config.problem.dtype)
        self.kind = LOSSES[config.problem.kind]
        self._shards = open_shards(config.data, config.workers, config.seed, config.problem.dtype)

    def part(self, m: int) -> Part:
        """Worker m's."""
        config, table = self.config, self._shards.shard(m)
        problem = self._problem(m)
        total, M, options = self._shards.total_samples, config.workers, config.problem.options
        mean = options["reduction"] == "mean"
        labels = torch.from_numpy(np.array(table.labels))
        return Part(
            _dense(table.features),
            labels.long() if self.kind == "classes" else labels,
            None if self.batch is None else _rows(problem, generator(config.seed, WORK, m), self.batch),
            M * table.samples / (total if mean else 1.0),
            options["l2"] * (1.0 if mean else M),
        )

    def module(self) -> torch.nn.Module:
        """The model at psopt's first iterate."""
        problem, config = self._problem(0), self.config
        if config.problem.kind == "perceptron":
            module = _perceptron(problem.n_features, config.problem.options, self.dtype)
        elif config.problem.kind == "softmax":
            module = torch.nn.Linear(problem.n_features, problem.classes, bias=config.problem.options["bias"])
        else:
            module = torch.nn.Linear(problem.dim, 1, bias=False)
        module = module.to(self.dtype)
        theta = torch.from_numpy(problem.initial(generator(config.seed, INITIAL)))
        torch.nn.utils.vector_to_parameters(theta, module.parameters())
        return module

    def losses(self, scores: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Of each row."""
        if self.kind == "classes":
            return torch.nn.functional.cross_entropy(scores, labels, reduction="none")
        scores = scores.squeeze(-1)
        if self.kind == "squares":
            return 0.5 * (scores - labels) ** 2
        return torch.nn.functional.softplus(-labels * scores)

    def test_set(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Features and labels of all test rows."""
        tables = [self._shards.held_out(m) for m in range(self.config.workers)]
        if not any(tables):
            raise ConfigError("there are no test rows")
        features = torch.cat([_dense(table.features) for table in tables if table])
        return features, torch.cat([torch.from_numpy(np.array(table.labels)).long() for table in tables if table])

    def _problem(self, m: int) -> Problem:
        config, table = self.config, self._shards.shard(m)
        share = Share(m, config.workers, self._shards.total_samples)
        return problems.build(config.problem.kind, table, share, config.problem.dtype, config.problem.options)


def value(peer: Peer, part: Part, module: torch.nn.Module) -> torch.Tensor:
    """M f_m of the worker's next batch."""
    features, labels = part.batch()
    loss = part.weight * peer.losses(module(features), labels).mean()
    return loss + _penalty(part.l2, module) if part.l2 else loss


def mean_value(peer: Peer, parts: list[Part], module: torch.nn.Module) -> torch.Tensor:
    """The mean of all workers' `value`, from one pass over the rows of all batches."""
    batches = [part.batch() for part in parts]
    losses = peer.losses(module(torch.cat([x for x, _ in batches])), torch.cat([y for _, y in batches]))
    pairs = zip(parts, batches, strict=True)
    weights = torch.cat([torch.full((len(y),), part.weight / len(y), dtype=peer.dtype) for part, (_, y) in pairs])
    loss = losses @ weights / len(parts)
    return loss + _penalty(parts[0].l2, module) if parts[0].l2 else loss


def _penalty(l2: float, module: torch.nn.Module) -> torch.Tensor:
    return 0.5 * l2 * sum((each**2).sum() for each in module.parameters())


def flat(module: torch.nn.Module) -> np.ndarray:
    """theta, as psopt has it."""
    return torch.nn.utils.parameters_to_vector(module.parameters()).detach().numpy()


def _perceptron(inputs: int, options: dict, dtype: torch.dtype) -> torch.nn.Module:
    bend = {"relu": torch.nn.ReLU, "tanh": torch.nn.Tanh}[options["activation"]]
    return perceptron([inputs, *options["hidden"], options["classes"]], dtype, bend)


def _rows(problem: Problem, rng: np.random.Generator, batch: int) -> Iterator[torch.Tensor]:
    stream = Batches(problem, rng, batch, replace=False)
    while True:
        yield torch.from_numpy(stream.draw().copy())


def _dense(features: np.ndarray | CSR) -> torch.Tensor:
    """Rows of zeros and others; PyTorch's sparse matrices are slower here."""
    if not isinstance(features, CSR):
        return torch.from_numpy(np.array(features))
    dense = np.zeros(features.shape, features.data.dtype)
    for row, (start, stop) in enumerate(zip(features.indptr, features.indptr[1:], strict=False)):
        dense[row, features.indices[start:stop]] = features.data[start:stop]
    return torch.from_numpy(dense)
