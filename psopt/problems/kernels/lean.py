"""Numba's cache: kernels out of it without what only a compilation needs, a quarter of a second of each rank's start;
and into it in files of each process's own.
"""

import os
import socket
import zlib
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


def _own_names() -> None:
    """From now on no other process gives a file of compiled code the name that this one gives it.

    Numba numbers them by what the index holds, which two processes that compile a function for different types may
    both have read before either writes: then one's entry of the index stood for the other's code, for good. With names
    apart the worst is an entry that is lost, and compiled once more.
    """
    named = caching.IndexDataCacheFile._data_name
    own = (zlib.crc32(socket.gethostname().encode()) << 64) + (os.getpid() << 24)
    caching.IndexDataCacheFile._data_name = lambda self, number: named(self, number + own)


if hasattr(caching.IndexDataCacheFile, "_data_name"):
    _own_names()


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
