"""``psopt`` and ``python -m psopt``: the command line under a guard.

The guard is what keeps an MPI job from hanging: whatever is raised on one rank ends every rank, non-zero, with what was
raised printed once. Mistakes of input get one sentence.
"""

import contextlib
import gc
import os
import select
import sys
import time
import traceback

from psopt import signals
from psopt.launch import ONE_THREAD, told_rank

TURN_S = 1.0
"""Several ranks may find at the same moment that another is silent: the lowest speaks and ends the job."""

OBJECTS = 300_000
"""Python looks for cycles to collect after so many objects more: what it imports makes many, and no cycles."""


def main() -> None:
    """Runs the command line and leaves with its exit code: 0 success, 1 failure, 2 wrong input, 75 warned and to be
    started again, 130 interrupted.
    """
    gc.set_threshold(OBJECTS, *gc.get_threshold()[1:])
    for name, value in ONE_THREAD.items():
        os.environ.setdefault(name, value)
    code = guarded()
    signals.ignore()  # a Python that is ending would fall back to what kills it, and change the exit code
    if _goes_alone():
        from psopt.transports import mpi_outliving

        mpi_outliving.leave(code)
    gc.freeze()  # what is left ends with the process: Python need not look for cycles in it, for a third of a second
    sys.exit(code)


def guarded() -> int:
    """The command line; every way out of it is an exit code, or the end of the job."""
    from psopt.errors import CannotWrite, ConfigError, DeadlinePassed, IncompatibleParts, Warned, WorkerFailed

    first = told_rank() == 0
    if first:
        signals.answer()
    else:
        signals.pass_on()
    try:
        import click

        from psopt.cli import cli

        try:
            code = cli.main(standalone_mode=False, prog_name="psopt") or 0
            sys.stdout.flush()
            return code
        except click.ClickException as error:
            if first:
                with contextlib.suppress(BrokenPipeError):
                    error.show()
            else:
                _let_the_first_speak()
            return 2
        except click.Abort as abort:
            cause = abort.__cause__
            raise cause if isinstance(cause, KeyboardInterrupt) else KeyboardInterrupt from None
    except (ConfigError, IncompatibleParts, WorkerFailed, CannotWrite, DeadlinePassed, Warned) as error:
        code = 2 if isinstance(error, ConfigError | IncompatibleParts) else 1
        if isinstance(error, Warned):
            code = signals.REQUEUE
        alone = not error.agreed and _in_a_job()  # only this rank knows
        if isinstance(error, DeadlinePassed):
            time.sleep(TURN_S * min(told_rank(), 2))
        if first or alone:
            print(error, file=sys.stderr, flush=True)
        elif not _in_a_job():
            _let_the_first_speak()
        return _end_job(code) if alone else code
    except (BrokenPipeError, SystemExit):  # click makes the second of the first
        if _in_a_job() or not _nobody_reads():
            traceback.print_exc()
            return _end_job(1)
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for what Python flushes at its end
        return 0  # whoever reads has seen enough, as `head` does
    except KeyboardInterrupt as error:
        alone = not getattr(error, "agreed", False)  # else every rank leaves by itself
        if first or alone:
            print("psopt: interrupted", file=sys.stderr, flush=True)
        return _end_job(130) if alone else 130
    except BaseException:  # noqa: BLE001  (the guard is for everything)
        traceback.print_exc()
        return _end_job(1)


def _let_the_first_speak() -> None:
    """Before MPI is joined every rank finds the same mistake, and rank 0 says it; but mpiexec ends all ranks as soon as
    one has left.
    """
    from psopt.transports.waiting import done_within

    done_within(TURN_S, signals.asked)


def _nobody_reads() -> bool:
    """Whether standard output is a pipe that nobody reads any longer."""
    try:
        found = select.poll()
        found.register(sys.stdout.fileno(), select.POLLOUT)
        return any(event & select.POLLERR for _, event in found.poll(0))
    except (OSError, ValueError):
        return False


def _in_a_job() -> bool:
    """Whether this process is one of several ranks that have joined."""
    if "psopt.transports.mpi" not in sys.modules:
        return False
    from psopt.transports import mpi

    return mpi.is_active() and mpi.world()[1] > 1


def _goes_alone() -> bool:
    """Whether this process is a rank of a job whose ranks outlive each other, with the set-up behind it."""
    outliving = sys.modules.get("psopt.transports.mpi_outliving")
    return outliving is not None and outliving.goes_alone()


def _end_job(code: int) -> int:
    """Aborts the job this process is part of, if there is one and it ends as a whole; else the code to leave with."""
    signals.ignore()
    if _in_a_job() and not _goes_alone():
        from psopt.transports import mpi

        mpi.abort(code)
    return code


if __name__ == "__main__":
    main()
