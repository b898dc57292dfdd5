"""torch's rows without any network: the arithmetic of all workers in one process, until the target is seen.

``python -m psopt.bench.peers.alone SPEC`` prints how many steps that took as a JSON line. Gradients of all workers are
those of a batched copy of the model, one a worker; what the workers would send each other is added up here.
"""

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.distributed.algorithms.ddp_comm_hooks.powerSGD_hook import _orthogonalize

from psopt.bench.peers.model import Peer, mean_value, value
from psopt.config import parse

LEAST_COMPRESSION = 2
"""Matrices that would not become so many times smaller are sent as they are: the hook's own default."""


class Workers:
    """M copies of the model.

    Attributes
    ----------
    modules : list of Module
    """

    def __init__(self, peer: Peer) -> None:
        self._peer = peer
        self._parts = [peer.part(m) for m in range(peer.config.workers)]
        self.modules = [peer.module() for _ in self._parts]

    def mean_gradient(self) -> list[torch.Tensor]:
        """The mean of what `gradients` are where all copies are equal, at the first of them."""
        first = self.modules[0]
        first.zero_grad()
        mean_value(self._peer, self._parts, first).backward()
        return [each.grad for each in first.parameters()]

    def gradients(self) -> list[list[torch.Tensor]]:
        """Each worker's, of M f_m over its next batch, at its own copy."""
        found = []
        for part, module in zip(self._parts, self.modules, strict=True):
            module.zero_grad()
            value(self._peer, part, module).backward()
            found.append([each.grad for each in module.parameters()])
        return found

    @torch.no_grad()
    def move(self, steps: list[list[torch.Tensor]], step_size: float) -> None:
        """Each copy along its own step."""
        for module, own in zip(self.modules, steps, strict=False):
            for each, step in zip(module.parameters(), own, strict=True):
                each.sub_(step, alpha=step_size)

    @torch.no_grad()
    def share(self) -> None:
        """All copies become their mean."""
        for same in zip(*(module.parameters() for module in self.modules), strict=True):
            mean = torch.stack(list(same)).mean(0)
            for each in same:
                each.copy_(mean)


def ddp(workers: Workers, options: dict[str, Any]) -> Iterator[None]:
    """Everyone steps along the mean gradient: the first copy stands for all."""
    while True:
        workers.move([workers.mean_gradient()], options["step_size"])
        yield


def postlocal(workers: Workers, options: dict[str, Any]) -> Iterator[None]:
    """Own steps, and the mean of the copies after each period; before ``start`` the mean gradient.

    Only the steps after which all copies are equal are told of: each yield stands for one of them.
    """
    start, period = options["start"], options["period"]
    for step in range(start):
        workers.move([_mean(workers.gradients())] * len(workers.modules), options["step_size"])
        if step == start - 1:
            yield
    number = 0
    while True:
        workers.move(workers.gradients(), options["step_size"])
        if number % period == 0:
            workers.share()
            yield
        number += 1


def powersgd(workers: Workers, options: dict[str, Any]) -> Iterator[None]:
    """PowerSGD with error feedback and warm start (Vogels, Karimireddy, Jaggi 2019), as the hook has it."""
    errors: list[list[torch.Tensor]] | None = None
    qs: dict[int, torch.Tensor] = {}
    rng = np.random.RandomState(0)
    number = 0
    while True:
        gradients = workers.gradients()
        mean = _mean(gradients)
        if number >= options["start"]:
            with torch.no_grad():
                errors = errors or [[torch.zeros_like(each) for each in own] for own in gradients]
                if not qs:
                    qs = _random(mean, options["rank"], rng)
                for place, q in qs.items():
                    wanted = [own[place] + error[place] for own, error in zip(gradients, errors, strict=True)]
                    mean[place] = _low_rank(wanted, q)
                    for error, own in zip(errors, wanted, strict=True):
                        error[place] = own - mean[place]
        workers.move([mean] * len(gradients), options["step_size"])
        number += 1
        yield


def _mean(gradients: list[list[torch.Tensor]]) -> list[torch.Tensor]:
    return [torch.stack(same).mean(0) for same in zip(*gradients, strict=True)]


def _random(tensors: list[torch.Tensor], rank: int, rng: np.random.RandomState) -> dict[int, torch.Tensor]:
    """The first Q of each matrix that is worth it, in the order in which DDP fills its bucket: the last ones first."""
    found = {}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(rng.randint(1_000_000_000))
        for place in reversed(range(len(tensors))):
            shape = tensors[place].shape
            if len(shape) == 2 and (sum(shape)) * min(*shape, rank) * LEAST_COMPRESSION < shape.numel():
                found[place] = torch.randn(1, shape[1], min(*shape, rank), dtype=tensors[place].dtype)
    return found


def _low_rank(wanted: list[torch.Tensor], q: torch.Tensor) -> torch.Tensor:
    """P Q^T near the mean of these matrices; Q is kept for the next time."""
    _orthogonalize(q)
    p = sum(own.unsqueeze(0) @ q for own in wanted)
    _orthogonalize(p)
    q.copy_(sum(own.T.unsqueeze(0) @ p for own in wanted) / len(wanted))
    return (p @ q.transpose(1, 2))[0]


WAYS: dict[str, Callable[[Workers, dict[str, Any]], Iterator[None]]] = {
    "ddp": ddp,
    "powersgd": powersgd,
    "postlocal": postlocal,
}


@torch.no_grad()
def accuracy(module: torch.nn.Module, features: torch.Tensor, labels: torch.Tensor) -> float:
    """The share of rows that are predicted right."""
    return float((module(features).argmax(1) == labels).double().mean())


def rounds_to(peer: Peer, way: str, options: dict[str, Any], every: int) -> int | None:
    """Rounds (of ``postlocal``: periods, with the first steps as one) until the target of the config is seen."""
    stop = peer.config.stop
    test = peer.test_set()
    workers = Workers(peer)
    most = stop.max_rounds // options.get("period", 1)
    every = 1 if way == "postlocal" else every
    for number, _ in enumerate(WAYS[way](workers, options), 1):
        if number % every == 0 and accuracy(workers.modules[0], *test) >= stop.test_accuracy:
            return number
        if number >= most:
            return None
    return None


def main(path: str) -> None:
    torch.set_num_threads(1)
    spec = json.loads(Path(path).read_text())
    peer = Peer(parse(spec["config"]), spec["options"].get("batch"))
    dim = sum(each.numel() for each in peer.module().parameters())
    found = rounds_to(peer, spec["way"], spec["options"], spec["every"])
    sys.stdout.write(json.dumps({"rounds": found, "dim": dim}) + "\n")


if __name__ == "__main__":
    main(sys.argv[1])
