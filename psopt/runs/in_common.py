"""Whether the ranks of a run hold vectors in common, which nothing but the speed depends on."""

from typing import TYPE_CHECKING

import numpy as np

from psopt.config import RunConfig
from psopt.core.model import lands_in_rows
from psopt.core.worker import one_vector
from psopt.transports.commons import LEAST_NBYTES, Commons, commons_of

if TYPE_CHECKING:
    from psopt.transports.mpi import Link


def commons(config: RunConfig, link: "Link", dim: int) -> Commons | None:
    """All ranks call it together. Theta lies there where it crosses as it is, and all ranks are known to share a host;
    uploads as well, where what is held of a worker and what it says are one vector.
    """
    algorithm, dtype = config.algorithm, np.dtype(config.problem.dtype)
    plain = not config.downlink.lazy and config.sent_dtype == dtype and config.broadcast.kind == "auto"
    if not plain or not link.one_host or dim * dtype.itemsize < LEAST_NBYTES:
        return None
    if config.debug.check_mirror:  # what is compared must not be one vector
        return None
    rows = one_vector(algorithm) and lands_in_rows(algorithm) and _in_memory(config)
    return commons_of(link, config.workers, dim, dtype, rows, config.timeouts.start_s)


def _in_memory(config: RunConfig) -> bool:
    return getattr(config.algorithm.aggregator, "mapped_in", None) is None
