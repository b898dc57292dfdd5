"""A slow network between hosts that are network namespaces of this machine, joined by ``switch.c``.

Needs root, gcc and iproute2. Each network has names of its own, so that several can stand at a time, and leaves nothing
behind: the switch dies with this process, and with it the devices; the namespaces are removed on the way out, and those
that a killed process left, when the next network is made.
"""

import itertools
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from psopt import launch

HERE = Path(__file__).parent
TOOLS = ("chrt", "gcc", "ip", "nsenter", "sysctl", "unshare")
GONE_S = 5.0
JOB_S = 120.0
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


@dataclass(frozen=True)
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
    """

    folder: Path
    prefix: str
    hosts: int
    megabit: float
    latency_ms: float

    def command(self, ranks: int, arguments: Sequence[str]) -> list[str]:
        """``mpiexec -n RANKS python ARGUMENTS`` from host 0, the ranks dealt to the hosts in turn."""
        return [
            str(HERE / "enter"),
            "h0",
            launch.find_mpiexec(),
            "--prtemca",
            "plm_ssh_agent",
            str(HERE / "enter"),
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
        environment = {**launch.environment(), "PSOPT_NETLAB": str(self.folder)}
        job = subprocess.Popen(
            self.command(ranks, arguments),
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        try:
            said, _ = job.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            raise RuntimeError(f"a job took longer than {timeout_s:g} s:\n{self._stopped(job)}") from None
        except BaseException:
            self._stopped(job)
            raise
        if job.returncode:
            raise RuntimeError(f"a job on the emulated network ended with {job.returncode}:\n{said}")
        return said

    def _stopped(self, job: subprocess.Popen[str]) -> str:
        """Ends a job with all its processes, and returns what it had printed."""
        os.killpg(job.pid, signal.SIGKILL)
        for name in self.names:
            for pid in _processes_on(name):
                _kill(pid)
        return job.communicate()[0]

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
        yield network
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
        time.sleep(0.01)
