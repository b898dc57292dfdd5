"""Whole rounds by ``torch.distributed`` with gloo, on the ranks of an MPI communicator. Needs PyTorch.

Each rank has one thread. Every side is called as those of `psopt.bench.round_sides`.
"""

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist

from psopt.bench import torch_modules
from psopt.bench.round_sides import WAIT_S, Side
from psopt.transports.mpi import Link


@contextmanager
def group(link: Link) -> Iterator[None]:
    """The gloo group of the ranks of a link, which are on one host."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        meeting = Path(link.share(folder, WAIT_S)) / "gloo"
        dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=link.rank, world_size=link.size)
        try:
            yield
        finally:
            dist.destroy_process_group()


def all_reduce(dim: int) -> Side:
    """The sum of an empty gradient over the group, and one step."""
    theta, gradient = torch.zeros(dim, dtype=torch.float64), torch.zeros(dim, dtype=torch.float64)

    def work() -> None:
        gradient.zero_()
        dist.all_reduce(gradient)
        theta.sub_(gradient, alpha=0.1)

    return _timed(work)


def logistic(X: np.ndarray, y: np.ndarray) -> Side:
    """Full-batch gradient descent of a linear model under `DistributedDataParallel`."""
    features, labels = torch.from_numpy(X), torch.from_numpy(y.astype(X.dtype))
    module = torch.nn.Linear(X.shape[1], 1, bias=False, dtype=features.dtype)

    def loss(model: Any) -> Any:
        return torch.nn.functional.softplus(-labels * model(features).squeeze(1)).mean()

    return _trained(module, loss)


def perceptron(X: np.ndarray, y: np.ndarray, widths: list[int], batch: int) -> Side:
    """SGD of a perceptron under `DistributedDataParallel`, a batch of rows a step."""
    features, labels = torch.from_numpy(X), torch.from_numpy(y)
    rng = np.random.default_rng(0)

    def loss(model: Any) -> Any:
        chosen = torch.from_numpy(rng.integers(0, len(X), batch))
        return torch.nn.functional.cross_entropy(model(features[chosen]), labels[chosen])

    return _trained(torch_modules.perceptron(widths, features.dtype), loss)


def _trained(module: Any, loss: Callable[[Any], Any]) -> Side:
    model = torch.nn.parallel.DistributedDataParallel(module)
    update = torch.optim.SGD(model.parameters(), lr=1e-3)

    def work() -> None:
        update.zero_grad()
        loss(model).backward()
        update.step()

    return _timed(work)


def _timed(work: Callable[[], None]) -> Side:
    def side(rounds: int) -> float:
        dist.barrier()
        start = time.perf_counter()
        for _ in range(rounds):
            work()
        return (time.perf_counter() - start) / rounds

    return side
