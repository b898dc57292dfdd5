"""Does a user's class keep the promises of `Problem`? Asked once, when it is loaded."""

import math
import numbers
from collections.abc import Iterator
from typing import Any

import numpy as np

from psopt.errors import ConfigError
from psopt.problems import kernels
from psopt.problems.base import Problem

_SOME = 10  # samples asked of a problem that has no end of them


def check_problem(problem: Problem, rng: np.random.Generator, dtype: str = "float64") -> None:
    """Raise `ConfigError`, naming the class, what was expected and what was got, unless all of this holds.

    ``dim`` and ``samples`` are positive integers; `value_and_gradient` returns a finite number, fills ``out`` with a
    finite gradient and leaves theta alone; `value` agrees with it; the gradient agrees with central differences along
    itself and three random directions. Of the optional members: the sizes of ``tensors`` add up to dim; `initial`
    returns dim finite numbers of the dtype; `batch_value_and_gradient` with all rows agrees with `value_and_gradient`
    (unless the problem is ``endless``) and leaves theta and the rows alone; `local_steps` ends where steps along its
    gradients end. What the user's own code raises passes through as it is.
    """
    for _ in kept(problem, rng, dtype):
        pass


def kept(problem: Problem, rng: np.random.Generator, dtype: str = "float64") -> Iterator[str]:
    """The same, one promise after the other: gives each, in words, once it has been found to be kept."""
    name = f"{type(problem).__module__}:{type(problem).__qualname__}"
    for member in ("dim", "samples"):
        got = getattr(problem, member)
        if isinstance(got, bool) or not isinstance(got, numbers.Integral) or got < 1:
            raise ConfigError(f"problem {name}: {member} has to be a positive integer, but is {got!r}")
    yield "`dim` and `samples` are positive whole numbers"
    theta = (0.1 * rng.standard_normal(problem.dim)).astype(dtype)
    before = theta.copy()
    gradient = np.full(problem.dim, math.nan, dtype)
    value = _number(problem.value_and_gradient(theta, gradient), name, "value_and_gradient")
    missed = int(np.count_nonzero(~np.isfinite(gradient)))
    if missed:
        raise ConfigError(
            f"problem {name}: value_and_gradient has to write a finite gradient into `out`, but {missed} of its "
            f"{problem.dim} elements are NaN, infinite or were never written"
        )
    yield "`value_and_gradient` returns a finite number and writes all of a finite gradient"
    alone = _number(problem.value(theta), name, "value")
    if not np.array_equal(theta, before):
        raise ConfigError(f"problem {name}: theta has to stay as it is, but a method changed it")
    eps = float(np.finfo(dtype).eps)
    if abs(alone - value) > 1e4 * eps * max(abs(value), abs(alone)):
        raise ConfigError(
            f"problem {name}: value and value_and_gradient have to agree, but returned {alone!r} and {value!r}"
        )
    yield "`value` agrees with `value_and_gradient`, and neither writes into theta"
    _check_gradient(problem, name, theta, gradient.astype(np.float64), value, rng)
    yield "the gradient agrees with finite differences of the value, along itself and three random directions"
    _check_tensors(problem, name)
    if hasattr(problem, "tensors"):
        yield "the sizes of `tensors` add up to `dim`"
    if hasattr(problem, "initial"):
        first = problem.initial(rng)
        if getattr(first, "shape", None) != (problem.dim,) or first.dtype != dtype or not np.isfinite(first).all():
            raise ConfigError(f"problem {name}: initial has to return {problem.dim} finite numbers of dtype {dtype}")
        yield "`initial` gives a theta of the right length and dtype"
    if hasattr(problem, "batch_value_and_gradient"):
        _check_batch(problem, name, theta, gradient, value)
        yield "`batch_value_and_gradient` of all samples agrees with `value_and_gradient`, and leaves its inputs alone"
        if hasattr(problem, "local_steps"):
            _check_local_steps(problem, name, theta)
            yield "`local_steps` ends where steps along the batches' gradients end"


def _check_tensors(problem: Problem, name: str) -> None:
    if not hasattr(problem, "tensors"):
        return
    sizes = [math.prod(shape) for _, shape in problem.tensors]
    if sum(sizes) != problem.dim:
        raise ConfigError(f"problem {name}: the sizes of tensors add up to {sum(sizes)}, but dim is {problem.dim}")


def _check_batch(problem: Any, name: str, theta: np.ndarray, gradient: np.ndarray, value: float) -> None:
    endless = getattr(problem, "endless", False)
    rows, before = np.arange(min(problem.samples, _SOME) if endless else problem.samples), theta.copy()
    out = np.full(problem.dim, math.nan, theta.dtype)
    got = _number(problem.batch_value_and_gradient(theta, rows, out), name, "batch_value_and_gradient")
    if not (np.array_equal(theta, before) and np.array_equal(rows, np.arange(len(rows)))):
        raise ConfigError(
            f"problem {name}: theta and rows have to stay as they are, but batch_value_and_gradient changed them"
        )
    if endless:
        return
    bound = 1e4 * float(np.finfo(theta.dtype).eps)
    apart = float(np.linalg.norm(out.astype(np.float64) - gradient))
    near = abs(got - value) <= bound * max(abs(got), abs(value))
    if not (near and apart <= bound * float(np.linalg.norm(gradient))):
        raise ConfigError(
            f"problem {name}: batch_value_and_gradient with all rows has to agree with value_and_gradient, but the "
            f"values are {got!r} and {value!r} and the gradients are {apart:.6g} apart"
        )


def _check_local_steps(problem: Any, name: str, theta: np.ndarray) -> None:
    """Two steps of descent, small enough for any problem, against the gradients of their batches."""
    first, second = np.array([0]), np.array([problem.samples - 1, 0])
    walk = kernels.steps.Walk(np.concatenate([first, second]), np.array([0, 1, 3]), np.array([1e-3, 1e-3]))
    expected, got, gradient = theta.copy(), theta.copy(), np.empty_like(theta)
    for rows in (first, second):
        problem.batch_value_and_gradient(expected, rows, gradient)
        expected -= theta.dtype.type(1e-3) * gradient
    problem.local_steps(kernels.steps.rule(kernels.steps.DESCENT, (), problem.dim, theta.dtype), got, walk, 1.0)
    apart = float(np.linalg.norm((got - expected).astype(np.float64)))
    if not apart <= 1e4 * float(np.finfo(theta.dtype).eps) * float(np.linalg.norm(expected)):
        raise ConfigError(
            f"problem {name}: local_steps has to take the steps of batch_value_and_gradient's gradients, but after two "
            f"of them theta is {apart:.6g} away from theirs"
        )


def _check_gradient(
    problem: Problem,
    name: str,
    theta: np.ndarray,
    gradient: np.ndarray,
    value: float,
    rng: np.random.Generator,
) -> None:
    eps = float(np.finfo(theta.dtype).eps)
    tolerance = 1e-4 if theta.dtype == np.float64 else 3e-2
    norm = float(np.linalg.norm(gradient))
    directions = [gradient / norm] if norm > 0 else []
    for _ in range(3):
        direction = rng.standard_normal(problem.dim)
        directions.append(direction / np.linalg.norm(direction))
    for direction in directions:
        for step in (eps ** (1 / 3), 0.1 * eps ** (1 / 3), 10 * eps ** (1 / 3)):
            above = (theta + step * direction).astype(theta.dtype)
            below = (theta - step * direction).astype(theta.dtype)
            apart = above.astype(np.float64) - below.astype(np.float64)  # the step that rounding left
            rise = _number(problem.value(above), name, "value") - _number(problem.value(below), name, "value")
            expected = float(gradient @ apart)
            noise = 50 * eps * abs(value)
            usual = norm * float(np.linalg.norm(apart)) / math.sqrt(problem.dim)
            if abs(rise - expected) <= tolerance * (abs(rise) + abs(expected) + usual) + noise:
                break
        else:
            width = float(np.linalg.norm(apart))
            raise ConfigError(
                f"problem {name}: the gradient has to agree with finite differences of value, but along one direction "
                f"the value grows by {rise / width:.6g} a unit and the gradient says {expected / width:.6g}"
            )


def _number(got: object, name: str, method: str) -> float:
    if isinstance(got, bool) or not isinstance(got, numbers.Real):
        raise ConfigError(f"problem {name}: {method} has to return a float, but returned a {type(got).__name__}")
    if not math.isfinite(got):
        raise ConfigError(
            f"problem {name}: {method} has to return a finite number near theta = 0, but returned {got!r}"
        )
    return float(got)
