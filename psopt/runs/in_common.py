"""Whether the ranks of a run hold vectors in common, which nothing but the speed depends on.

psopt's own problems read theta and write their gradient. A user's class, or a PyTorch module, may put a step into theta
and take it out again, as finite differences do: it has a theta of its own rank.
"""

from typing import TYPE_CHECKING

import numpy as np

from psopt.core.model import lands_in_rows
from psopt.core.worker import one_vector
from psopt.problems.kernels import warm
from psopt.transports.commons import LEAST_NBYTES, Commons, commons_of

if TYPE_CHECKING:
    from psopt.runs.experiment import Plan
    from psopt.transports.mpi import Link

OWN = frozenset((*warm.LINEAR, *warm.NETWORKS, *warm.NOISY))
"""Kinds of problem that leave theta alone."""


def commons(plan: "Plan", link: "Link", dim: int) -> Commons | None:
    """All ranks call it together. Theta lies there where it crosses as it is, and all ranks are known to share a host;
    uploads as well, where what is held of a worker and what it says are one vector, and it says it in every round.
    """
    config = plan.config
    algorithm, dtype = config.algorithm, np.dtype(config.problem.dtype)
    plain = not config.downlink.lazy and config.sent_dtype == dtype and config.broadcast.kind == "auto"
    if not plain or not link.one_host or dim * dtype.itemsize < LEAST_NBYTES:
        return None
    if plan.problem is not None or config.problem.kind not in OWN:
        return None
    if config.debug.check_mirror:  # what is compared must not be one vector
        return None
    in_memory = getattr(algorithm.aggregator, "mapped_in", None) is None
    rows = one_vector(algorithm) and lands_in_rows(algorithm) and not algorithm.trigger.lazy and in_memory
    return commons_of(link, config.workers, dim, dtype, rows, config.timeouts.start_s)
