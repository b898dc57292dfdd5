"""How much memory this machine has, and how much of it this process may still take."""

import os
from collections.abc import Iterator
from pathlib import Path

_MEMINFO = Path("/proc/meminfo")
_OWN_GROUP = Path("/proc/self/cgroup")
_GROUPS = Path("/sys/fs/cgroup")
_MOUNTS = Path("/proc/self/mounts")
_NO_LIMIT = 1 << 60
"""The older kind of control group says so by a number near 2^63."""


def total() -> int:
    """Bytes of memory that this machine has at all."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def available() -> int:
    """Bytes that can still be taken without swapping: what the machine has left, or less where a control group, such as
    a batch system's job, has a limit.
    """
    return max(0, min([_left_of_machine(), *_left_of_groups(_groups())]))


def _left_of_machine() -> int:
    """By the kernel's own estimate, caches that it can drop included; all memory where it tells none."""
    for line in _lines(_MEMINFO):
        name, _, rest = line.partition(":")
        if name == "MemAvailable":
            return int(rest.split()[0]) * 1024
    return total()


def _groups() -> Iterator[tuple[Path, str, str]]:
    """The control groups around this process, innermost first, with the names of their files of limit and usage."""
    for line in _lines(_OWN_GROUP):
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            root, names = _GROUPS, ("memory.max", "memory.current")
        elif "memory" in controllers.split(","):
            root, names = _GROUPS / "memory", ("memory.limit_in_bytes", "memory.usage_in_bytes")
        else:
            continue
        inner = root / path.strip("/")
        for group in (inner, *inner.parents):
            yield group, *names
            if group == root:
                break


def _left_of_groups(groups: Iterator[tuple[Path, str, str]]) -> Iterator[int]:
    for group, limit_name, used_name in groups:
        limit, used = _number(group / limit_name), _number(group / used_name)
        if limit is not None and used is not None and limit < _NO_LIMIT:
            yield limit - used + _droppable(group)


def _droppable(group: Path) -> int:
    """Bytes of cached files that count as the group's and give way."""
    for line in _lines(group / "memory.stat"):
        name, _, number = line.partition(" ")
        if name in ("inactive_file", "total_inactive_file") and number.isdigit():
            return int(number)
    return 0


def _number(path: Path) -> int | None:
    text = "".join(_lines(path)).strip()
    return int(text) if text.isdigit() else None  # "max": there is no limit


def _lines(path: Path) -> list[str]:
    """Nothing where the kernel has no such file, or shows it to nobody."""
    try:
        return path.read_text().splitlines()
    except OSError:
        return []


def kept_in_memory(folder: str) -> str | None:
    """The kind of the file system that a folder lies in, where that is the memory itself; else None."""
    place, found, kind = Path(folder).resolve(), Path(), ""
    for line in _lines(_MOUNTS):
        _, target, own, *_ = line.split(" ")
        mount = Path(target.replace("\\040", " "))
        if place.is_relative_to(mount) and len(mount.parts) >= len(found.parts):
            found, kind = mount, own
    return kind if kind in ("tmpfs", "ramfs") else None
