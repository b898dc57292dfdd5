"""Where the server receives what it asks for off the books: memory of its own, given back when it is not needed."""

from collections.abc import Callable, Sequence
from typing import Any

from psopt.core.frames import Frame, frames_of


class Answers:
    """Slots for the answers of all workers to one kind of question, with ``room`` bytes each behind the header.

    Parameters
    ----------
    post : callable
        Makes standing receives, one a worker, of frames and tags.
    workers : int
        M.
    question : int
        The tag of the answers.
    room : int
    """

    def __init__(
        self, post: Callable[[list[Frame], Sequence[int]], list[Any]], workers: int, question: int, room: int
    ) -> None:
        self.room = room
        _, self.slots = frames_of(workers, room)
        self.receives = post(self.slots, [question] * workers)

    def free(self) -> None:
        for request in self.receives:
            request.Free()
