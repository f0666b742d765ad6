"""Whether the kernel has killed for want of memory: it doesn't name the process, but it counts."""

from functools import cache
from pathlib import Path

_GROUPS = Path("/proc/self/cgroup")
_MACHINE = Path("/proc/vmstat")
_MOUNT = Path("/sys/fs/cgroup")


@cache
def counter() -> Path:
    """The closest file that counts: of this process's cgroup, of version 2 or 1, or of the whole machine."""
    for line in _read(_GROUPS).splitlines():
        number, controllers, group = line.split(":", 2)
        root, name = (_MOUNT, "memory.events") if number == "0" else (_MOUNT / "memory", "memory.oom_control")
        if number != "0" and "memory" not in controllers.split(","):
            continue
        # In a container the path is often that of the host, and what it has mounted is its own.
        for path in (root / group.lstrip("/") / name, root / name):
            if kills(path) is not None:
                return path
    return _MACHINE


def kills(path: Path) -> int | None:
    """How many processes it has killed so far; None where that isn't counted."""
    for line in _read(path).splitlines():
        name, _, count = line.partition(" ")
        if name == "oom_kill" and count.isdigit():
            return int(count)
    return None


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
