"""Arrays that live in a file: for what is held of many workers and is more than the memory.

The file has no name, so that nothing is left of it however the run ends. Its blocks are reserved at once, because a
disk that is full later would end the process without a word.
"""

import math
import os
import tempfile

import numpy as np

from psopt import capacity
from psopt.errors import ConfigError


def mapped(shape: tuple[int, ...], dtype: np.dtype, folder: str) -> np.ndarray:
    """An array of that shape, zero, in a file in ``folder``.

    Raises `ConfigError` where there is no such folder, it is itself kept in memory, or it has no room.
    """
    nbytes = math.prod(shape) * dtype.itemsize
    kind = capacity.kept_in_memory(folder)
    if kind:
        raise ConfigError(f"`mapped_in: {folder}` would help nobody: that folder is kept in memory ({kind})")
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            os.posix_fallocate(file.fileno(), 0, nbytes)
            array = np.asarray(np.memmap(file, dtype, "r+", shape=shape))
    except OSError as error:
        said = f"{nbytes:.4g} bytes of stale vectors cannot be mapped into the folder {folder}"
        raise ConfigError(f"{said} (`mapped_in`): {error.strerror}") from None
    return array
