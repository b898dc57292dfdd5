"""Memory that the ranks of one host see in common: theta and uploads lie in it, and only their headers are sent.

A vector of hundreds of kilobytes costs either end of a message more than all else of a round that is not computing: it
is copied page by page, by the processor that would compute meanwhile, and pushes out of the caches what is needed next.
The server lets nobody wait for theta before everyone has it, and changes it only when all who were asked have answered;
a worker writes its vector only between a question and its answer. So no vector is ever read while it is written.

The memory has no name in any folder. Rank 0 makes it, and tells where the others find it as long as it holds it open.
"""

import itertools
import mmap
import os
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from psopt.core.frames import Frame, frames_of, width_of
from psopt.lines import LINE_NBYTES
from psopt.transports.base import SERVER

if TYPE_CHECKING:
    from psopt.transports.mpi import Link

LEAST_NBYTES = 1 << 15
"""Of a vector. What is shorter MPI sends at once, and a copy of it is in the caches of whoever needs it."""
_TOKEN_NBYTES = 16


class Commons(NamedTuple):
    """What is in common.

    Attributes
    ----------
    theta : ndarray, shape (dim,)
        The server's own.
    rows : tuple of ndarray, shape (M, any), uint8, and list of M Frame; or None
        Where uploads are received, as `frames_of` makes it; each frame holds its worker's vector.
    """

    theta: np.ndarray
    rows: tuple[np.ndarray, list[Frame]] | None


def commons_of(link: "Link", workers: int, dim: int, dtype: np.dtype, rows: bool, timeout_s: float) -> Commons | None:
    """Called by all ranks of one host together; ``rows`` tells whether uploads lie there as well as theta. None, on all
    ranks, where one of them finds no such memory.
    """
    vector = dim * dtype.itemsize
    counts = [1, workers] if rows else [1]
    found = _in_common(link, [count * width_of(vector) + LINE_NBYTES for count in counts], timeout_s)
    if found is None:
        return None
    held = [frames_of(count, vector, memory=memory) for count, memory in zip(counts, found, strict=True)]
    for _, frames in held:
        for frame in frames:
            frame.hold(dim, dtype)
    return Commons(held[0][1][0].array, held[1] if rows else None)


def _in_common(link: "Link", sizes: list[int], timeout_s: float) -> list[np.ndarray] | None:
    """Arrays of so many bytes, zero, uint8, each of which begins a page on every rank. Each goes when nobody holds it
    any longer: whoever keeps theta does not keep the rows.
    """
    file, found, told = -1, None, None
    try:
        if link.rank == SERVER:
            try:
                file, found, told = _made(sizes)
            except (AttributeError, OSError):  # a system without such memory, or with none left
                told = None
        told = link.share(told, timeout_s)
        if link.rank != SERVER and told is not None:
            found = _found(*told, sizes)
        everyone = all(link.gather(found is not None, timeout_s))
    finally:
        if file >= 0:
            os.close(file)
    return found if everyone else None


def _made(sizes: list[int]) -> tuple[int, list[np.ndarray], tuple[str, str]]:
    """The file, which is memory, what is in it, and what to tell of it."""
    file = os.memfd_create("psopt")
    try:
        os.posix_fallocate(file, 0, _places(sizes)[-1])  # or who touches it first would find that there is none
        token, *found = _mapped(file, sizes)
    except BaseException:
        os.close(file)
        raise
    token[:] = np.frombuffer(os.urandom(_TOKEN_NBYTES), np.uint8)
    return file, found, (f"/proc/{os.getpid()}/fd/{file}", token.tobytes().hex())


def _found(place: str, told: str, sizes: list[int]) -> list[np.ndarray] | None:
    """What is in rank 0's memory, if that is what it is said to be: where processes have other numbers for this rank it
    may be another's.
    """
    try:
        file = os.open(place, os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        if os.fstat(file).st_size != _places(sizes)[-1]:
            return None
        token, *found = _mapped(file, sizes)
    except OSError:
        return None
    finally:
        os.close(file)
    return found if token.tobytes() == bytes.fromhex(told) else None


def _places(sizes: list[int]) -> list[int]:
    """Where in the file the token, each of the arrays, and nothing more, begins."""
    pages = [-(-nbytes // mmap.PAGESIZE) * mmap.PAGESIZE for nbytes in (_TOKEN_NBYTES, *sizes)]
    return [0, *itertools.accumulate(pages)]


def _mapped(file: int, sizes: list[int]) -> list[np.ndarray]:
    """The token, and the arrays."""
    nbytes = (_TOKEN_NBYTES, *sizes)
    maps = [mmap.mmap(file, size, offset=place) for size, place in zip(nbytes, _places(sizes), strict=False)]
    return [np.frombuffer(each, np.uint8) for each in maps]
