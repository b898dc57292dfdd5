"""The Numba code: plain functions over arrays, compiled on the first call with each dtype and cached on disk.

Numba notices that a cached function's own file changed, but not that a file it calls into did. A file therefore quotes
a few digits of the checksum of each file that it calls; a test says when they are out of date.

A file here, and with the first one Numba, is loaded when somebody asks this package for it (``kernels.vector``): what
reads a config, starts jobs or looks at runs does without.
"""

import importlib
import pkgutil
from types import ModuleType

_NAMES = frozenset(module.name for module in pkgutil.iter_modules(__path__))


def __getattr__(name: str) -> ModuleType:
    if name in _NAMES:
        importlib.import_module(f"{__name__}.lean")  # the first: names of files in Numba's cache
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
