"""The reference optimum f* and a minimiser, by damped Newton on the sum over all workers."""

from collections.abc import Callable

import numpy as np

from psopt.errors import ConfigError

_EPS = float(np.finfo(np.float64).eps)


@np.errstate(over="ignore", invalid="ignore")
def newton(
    value_and_gradient: Callable[[np.ndarray], tuple[float, np.ndarray]],
    hessian: Callable[[np.ndarray], np.ndarray],
    dim: int,
    max_steps: int = 60,
    eps: float = _EPS,
) -> tuple[np.ndarray, float]:
    """Minimise a smooth convex F from theta = 0.

    Each step solves H p = g and halves theta - t p, t = 1, 1/2, ..., until F falls by at least t g.p / 4. It ends when
    the decrement g.p / 2, which is how far F stands above its minimum, is below rounding. For a quadratic the first
    step solves the normal equations and the second one refines the solution.

    Parameters
    ----------
    value_and_gradient : callable(theta) -> (float, ndarray of shape (dim,))
    hessian : callable(theta) -> ndarray, shape (dim, dim)
    dim : int
    max_steps : int
    eps : float
        Machine precision of the callables' arithmetic; what lies below it is taken for rounding.

    Returns
    -------
    theta : ndarray, shape (dim,), float64
    f_star : float
        F(theta), the smallest value seen.

    Raises
    ------
    ConfigError
        F has no minimiser within reach, as with separable data and no l2, or is not finite.
    """
    theta = np.zeros(dim)
    value, gradient = value_and_gradient(theta)
    first = abs(value)
    decrement = np.inf
    hidden = max(1e-12, 100.0 * eps)
    for _ in range(max_steps):
        matrix = hessian(theta)
        if not (np.isfinite(value) and np.isfinite(gradient).all() and np.isfinite(matrix).all()):
            raise ConfigError("the reference optimum cannot be found: the objective or a derivative is not finite")
        direction = _solve(matrix, gradient)
        slope = float(gradient @ direction)
        decrement = 0.5 * slope
        if decrement <= eps * abs(value):
            return _last_step(value_and_gradient, theta, value, direction)
        found = _descend(value_and_gradient, theta, value, direction, slope)
        if found is None:
            # Rounding hides what is left: of F near its minimum, or of the terms whose squares F sums.
            if decrement <= hidden * abs(value) or decrement <= max(1e-22, 100.0 * eps**2) * first:
                return _last_step(value_and_gradient, theta, value, direction)
            break
        theta, value, gradient = found
    if decrement <= hidden * abs(value):  # of the last step but one: steps that only shuffle rounding
        return theta, value
    raise ConfigError(
        f"the reference optimum was not reached within {max_steps} Newton steps (value {value:.6g}, still to gain "
        f"about {decrement:.2g}): separable data have no minimiser without l2, so set `l2` above zero"
    )


def _last_step(
    value_and_gradient: Callable[[np.ndarray], tuple[float, np.ndarray]],
    theta: np.ndarray,
    value: float,
    direction: np.ndarray,
) -> tuple[np.ndarray, float]:
    """One more full step, whose gain the value can no longer show; undone should the value rise."""
    trial = theta - direction
    reached = float(value_and_gradient(trial)[0])
    return (trial, reached) if reached <= value else (theta, value)


def _solve(matrix: np.ndarray, gradient: np.ndarray) -> np.ndarray:
    """H^-1 g by Cholesky; the shortest solution by least squares where H is singular to working precision."""
    try:
        factor = np.linalg.cholesky(matrix)
    except np.linalg.LinAlgError:
        factor = None
    if factor is not None:
        pivots = np.diag(factor) ** 2
        if pivots.min() > 100.0 * len(pivots) * _EPS * pivots.max():
            return np.linalg.solve(factor.T, np.linalg.solve(factor, gradient))
    return np.linalg.lstsq(matrix, gradient, rcond=None)[0]


def _descend(
    value_and_gradient: Callable[[np.ndarray], tuple[float, np.ndarray]],
    theta: np.ndarray,
    value: float,
    direction: np.ndarray,
    slope: float,
) -> tuple[np.ndarray, float, np.ndarray] | None:
    """(theta, value, gradient) after a step that lowers F enough, or None when no step does."""
    if not slope > 0.0:
        return None
    t = 1.0
    for _ in range(40):
        trial = theta - t * direction
        reached, gradient = value_and_gradient(trial)
        if reached <= value - 0.25 * t * slope:
            return trial, float(reached), np.array(gradient, dtype=np.float64)
        t *= 0.5
    return None
