"""Slurm: a job description to the text of an sbatch script, by a pure function; and the few Slurm commands psopt calls.

A job calls ``psopt run ... --resume`` or ``psopt sweep ... --point I``, which begin a run or go on with it, so that one
script serves a first start and every one after a requeue.
"""

import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import field
from pathlib import Path
from typing import Annotated, Literal

from psopt import launch
from psopt.bounds import Ge, Gt
from psopt.errors import ConfigError
from psopt.records import record
from psopt.signals import REQUEUE

ANSWER_WITHIN_S = 60.0
EARLY_S = 60
"""How much earlier than asked Slurm may warn."""

TIME = re.compile(r"\d+(:\d{1,2}){0,2}|\d+-\d{1,2}(:\d{1,2}){0,2}|UNLIMITED|INFINITE")
WORD = re.compile(r"[A-Za-z0-9_.,:+\-@/*&|()\[\]=]+")
PLAIN = re.compile(r"[\w./:@%+,=&|*()\[\]-]+")
OPTION = re.compile(r"--[a-z][a-z0-9-]*(=[^\s\"'\\`$]+)?")
OWN = {
    "--job-name", "--nodes", "--ntasks", "--ntasks-per-node", "--cpus-per-task", "--time", "--partition", "--account",
    "--qos", "--constraint", "--mem", "--output", "--error", "--open-mode", "--signal", "--requeue", "--no-requeue",
    "--array", "--chdir", "--parsable", "--wrap",
}  # fmt: skip


@record
class Slurm:
    """What `psopt submit` asks Slurm for; each key can be given on its command line as well.

    Attributes
    ----------
    nodes : int
        Machines.
    ntasks : int, optional
        MPI ranks, on all nodes together. Default: the server and a rank a worker; with `ntasks_per_node` as many as
        that makes.
    ntasks_per_node : int, optional
        MPI ranks on each node.
    cpus_per_task : int
        Cores for each rank, which computes large gradients with as many threads; see `threads`.
    time : str, optional
        Time limit: `MINUTES`, `H:MM:SS` or `D-HH:MM:SS`. Default: the partition's.
    partition, account, qos, constraint, mem : str, optional
        What sbatch gets as its option of this name.
    launcher : 'auto', 'srun' or 'mpiexec'
        What starts the ranks. `auto`: srun with the `mpich` wheel, else psopt starts the mpiexec of its environment.
    mpi : str
        What srun is told: `--mpi=...`.
    warning_s : int
        How many seconds before the time limit the run is told to write a checkpoint and to leave; Slurm may be up to a
        minute early. 0: not at all.
    requeue : bool
        Whether a job that was told so, or was pre-empted, is queued again, and goes on by itself.
    at_once : int, optional
        How many points of an array may run at a time.
    setup : list of str
        Lines of shell before psopt starts, such as `module load ...`.
    options : list of str
        Further options of sbatch, such as `--exclusive`.
    """

    nodes: Annotated[int, Ge(1)] = 1
    ntasks: Annotated[int, Ge(2)] | None = None
    ntasks_per_node: Annotated[int, Ge(1)] | None = None
    cpus_per_task: Annotated[int, Ge(1)] = 1
    time: str | None = None
    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    constraint: str | None = None
    mem: str | None = None
    launcher: Literal["auto", "srun", "mpiexec"] = "auto"
    mpi: str = "pmi2"
    warning_s: Annotated[int, Ge(0)] = 120
    requeue: bool = True
    at_once: Annotated[int, Gt(0)] | None = None
    setup: tuple[str, ...] = ()
    options: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.time is not None and not TIME.fullmatch(self.time):
            raise ConfigError(f"key 'time' is {self.time!r}; expected MINUTES, H:MM:SS or D-HH:MM:SS")
        for key in ("partition", "account", "qos", "constraint", "mem", "mpi"):
            value = getattr(self, key)
            if value is not None and not WORD.fullmatch(value):
                raise ConfigError(f"key {key!r} is {value!r}; expected one word as sbatch takes it")
        for line in self.setup:
            if "\n" in line or "\r" in line:
                raise ConfigError(f"key 'setup' holds {line!r}; expected single lines of shell")
        for option in self.options:
            name = option.partition("=")[0]
            if not OPTION.fullmatch(option):
                raise ConfigError(f"key 'options' holds {option!r}; expected --NAME or --NAME=VALUE without spaces")
            if name in OWN:
                raise ConfigError(f"key 'options' holds {option!r}, which psopt sets itself: see the keys of `slurm`")
        room = self.nodes * (self.ntasks_per_node or 1)
        if self.ntasks is not None and self.ntasks_per_node is not None and self.ntasks > room:
            raise ConfigError(
                f"key 'ntasks' is {self.ntasks}, more than the {room} that {self.nodes} nodes with "
                f"{self.ntasks_per_node} tasks each can hold"
            )
        limit_s = _seconds(self.time)
        if self.requeue and self.warning_s and limit_s is not None and limit_s <= self.warning_s + EARLY_S:
            raise ConfigError(
                f"key 'time' is {self.time}, and the run would be told to leave {self.warning_s} s (`warning_s`), "
                f"or up to {EARLY_S + self.warning_s} s, before that: ask for more time, or for less warning"
            )
        if self.tasks is not None and self.tasks < 2:
            raise ConfigError("one task is not enough: a run needs the server and one rank for workers at least")
        if self.tasks is not None and self.tasks < self.nodes:
            raise ConfigError(f"{self.tasks} tasks are fewer than {self.nodes} nodes")

    @property
    def tasks(self) -> int | None:
        """MPI ranks, where they are asked for."""
        if self.ntasks is None and self.ntasks_per_node is not None:
            return self.nodes * self.ntasks_per_node
        return self.ntasks


def _seconds(limit: str | None) -> int | None:
    """A time limit in seconds; None where there is none."""
    if limit is None or not limit[0].isdigit():
        return None
    days, dash, rest = limit.rpartition("-")
    numbers = [int(number) for number in rest.split(":")]
    if dash:  # D-HH, D-HH:MM, D-HH:MM:SS
        hours, minutes, seconds = [*numbers, 0, 0][:3]
    else:  # MM, MM:SS, HH:MM:SS
        hours, minutes, seconds = numbers if len(numbers) == 3 else [0, *numbers, 0][:3]
    return ((int(days or 0) * 24 + hours) * 60 + minutes) * 60 + seconds


@record
class Job:
    """What a script is made from; every path is absolute, and seen by all nodes.

    Attributes
    ----------
    name : str
    asked : Slurm
    launcher : 'srun' or 'mpiexec'
    ranks : int
    python : str
    command : tuple of str
        psopt's own words: ``run CONFIG --out FOLDER --resume``, or ``sweep CONFIG ... --point``.
    folder : str
        Where the job is started.
    log : str
        Where its output goes; with Slurm's `%` patterns.
    points : int, optional
        How many points an array has; the task's number follows ``--point`` then.
    environment : mapping
        Variables that the ranks need.
    """

    name: str
    asked: Slurm
    launcher: str
    ranks: int
    python: str
    command: tuple[str, ...]
    folder: str
    log: str
    points: int | None = None
    environment: Mapping[str, str] = field(default_factory=dict)


def script_of(job: Job) -> str:
    """The sbatch script, whole; the same job gives the same text."""
    return "\n".join(["#!/bin/bash", *_directives(job), "", *_body(job), ""])


def _directives(job: Job) -> list[str]:
    asked = job.asked
    wanted = {
        "job-name": job.name,
        "nodes": asked.nodes,
        "ntasks": job.ranks,
        "ntasks-per-node": asked.ntasks_per_node,
        "cpus-per-task": asked.cpus_per_task,
        "time": asked.time,
        "partition": asked.partition,
        "account": asked.account,
        "qos": asked.qos,
        "constraint": asked.constraint,
        "mem": asked.mem,
        "output": job.log,
        "open-mode": "append",
        "signal": f"B:USR1@{asked.warning_s}" if asked.warning_s else None,
        "array": None if job.points is None else f"0-{job.points - 1}" + (f"%{asked.at_once}" if asked.at_once else ""),
    }
    given = [f"--{name}={_directive(value)}" for name, value in sorted(wanted.items()) if value is not None]
    given.append("--requeue" if asked.requeue else "--no-requeue")
    return [f"#SBATCH {option}" for option in [*given, *asked.options]]


def _directive(value: object) -> str:
    """A value as sbatch reads it from a script: in quotes, unless it is plain.

    Raises `ConfigError` for what no quotes can hold.
    """
    text = str(value)
    if '"' in text or "\\" in text or not text.isprintable():
        raise ConfigError(
            f"sbatch cannot be told {text!r}: double quotes, backslashes and line ends have no place in a script's "
            "options"
        )
    return text if PLAIN.fullmatch(text) else f'"{text}"'


def _body(job: Job) -> list[str]:
    words = [job.python, "-m", "psopt", *job.command]
    if job.launcher == "srun":
        cores = job.asked.cpus_per_task  # which srun does not take over from sbatch, since Slurm 22.05
        words = [f"--cpus-per-task={cores}", *words] if cores > 1 else words
        words = ["srun", f"--mpi={job.asked.mpi}", "--kill-on-bad-exit=1", *words]
    command = shlex.join(words)
    if job.points is not None:
        command += ' --point "$SLURM_ARRAY_TASK_ID"'
    if job.launcher == "mpiexec":
        command += ' --ranks "$SLURM_NTASKS"'
    return [
        "# Slurm warns this script before the time is over: the run is told, writes a checkpoint, and leaves.",
        "warned= job=",
        'trap \'warned=1; [ -z "$job" ] || kill -USR1 "$job" 2>/dev/null\' USR1',
        'trap \'[ -z "$job" ] || kill -TERM "$job" 2>/dev/null\' TERM',
        "",
        f"cd {shlex.quote(job.folder)} || exit 2",
        *(f"export {name}={shlex.quote(value)}" for name, value in sorted(job.environment.items())),
        *_for_srun(job),
        *job.asked.setup,
        "# Compiled kernels on a disk of each node's own, where all jobs of one user share them.",
        'export NUMBA_CACHE_DIR="${NUMBA_CACHE_DIR:-${TMPDIR:-/tmp}/psopt-kernels-$(id -u)}"',
        f'export {launch.STARTED}="$(date +%s.%N)"',
        "",
        f"{command} &",
        "job=$!",
        '[ -z "$warned" ] || { sleep 5; kill -USR1 "$job"; } # once it can hear',
        "# A signal ends `wait`, not the job; the last one gives the job's own exit code.",
        'wait "$job"',
        'while kill -0 "$job" 2>/dev/null; do wait "$job"; done',
        'wait "$job"',
        "code=$?",
        *_requeueing(job),
        "exit $code",
    ]


def _for_srun(job: Job) -> list[str]:
    if job.launcher != "srun":
        return []
    return [
        "# MPICH's UCX has addresses so long that one start in six failed when they went through Slurm's PMI-2.",
        'export MPIR_CVAR_CH4_NETMOD="${MPIR_CVAR_CH4_NETMOD:-ofi}"',
    ]


def _requeueing(job: Job) -> list[str]:
    if not job.asked.requeue:
        return []
    causes = [f'[ "$code" -eq {REQUEUE} ]', '{ [ "$code" -ne 0 ] && [[ "$told" == *PreemptTime=[0-9]* ]]; }']
    if job.launcher == "srun":
        causes.append('{ [ "$warned" ] && [ "$code" -eq 143 ]; }')
    return [
        "# Warned, or pre-empted: the job is to go on later. One that was cancelled runs no longer.",
        *["# (srun ends the ranks that leave last, 143, once the first has left.)"] * (job.launcher == "srun"),
        'told="$(scontrol show job "$SLURM_JOB_ID")"',
        f'if {{ {" || ".join(causes)}; }} && [[ "$told" == *JobState=RUNNING* ]]; then',
        '    echo "psopt: job $SLURM_JOB_ID goes back into the queue, to go on later"',
        '    scontrol requeue "$SLURM_JOB_ID"',
        "fi",
    ]


def submit(script: Path, *options: str) -> str:
    """Hands a script to sbatch; returns the job's number.

    Raises `ConfigError` when there is no Slurm, or when it refuses; with what it says, and what it would take.
    """
    answer = _asked(["sbatch", "--parsable", *options, str(script)])
    if answer.returncode:
        said = _sentence(answer.stderr)
        raise ConfigError(f"Slurm refuses the job: {said}{_would_take(said)}")
    return answer.stdout.strip().splitlines()[-1].split(";")[0]


def _would_take(said: str) -> str:
    """The valid values of the option that a refusal is about, as far as Slurm tells."""
    words = said.lower()
    if "partition" in words:
        found = _listed("%R")
        return f"; there are the partitions {', '.join(found)}" if found else ""
    if "node" in words or "cpu" in words:
        found = _listed("%R: %D nodes of %c cores")
        return f"; there are {', '.join(found)}" if found else ""
    return ""


def _listed(form: str) -> list[str]:
    """What sinfo says of the partitions, in that form; nothing where it says nothing."""
    try:
        answer = _asked(["sinfo", "--noheader", f"--format={form}"])
    except ConfigError:
        return []
    return sorted({line.strip() for line in answer.stdout.splitlines()})


def state_of(job: str) -> str:
    """What Slurm says of a job: ``running``, ``pending (Resources)``, ...; empty when it is over, or unknown."""
    try:
        answer = _asked(["squeue", "--noheader", "--jobs", job, "--format=%T %r"])
    except ConfigError:
        return UNKNOWN
    if answer.returncode and "Invalid job id" not in answer.stderr:
        return UNKNOWN
    for line in answer.stdout.splitlines():
        state, _, reason = line.strip().partition(" ")
        if state and state not in OVER:
            return state.lower() + (f" ({reason})" if reason and reason != "None" else "")
    return ""


UNKNOWN = "unknown (squeue does not answer)"
OVER = frozenset(
    ("BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY", "PREEMPTED", "TIMEOUT")
)


def _asked(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """A Slurm command's answer. Raises `ConfigError` when there is none."""
    if shutil.which(command[0]) is None:
        raise ConfigError(
            f"there is no {command[0]} on PATH, so this machine cannot submit to Slurm: call psopt on a login node of "
            "the cluster, or use --dry-run, which prints the script"
        )
    try:
        return subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=ANSWER_WITHIN_S, check=False
        )
    except subprocess.TimeoutExpired:
        raise ConfigError(f"Slurm does not answer: {command[0]} took more than {ANSWER_WITHIN_S:g} s") from None


def _sentence(text: str) -> str:
    """The last line that a Slurm command said, without its name."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    told = [re.sub(r"^\w+: (error: )?", "", line) for line in lines]
    return (told or ["it does not say why"])[-1]


def allocation(environment: Mapping[str, str] = os.environ) -> dict[str, str] | None:
    """What Slurm says of the allocation that this process is in: job, nodes, tasks, tasks of the step; None outside."""
    if "SLURM_JOB_ID" not in environment:
        return None
    names = {
        "job": "SLURM_JOB_ID",
        "nodes": "SLURM_JOB_NUM_NODES",
        "tasks": "SLURM_NTASKS",
        "step tasks": "SLURM_STEP_NUM_TASKS",
        "cores on this node": "SLURM_CPUS_ON_NODE",
        "restarts": "SLURM_RESTART_COUNT",
    }
    return {name: environment[variable] for name, variable in names.items() if variable in environment}
