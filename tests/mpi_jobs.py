"""Starting real MPI jobs from tests, each with a hard timeout that kills all of it."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from psopt import launch

HERE = Path(__file__).parent
TIMEOUT_S = 120.0
LAUNCHER_FAILED = 213
TOLD = re.compile(r"<<<(.*?)>>>")
NOISE = re.compile(r"\[.*?\] (PMIX|PRTE) ERROR|\[warn\] Epoll |psopt: compiling kernels")
GLUED = re.compile(r"(?<=[^\s`'\"(])(?=(?:psopt: |### )\S)")


@dataclass(frozen=True)
class Ended:
    """How a job ended: exit code, what it printed, and the seconds it took."""

    code: int
    out: str
    err: str
    seconds: float
    ended_at: float

    @property
    def said(self) -> list[str]:
        """The lines that are psopt's: mpiexec frames its own by rules of dashes, or heads them by [host:pid], and may
        put those of two ranks into one."""
        lines, inside = [], False
        for line in GLUED.sub("\n", self.out + self.err).splitlines():
            if line.startswith("-----"):
                inside = not inside
            elif not inside and line.strip("\0 ") and not NOISE.match(line):
                lines.append(line)
        return lines

    def told(self) -> list:
        """What the ranks of a test's program said by `tell`, in no order."""
        return [json.loads(found) for found in TOLD.findall(self.out)]


def tell(value: object) -> None:
    """Prints a JSON value for `Ended.told`, between marks: a launcher may put the lines of two ranks into one."""
    sys.stdout.write(f"<<<{json.dumps(value)}>>>\n")
    sys.stdout.flush()


def start(command: list[str], **environment: str) -> subprocess.Popen:
    return subprocess.Popen(
        command,
        cwd=HERE,
        env={**launch.environment(), **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=_heed_interrupts,
    )


def _heed_interrupts() -> None:
    """What was started in the background ignores Ctrl-C, and so would all that it starts."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def bearing(token: str) -> dict[int, str]:
    """The processes whose environment holds the token, which whatever a job starts inherits, and what they were called
    as; not those that have ended and wait for their parent to notice.
    """
    found = {}
    for place in Path("/proc").glob("[0-9]*"):
        try:
            ended = (place / "stat").read_text().rpartition(")")[2].split()[0] == "Z"
            if not ended and token.encode() in (place / "environ").read_bytes():
                found[int(place.name)] = (place / "cmdline").read_text().replace("\0", " ")
        except OSError:
            continue  # it has ended meanwhile, or is somebody else's
    return found


def ranks_of(folder: Path) -> list[int]:
    """The processes of `psopt` jobs that name the folder on their command line, the launcher's among them."""
    found = []
    for line in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = line.read_bytes().split(b"\0")
        except OSError:
            continue
        if str(folder).encode() in words and words[1:3] == [b"-m", b"psopt"]:
            found.append(int(line.parent.name))
    return found


def finish(job: subprocess.Popen, began: float | None = None, timeout_s: float = TIMEOUT_S) -> Ended:
    began = time.time() if began is None else began
    try:
        out, err = job.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired:
        os.killpg(job.pid, signal.SIGKILL)
        out, err = job.communicate()
        raise AssertionError(f"hung for {timeout_s} s: {job.args}\n{out}\n{err}") from None
    now = time.time()
    return Ended(job.returncode, out, err, now - began, now)


def psopt(*arguments: object, timeout_s: float = TIMEOUT_S, **environment: str) -> Ended:
    """``python -m psopt ARGUMENTS``, in the folder of the tests, whose problems can then be named."""
    return _launched([sys.executable, "-m", "psopt", *map(str, arguments)], timeout_s, environment)


def mpiexec(ranks: int, *arguments: object, timeout_s: float = TIMEOUT_S, **environment: str) -> Ended:
    """``mpiexec -n RANKS python ARGUMENTS``."""
    command = [launch.find_mpiexec(), "-n", str(ranks), sys.executable, *map(str, arguments)]
    return _launched(command, timeout_s, environment)


def _launched(command: list[str], timeout_s: float, environment: dict[str, str]) -> Ended:
    """Starts once more where Open MPI's launcher did not come up by itself, before any rank was there."""
    for attempt in range(2):
        began = time.time()
        ended = finish(start(command, **environment), began, timeout_s)
        if attempt or ended.code != LAUNCHER_FAILED or "The PMIx serv" not in ended.err:
            break
    return ended
