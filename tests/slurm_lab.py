"""A private Slurm in a folder: a controller and several nodes on this host; nothing of the system is touched.

Needs Debian's slurmctld, slurmd, slurm-client and munge, and root. Daemons are ended by their process ids alone.
"""

import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

NEEDED = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "squeue", "scontrol")
UP_WITHIN_S = 30.0
FORGOTTEN_S = 4.0

CONF = """\
ClusterName=psopt
SlurmctldHost=localhost
SlurmctldPort={port}
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket
CredType=cred/munge
SlurmUser=root
SlurmdUser=root
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool.%n
TmpFS={folder}/tmp.%n
SlurmctldPidFile={folder}/pids/slurmctld
SlurmdPidFile={folder}/pids/slurmd.%n
SlurmctldLogFile={folder}/log/slurmctld
SlurmdLogFile={folder}/log/slurmd.%n
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
SwitchType=switch/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerParameters=sched_interval=2,batch_sched_delay=0,bf_interval=2,sched_min_interval=0
SlurmdParameters=config_overrides
MpiDefault=none
ReturnToService=2
KillWait=3
MinJobAge=3600
NodeName=n[1-{nodes}] NodeHostname=localhost NodeAddr=127.0.0.1 Port=[{first}-{last}] CPUs={cpus} State=UNKNOWN
PartitionName=short Nodes=ALL Default=YES MaxTime=60 PriorityTier=1 PreemptMode=OFF State=UP
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
PartitionName=long Nodes=n1 MaxTime=INFINITE PriorityTier=1 PreemptMode=REQUEUE GraceTime=10 State=UP
PartitionName=urgent Nodes=n1 MaxTime=60 PriorityTier=9 PreemptMode=OFF State=UP
"""


def lacking() -> str | None:
    """Why there can be no Slurm here; None when there can."""
    missing = [name for name in NEEDED if shutil.which(name) is None]
    if missing:
        return f"Slurm is not installed: no {', '.join(missing)}"
    return None if os.geteuid() == 0 else "a private Slurm needs root"


class Slurm:
    """A cluster of so many nodes, each of which claims so many cores."""

    def __init__(self, folder: Path, nodes: int, cpus: int) -> None:
        self.folder = folder
        for name in (
            "state",
            "log",
            "pids",
            "munge",
            *(f"{kind}.n{i}" for i in _numbers(nodes) for kind in ("spool", "tmp")),
        ):
            (folder / name).mkdir(parents=True)
            (folder / name).chmod(0o1777 if name.startswith("tmp") else 0o755)
        (folder / "key").write_bytes(os.urandom(128))
        (folder / "key").chmod(0o600)
        port = _free_ports(nodes + 1)
        conf = folder / "slurm.conf"
        conf.write_text(
            CONF.format(folder=folder, port=port, first=port + 1, last=port + nodes, nodes=nodes, cpus=cpus)
        )
        # Ranks on two "nodes" of one host take each other's shared memory for their own: MPICH is to use none.
        self.environment = {"SLURM_CONF": str(conf), "MPIR_CVAR_NOLOCAL": "1", "MPIR_CVAR_CH4_NETMOD": "ofi"}
        self._run(
            "munged", "--force", f"--key-file={folder}/key", f"--socket={folder}/munge/socket",
            f"--pid-file={folder}/pids/munged", f"--log-file={folder}/log/munged", f"--seed-file={folder}/seed",
        )  # fmt: skip
        try:
            self._up(nodes)
        except BaseException:
            self.down()
            raise

    def _up(self, nodes: int) -> None:
        self._run("slurmctld", "-c", "-i")
        for i in _numbers(nodes):
            self._run("slurmd", "-N", f"n{i}")
        until = time.time() + UP_WITHIN_S
        while self.say("sinfo", "-h", "-N", "-p", "short", "-t", "idle", "-o", "%N").count("n") < nodes:
            if time.time() > until:
                raise AssertionError(f"Slurm did not come up: {self.say('sinfo', '-N', '-l')}")
            time.sleep(0.1)

    def _run(self, *command: str) -> None:
        done = subprocess.run(
            command, env={**os.environ, **self.environment}, capture_output=True, text=True, timeout=30, check=False
        )
        assert done.returncode == 0, (command, done.stdout, done.stderr)

    def say(self, *command: str) -> str:
        """What a Slurm command prints."""
        done = subprocess.run(
            command, env={**os.environ, **self.environment}, capture_output=True, text=True, timeout=30, check=False
        )
        return done.stdout

    def state(self, job: str) -> str:
        """``RUNNING``, ``COMPLETED``, ...; a line a task of an array."""
        return self.say("squeue", "-h", "-t", "all", "-j", job, "-o", "%T").strip()

    def until(self, job: str, *states: str, timeout_s: float) -> str:
        """Waits until a job is in one of these states, and returns it.

        What waits after a requeue, two minutes by default, starts once its last start, of the same name, is forgotten.
        """
        until, pending_since = time.time() + timeout_s, None
        while True:
            state = self.state(job)
            if state in states:
                return state
            if time.time() > until:
                raise AssertionError(f"job {job} is {state}, not {states}: {self.say('scontrol', 'show', 'job', job)}")
            time.sleep(0.3)
            pending_since = (pending_since or time.time()) if state == "PENDING" else None
            left = list(self.folder.glob(f"spool.n*/n*_{job}.*"))
            if pending_since and time.time() - pending_since > FORGOTTEN_S and not left:
                self.say("scontrol", "update", f"JobId={job}", "StartTime=now")

    def down(self) -> None:
        """Ends all jobs and daemons."""
        self.say("scancel", "--user=root")
        until = time.time() + 10
        while self.say("squeue", "-h").strip() and time.time() < until:
            time.sleep(0.2)
        for file in sorted((self.folder / "pids").iterdir(), key=lambda path: path.name == "munged"):
            _end(int(file.read_text()))


def _numbers(nodes: int) -> range:
    return range(1, nodes + 1)


def _free_ports(count: int) -> int:
    """The first of so many ports in a row that are free."""
    for first in range(17000 + os.getpid() % 1000 * 20, 60000, 20):
        try:
            for port in range(first, first + count):
                with socket.socket() as probe:
                    probe.bind(("127.0.0.1", port))
        except OSError:
            continue
        return first
    raise AssertionError("no free ports")


def _end(process: int) -> None:
    try:
        os.kill(process, signal.SIGTERM)
        until = time.time() + 5
        while time.time() < until:
            os.kill(process, 0)
            time.sleep(0.05)
        os.kill(process, signal.SIGKILL)
    except ProcessLookupError:
        return
