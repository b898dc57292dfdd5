"""Server updates: how the aggregate moves theta.

``rate`` multiplies the step size. Where the workers take the steps (local SGD and its like) the step size is 1 here and
the aggregate a mean pseudo-gradient, so that ``rate`` is the server's, or outer, learning rate.
"""

from typing import TYPE_CHECKING, Annotated, Any, Protocol

import numpy as np

from psopt.bounds import Ge, Gt, Lt
from psopt.parts.rows import Rows
from psopt.problems import kernels
from psopt.records import record

if TYPE_CHECKING:
    from psopt.problems.kernels.steps import Rule


class ServerUpdate(Protocol):
    def init(self, dim: int, dtype: np.dtype) -> Any: ...

    def step(self, state: Any, theta: np.ndarray, aggregate: np.ndarray, step_size: float) -> float:
        """Moves theta in place and returns ||theta^{k+1} - theta^k||^2.

        One may also have a method ``step_along_rows(state, theta, rows, aggregate, step_size)``, which sums `Rows` into
        ``aggregate`` and steps along it at once.
        """
        ...


@record
class Descent:
    """theta <- theta - rate * step_size * aggregate.

    Attributes
    ----------
    rate : float
        Multiplies the step size; where workers take local steps it is the server's, or outer, learning rate.
    """

    rate: Annotated[float, Gt(0)] = 1.0

    def init(self, dim: int, dtype: np.dtype) -> None:
        return None

    def step(self, state: None, theta: np.ndarray, aggregate: np.ndarray, step_size: float) -> float:
        return kernels.steps.descend(theta, aggregate, self.rate * step_size)

    def step_along_rows(
        self, state: None, theta: np.ndarray, rows: Rows, aggregate: np.ndarray, step_size: float
    ) -> float:
        return kernels.steps.descend_along_rows(theta, rows.block, rows.first, aggregate, self.rate * step_size)


class _ByRule:
    """What the updates below share: the state and the step of a `Rule`."""

    rate: float

    def init(self, dim: int, dtype: np.dtype) -> "Rule":
        return kernels.steps.rule(*self._rule(), dim, dtype)

    def step(self, state: "Rule", theta: np.ndarray, aggregate: np.ndarray, step_size: float) -> float:
        return kernels.steps.move(*state, theta, aggregate, self.rate * step_size)

    def _rule(self) -> tuple[int, tuple[float, ...]]:
        raise NotImplementedError


@record
class Momentum(_ByRule):
    """v <- momentum v + aggregate, theta <- theta - rate * step_size * v (Polyak's heavy ball).

    Attributes
    ----------
    momentum : float
        How much of v is kept in each round.
    rate : float
        Multiplies the step size; where workers take local steps it is the server's, or outer, learning rate.
    """

    momentum: Annotated[float, Ge(0), Lt(1)] = 0.9
    rate: Annotated[float, Gt(0)] = 1.0

    def _rule(self) -> tuple[int, tuple[float, ...]]:
        return kernels.steps.MOMENTUM, (self.momentum, 0.0)


@record
class Nesterov(_ByRule):
    """v <- momentum v + aggregate, theta <- theta - rate * step_size * (aggregate + momentum v).

    Attributes
    ----------
    momentum : float
        How much of v is kept in each round.
    rate : float
        Multiplies the step size; where workers take local steps it is the server's, or outer, learning rate.
    """

    momentum: Annotated[float, Ge(0), Lt(1)] = 0.9
    rate: Annotated[float, Gt(0)] = 1.0

    def _rule(self) -> tuple[int, tuple[float, ...]]:
        return kernels.steps.MOMENTUM, (self.momentum, 1.0)


@record
class AdamW(_ByRule):
    """AdamW over the aggregate (Loshchilov, Hutter, ICLR 2019): with ``weight_decay`` 0 it is Adam.

    Attributes
    ----------
    beta1 : float
        How much of the first moment, the mean of gradients, is kept at each step.
    beta2 : float
        How much of the second moment, that of their squares, is kept at each step.
    epsilon : float
        Added to the root that divides.
    weight_decay : float
        The share of theta, times the step size, that is taken off at each step.
    rate : float
        Multiplies the step size; where workers take local steps it is the server's, or outer, learning rate.
    """

    beta1: Annotated[float, Ge(0), Lt(1)] = 0.9
    beta2: Annotated[float, Ge(0), Lt(1)] = 0.999
    epsilon: Annotated[float, Gt(0)] = 1e-8
    weight_decay: Annotated[float, Ge(0)] = 0.01
    rate: Annotated[float, Gt(0)] = 1.0

    def _rule(self) -> tuple[int, tuple[float, ...]]:
        return kernels.steps.ADAMW, (self.beta1, self.beta2, self.epsilon, self.weight_decay)
