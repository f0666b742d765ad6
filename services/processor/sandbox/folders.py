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
from io import BufferedReader
from pathlib import Path, PurePosixPath

from common.logging import get_logger
from services.processor.child.main import WORK_FOLDER

log = get_logger()

_LOCK = "lock"
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


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


class WorkFolder:
    """The folder that a run writes to, by a descriptor from before the run began.

    A run can put anything under the names in it, and, where the kernel doesn't confine it, also in place of the folder
    itself. So nothing in it is reached by its path.
    """

    def __init__(self, run_folder: Path) -> None:
        self.run_folder = run_folder
        self.path = run_folder / WORK_FOLDER
        self.path.mkdir(mode=0o700)
        self._descriptor = os.open(self.path, _FOLDER)

    def __enter__(self) -> "WorkFolder":
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)

    def open(self, name: str) -> BufferedReader:
        """A regular file beneath it, whose parts are reached one after the other without following a link, as by
        openat2 with RESOLVE_BENEATH and RESOLVE_NO_SYMLINKS. Raises `OSError`.
        """
        *folders, last = PurePosixPath(name).parts or ("",)
        if ".." in (*folders, last) or name.startswith("/"):
            raise OSError(errno.EXDEV, "Outside the folder.", name)
        within = os.dup(self._descriptor)
        try:
            for folder in folders:
                inner = os.open(folder, _FOLDER, dir_fd=within)
                os.close(within)
                within = inner
            return _regular(os.open(last, _FILE, dir_fd=within), name)
        finally:
            os.close(within)


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
    with _regular(os.open(path, _FILE), str(path)) as source:
        return source.read(most)


def _regular(descriptor: int, name: str) -> BufferedReader:
    """A file that is open. Raises `OSError` for one that isn't regular."""
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "Not a regular file.", name)
    return open(descriptor, "rb")


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
