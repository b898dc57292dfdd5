"""What is minimised: the built-in problems by name, and a user's own class by ``package.module:Class``.

Importing this package imports no problem: Numba and the kernels come with the first `build`.
"""

import difflib
import importlib
import inspect
import os
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from psopt.errors import ConfigError

if TYPE_CHECKING:
    from psopt.data.table import Table
    from psopt.problems.base import Problem, Share


class Entry(NamedTuple):
    """Where a built-in problem is defined, what it is in one line, and whether it learns from data."""

    module: str
    name: str
    description: str
    data: bool = True


PROBLEMS: dict[str, Entry] = {
    "least-squares": Entry(
        "psopt.problems.glm", "LeastSquares", "half the squared error of a linear model, with an l2 term"
    ),
    "logistic": Entry(
        "psopt.problems.glm", "Logistic", "log(1 + exp(-y x.theta)) for labels -1 and +1, with an l2 term"
    ),
    "softmax": Entry(
        "psopt.problems.softmax", "Softmax", "softmax regression for labels 0 to classes - 1, with an l2 term"
    ),
    "perceptron": Entry(
        "psopt.problems.perceptron",
        "Perceptron",
        "a multi-layer perceptron with softmax for labels 0 to classes - 1, with an l2 term",
    ),
    "torch": Entry(
        "psopt.problems.torch_module", "TorchModule", "a PyTorch module of your own, or of psopt.problems.torch_models"
    ),
    "noisy-quadratic": Entry(
        "psopt.problems.noisy", "NoisyQuadratic", "a quadratic whose gradients are noisy by themselves", data=False
    ),
    "noisy-kink": Entry(
        "psopt.problems.noisy",
        "NoisyKink",
        "x^2 on the right of 0 and x^2/2 on its left, with gradients that are noisy by themselves",
        data=False,
    ),
}


class NoSuchModule(ConfigError):
    """There is no module of the name that was given."""


def build(kind: Any, shard: "Table", share: "Share", dtype: str, options: Mapping[str, Any]) -> "Problem":
    """The problem of one worker.

    Parameters
    ----------
    kind : str or class
        A key of `PROBLEMS`, ``package.module:Class`` (the module may lie in the current directory), or a class itself.
    shard, share
        Handed to the class.
    dtype : 'float64' or 'float32'
        Handed to the class as ``dtype`` if its constructor has such a parameter.
    options : mapping
        The other keys of the config's ``problem``, handed over as keyword arguments.
    """
    made = load(kind) if isinstance(kind, str) else kind
    try:
        signature = inspect.signature(made)
    except ValueError as error:
        raise ConfigError(f"problem {kind!r}: the constructor's parameters cannot be read") from error
    names = [p.name for p in signature.parameters.values() if p.kind in (p.KEYWORD_ONLY, p.POSITIONAL_OR_KEYWORD)]
    arguments = dict(options)
    if "dtype" in names:
        arguments.setdefault("dtype", dtype)
    try:
        signature.bind(shard, share, **arguments)
    except TypeError as error:
        raise ConfigError(
            f"problem {kind!r} cannot be made with these options: {error}{_hint(options, names)}"
        ) from None
    problem = made(shard, share, **arguments)
    missing = [name for name in ("dim", "samples", "value_and_gradient", "value") if not hasattr(problem, name)]
    if missing:
        raise ConfigError(f"problem {kind!r} lacks {', '.join(missing)}, which every problem has to have")
    return problem


def load(kind: str) -> Any:
    """The class named by ``kind``, as `build` describes it."""
    if kind in PROBLEMS:
        entry = PROBLEMS[kind]
        return getattr(importlib.import_module(entry.module), entry.name)
    module_name, _, class_name = kind.partition(":")
    if not (module_name and class_name):
        near = difflib.get_close_matches(kind, PROBLEMS, n=1, cutoff=0.4)
        meant = f"; did you mean {near[0]!r}?" if near else ""
        raise ConfigError(
            f"there is no problem {kind!r}: known are {', '.join(PROBLEMS)} and `package.module:Class`{meant}"
        )
    return named(kind, "problem", "class")


def named(text: str, what: str, expected: str) -> Any:
    """What ``package.module:name`` names; the module may lie in the current directory.

    Raises `ConfigError` if there is nothing that can be called; ``what`` begins the sentence, and ``expected`` is what
    the name should stand for: class or function.
    """
    module_name, _, name = str(text).partition(":")
    if not (module_name and name):
        raise ConfigError(f"{what} is {text!r}, but it has to be a {expected}, as `package.module:{expected}`")
    made = found(text, what)
    if not callable(made):
        raise ConfigError(f"{what} {text!r}: {name!r} is a {type(made).__name__}, not a {expected}")
    return made


def found(text: str, what: str) -> Any:
    """What stands under ``package.module:name``; the module is imported, from the current directory if need be.

    Raises `ConfigError` if there is no such module or name. What the module itself raises passes through.
    """
    module_name, _, name = text.partition(":")
    here = look_here()
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        # Only the named module itself; one that it imports in vain is the user's traceback to see.
        if error.name and (module_name == error.name or module_name.startswith(error.name + ".")):
            raise NoSuchModule(
                f"{what} {text!r}: there is no module {error.name!r}, neither installed nor in {here}"
            ) from None
        raise
    made = getattr(module, name, None)
    if made is None:
        near = difflib.get_close_matches(name, vars(module), n=1)
        meant = f"; did you mean {near[0]!r}?" if near else _hidden(module, here)
        raise ConfigError(f"{what} {text!r}: the module {module_name!r} has no {name!r}{meant}")
    return made


def look_here() -> str:
    """Lets modules be found in the current directory, which is returned; no library is hidden by what stands there."""
    here = os.getcwd()
    if here not in sys.path and "" not in sys.path:
        sys.path.append(here)
    return here


def _hidden(module: Any, here: str) -> str:
    """That another module of the same name was found, where there is one in the current directory."""
    mine, other = os.path.join(here, *module.__name__.split(".")) + ".py", getattr(module, "__file__", None)
    if not os.path.isfile(mine) or (other and os.path.samefile(mine, other)):
        return ""
    return f"; {mine} is hidden by the module {other or 'of the same name in Python'}: give that file another name"


def _hint(options: Mapping[str, Any], names: list[str]) -> str:
    for option in options:
        near = difflib.get_close_matches(option, names, n=1)
        if option not in names and near:
            return f"; did you mean {near[0]!r}?"
    return ""
