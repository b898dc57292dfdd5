"""What psopt promises for each fault, place and moment: what the fault matrix checks and docs/faults.md shows.

``python fault_outcomes.py`` prints the table as the page has it.
"""

from dataclasses import dataclass

FAULTS = ("raise", "SIGKILL", "SIGSTOP", "SIGTERM", "NaN gradient", "disk full", "unreadable data", "Ctrl-C")
PLACES = ("server", "worker", "launcher")
MOMENTS = ("start-up", "mid-run", "last round")
ROUNDS, CHECKPOINT_EVERY = 40, 10
ROUND_OF = {"start-up": 0, "mid-run": ROUNDS // 2, "last round": ROUNDS}
KINDS = {
    "raise": "raise",
    "SIGKILL": "kill",
    "SIGSTOP": "freeze",
    "SIGTERM": "terminate",
    "NaN gradient": "not_finite",
    "disk full": "disk_full",
    "unreadable data": "unreadable_data",
    "Ctrl-C": "interrupt",
}
FAILURE = "not 0"


@dataclass(frozen=True)
class Outcome:
    """A promise.

    Attributes
    ----------
    exit : int or str
        The exit code; `FAILURE` for any but 0.
    folder : tuple of str
        What the run folder may say: a status, `cut off` where nothing could be written down, `none` before it exists.
        Where it holds a checkpoint, `psopt resume` without the fault has to end with the bits of an undisturbed run.
    says : str
        Part of psopt's one sentence, or of a traceback's last line; nothing where psopt does not come to a word.
    traceback : bool
        Whether there is one, of somebody else's code.
    """

    exit: int | str
    folder: tuple[str, ...]
    says: str = ""
    traceback: bool = False

    def cells(self) -> list[str]:
        """Exit code, folder and words, as the page shows them."""
        said = f"`{self.says}`" if self.says else "mpiexec's words" if self.exit else "nothing"
        return [str(self.exit), " or ".join(self.folder), said + ", after a traceback" * self.traceback]


OK = Outcome(0, ("ok",))
KILLED_EARLY = Outcome(FAILURE, ("none",))
KILLED = Outcome(FAILURE, ("cut off", "stopped"))
INTERRUPTED_EARLY = Outcome(130, ("none",), "psopt: interrupted")
INTERRUPTED = Outcome(130, ("stopped",), "psopt: interrupted")
NO_ROOM = "cannot be written: File too large"


def _of(*outcomes: Outcome) -> dict[str, Outcome]:
    """By moment; the last one holds for those that are left."""
    return {moment: outcomes[min(i, len(outcomes) - 1)] for i, moment in enumerate(MOMENTS)}


def _raises(who: str) -> dict[str, Outcome]:
    words = f"InjectedFault: {who} raises in "
    early = Outcome(1, ("none",), words + "the start-up", traceback=True)
    return _of(early, Outcome(1, ("failed",), words + "round", traceback=True))


OUTCOMES: dict[tuple[str, str], dict[str, Outcome]] = {
    ("raise", "server"): _raises("the server"),
    ("raise", "worker"): _raises("worker 1"),
    ("SIGKILL", "server"): _of(KILLED_EARLY, KILLED),
    ("SIGKILL", "worker"): _of(KILLED_EARLY, KILLED),
    ("SIGSTOP", "server"): _of(
        Outcome(1, ("none",), "the other ranks did not reach this step within"),
        Outcome(1, ("cut off", "stopped", "failed"), "had no word from the server for"),
    ),
    ("SIGSTOP", "worker"): _of(
        Outcome(1, ("none",), "the other ranks did not reach this step within"),
        Outcome(1, ("failed",), "(timeouts.round_s) from worker 1 (rank 2 on"),
    ),
    ("SIGTERM", "server"): _of(INTERRUPTED_EARLY, INTERRUPTED, OK),
    ("SIGTERM", "worker"): _of(INTERRUPTED, INTERRUPTED, OK),
    ("SIGTERM", "launcher"): _of(INTERRUPTED_EARLY, INTERRUPTED, OK),
    ("NaN gradient", "server"): _of(Outcome(2, ("failed",), "theta is no longer finite after round")),
    ("NaN gradient", "worker"): _of(Outcome(1, ("failed",), "the gradient of worker 1 is not finite in tensor")),
    ("disk full", "server"): _of(Outcome(1, ("none", "cut off"), NO_ROOM), Outcome(1, ("cut off",), NO_ROOM)),
    ("disk full", "worker"): _of(Outcome(1, ("failed",), NO_ROOM)),
    ("unreadable data", "server"): _of(OK),
    ("unreadable data", "worker"): _of(Outcome(2, ("none",), "cannot be read: Input/output error"), OK),
    ("Ctrl-C", "server"): _of(INTERRUPTED_EARLY, INTERRUPTED, OK),
    ("Ctrl-C", "worker"): _of(INTERRUPTED, INTERRUPTED, OK),
    ("Ctrl-C", "launcher"): _of(INTERRUPTED_EARLY, INTERRUPTED, OK),
}

Cell = tuple[str, str, str]
CELLS: list[Cell] = [(*of, moment) for of in OUTCOMES for moment in MOMENTS]
SHORT: list[Cell] = [
    ("raise", "server", "mid-run"),
    ("SIGSTOP", "server", "mid-run"),
    ("disk full", "server", "last round"),
    ("unreadable data", "worker", "start-up"),
    ("Ctrl-C", "launcher", "start-up"),
]


def promised(cell: Cell) -> Outcome:
    fault, place, moment = cell
    return OUTCOMES[fault, place][moment]


def page() -> str:
    """The table in Markdown; moments with the same outcome share a row."""
    rows = [["fault", "at the", "when", "exit", "folder", "said"], ["---"] * 6]
    for (fault, place), by_moment in OUTCOMES.items():
        for outcome in dict.fromkeys(by_moment.values()):
            when = [moment for moment in MOMENTS if by_moment[moment] == outcome]
            rows.append([fault, place, "any time" if len(when) == 3 else ", ".join(when), *outcome.cells()])
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


if __name__ == "__main__":
    print(page(), end="")
