"""What a run uses that no limit of the kernel's adds up: all its files together, and all its processes.

What is read here was made by the run, so that it may be made to be a nuisance: nothing is followed, and everything
has an end.
"""

import contextlib
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

MAX_FILES = 20_000
MAX_PROCESSES = 64

_BLOCK_BYTES = 512  # of `st_blocks`, whatever the filesystem's own blocks are
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True)
class Allowance:
    """The most that a run may use: bytes of its files on disk, and of its processes' memory."""

    disk_bytes: int
    memory_bytes: int


def excess(folder: Path, pid: int, allowance: Allowance, *, waiting: int = 0) -> str | None:
    """What a run uses too much of, in words for the log. `pid` is its first process, and `waiting` the number of those
    that were there before it has begun, and do nothing: they and it share their memory."""
    try:
        family = _family(pid, MAX_PROCESSES + waiting)[waiting:]
        disk = _in_folder(folder) + sum(map(_deleted, family))
    except _TooManyError as error:
        return f"more {error} than it may have"
    except OSError as error:  # a path that is too long, a folder that it has locked
        return f"files that can't be looked at ({error.strerror})"
    if disk > allowance.disk_bytes:
        return "more disk than it may have"
    if len(family) > 1 and sum(map(_resident, family)) > allowance.memory_bytes:
        return "more memory than its processes may have together"
    return None


class _TooManyError(Exception):
    pass


def _in_folder(folder: Path) -> int:
    """Bytes on disk, so that what is sparse counts for what it is."""
    used = seen = 0
    waiting = [str(folder)]
    while waiting:
        for entry in _entries(waiting.pop()):
            seen += 1
            if seen > MAX_FILES:
                raise _TooManyError("files")
            with contextlib.suppress(FileNotFoundError):  # it works while we look
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(entry.path)
                else:
                    used += entry.stat(follow_symlinks=False).st_blocks * _BLOCK_BYTES
    return used


def _deleted(pid: int) -> int:
    """Bytes of files that have no name any more, and are kept by being open."""
    used = 0
    with contextlib.suppress(PermissionError):  # a program that nobody may look into
        for entry in _entries(f"/proc/{pid}/fd"):
            with contextlib.suppress(OSError):
                found = Path(entry).stat()
                if stat.S_ISREG(found.st_mode) and found.st_nlink == 0:
                    used += found.st_blocks * _BLOCK_BYTES
    return used


def _family(pid: int, most: int) -> list[int]:
    """A process and its descendants, each generation from the oldest on."""
    found = [pid]
    for each in found:
        for task in _entries(f"/proc/{each}/task"):
            with contextlib.suppress(OSError):
                found += map(int, Path(task.path, "children").read_text().split())
        if len(found) > most:
            raise _TooManyError("processes")
    return found


def _resident(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE_BYTES
    except (OSError, IndexError):
        return 0


def _entries(folder: str) -> Iterator[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            yield from entries
    except (FileNotFoundError, NotADirectoryError, ProcessLookupError):
        return
