"""torch.distributed's part on one host: ``python -m psopt.bench.peers.host SPEC RANK``.

SPEC is a JSON file: psopt's ``config``, the ``way``, its ``options``, ``address`` of rank 0, ``timeout_s``, and
``limits``; with ``rounds``, so many steps are taken instead, and rank 0 writes theta into the file ``theta``. Rank 0
prints what the steps took as a JSON line.
"""

import datetime
import json
import os
import sys
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import torch
import torch.distributed as dist
from torch.distributed.algorithms.ddp_comm_hooks import post_localSGD_hook, powerSGD_hook
from torch.distributed.algorithms.model_averaging.averagers import PeriodicModelAverager
from torch.distributed.optim import PostLocalSGDOptimizer
from torch.nn.parallel import DistributedDataParallel

from psopt.bench.network.clock import Limits, Marks
from psopt.bench.peers.model import Peer, flat, value
from psopt.config import parse


class Training:
    """DDP with SGD, in one of three ways: ``ddp``, ``powersgd``, ``postlocal``."""

    def __init__(self, peer: Peer, rank: int, way: str, options: dict[str, Any]) -> None:
        self._peer, self._part = peer, peer.part(rank)
        self.module = peer.module()
        self._model = DistributedDataParallel(self.module)
        self._optimiser = torch.optim.SGD(self._model.parameters(), lr=options["step_size"])
        if way == "powersgd":
            self._model.register_comm_hook(
                powerSGD_hook.PowerSGDState(
                    None, matrix_approximation_rank=options["rank"], start_powerSGD_iter=options["start"]
                ),
                powerSGD_hook.powerSGD_hook,
            )
        elif way == "postlocal":
            state = post_localSGD_hook.PostLocalSGDState(None, None, options["start"], False)
            self._model.register_comm_hook(state, post_localSGD_hook.post_localSGD_hook)
            averager = PeriodicModelAverager(period=options["period"], warmup_steps=options["start"])
            self._optimiser = PostLocalSGDOptimizer(self._optimiser, averager)

    def step(self) -> None:
        """One step of everyone."""
        self._optimiser.zero_grad()
        value(self._peer, self._part, self._model).backward()
        self._optimiser.step()


def measure(training: Training, limits: Limits, unit: int) -> dict[str, Any]:
    """Rounds of ``unit`` steps, until it is enough for rank 0, which tells the others before each."""
    marks, go_on = Marks(), torch.ones(1)
    for _ in range(limits.warm):
        for _ in range(unit):
            training.step()
    dist.barrier()
    marks.note()
    at_once = 1
    while True:
        for _ in range(at_once):
            for _ in range(unit):
                training.step()
            marks.note()
        rounds, seconds = len(marks.seconds) - 1, marks.seconds[-1] - marks.seconds[0]
        go_on[0] = 0.0 if limits.enough(rounds, seconds) else _left(limits, rounds, seconds)
        dist.broadcast(go_on, 0)
        at_once = int(go_on[0])
        if not at_once:
            return marks.told()
        marks.pause()


def _left(limits: Limits, rounds: int, seconds: float) -> int:
    """How many rounds more should be enough."""
    wanted = max(limits.fewest, min(limits.most, int(limits.seconds / (seconds / rounds))))
    return max(1, wanted - rounds)


def main(path: str, rank: int) -> NoReturn:
    """Takes part, and ends the process."""
    torch.set_num_threads(1)
    spec = json.loads(Path(path).read_text())
    config = parse(spec["config"])
    dist.init_process_group(
        "gloo",
        init_method=spec["address"],
        rank=rank,
        world_size=config.workers,
        timeout=datetime.timedelta(seconds=spec["timeout_s"]),
    )
    options = spec["options"]
    training = Training(Peer(config, options.get("batch")), rank, spec["way"], options)
    if "rounds" in spec:
        for _ in range(spec["rounds"]):
            training.step()
        if rank == 0:
            np.save(spec["theta"], flat(training.module))
    else:
        limits = Limits(**spec["limits"])
        told = {"start": None}
        if spec["way"] == "postlocal":  # at first it is plain DDP
            first = Limits(1, 1, max(1, options["start"] - 1), limits.seconds / 4)
            told["start"] = measure_start(training, first, options["start"])
        elif spec["way"] == "powersgd":
            for _ in range(options["start"]):
                training.step()
        found = measure(training, limits, options.get("period", 1))
        if rank == 0:
            sys.stdout.write(json.dumps({**told, **found}) + "\n")
            sys.stdout.flush()
    dist.barrier()
    os._exit(0)  # at once: PyTorch 2.13, taking hooks and group down, has been seen to wait for itself for ever


def measure_start(training: Training, limits: Limits, steps: int) -> dict[str, Any]:
    """The ``steps`` before local steps begin, all of them."""
    marks = Marks()
    for number in range(steps):
        training.step()
        if number >= min(limits.warm, steps - 2):
            marks.note()
    return marks.told()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
