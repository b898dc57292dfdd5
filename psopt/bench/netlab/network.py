"""A slow network between hosts that are network namespaces of this machine, joined by ``switch.c``.

Needs root, gcc and iproute2. Each network has names of its own, so that several can stand at a time, and leaves nothing
behind: the switch dies with this process, and with it the devices; the namespaces are removed on the way out, and those
that a killed process left, when the next network is made.
"""

import itertools
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import field, replace
from pathlib import Path
from typing import NamedTuple

from psopt import launch
from psopt.records import record

HERE = Path(__file__).parent
TOOLS = ("chrt", "gcc", "ip", "nsenter", "sysctl", "unshare")
GONE_S = 5.0
LOOK_S = 0.02
JOB_S = 120.0
COUNTED = re.compile(r"host \d+ up \d+ (\d+) down \d+ (\d+) dropped (\d+)")
CONGESTION = "cubic"
"""Linux's own default."""

_numbers = itertools.count(1)


def lacking() -> str | None:
    """What this machine lacks for an emulated network; None when it lacks nothing."""
    if os.geteuid() != 0:
        return "an emulated network needs root"
    missing = [tool for tool in TOOLS if not shutil.which(tool)]
    if missing:
        return f"an emulated network needs {', '.join(missing)}"
    if not Path("/dev/net/tun").exists():
        return "an emulated network needs /dev/net/tun"
    probe = subprocess.run(
        ["unshare", "--net", "--uts", "--mount", "true"], capture_output=True, text=True, check=False
    )
    return f"no namespaces here: {probe.stderr.strip()}" if probe.returncode else None


class Carried(NamedTuple):
    """Bytes out of and into a host, and the frames for it that were lost."""

    up: int
    down: int
    dropped: int


@record
class Network:
    """An emulated network that is up.

    Attributes
    ----------
    folder : Path
        Where its state is.
    prefix : str
        What the names of its namespaces begin with.
    hosts : int
    megabit, latency_ms : float
        Rate of each host's cable in either direction, and the time from host to host, one way.
    switch : Popen, optional
        What joins the hosts.
    """

    folder: Path
    prefix: str
    hosts: int
    megabit: float
    latency_ms: float
    switch: subprocess.Popen[str] | None = field(default=None, repr=False)

    def command(self, ranks: int, arguments: Sequence[str]) -> list[str]:
        """``mpiexec -n RANKS python ARGUMENTS`` from host 0, the ranks dealt to the hosts in turn."""
        return [
            str(self._enter),
            "h0",
            launch.find_mpiexec(),
            "--prtemca",
            "plm_ssh_agent",
            str(self._enter),
            "--hostfile",
            str(self.folder / "hostfile"),
            "--map-by",
            "node:OVERSUBSCRIBE",
            "-n",
            str(ranks),
            sys.executable,
            *arguments,
        ]

    def run(self, ranks: int, arguments: Sequence[str], timeout_s: float = JOB_S) -> str:
        """What such a job printed. Raises `RuntimeError` when it failed, or took longer."""
        return self._finished([self._begin(self.command(ranks, arguments))], timeout_s)[0]

    def run_on(
        self,
        commands: Sequence[tuple[int, Sequence[str]]],
        timeout_s: float = JOB_S,
        extra: Mapping[str, str] | None = None,
    ) -> list[str]:
        """What each of these ``python ARGUMENTS`` printed, which all begin at once, on the host of the given number,
        without MPI. Raises `RuntimeError` when one failed, or took longer.
        """
        starts = [[str(self._enter), f"h{host}", sys.executable, *arguments] for host, arguments in commands]
        return self._finished([self._begin(start, extra) for start in starts], timeout_s)

    def carried(self) -> list["Carried"]:
        """What each host has sent and received since the network is up, as the switch counts its frames."""
        self.switch.send_signal(signal.SIGUSR1)
        lines = [self.switch.stdout.readline() for _ in range(self.hosts)]
        return [Carried(*map(int, COUNTED.match(line).groups())) for line in lines]

    @property
    def _enter(self) -> Path:
        return self.folder / "enter"

    def _begin(self, command: Sequence[str], extra: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
        return subprocess.Popen(
            command,
            env={**launch.environment(), **(extra or {}), "PSOPT_NETLAB": str(self.folder)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def _finished(self, jobs: Sequence[subprocess.Popen[str]], timeout_s: float) -> list[str]:
        """What the jobs printed. Whatever happens, none is left."""
        said = [""] * len(jobs)
        try:
            with ThreadPoolExecutor(len(jobs)) as readers:
                printed = [readers.submit(job.communicate) for job in jobs]
                try:
                    over = time.monotonic() + timeout_s
                    while any(job.poll() is None for job in jobs):
                        failed = any(job.poll() for job in jobs)
                        if time.monotonic() > over or failed:
                            break
                        time.sleep(LOOK_S)
                    late = [job.poll() is None for job in jobs]
                finally:
                    self._stop(jobs)
                said = [one.result()[0] for one in printed]
        finally:
            self._stop(jobs)
        told = "\n".join(said)
        failed = [job.returncode for job, cut in zip(jobs, late, strict=True) if job.returncode and not cut]
        if failed:
            raise RuntimeError(f"a job on the emulated network ended with {failed[0]}:\n{told}")
        if any(late):
            raise RuntimeError(f"a job took longer than {timeout_s:g} s:\n{told}")
        return said

    def _stop(self, jobs: Sequence[subprocess.Popen[str]]) -> None:
        """Ends jobs that still run, with all their processes."""
        left = [job for job in jobs if job.poll() is None]
        for job in left:
            with suppress(ProcessLookupError):
                os.killpg(job.pid, signal.SIGKILL)
        for name in self.names if left else ():
            for pid in _processes_on(name):
                _kill(pid)

    @property
    def names(self) -> list[str]:
        """The namespaces."""
        return [f"{self.prefix}h{number}" for number in range(self.hosts)]


@contextmanager
def emulated(
    hosts: int, megabit: float, latency_ms: float, congestion: str = CONGESTION
) -> Generator[Network, None, None]:
    """A network of that many hosts, h0, h1, ..., for as long as the block takes."""
    _remove_orphans()
    folder = Path(tempfile.mkdtemp(prefix="psopt-netlab-"))
    prefix = f"psopt-{os.getpid()}-{next(_numbers)}-"
    network = Network(folder, prefix, hosts, megabit, latency_ms)
    switch = None
    try:
        shutil.copyfile(HERE / "enter", network._enter)  # as a package's file it need not be executable
        network._enter.chmod(0o755)
        program = folder / "switch"
        subprocess.run(["gcc", "-O2", "-o", str(program), str(HERE / "switch.c")], check=True)
        devices = prefix.removeprefix("psopt-").replace("-", "_")  # 15 letters at most, with the number behind
        switch = subprocess.Popen(
            [str(program), devices, str(hosts), str(megabit), str(latency_ms)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        if switch.stdout.readline().strip() != "ready":
            raise RuntimeError(f"the switch did not start: {switch.communicate()[1]}")
        for number in range(hosts):
            _add_host(network, number, f"{devices}{number}")
        _control_congestion(network.names, congestion)
        lines = ["127.0.0.1 localhost", *(f"{_address(number)} h{number}" for number in range(hosts))]
        (folder / "hosts").write_text("\n".join(lines) + "\n")
        (folder / "hostfile").write_text("".join(f"h{number}\n" for number in range(hosts)))
        (folder / "prefix").write_text(prefix)
        yield replace(network, switch=switch)
    finally:
        for name in network.names:
            _remove_host(name)
        if switch is not None:
            switch.terminate()
            switch.communicate()
        shutil.rmtree(folder, ignore_errors=True)


def _add_host(network: Network, number: int, device: str) -> None:
    name = f"{network.prefix}h{number}"
    subprocess.run(["ip", "netns", "add", name], check=True)
    subprocess.run(["ip", "link", "set", device, "netns", name], check=True)
    orders = [
        "link set lo up",
        f"link set {device} address {_hardware(number)} name eth0",
        "link set eth0 txqueuelen 10000 up",
        f"addr add {_address(number)}/24 dev eth0",
    ]
    for other in range(network.hosts):
        if other != number:
            orders.append(f"neigh replace {_address(other)} lladdr {_hardware(other)} dev eth0 nud permanent")
    subprocess.run(["ip", "-n", name, "-batch", "-"], input="\n".join(orders) + "\n", text=True, check=True)


def _control_congestion(names: Sequence[str], algorithm: str) -> None:
    """Sets how TCP finds its rate on those hosts; left alone it is as on this machine.

    A namespace may choose only among what the machine allows, so what is wanted is allowed for that moment.
    """
    allowed = Path("/proc/sys/net/ipv4/tcp_allowed_congestion_control")
    before = allowed.read_text()
    allowed.write_text(f"{before.strip()} {algorithm}")
    try:
        for name in names:
            order = ["ip", "netns", "exec", name, "sysctl", "-qw", f"net.ipv4.tcp_congestion_control={algorithm}"]
            subprocess.run(order, check=True)
    finally:
        allowed.write_text(before)


def _address(number: int) -> str:
    return f"10.77.0.{number + 1}"


def _hardware(number: int) -> str:
    return f"02:00:00:00:00:{number:02x}"


def _remove_orphans() -> None:
    """The namespaces of networks whose process was killed, and what still runs there."""
    for name in Path("/run/netns").glob("psopt-*"):
        owner = name.name.split("-")[1]
        if owner.isdecimal() and not Path(f"/proc/{owner}").exists():
            _remove_host(name.name)


def _remove_host(name: str) -> None:
    for pid in _processes_on(name):
        _kill(pid)
    subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)


def _processes_on(name: str) -> list[int]:
    told = subprocess.run(["ip", "netns", "pids", name], capture_output=True, text=True, check=False)
    return [int(pid) for pid in told.stdout.split()]


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return
    deadline = time.monotonic() + GONE_S
    while Path(f"/proc/{pid}").exists() and time.monotonic() < deadline:
        time.sleep(LOOK_S)
