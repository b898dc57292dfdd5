"""Numba's cache: kernels out of it without what only a compilation needs, more than half of the CPU that each rank
would spend on them; and into it in files of each process's own.
"""

import os
import socket
import sys
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from typing import Any

import numpy as np
from llvmlite import binding as llvm
from numba.core import caching, entrypoints, environment, event, types
from numba.core.errors import NumbaNotImplementedError
from numba.core.runtime import _nrt_python as run_time
from numba.core.typing.typeof import typeof_impl
from numba.np import numpy_support

_KNOWN = all(
    hasattr(owner, name)
    for owner, names in (
        (caching.Cache, ("load_overload", "_load_overload", "_guard_against_spurious_io_errors")),
        (run_time, ("c_helpers",)),
        (entrypoints, ("init_all",)),
        (environment, ("Environment", "_rebuild_env", "lookup_environment")),
        (environment.Environment, ("_memo",)),
        (event, ("start_event", "end_event")),
        (typeof_impl, ("dispatch", "register")),
        (numpy_support, ("from_dtype", "map_layout")),
    )
    for name in names
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


def _plain_arrays_first() -> None:
    """From now on the type of an array is told without NumPy's masked arrays, which Numba imports to tell that it is
    none of these.
    """
    usual = typeof_impl.dispatch(np.ndarray)

    @typeof_impl.register(np.ndarray)
    def type_of(value: Any, context: Any) -> Any:
        if type(value) is not np.ndarray:
            return usual(value, context)
        try:
            dtype = numpy_support.from_dtype(value.dtype)
        except NumbaNotImplementedError:
            return usual(value, context)
        return types.Array(dtype, value.ndim, numpy_support.map_layout(value), readonly=not value.flags.writeable)


if _KNOWN:
    _plain_arrays_first()


@contextmanager
def cache_first() -> Iterator[None]:
    """Within this, Numba looks into its cache before it fills its tables of types and functions.

    By itself it fills them first, and imports what they are made of, SciPy's linear algebra among it. It looks for
    packages that extend it, compiles the run-time that code is linked with, imports the modules of its own functions
    that are compiled into a kernel, and measures each call of LLVM. What is not in the cache is compiled, upon which
    Numba fills its tables and has its run-time in any case.

    This is for psopt's own kernels: cached code of others may call what only comes with the tables. A Numba that is
    built otherwise goes its own way.
    """
    if not _KNOWN:
        yield
        return
    _tell_of_run_time()
    with ExitStack() as within:
        within.enter_context(_instead(caching.Cache, "load_overload", _load_overload))
        within.enter_context(_instead(entrypoints, "init_all", _not_extended))
        within.enter_context(_instead(environment, "_rebuild_env", _environment_by(environment._rebuild_env)))
        for name in ("start_event", "end_event"):
            within.enter_context(_instead(event, name, _not_measured))
        yield


@contextmanager
def _instead(owner: Any, name: str, other: Any) -> Iterator[None]:
    usual = getattr(owner, name)
    setattr(owner, name, other)
    try:
        yield
    finally:
        setattr(owner, name, usual)


@cache
def _tell_of_run_time() -> None:
    """Makes the run-time's functions known to LLVM. Those in C are all that cached code asks for; those that Numba
    compiles at each start, a thirtieth of a second, are in the code itself.
    """
    for name, address in run_time.c_helpers.items():
        llvm.add_symbol(name if name.startswith("_") else f"NRT_{name}", address)


def _load_overload(self: caching.Cache, sig: Any, target_context: Any) -> Any:
    """As Numba's own, but for the tables and the run-time."""
    with self._guard_against_spurious_io_errors():
        return self._load_overload(sig, target_context)


def _environment_by(usual: Callable[..., Any]) -> Callable[..., Any]:
    """As Numba's own, but that a module of Numba's is not imported: code that works on no Python objects, as Numba's
    own functions do, uses no names of the module that it comes from.
    """

    def rebuilt(module: str, constants: list[Any], name: str) -> Any:
        if module in sys.modules or not module.startswith("numba."):
            return usual(module, constants, name)
        found = environment.lookup_environment(name)
        if found is None:
            found = environment.Environment({"__name__": module})
            found.consts[:] = constants
            found.env_name = name
            environment.Environment._memo[name] = found
        return found

    return rebuilt


def _not_measured(kind: str, data: Any = None, exc_details: Any = None) -> None:
    """Nobody asks how long a cached kernel kept LLVM's lock."""


def _not_extended() -> None:
    """psopt's kernels know no types of other packages."""
