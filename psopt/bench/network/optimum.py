"""f* of problems that are too large for Newton's method: L-BFGS, and a proof of how near it came.

F is strongly convex with the constant l2 (`reduction: mean`), so that F(theta) - f* <= ||grad F(theta)||^2 / (2 l2).
"""

from collections import deque
from collections.abc import Callable

import numpy as np
from threadpoolctl import threadpool_limits

from psopt import problems
from psopt.config import RunConfig
from psopt.data import open_shards
from psopt.errors import ConfigError
from psopt.problems.base import Share

MEMORY = 20
MOST_STEPS = 5000
ARMIJO = 1e-4
LEAST_STEP = 1e-8


def least_value(config: RunConfig, within: float) -> float:
    """f* of the config's problem, not too large by more than ``within``."""
    with threadpool_limits(1):
        shards = open_shards(config.data, config.workers, config.seed, config.problem.dtype)
        total, options = shards.total_samples, config.problem.options
        parts = [
            problems.build(
                config.problem.kind, shards.shard(m), Share(m, config.workers, total), config.problem.dtype, options
            )
            for m in range(config.workers)
        ]
        out = np.empty(parts[0].dim)

        def value_and_gradient(theta: np.ndarray) -> tuple[float, np.ndarray]:
            value, gradient = 0.0, np.zeros_like(theta)
            for part in parts:
                value += part.value_and_gradient(theta, out)
                gradient += out
            return value, gradient

        first = 1 / sum(part.smoothness() for part in parts)
        return lbfgs(value_and_gradient, np.zeros(parts[0].dim), first, options["l2"], within)


def lbfgs(
    value_and_gradient: Callable[[np.ndarray], tuple[float, np.ndarray]],
    theta: np.ndarray,
    first_step: float,
    convexity: float,
    within: float,
) -> float:
    """The least value of F, or one that is larger by ``within`` at most (Nocedal, Wright: algorithm 7.5, with the
    steps 1, 1/2, ... until F falls enough). Raises `ConfigError` when it does not come so near.
    """
    value, gradient = value_and_gradient(theta)
    pairs: deque[tuple[np.ndarray, np.ndarray, float]] = deque(maxlen=MEMORY)
    for _ in range(MOST_STEPS):
        if gradient @ gradient <= 2 * convexity * within:
            return value
        direction = _two_loops(gradient, pairs, first_step)
        step, slope = 1.0, float(gradient @ direction)
        while True:
            there = theta - step * direction
            value_there, gradient_there = value_and_gradient(there)
            if value_there <= value - ARMIJO * step * slope:
                break
            step /= 2
            if step < LEAST_STEP:
                raise ConfigError(f"f* was not found: no step makes F smaller at {value:.12g}")
        s, y = there - theta, gradient_there - gradient
        if (curvature := float(s @ y)) > 0:
            pairs.append((s, y, curvature))
        theta, value, gradient = there, value_there, gradient_there
    raise ConfigError(f"f* was not found within {MOST_STEPS} steps of L-BFGS")


def _two_loops(gradient: np.ndarray, pairs: deque[tuple[np.ndarray, np.ndarray, float]], first: float) -> np.ndarray:
    direction, taken = gradient.copy(), []
    for s, y, curvature in reversed(pairs):
        taken.append(float(s @ direction) / curvature)
        direction -= taken[-1] * y
    direction *= pairs[-1][2] / float(pairs[-1][1] @ pairs[-1][1]) if pairs else first
    for (s, y, curvature), alpha in zip(pairs, reversed(taken), strict=True):
        direction += (alpha - float(y @ direction) / curvature) * s
    return direction
