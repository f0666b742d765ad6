"""Private folders: one for this process, in it one for each run.

A process that is killed leaves its folder behind; the next one to start removes it. A folder is in use exactly while
its lock file is locked, which the kernel ends with the process, so several processors can share a `work_dir`.
"""

import asyncio
import contextlib
import fcntl
import os
import shutil
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
        shutil.rmtree(own, ignore_errors=True)
        os.close(lock)


@contextlib.asynccontextmanager
async def run_folder(process_folder: Path) -> AsyncIterator[Path]:
    """A folder for one run, removed with all that is in it."""
    folder = Path(tempfile.mkdtemp(prefix="run-", dir=process_folder))
    try:
        yield folder
    finally:
        await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)


def _remove_if_left(folder: Path) -> None:
    try:
        lock = _lock(folder / _LOCK, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return
    log.info("folders.removing_leftovers", folder=folder.name)
    shutil.rmtree(folder, ignore_errors=True)
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
