"""How much memory processes have, as the kernel counts it (`/proc`, so on Linux only). MB are millions of bytes."""

import re
from pathlib import Path

_PROC = Path("/proc")


def peak_mb(pid: int | None = None) -> float:
    """The most that was resident, of this process or another and its children, since its start or `forget_peak`.

    0.0 where there is no `/proc`.
    """
    return _sum("VmHWM", pid)


def resident_mb(pid: int) -> float:
    """What is resident now."""
    return _sum("VmRSS", pid)


def forget_peak(pid: int) -> None:
    """Let the peak begin anew with what is resident now."""
    for each in _family(pid):
        (_PROC / str(each) / "clear_refs").write_text("5")


def _sum(field: str, pid: int | None) -> float:
    found = 0.0
    for each in ["self"] if pid is None else _family(pid):
        path = _PROC / str(each) / "status"
        line = re.search(rf"^{field}:\s+(\d+) kB", path.read_text(), re.MULTILINE) if path.exists() else None
        found += int(line[1]) * 1024 / 1e6 if line else 0.0
    return found


def _family(pid: int) -> list[int]:
    """The process and all that descend from it."""
    found = [pid]
    for children in (_PROC / str(pid) / "task").glob("*/children"):
        for child in children.read_text().split():
            found += _family(int(child))
    return found
