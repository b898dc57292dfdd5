"""Kernels out of Numba's cache without what only a compilation needs: a quarter of a second of each rank's start."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from numba.core import caching
from numba.core.runtime import rtsys

_KNOWN = all(
    hasattr(owner, name)
    for owner, name in (
        (caching.Cache, "load_overload"),
        (caching.Cache, "_load_overload"),
        (caching.Cache, "_guard_against_spurious_io_errors"),
        (rtsys, "initialize"),
    )
)


@contextmanager
def cache_first() -> Iterator[None]:
    """Within this, Numba looks into its cache before it fills its tables of types and functions.

    By itself it fills them first, and imports what they are made of, SciPy's linear algebra among it. What is not in
    the cache is compiled, upon which Numba fills them in any case. This is for psopt's own kernels: cached code of
    others may call what only comes with the tables. A Numba that is built otherwise goes its own way.
    """
    if not _KNOWN:
        yield
        return
    filled_first = caching.Cache.load_overload
    caching.Cache.load_overload = _load_overload
    try:
        yield
    finally:
        caching.Cache.load_overload = filled_first


def _load_overload(self: caching.Cache, sig: Any, target_context: Any) -> Any:
    """As Numba's own, but for the tables; its run-time, which all compiled code calls, has to be there."""
    rtsys.initialize(target_context)
    with self._guard_against_spurious_io_errors():
        return self._load_overload(sig, target_context)
