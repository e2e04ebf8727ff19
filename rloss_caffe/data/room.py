"""How much memory there is, looked at before it is claimed: Linux gives more than it has, and ends processes later."""

import os
from pathlib import Path, PurePosixPath

__all__ = ["LARGEST_BLOB", "available_memory", "check_room", "in_words"]

LARGEST_BLOB = 2**31 - 1  # values; Caffe counts them in an int

_CLOSE_ENOUGH = 1 << 26  # bytes that need no look


def available_memory():
    """Bytes that this process could still claim, by the system's and the container's account; None where unknown."""
    found = [value for value in (_system_memory(), _group_memory()) if value is not None]
    return min(found) if found else None


def check_room(size, what):
    """Refuse to claim `size` bytes that are not there.

    Raises
    ------
    ValueError
        The text begins with `what`.
    """
    if size <= _CLOSE_ENOUGH:
        return
    available = available_memory()
    if available is not None and size > available:
        raise ValueError(f"{what}, which takes {in_words(size)} of memory, and {in_words(available)} are available")


def in_words(size):
    """Bytes with a unit: ``1.6 GB``."""
    for unit in ("bytes", "kB", "MB", "GB", "TB", "PB"):
        if size < 1000 or unit == "PB":
            return f"{size:.0f} {unit}" if unit == "bytes" or size >= 100 else f"{size:.1f} {unit}"
        size /= 1000
    raise AssertionError


def _system_memory():
    try:
        with open("/proc/meminfo") as file:
            lines = dict(line.split(":", 1) for line in file if ":" in line)
        return int(lines["MemAvailable"].split()[0]) * 1024
    except (OSError, ValueError, KeyError, IndexError):
        pass
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return None


def _group_memory():
    """What the control groups of this process leave it, its own and those around it; None without a limit."""
    left = []
    for folder, names in _groups():
        try:
            limit, used = (int((folder / name).read_text()) for name in names)
            counts = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
        except (OSError, ValueError):  # no such file, or the limit is the word "max"
            continue
        # the pages of files are what the system would give back
        files = int(counts.get("inactive_file", 0)) + int(counts.get("active_file", 0))
        left.append(max(limit - used + files, 0))
    return min(left) if left else None


def _groups():
    """Folders of control groups, and the names of limit and use in them, of version 2 and 1."""
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, kinds, path = line.split(":", 2)
        if kinds == "":
            root, names = Path("/sys/fs/cgroup"), ("memory.max", "memory.current")
        elif "memory" in kinds.split(","):
            root, names = Path("/sys/fs/cgroup/memory"), ("memory.limit_in_bytes", "memory.usage_in_bytes")
        else:
            continue
        group = PurePosixPath(path.lstrip("/"))
        for folder in (group, *group.parents):
            yield root / folder, names
