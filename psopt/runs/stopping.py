"""When a run is over."""

from collections.abc import Callable

from psopt.config import Stop
from psopt.errors import ConfigError
from psopt.runs.trace import Record


class Stopping:
    """Asked once after each round, in order; answers with the name of the rule that holds, or None."""

    def __init__(self, stop: Stop) -> None:
        self.stop = stop
        self._rounds_alone = stop.gradient_norm is None and stop.max_uploads is None and stop.max_seconds is None

    def reason(
        self, k: int, record: Record | None, uploads: int, seconds: float, aggregate_norm: Callable[[], float]
    ) -> str | None:
        """The rule that ends the run after round k; ``record`` is that round's, or None.

        Raises `ConfigError` when the objective is below f* by more than the gap that is asked for.
        """
        stop = self.stop
        if record is None and self._rounds_alone:
            return "max_rounds" if stop.max_rounds is not None and k >= stop.max_rounds else None
        gap = record.gap if record else None
        if stop.gap is not None and gap is not None and gap <= stop.gap:
            if gap < -stop.gap:
                raise ConfigError(
                    f"after round {k} the objective lies {-gap:.3g} below f*, more than `stop.gap` {stop.gap:g}: "
                    "the dtype is too coarse for such a gap, or the `f_star` that was given is too large"
                )
            return "gap"
        if stop.test_accuracy is not None and record and record.test_accuracy >= stop.test_accuracy:
            return "test_accuracy"
        if stop.gradient_norm is not None and aggregate_norm() <= stop.gradient_norm:
            return "gradient_norm"
        if stop.max_rounds is not None and k >= stop.max_rounds:
            return "max_rounds"
        if stop.max_uploads is not None and uploads >= stop.max_uploads:
            return "max_uploads"
        if stop.max_seconds is not None and seconds >= stop.max_seconds:
            return "max_seconds"
        return None
