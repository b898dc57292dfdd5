"""PyTorch modules that several benchmarks train. Needs PyTorch."""

import itertools
from collections.abc import Callable, Sequence

import torch


def perceptron(
    widths: Sequence[int], dtype: torch.dtype, bend: Callable[[], torch.nn.Module] = torch.nn.ReLU
) -> torch.nn.Sequential:
    """Linear layers of these ``widths``, from inputs to classes, with ``bend`` between them."""
    layers: list[torch.nn.Module] = []
    for inputs, units in itertools.pairwise(widths):
        layers += [torch.nn.Linear(inputs, units, dtype=dtype), bend()]
    return torch.nn.Sequential(*layers[:-1])
