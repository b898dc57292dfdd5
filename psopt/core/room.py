"""Memory that messages leave from and arrive in: what is kept there crosses without being copied first."""

from typing import NamedTuple

import numpy as np

from psopt.parts.rows import Rows


class Room(NamedTuple):
    """What a transport offers the server, each None where it has none.

    Attributes
    ----------
    theta : ndarray, shape (dim,), optional
        Messages that hold this very array leave from it. It must not change before they have left.
    rows : Rows, optional
        Each worker's uploads arrive in its row: `Upload.payload` is the row itself, and what is held of the worker
        until its next upload.
    """

    theta: np.ndarray | None = None
    rows: Rows | None = None


NO_ROOM = Room()
