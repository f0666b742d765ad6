"""Locks of files (`flock`): the kernel lets go of them when the process that holds them dies. Raises `OSError`."""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

# Below the folder of the data: whoever deletes a blob shares it, and whoever keeps all of them has it alone.
DELETES = "deletes.lock"


@contextlib.contextmanager
def nothing_deleted(root: Path) -> Iterator[None]:
    """Within it no process deletes a blob of the store in `root`: who would is refused. Waits for deletes that run."""
    with (root / DELETES).open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def lock(path: Path, kind: int, flags: int = 0) -> Iterator[int | None]:
    """The open file under a lock; None when another has it, or the file has lost this name meanwhile.

    Raises `FileNotFoundError`.
    """
    fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | flags, 0o600)
    try:
        try:
            fcntl.flock(fd, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            yield None
            return
        yield fd if os.path.samestat(os.fstat(fd), path.stat()) else None
    finally:
        os.close(fd)
