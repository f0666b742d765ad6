"""The blocking half of the filesystem store: one data folder, as `store.py` describes it. Raises `OSError`."""

import contextlib
import errno
import fcntl
import hashlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TypeVar
from uuid import uuid4

from common.crash import crash_at
from common.errors import AlreadyExists, NotFound, StorageFull, Unavailable
from common.logging import get_logger
from services.blob.adapters.filesystem.encrypted_footer import find_encrypted, pack_encrypted
from services.blob.adapters.filesystem.locks import DELETES, lock
from services.blob.adapters.filesystem.master_keys import MasterKeys
from services.blob.adapters.filesystem.pieces import (
    KEY_BYTES,
    Encryption,
    PieceWriter,
    PlainWriter,
    Read,
    Writer,
    reading,
)
from services.blob.adapters.footer import Footer, read_footer
from services.blob.ports import CorruptBlob, ListedBlob, StoredBlob

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


@dataclass(frozen=True, slots=True)
class StagingFile:
    """A file that is open for writing, by `writer` alone."""

    path: Path
    fd: int
    writer: Writer


@dataclass(frozen=True, slots=True)
class OpenFile:
    """A blob that is open for reading. Of one that is `encrypted` each byte is checked when it is read."""

    fd: int
    blob: StoredBlob
    encrypted: bool
    read: Read


class Folder:
    """`staging/` and `blobs/` under `root`. With `keys` what is new is encrypted."""

    def __init__(self, root: Path, disk: Disk, keys: MasterKeys | None = None) -> None:
        self.root = root
        self.keys = keys or MasterKeys()
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

    def create(self) -> StagingFile:
        """A new staging file."""
        path = self._staging / str(uuid4())
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        return StagingFile(path, fd, self.writer(fd, self.new_key()))

    def new_key(self) -> bytes | None:
        """A key for one file, if files are encrypted."""
        return os.urandom(KEY_BYTES) if self.keys.newest else None

    def writer(self, fd: int, key: bytes | None, *, first: int = 0, last: bool = True) -> Writer:
        """Writes where `fd` stands; with a key encrypted pieces from number `first` on, to the file's end if `last`."""
        put = partial(self.write, fd)
        return PlainWriter(put) if key is None else PieceWriter(put, key, first=first, last=last)

    def write(self, fd: int, data: bytes | memoryview) -> None:
        view = memoryview(data)
        while view:
            view = view[self.disk.write(fd, view) :]

    def discard(self, staging: StagingFile) -> None:
        os.close(staging.fd)
        staging.path.unlink(missing_ok=True)

    def publish(self, blob_id: str, staging: StagingFile, footer: Footer) -> bool:
        """The end of a write, from its last bytes on: True when this made the blob. Raises `AlreadyExists`.

        Closes and removes the staging file, whatever happens.
        """
        try:
            encryption = staging.writer.finish()
            return self.seal(blob_id, staging.path, staging.fd, footer, encryption)
        finally:
            self.discard(staging)

    def seal(self, blob_id: str, file: Path, fd: int, footer: Footer, encryption: Encryption | None) -> bool:
        """Add the footer where `fd` stands, and give the file the blob's name: True when this made the blob, which
        is on disk then. Raises `AlreadyExists`.
        """
        self.write(fd, pack_encrypted(footer, encryption, blob_id, self.keys) if encryption else footer.pack())
        crash_at("blob.written")
        self.disk.fsync(fd)
        crash_at("blob.synced")
        created = self._link(file, blob_id, footer)
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

    def open(self, blob_id: str) -> OpenFile:
        """Open for reading. Raises `NotFound`, and `Unavailable` when its key isn't here."""
        try:
            fd = os.open(self._path(blob_id), os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            raise NotFound from None
        try:
            status = os.fstat(fd)
            try:
                footer, encryption = self._footer(blob_id, fd, status.st_size)
            except CorruptBlob as error:
                log.error("blob.corrupt", blob=blob_id, reason=str(error))
                raise NotFound from None
            except Unavailable as error:
                log.error("blob.key_missing", blob=blob_id, reason=str(error))
                raise
        except BaseException:
            os.close(fd)
            raise
        blob = StoredBlob(blob_id, footer.size, footer.sha256.hex(), _moment(status))
        return OpenFile(fd, blob, encryption is not None, reading(fd, footer.size, encryption))

    def stat(self, blob_id: str) -> StoredBlob:
        """Raises `NotFound`."""
        opened = self.open(blob_id)
        os.close(opened.fd)
        return opened.blob

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

    def wrap_anew(self, blob_id: str) -> bool:
        """Wrap the blob's key under the newest one; False when it is so, or the blob isn't encrypted.

        The blob can be read meanwhile. Raises `NotFound`, `Unavailable` when its key isn't here, `CorruptBlob`.
        """
        try:
            fd = os.open(self._path(blob_id), os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            raise NotFound from None
        try:
            status = os.fstat(fd)
            # A plain one may have the bytes of an encrypted one's footer: its sender chooses them.
            is_plain = read_footer(fd, status.st_size) is not None
            footer = None if is_plain else find_encrypted(fd, status.st_size, blob_id)
            wrapped = False
            for offset, anew in footer.wrapped_anew(self.keys) if footer else ():
                os.lseek(fd, offset, os.SEEK_SET)
                self.write(fd, anew)
                os.utime(fd, ns=(status.st_atime_ns, status.st_mtime_ns))  # when the blob was stored
                self.disk.fsync(fd)
                wrapped = True
        finally:
            os.close(fd)
        return wrapped

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

    def _footer(self, blob_id: str, fd: int, file_size: int) -> tuple[Footer, Encryption | None]:
        """Raises `CorruptBlob`, and `Unavailable` when the blob's key isn't here."""
        if plain := read_footer(fd, file_size):
            return plain, None
        encrypted = find_encrypted(fd, file_size, blob_id)
        if encrypted is None:
            raise CorruptBlob("The file has no footer that fits.")
        return encrypted.unwrap(self.keys)

    def _link(self, staging: Path, blob_id: str, footer: Footer) -> bool:
        """Give the file its name unless that is taken: True when it was free. Raises `AlreadyExists`."""
        final = self._path(blob_id)
        while True:
            try:
                final.hardlink_to(staging)
            except FileExistsError:
                try:
                    fd = os.open(final, os.O_RDONLY | os.O_CLOEXEC)
                except FileNotFoundError:
                    continue  # deleted since
                try:
                    there, _ = self._footer(blob_id, fd, os.fstat(fd).st_size)
                    if there != footer:
                        raise AlreadyExists from None
                except CorruptBlob:
                    raise AlreadyExists from None
                finally:
                    os.close(fd)
                return False
            return True

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


def _shard(blob_id: str) -> str:
    return hashlib.sha256(blob_id.encode()).hexdigest()[:2]


def _moment(status: os.stat_result) -> datetime:
    # The last write is the footer's; the inode's own change time also moves with links and backups.
    return datetime.fromtimestamp(status.st_mtime, UTC)
