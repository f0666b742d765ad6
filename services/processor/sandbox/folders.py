"""Private folders: one for this process, in it one for each run.

A process that is killed leaves its folder behind; the next one to start removes it. A folder is in use exactly while
its lock file is locked, which the kernel ends with the process, so several processors can share a `work_dir`.
"""

import asyncio
import contextlib
import errno
import fcntl
import os
import secrets
import stat
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

from common.logging import get_logger

log = get_logger()

_LOCK = "lock"


@contextlib.contextmanager
def process_folder(work_dir: Path) -> Iterator[Path]:
    """This process's folder under `work_dir`, which is made if need be; removes what dead processes left there."""
    shared = work_dir / f"gristmill-processor-{os.getuid()}"
    shared.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = shared.lstat()
    if shared.is_symlink() or found.st_uid != os.getuid():
        raise PermissionError(f"{shared} belongs to somebody else.")
    # Held while starting, so that nobody sees a folder between its making and its locking.
    with _locked(shared / _LOCK):
        for folder in shared.iterdir():
            if folder.is_dir():
                _remove_if_left(folder)
        own = Path(tempfile.mkdtemp(prefix=f"{os.getpid()}-", dir=shared))
        lock = _lock(own / _LOCK, fcntl.LOCK_EX)
    try:
        yield own
    finally:
        remove(own)
        os.close(lock)


@contextlib.asynccontextmanager
async def run_folder(process_folder: Path) -> AsyncIterator[Path]:
    """A folder for one run, removed with all that is in it."""
    folder = Path(tempfile.mkdtemp(prefix="run-", dir=process_folder))
    try:
        yield folder
    finally:
        await asyncio.to_thread(remove, folder)


def remove(folder: Path) -> None:
    """Remove a folder, whatever whoever filled it has done to keep it: folders in folders beyond any depth that can be
    recursed into or named by a path, folders without permissions. Nobody may be writing to it any more."""
    waiting = [folder]
    try:
        while waiting:
            current = waiting.pop()
            with os.scandir(current) as entries:
                for entry in entries:
                    path = Path(entry)
                    if not entry.is_dir(follow_symlinks=False):
                        path.unlink()
                        continue
                    path.chmod(0o700)
                    waiting.append(path if current == folder else path.rename(folder / secrets.token_hex(16)))
            if current != folder:
                current.rmdir()
        folder.rmdir()
    except OSError as error:
        log.warning("folders.left", folder=str(folder), error=str(error))


def read_start(path: Path, most: int) -> bytes:
    """The first `most` bytes of a regular file, which others can write: they may have put there what never ends, or
    a link to something else. Raises `OSError`."""
    opened = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(opened, "rb") as source:  # noqa: PTH123 - a descriptor, not a path
        if not stat.S_ISREG(os.fstat(opened).st_mode):
            raise OSError(errno.EINVAL, "Not a regular file.", str(path))
        return source.read(most)


def _remove_if_left(folder: Path) -> None:
    try:
        lock = _lock(folder / _LOCK, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return
    log.info("folders.removing_leftovers", folder=folder.name)
    remove(folder)
    os.close(lock)


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    lock = _lock(path, fcntl.LOCK_EX)
    try:
        yield
    finally:
        os.close(lock)


def _lock(path: Path, how: int) -> int:
    lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, how)
    except BaseException:
        os.close(lock)
        raise
    return lock
