"""The blocking half of the filesystem store: one data folder, as `filesystem.py` describes it. Raises `OSError`."""

import contextlib
import errno
import fcntl
import hashlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar
from uuid import uuid4

from common.crash import crash_at
from common.errors import AlreadyExists, NotFound, StorageFull, Unavailable
from common.logging import get_logger
from services.blob.adapters.filesystem.locks import DELETES, lock
from services.blob.adapters.footer import Footer, read_footer
from services.blob.ports import ListedBlob, StoredBlob

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_SHARDS = [f"{n:02x}" for n in range(256)]

Result = TypeVar("Result")

log = get_logger()


@dataclass(frozen=True)
class Disk:
    """The calls that fail for want of room or for a broken disk; tests hand in ones that do."""

    write: Callable[[int, memoryview], int] = os.write
    fsync: Callable[[int], None] = os.fsync
    statvfs: Callable[[Path], os.statvfs_result] = os.statvfs


class Folder:
    """`staging/` and `blobs/` under `root`."""

    def __init__(self, root: Path, disk: Disk) -> None:
        self.root = root
        self._staging = root / "staging"
        self._blobs = root / "blobs"
        self.disk = disk

    def prepare(self) -> None:
        """Make what is missing. With all shards there, no write has to make a folder and see it to disk."""
        missing = [folder for folder in (self.root, *self.root.parents) if not folder.exists()]
        self._staging.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._blobs.mkdir(mode=0o700, exist_ok=True)
        for shard in _SHARDS:
            (self._blobs / shard).mkdir(mode=0o700, exist_ok=True)
        (self.root / DELETES).touch(mode=0o600)  # now, since deleting has to work on a full disk
        self.sync(self._blobs)
        self.sync(self.root)
        for folder in missing:  # or power loss could take the data folder's own name, and with it every blob
            self.sync(folder.parent)

    def check(self) -> None:
        """Raises when the folder can't be used."""
        os.scandir(self._staging).close()

    def free_bytes(self) -> int:
        room = self.disk.statvfs(self._staging)
        return room.f_bavail * room.f_frsize

    def create(self) -> tuple[Path, int]:
        """A new staging file, open for writing."""
        path = self._staging / str(uuid4())
        return path, os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)

    def write(self, fd: int, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[self.disk.write(fd, view) :]

    def discard(self, staging: Path, fd: int) -> None:
        os.close(fd)
        staging.unlink(missing_ok=True)

    def publish(self, blob_id: str, staging: Path, fd: int, footer: Footer) -> bool:
        """The end of a write, from the footer on: True when this made the blob. Raises `AlreadyExists`.

        Closes `fd` and removes `staging`, whatever happens.
        """
        try:
            return self.seal(blob_id, staging, fd, footer)
        finally:
            os.close(fd)
            staging.unlink(missing_ok=True)

    def seal(self, blob_id: str, file: Path, fd: int, footer: Footer) -> bool:
        """Add the footer where `fd` stands, and give the file the blob's name: True when this made the blob, which
        is on disk then. Raises `AlreadyExists`.
        """
        self.write(fd, footer.pack())
        crash_at("blob.written")
        self.disk.fsync(fd)
        crash_at("blob.synced")
        created = _link(file, self._path(blob_id), footer)
        crash_at("blob.named")
        try:
            # Also when the blob was there already: who made it may not have come as far as this.
            self.sync_name(blob_id)
        except OSError:
            if created:
                self._path(blob_id).unlink(missing_ok=True)
            raise
        return created

    def sync_name(self, blob_id: str) -> None:
        """See to it that the blob's name, or that it has none, is on disk."""
        self.sync(self._path(blob_id).parent)

    def open(self, blob_id: str) -> tuple[int, StoredBlob]:
        """A descriptor for reading, and what it is. Raises `NotFound`."""
        try:
            fd = os.open(self._path(blob_id), os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            raise NotFound from None
        try:
            status = os.fstat(fd)
            footer = read_footer(fd, status.st_size)
            if footer is None:
                log.error("blob.corrupt", blob=blob_id, reason="The file has no footer that fits.")
                raise NotFound
        except BaseException:
            os.close(fd)
            raise
        return fd, StoredBlob(blob_id, footer.size, footer.sha256.hex(), _moment(status))

    def stat(self, blob_id: str) -> StoredBlob:
        """Raises `NotFound`."""
        fd, blob = self.open(blob_id)
        os.close(fd)
        return blob

    def delete(self, blob_id: str) -> None:
        """Raises `NotFound`, and `Unavailable` while nothing is deleted (`locks.nothing_deleted`)."""
        with lock(self.root / DELETES, fcntl.LOCK_SH) as held:
            if held is None:
                raise Unavailable("A backup is being made; blobs are deleted again when it has ended.")
            try:
                self._path(blob_id).unlink()
            except FileNotFoundError:
                raise NotFound from None
            self.sync_name(blob_id)

    def page(self, prefix: str, after: str, limit: int) -> list[ListedBlob]:
        """Blobs by (shard, id)."""
        found: list[ListedBlob] = []
        for blob in self._listed(prefix, after):
            found.append(blob)
            if len(found) == limit:
                break
        return found

    def sweep(self, before: float) -> int:
        """Remove the staging files last written before that moment (seconds since the epoch)."""
        swept = 0
        with os.scandir(self._staging) as entries:
            for entry in entries:
                with contextlib.suppress(FileNotFoundError):  # published, or swept by another, since
                    if entry.stat(follow_symlinks=False).st_mtime < before:
                        Path(entry.path).unlink()
                        swept += 1
        return swept

    def _path(self, blob_id: str) -> Path:
        return self._blobs / _shard(blob_id) / blob_id

    def sync(self, folder: Path) -> None:
        """See to it that the names in a folder are on disk."""
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            self.disk.fsync(fd)
        finally:
            os.close(fd)

    def _listed(self, prefix: str, after: str) -> Iterator[ListedBlob]:
        first = _shard(after) if after else ""
        for shard in _SHARDS:
            if shard < first:
                continue
            folder = self._blobs / shard
            with os.scandir(folder) as entries:
                names = sorted(entry.name for entry in entries if entry.name.startswith(prefix))
            for name in names:
                if shard == first and name <= after:
                    continue
                with contextlib.suppress(FileNotFoundError):  # deleted since
                    yield ListedBlob(name, _moment((folder / name).stat()))


def as_problem(work: Callable[[], Result]) -> Result:
    """Do `work`; a disk that is full raises `StorageFull`, and one that fails `Unavailable`."""
    try:
        return work()
    except OSError as error:
        if error.errno in _FULL:
            raise StorageFull from error
        log.error("blob.disk_failed", error=str(error), errno=error.errno)
        raise Unavailable("The store failed.") from error


def _link(staging: Path, final: Path, footer: Footer) -> bool:
    """Give the file its name unless that is taken: True when it was free. Raises `AlreadyExists` for other bytes."""
    while True:
        try:
            final.hardlink_to(staging)
        except FileExistsError:
            try:
                fd = os.open(final, os.O_RDONLY | os.O_CLOEXEC)
            except FileNotFoundError:
                continue  # deleted since
            try:
                if read_footer(fd, os.fstat(fd).st_size) != footer:
                    raise AlreadyExists from None
            finally:
                os.close(fd)
            return False
        return True


def _shard(blob_id: str) -> str:
    return hashlib.sha256(blob_id.encode()).hexdigest()[:2]


def _moment(status: os.stat_result) -> datetime:
    # The last write is the footer's; the inode's own change time also moves with links and backups.
    return datetime.fromtimestamp(status.st_mtime, UTC)
