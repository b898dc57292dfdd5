"""What a run looks at off the algorithm's books: f*, the objective, the test rows, the mirrors."""

import math

import numpy as np

from psopt.config import RunConfig
from psopt.core.messages import Evaluate, What
from psopt.core.server import Server
from psopt.errors import ConfigError, ProtocolError
from psopt.runs import reference
from psopt.runs.building import Facts
from psopt.transports.base import Transport


class Observer:
    """Asks the workers of one run through its transport.

    Attributes
    ----------
    first_objective : float or None
        F at the first theta it was looked at.
    """

    def __init__(self, config: RunConfig, facts: Facts, transport: Transport) -> None:
        self._config, self._facts, self._transport = config, facts, transport
        self.first_objective: float | None = None

    def find_f_star(self) -> float | None:
        """f*, as the config wants it, asked of the workers; None where it is not to be known.

        Raises `ConfigError` where the run needs it and it cannot be found.
        """
        config, facts = self._config, self._facts
        if not config.trace.objective:
            return None
        if config.f_star == "auto":
            try:
                f_star = reference.reference_optimum(self._transport, facts.dim, facts.methods)
            except ConfigError:
                if config.stop.gap is not None:
                    raise
                f_star = None  # nobody needs it: the gap is a column of the trace that stays empty
            if f_star is None and config.stop.gap is not None:
                raise ConfigError(
                    "`stop.gap` needs f*, which cannot be found for this problem (it has no method `hessian`, or more "
                    f"than {reference.LARGEST_NEWTON_DIM} parameters): set `f_star` to a number, or stop otherwise"
                )
            return f_star
        return None if config.f_star == "none" else config.f_star

    def look(self, server: Server) -> tuple[float | None, float | None, float | None]:
        """F, and the loss and the accuracy on the test rows, where the config wants to see them.

        Raises `ConfigError` when one of them is not finite.
        """
        value = self._objective(server) if self._config.trace.objective else None
        if self._config.data.test is None:
            return value, None, None
        loss, accuracy = reference.test_score(self._transport, server.round, server.theta)
        if not math.isfinite(loss):
            raise ConfigError(
                f"the loss on the test rows is {loss} after round {server.round}: is the step "
                f"{server.step_size:.6g} too large?"
            )
        return value, loss, accuracy

    def _objective(self, server: Server) -> float:
        values = reference.objectives(self._transport, server.round, server.theta, server.asks_everyone_next)
        value = sum(values.values())
        if not math.isfinite(value):
            m = next((m for m, own in values.items() if not math.isfinite(own)), 0)
            if server.round == 0:
                raise ConfigError(
                    f"the objective of worker {m} is {values.get(m, value)} at the first theta, before any step: are data, "
                    "first theta and l2 of usual size?"
                )
            raise ConfigError(
                f"the objective of worker {m} is {values.get(m, value)} after round {server.round}: is the step "
                f"{server.step_size:.6g} too large?"
            )
        if self.first_objective is None:
            self.first_objective = value
        return value

    def check_mirrors(self, server: Server) -> None:
        """Raises `ProtocolError` where a worker's mirror is not what the server holds of it."""
        k = server.round
        for answer in self._transport.evaluate(Evaluate(k, What.MIRROR, False, server.theta)):
            if not np.array_equal(answer.vector, server.stale(answer.worker)):
                raise ProtocolError(f"round {k}: worker {answer.worker}'s mirror differs from what the server holds")
