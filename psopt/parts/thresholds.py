"""The threshold that lazy rules compare with, computed on the server from how far theta moved lately."""

from typing import Annotated

import numpy as np

from psopt.bounds import Ge, Gt, Le
from psopt.errors import ConfigError
from psopt.records import record

Window = Annotated[int, Gt(0), Le(100_000)]
Power = Annotated[int, Ge(0), Le(10)]


@record
class Threshold:
    """T^k = sum_{d=1..D} xi_d ||theta^{k+1-d} - theta^{k-d}||^2 / (a_k^p M^q), LAG (7) with p = q = 2.

    Attributes
    ----------
    window : int
        D, how many differences count.
    xi : float or tuple of D floats
        The weights; one number stands for D equal ones.
    step_power, worker_power : int
        p, the power of the step size a_k, and q, that of the number of workers.
    """

    window: int = 10
    xi: float | tuple[float, ...] = 0.1
    step_power: int = 2
    worker_power: int = 2

    def weights(self) -> np.ndarray:
        """xi as an array, shape (D,); entry 0 weighs the newest difference."""
        return np.broadcast_to(np.asarray(self.xi, dtype=np.float64), (self.window,)).copy()

    def limit(self, squared_steps: list[float], weights: list[float], step_size: float, workers: int) -> float:
        """T^k from ``squared_steps``, newest first; a window not yet full holds what history there is."""
        total = 0.0
        for weight, squared_step in zip(weights, squared_steps, strict=False):
            total += weight * squared_step
        divisor = 1.0
        for _ in range(self.step_power):
            divisor *= step_size
        for _ in range(self.worker_power):
            divisor *= workers
        if not divisor:
            raise ConfigError(
                f"the step size {step_size:g} is too small for a threshold: its power {self.step_power} is zero"
            )
        return total / divisor
