"""Looking at processes from outside."""

import asyncio
import contextlib
import subprocess
from collections.abc import Callable
from pathlib import Path


def children_of(pid: int) -> dict[int, str]:
    """The command lines of a process's children, by their ids; those that have died are none."""
    listed = subprocess.run(
        ["/bin/ps", "-A", "-ww", "-o", "pid=,ppid=,stat=,args="], capture_output=True, text=True, check=True
    ).stdout
    rows = [line.split(maxsplit=3) for line in listed.splitlines()]
    return {int(row[0]): row[-1] for row in rows if int(row[1]) == pid and not row[2].startswith("Z")}


def descendants_of(pid: int) -> set[int]:
    """All that a process has started, and what those have started."""
    found = set(children_of(pid))
    return found.union(*(descendants_of(child) for child in found))


def seen_from_here(pid: str, folder: Path) -> str:
    """The id here of the process that is `pid` in its own pid namespace, if it has one, and is in `folder`."""
    (found,) = (
        status.parent.name
        for status in Path("/proc").glob("[0-9]*/status")
        if _last_pid(status) == pid and (status.parent / "cwd").readlink() == folder
    )
    return found


def _last_pid(status: Path) -> str | None:
    with contextlib.suppress(OSError):  # it ends while we look
        return next(line.split()[-1] for line in status.read_text().splitlines() if line.startswith("NSpid:"))
    return None


def alive(pids: set[int]) -> set[int]:
    """Those of the processes that still run."""
    listed = subprocess.run(["/bin/ps", "-A", "-o", "pid=,stat="], capture_output=True, text=True, check=True).stdout
    rows = [line.split() for line in listed.splitlines()]
    return pids & {int(row[0]) for row in rows if not row[1].startswith("Z")}


async def until(condition: Callable[[], bool]) -> None:
    """Wait for what other processes do, which can't set an event of ours."""
    while not condition():  # noqa: ASYNC110 - see above
        await asyncio.sleep(0.02)


def resident_bytes(pid: int) -> int:
    """How much memory a process holds now."""
    listed = subprocess.run(["/bin/ps", "-o", "rss=", "-p", str(pid)], capture_output=True, text=True, check=True)
    return int(listed.stdout) * 1024
