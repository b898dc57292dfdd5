"""Between PyTorch and the rest: its import, arrays as tensors, and what a module must be to be a problem."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from psopt.errors import ConfigError

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module


def as_arrays(tensors: "Sequence[Tensor]") -> list[np.ndarray]:
    return [tensor.numpy() for tensor in tensors]


class Writable:
    """An array's memory as one that may be written: PyTorch knows no other, and warns."""

    def __init__(self, array: np.ndarray) -> None:
        self.array = array  # keeps the memory alive
        interface = array.__array_interface__
        self.__array_interface__ = {**interface, "data": (interface["data"][0], False)}


def as_tensor(torch: Any, array: np.ndarray) -> "Tensor":
    """A tensor over the memory of ``array``."""
    return torch.from_numpy(array if array.flags.writeable else np.asarray(Writable(array)))


def import_torch() -> Any:
    try:
        import torch
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        raise ConfigError("problem `torch` needs PyTorch: pip install 'psopt[torch]'") from None
    return torch


def shown(got: Any) -> str:
    """A tensor's shape, or the type of anything else."""
    return f"a tensor of shape {tuple(got.shape)}" if hasattr(got, "shape") else f"a {type(got).__name__}"


def tensors(module: "Module") -> tuple[tuple[str, tuple[int, ...]], ...]:
    return tuple((name, tuple(parameter.shape)) for name, parameter in module.named_parameters())


def check_parameters(torch: Any, module: "Module", build: str) -> None:
    if not any(True for _ in module.parameters()):
        raise ConfigError(f"build {build!r}: the module has no parameters, so there is nothing to optimise")
    for name, parameter in module.named_parameters():
        lazy = isinstance(parameter, torch.nn.parameter.UninitializedParameter)
        if lazy or not parameter.is_floating_point() or not parameter.numel():
            found = "has no shape yet" if lazy else f"holds {parameter.numel()} numbers of {parameter.dtype}"
            raise ConfigError(f"build {build!r}: parameter {name!r} {found}, expected real numbers, one or more")


def checked_shape(shape: tuple[int, ...] | None, n_features: int) -> tuple[int, ...]:
    """The shape of one row."""
    if shape is None:
        return (n_features,)
    whole = all(isinstance(n, int) and not isinstance(n, bool) and n >= 1 for n in shape)
    if not whole or math.prod(shape) != n_features:
        raise ConfigError(
            f"shape is {list(shape)}, but it has to be whole numbers, 1 or above, whose product is {n_features}, the "
            "number of features"
        )
    return tuple(shape)
