"""Where rows are cut into parts whose sums are formed apart: a matter of the shard's shape, never of threads.

A shard of less than 16 MiB is one part. Larger ones are 2, 4, 8 or 16 parts of 8 MiB and more: half a millisecond of
reading, beside which the tens of microseconds that threads need to wake are little. A power of two, because so are the
numbers of cores. Each part's gradient is a vector that is held, cleared and added: a part outweighs that by far.
"""

import numpy as np

PART_NBYTES = 8 << 20
MOST_PARTS = 16
VECTORS = 64
"""How many times a part's bytes are those of its gradient, where each row is work enough for one vector."""
VECTORS_OF_NETWORKS = 8
"""The same where each row is multiplied with all of theta: there memory is the limit, and not the adding."""

STORED_NBYTES = 32
"""What a stored value of a CSR matrix counts as: what is read of a dense one in the two nanoseconds that it takes."""


def parts_of(nbytes: int, vector_nbytes: int, vectors: int) -> int:
    """How many parts rows of so many bytes have, when a sum over them is a vector of so many, which a part outweighs
    ``vectors`` times.
    """
    most = min(nbytes // PART_NBYTES, nbytes // (vectors * max(1, vector_nbytes)), MOST_PARTS)
    return 1 << (int(most).bit_length() - 1) if most else 1


def even(n: int, parts: int, multiple: int) -> list[slice]:
    """The rows 0 to n - 1 in so many slices of about as many each; where n allows it, multiples of ``multiple``."""
    multiple = max(1, min(multiple, n // parts))
    blocks = -(-n // multiple)
    ends = [min(n, multiple * (blocks * part // parts)) for part in range(parts)]
    return [slice(start, stop) for start, stop in zip(ends, [*ends[1:], n], strict=True)]


def by_weight(indptr: np.ndarray, parts: int) -> list[slice]:
    """The rows of a CSR matrix in so many slices with about as many stored values each; ``indptr``, shape (n + 1,)."""
    total = int(indptr[-1])
    starts = [int(np.searchsorted(indptr, total * part // parts)) for part in range(parts)]
    starts[0] = 0
    return [slice(start, stop) for start, stop in zip(starts, [*starts[1:], len(indptr) - 1], strict=True)]
