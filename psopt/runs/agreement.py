"""Steps that all ranks take together: what fails on one of them fails on all, with the same error.

An error that every rank raises is marked ``agreed``: each rank can then leave by itself, and rank 0 alone prints it.
Whatever is not marked ends the whole job, because nobody else knows of it.
"""

import traceback
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from psopt.errors import CannotWrite, ConfigError, IncompatibleParts, PsoptError, Warned, WorkerFailed
from psopt.transports.base import failure_header

if TYPE_CHECKING:
    from psopt.transports.mpi import Link

T = TypeVar("T")
TOLD = (ConfigError, IncompatibleParts, WorkerFailed, CannotWrite, Warned)
End = PsoptError | KeyboardInterrupt
KINDS: dict[str, type[End]] = {kind.__name__: kind for kind in (*TOLD, KeyboardInterrupt)}


def together(error: End) -> End:
    """The error, marked as one that every rank raises."""
    error.agreed = True
    return error


def agreed(link: "Link", timeout_s: float, step: Callable[[], T]) -> T:
    """Does a step on this rank; if it failed on any rank, raises the first such error on all."""
    result, verdict = attempted(link, step)
    for found in link.gather(verdict, timeout_s):
        raise_told(found)
    return result


def attempted(link: "Link", step: Callable[[], T]) -> tuple[T | None, list[str] | None]:
    """What a step gives on this rank, or the error that it raises, as `told` has it."""
    try:
        return step(), None
    except TOLD as error:
        return None, told(error)
    except (Exception, SystemExit):  # noqa: BLE001  (somebody raises it again, on every rank)
        header = failure_header(-1, 0, link.rank, link.host, 0)
        return None, told(WorkerFailed(f"{header}\n{traceback.format_exc()}"))


def decided(link: "Link", timeout_s: float, decide: Callable[[], Any]) -> Any:
    """Rank 0's decision, a JSON value, on every rank; or its error."""
    decision = agreed(link, timeout_s, lambda: decide() if link.rank == 0 else None)
    return link.share(decision, timeout_s)


def told(error: End) -> list[str]:
    """An error in a form that crosses ranks."""
    return [type(error).__name__, str(error)]


def raise_told(found: list[str] | None) -> None:
    """Raises what `told` described, marked; does nothing for None."""
    if found is not None:
        kind, text = found
        raise together(KINDS[kind](text))
