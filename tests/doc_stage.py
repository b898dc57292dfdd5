"""Where the commands of the pages are run: a folder like a checkout, and a process that forks for each command.

The process has imported what every command imports, so that a command costs what it does and not half a second more;
what one command does to its process is gone with it. Started as a program this file is that process: a line of JSON on
standard input is a command, a line on standard output its exit code.
"""

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

LOOK_S = 0.005
CREATES = re.compile(r"--out[ =](\S+)|> (\S+)$")


@dataclass(frozen=True)
class Ended:
    """Exit code and all that was printed, as a terminal shows it; or what came instead of either."""

    code: int
    printed: str
    seconds: float


@dataclass
class Stage:
    """A folder in which commands are run, each once.

    Parameters
    ----------
    folder : Path
    order : list of str
        All commands in reading order, as they are run; what a command needs is made by earlier ones.
    """

    folder: Path
    order: list[str]
    done: dict[str, Ended] = field(default_factory=dict)
    _forker: subprocess.Popen | None = None

    def ended(self, command: str, run: str, timeout_s: float, prepare: dict[str, str]) -> Ended:
        """``run`` in place of ``command``, after those that make the folders and files which it names.

        ``prepare``: what is run for each command, by the command.
        """
        if command in self.done:
            return self.done[command]
        makes = {name for pair in CREATES.findall(run) for name in pair if name}
        before = self.order[: self.order.index(command)]
        for earlier in before:
            made = {name for pair in CREATES.findall(prepare[earlier]) for name in pair if name}
            if earlier not in self.done and any(_names(run, name) for name in made - makes):
                self.ended(earlier, prepare[earlier], timeout_s, prepare)
        self.done[command] = self._run(run, timeout_s)
        return self.done[command]

    def _run(self, command: str, timeout_s: float) -> Ended:
        began = time.monotonic()
        words, out = _words(command)
        printed = self.folder / ".printed"
        if words and words[0] == "psopt":
            code = self._forked({"words": words, "out": out, "printed": str(printed)}, timeout_s)
        else:
            with open(printed, "w") as file:
                job = subprocess.Popen(
                    ["bash", "-c", command], cwd=self.folder, env=environment(self.folder), stdin=subprocess.DEVNULL,
                    stdout=file, stderr=file, start_new_session=True,
                )  # fmt: skip
                try:
                    code = job.wait(timeout_s)
                except subprocess.TimeoutExpired:
                    os.killpg(job.pid, signal.SIGKILL)
                    code = job.wait()
                    file.write(f"hung for {timeout_s} s")
        return Ended(code, printed.read_text(errors="replace"), time.monotonic() - began)

    def _forked(self, asked: dict[str, Any], timeout_s: float) -> int:
        if self._forker is None:
            self._forker = subprocess.Popen(
                [sys.executable, __file__], cwd=self.folder, env=environment(self.folder), text=True,
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True,
            )  # fmt: skip
        assert self._forker.stdin is not None
        assert self._forker.stdout is not None
        self._forker.stdin.write(json.dumps({**asked, "timeout_s": timeout_s}) + "\n")
        self._forker.stdin.flush()
        return int(self._forker.stdout.readline())

    def close(self) -> None:
        if self._forker is not None:
            with self._forker:  # closes its standard input, at which it ends
                pass


def _names(command: str, name: str) -> bool:
    """Whether the command names this folder or file, something in it, or a folder that it lies in, but for `runs`."""
    return any(
        re.search(rf"(?<![\w./-]){re.escape(str(place))}(?![\w-])" + "(?!/)" * up, command)
        for up, place in enumerate((Path(name), *Path(name).parents))
        if str(place) not in (".", "runs")
    )


def _words(command: str) -> tuple[list[str], str | None]:
    """The words of a plain command and the file that its output goes to; no words where a shell is needed."""
    try:
        words = shlex.split(command)
    except ValueError:
        return [], None
    if len(words) > 2 and words[-2] == ">":
        words, out = words[:-2], words[-1]
    else:
        out = None
    shell = any(sign in command for sign in ("|", "$", "`", "&&", ";")) or ">" in words
    return ([] if shell else words), out


def environment(folder: Path) -> dict[str, str]:
    """This environment's programs first, and what MPI wants to hear; a width as of a terminal."""
    from psopt import launch

    found = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    return {**launch.environment(), "PATH": found, "COLUMNS": "120", "MPLBACKEND": "agg", "PYTHONPATH": ""}


def furnish(folder: Path, root: Path) -> None:
    """What lies in a checkout, as far as commands name it."""
    shutil.copytree(root / "configs", folder / "configs")
    for name in ("slurm", "tests", ".ci", "setup.cfg", "pyproject.toml", "Makefile"):
        (folder / name).symlink_to(root / name)
    (folder / ".venv").symlink_to(sys.prefix)


def _serve() -> None:
    """Forks for every line of standard input."""
    from psopt.launch import ONE_THREAD

    os.environ.update(ONE_THREAD)
    import numba  # noqa: F401
    import pydantic  # noqa: F401
    import rich.table  # noqa: F401

    import psopt.cli
    import psopt.commands
    import psopt.config
    import psopt.runs.experiment
    import psopt.runs.grid
    import psopt.runs.resume
    import psopt.runs.sweep_table  # noqa: F401

    assert "mpi4py.MPI" not in sys.modules
    for line in sys.stdin:
        asked = json.loads(line)
        child = os.fork()
        if child == 0:
            _become(asked)
        ended = time.monotonic() + asked["timeout_s"]
        while True:
            found, status = os.waitpid(child, os.WNOHANG)
            if found:
                break
            if time.monotonic() > ended:
                os.killpg(child, signal.SIGKILL)
                Path(asked["printed"]).write_text(f"hung for {asked['timeout_s']} s")
                _, status = os.waitpid(child, 0)
                break
            time.sleep(LOOK_S)
        print(os.waitstatus_to_exitcode(status), flush=True)


def _become(asked: dict[str, Any]) -> None:
    """This process as the command; does not return."""
    os.setsid()
    printed = os.open(asked["printed"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    out = os.open(asked["out"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC) if asked["out"] else printed
    for target, source in ((0, os.open(os.devnull, os.O_RDONLY)), (1, out), (2, printed)):
        os.dup2(source, target)
    sys.argv = asked["words"]
    sys.stdin, sys.stdout, sys.stderr = (os.fdopen(number, mode) for number, mode in ((0, "r"), (1, "w"), (2, "w")))
    code: Any = 1
    try:
        from psopt.__main__ import main

        main()
    except SystemExit as left:
        code = left.code or 0
    except BaseException:  # noqa: BLE001  (a child of the fork must not go on as its parent)
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code if isinstance(code, int) else 1)


if __name__ == "__main__":
    _serve()
