"""What is asked of the workers before round 1, off the algorithm's books: the joint smoothness L and the optimum f*.

Neither needs the data in one place: L comes from products with the sum of the workers' curvature bounds, f* from
Newton's method on the sum of their values, gradients and Hessians. Both are asked for in float64, whatever the dtype of
the run.
"""

from collections.abc import Sequence

import numpy as np

from psopt.core.messages import Evaluate, Hello, Value, What
from psopt.errors import ConfigError
from psopt.problems.optimum import newton
from psopt.problems.smoothness import power_iteration
from psopt.transports.base import Transport

LARGEST_NEWTON_DIM = 2000
"""Above this, a Hessian a worker is too much to ask for, and ``f_star: auto`` finds nothing."""


def joint_smoothness(transport: Transport, hellos: Sequence[Hello], dim: int, methods: Sequence[str]) -> float | None:
    """L of F: lambda_max of the summed curvature bounds, or else the (larger) sum of all L_m, or None."""
    if "curvature_product" in methods:

        def product(v: np.ndarray, out: np.ndarray) -> None:
            out[:] = _summed(_ask(transport, What.CURVATURE_PRODUCT, v))

        return power_iteration(product, dim)
    if "smoothness" in methods:
        return sum(hello.smoothness for hello in hellos)
    return None


def reference_optimum(transport: Transport, dim: int, methods: Sequence[str]) -> float | None:
    """f*, the least F; None when the problem tells no Hessian or is too large for Newton's method.

    Raises `ConfigError` when F has no minimiser within reach.
    """
    if "hessian" not in methods or dim > LARGEST_NEWTON_DIM:
        return None

    def value_and_gradient(theta: np.ndarray) -> tuple[float, np.ndarray]:
        answers = _ask(transport, What.GRADIENT, theta)
        return sum(answer.value for answer in answers), _summed(answers)

    def hessian(theta: np.ndarray) -> np.ndarray:
        return _summed(_ask(transport, What.HESSIAN, theta)).reshape(dim, dim)

    return newton(value_and_gradient, hessian, dim)[1]


def objectives(transport: Transport, k: int, theta: np.ndarray, soon: bool) -> dict[int, float]:
    """f_m(theta) for every m that is left, in worker order; F is their sum."""
    return {answer.worker: answer.value for answer in transport.evaluate(Evaluate(k, What.OBJECTIVE, soon, theta))}


def initial_theta(transport: Transport, dim: int, dtype: np.dtype) -> np.ndarray:
    """The first iterate as the problem draws it, told by worker 0, shape (dim,)."""
    told = transport.evaluate(Evaluate(0, What.INITIAL, False, np.zeros(0, dtype)))[0].vector
    if told.shape != (dim,) or not np.isfinite(told).all():
        raise ConfigError(f"initial() of the problem gave shape {told.shape}; expected ({dim},) finite numbers")
    return told.astype(dtype)


def test_score(transport: Transport, k: int, theta: np.ndarray) -> tuple[float, float]:
    """Mean loss, and share predicted right, of all test rows that the workers left hold."""
    answers = transport.evaluate(Evaluate(k, What.SCORE, False, theta))
    right, rows = (sum(int(answer.vector[i]) for answer in answers) for i in (0, 1))
    if not rows:
        raise ConfigError(f"after round {k} no worker is left that holds test rows")
    return sum(answer.value for answer in answers) / rows, right / rows


def _ask(transport: Transport, what: What, theta: np.ndarray) -> list[Value]:
    return transport.evaluate(Evaluate(0, what, False, theta))


@np.errstate(over="ignore", invalid="ignore")  # whoever asked looks whether it is finite
def _summed(answers: Sequence[Value]) -> np.ndarray:
    total = np.zeros(answers[0].vector.size)
    for answer in answers:
        total += answer.vector
    return total
