"""Arrays that live in a file: for what is held of many workers and is more than the memory.

The file has no name, so that nothing is left of it however the run ends. Its blocks are reserved at once, because a
disk that is full later would end the process without a word.
"""

import math
import os
import shutil
import tempfile

import numpy as np

from psopt import capacity
from psopt.errors import ConfigError


def mapped(shape: tuple[int, ...], dtype: np.dtype, folder: str) -> np.ndarray:
    """An array of that shape, zero, in a file in ``folder``.

    Raises `ConfigError` where there is no such folder, it is itself kept in memory, or it has no room.
    """
    nbytes = math.prod(shape) * dtype.itemsize
    check_place(folder, nbytes)
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            os.posix_fallocate(file.fileno(), 0, nbytes)
            return np.asarray(np.memmap(file, dtype, "r+", shape=shape))
    except OSError as error:
        raise ConfigError(_said(folder, nbytes, error.strerror)) from None


def check_folder(name: str | None) -> None:
    """Raises `ConfigError` for a name that names nothing; whether there is such a folder is for rank 0 to see."""
    if name is not None and not name.strip():
        raise ConfigError("`mapped_in` is empty; expected the name of a folder")


def check_place(folder: str, nbytes: int) -> None:
    """Raises `ConfigError` where nothing of that size can be mapped into a folder, as far as can be told before."""
    try:
        free = shutil.disk_usage(folder).free
    except OSError as error:
        raise ConfigError(_said(folder, nbytes, error.strerror)) from None
    kind = capacity.kept_in_memory(folder)
    if kind:
        raise ConfigError(f"`mapped_in: {folder}` would help nobody: that folder is kept in memory ({kind})")
    if nbytes > free:
        raise ConfigError(_said(folder, nbytes, f"it has room for {free:.4g}"))


def _said(folder: str, nbytes: int, why: str) -> str:
    return f"{nbytes:.4g} bytes of stale vectors cannot be mapped into the folder {folder} (`mapped_in`): {why}"
