"""One case under a time limit, and the verdict: accepted, refused in a sentence that names what is wrong, or fault."""

import contextlib
import faulthandler
import io
import os
import signal
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from psopt.errors import ConfigError, IncompatibleParts, NotFinite, WorkerFailed

LIMIT_S = 10.0
HARD_S = 90.0
"""Code that no signal interrupts, a compiled loop say, ends the whole fuzzer after this, with its stack."""
LONGEST_LINE = 2000


@dataclass
class Case:
    """``act`` returns if all is well; each line of a refusal has to hold one of ``names`` (none: any will do)."""

    kind: str
    act: Callable[[], None]
    names: tuple[str, ...] = ()


@dataclass
class Verdict:
    """``outcome``: accepted, refused or fault; of faults, equal ``what`` are one fault, and ``text`` tells all."""

    kind: str
    outcome: str
    what: str = ""
    text: str = ""


class Wrong(Exception):
    """Accepted, but what came of it is wrong."""


class TooLong(BaseException):
    """The time limit has passed; no `except Exception` may swallow it."""


def _too_long(number: int, frame: object) -> None:
    raise TooLong


@contextlib.contextmanager
def limited(seconds: float = LIMIT_S) -> Iterator[None]:
    before = signal.signal(signal.SIGALRM, _too_long)
    faulthandler.dump_traceback_later(HARD_S, exit=True, file=sys.__stderr__)
    signal.setitimer(signal.ITIMER_REAL, seconds, 0.5)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        faulthandler.cancel_dump_traceback_later()
        signal.signal(signal.SIGALRM, before)


@contextlib.contextmanager
def untimed() -> Iterator[None]:
    """Within `limited`: what is done here has all the time it wants, as compiling has."""
    left, _ = signal.setitimer(signal.ITIMER_REAL, 0)
    faulthandler.cancel_dump_traceback_later()
    try:
        yield
    finally:
        if left:
            faulthandler.dump_traceback_later(HARD_S, exit=True, file=sys.__stderr__)
            signal.setitimer(signal.ITIMER_REAL, left, 0.5)


def judged(case: Case, here: Path) -> Verdict:
    """Does the case in the folder ``here``, with warnings as errors."""
    before = Path.cwd()
    os.chdir(here)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            warnings.filterwarnings("ignore", category=DeprecationWarning, module=r"numba.*")
            with contextlib.redirect_stderr(io.StringIO()), limited():
                case.act()
                _check_nothing_executed()
    except (ConfigError, IncompatibleParts) as error:
        fault = _fault_of_sentence(str(error), case.names) or "executes data" * Path("executed").exists()
        return _fault(case, fault, error) if fault else Verdict(case.kind, "refused", text=str(error))
    except (NotFinite, WorkerFailed) as error:  # a run that diverged
        fault = "a traceback" if "Traceback" in str(error) else ""
        return _fault(case, _last_line(error) if fault else "", error) if fault else Verdict(case.kind, "refused")
    except TooLong as error:
        return _fault(case, f"hangs in {_place(error)}", error)
    except Wrong as error:
        return _fault(case, f"wrong: {error}", error)
    except Exception as error:  # noqa: BLE001  (each is a finding)
        return _fault(case, f"{type(error).__name__} in {_place(error)}", error)
    finally:
        os.chdir(before)
    return Verdict(case.kind, "accepted")


def _check_nothing_executed() -> None:
    if Path("executed").exists():
        raise Wrong("data were executed")


def _fault(case: Case, what: str, error: BaseException) -> Verdict:
    return Verdict(case.kind, "fault", what, "".join(traceback.format_exception(error)))


def _fault_of_sentence(text: str, names: tuple[str, ...]) -> str:
    """What is wrong with a refusal's own words; empty if nothing is."""
    if not text.strip():
        return "a refusal says nothing"
    for line in text.split("\n"):
        if not line.strip() or "Traceback" in line:
            return "a refusal with an empty line or a traceback"
        if not line.isprintable():
            return "a refusal with characters that do not print"
        if len(line) > LONGEST_LINE:
            return "a refusal of more than 2000 characters"
        if names and not any(name in line for name in names):
            return "a refusal that names neither file nor key"
    return ""


def _place(error: BaseException) -> str:
    """The innermost function of psopt's on the stack, and the innermost of all."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if "/psopt/" in frame.filename]
    at = f"{own[-1].filename.rpartition('/psopt/')[2]}:{own[-1].name}" if own else "the fuzzer"
    return at if not frames or frames[-1] in own else f"{at} ({frames[-1].name})"


def _last_line(error: BaseException) -> str:
    frames = [line for line in str(error).splitlines() if "/psopt/" in line]
    where = frames[-1].rpartition("/psopt/")[2] if frames else ""
    return f"a traceback: {str(error).strip().splitlines()[-1][:80]} {where}"
