"""Blobs in a folder.

Design
    `staging/<uuid>` takes the bytes as they arrive; `blobs/<shard>/<id>` is a whole blob, where the shard is the
    first two hex digits of the id's SHA-256, so that no folder grows too large. A file ends in a footer with the
    blob's size and SHA-256 (`footer.py`, docs/decisions/0006-blob-footer.md).

    Write: staging file (O_EXCL) → bytes → footer → fsync → hard link to the final name, which fails when that name
    is taken → unlink of the staging name → fsync of the shard's folder → answer. So a crash leaves either nothing but
    a staging file, which `sweep_staging` removes, or the whole blob. A failed fsync is never tried again: the kernel
    may have dropped the pages that it couldn't write, and then a second fsync would say that all is well.

    Delete: unlink, then fsync of the shard's folder, with `deletes.lock` shared. A backup has that lock alone
    (`locks.py`, docs/decisions/0029-backup-by-snapshot-reads.md), and who would delete meanwhile gets `Unavailable`.

Permissions
    Files are 0600 and folders 0700; the process needs nothing outside the data folder. Ids become file names, so
    they must have been checked (`domain/ids.py`).

Trade-offs
    - One volume of one host, with hard links (so neither FAT nor some network mounts). Any number of blob processes
      on that host may share the folder.
    - The loop writes each chunk itself: the page cache takes it faster than a thread could be woken. What may wait
      for the disk (fsync, link, unlink, reading, listing) is done in threads, and so is hashing.
    - When the folder's fsync fails, the name is taken back and the write has failed. Another writer of the same
      bytes that got a success in that very moment has got a wrong one.
    - A page of a list reads whole shards: with a million blobs 4,000 names each.
    - A file without a fitting footer is not a blob: it is logged as `blob.corrupt` and can't be read, but its id
      stays taken, is listed, and can be deleted.
"""

import asyncio
import hashlib
import os
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Executor, Future, ThreadPoolExecutor, wait
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TypeVar

from common.contracts.blob import BlobLabels
from common.errors import Problem, StorageFull
from services.blob.adapters.filesystem.folder import Disk, Folder, as_problem
from services.blob.adapters.footer import FOOTER_BYTES, Footer
from services.blob.adapters.hashing import HashBeside
from services.blob.ports import CorruptBlob, ListedBlob, OpenBlob, StagedBlob, StoredBlob

READ_BYTES = 512 * 1024
# The threads wait for the disk most of their time, so there may be many more of them than processors.
THREADS = 32
# How often, while bytes arrive, it is looked whether there is room for more.
CHECK_ROOM_BYTES = 8 * 1024 * 1024

Result = TypeVar("Result")


@asynccontextmanager
async def open_filesystem_store(
    root: Path, *, min_free_bytes: int = 0, disk: Disk | None = None
) -> AsyncIterator["FilesystemBlobStore"]:
    """The store in `root`, which is made when it is missing. `min_free_bytes` of the volume are never filled."""
    folder = Folder(root, disk or Disk())
    with ThreadPoolExecutor(THREADS, "blob") as executor:
        store = FilesystemBlobStore(folder, executor, min_free_bytes)
        await store.in_thread(folder.prepare)
        yield store


class FilesystemBlobStore:
    """A `BlobStore`; the module's docstring says how."""

    def __init__(self, folder: Folder, executor: Executor, min_free_bytes: int) -> None:
        self.folder = folder
        self.executor = executor
        self._min_free_bytes = min_free_bytes

    @asynccontextmanager
    async def stage(
        self, blob_id: str, size: int | None, labels: BlobLabels | None = None
    ) -> AsyncIterator[StagedBlob]:
        self.check_room((size or 0) + FOOTER_BYTES)
        staged = _StagedFile(self, self.folder, HashBeside(self.executor), blob_id)
        try:
            yield staged
        finally:
            await staged.discard()

    async def open(self, blob_id: str) -> OpenBlob:
        opening = self._submit(lambda: as_problem(lambda: self.folder.open(blob_id)))
        try:
            fd, blob = await asyncio.wrap_future(opening)
        except asyncio.CancelledError:
            opening.add_done_callback(_close_opened)
            raise
        return _OpenFile(fd, blob, self.executor)

    async def stat(self, blob_id: str) -> StoredBlob:
        return await self.in_thread(lambda: self.folder.stat(blob_id))

    async def delete(self, blob_id: str) -> None:
        await self.in_thread(lambda: self.folder.delete(blob_id))

    async def page(self, prefix: str, after: str, limit: int) -> list[ListedBlob]:
        return await self.in_thread(lambda: self.folder.page(prefix, after, limit))

    async def sweep_staging(self, max_age_seconds: float) -> int:
        return await self.in_thread(lambda: self.folder.sweep(time.time() - max_age_seconds))

    async def check(self) -> None:
        await self.in_thread(self.folder.check)

    def check_room(self, wanted: int) -> None:
        """Raises `StorageFull` when `wanted` more bytes wouldn't leave what must be left."""
        if as_problem(self.folder.free_bytes) - wanted < self._min_free_bytes:
            raise StorageFull

    async def in_thread(self, work: Callable[[], Result]) -> Result:
        """Do blocking work, which goes on to its end also when the caller is cancelled. Raises problems."""
        return await asyncio.shield(asyncio.wrap_future(self._submit(lambda: as_problem(work))))

    def _submit(self, work: Callable[[], Result]) -> Future[Result]:
        return self.executor.submit(work)


class _StagedFile:
    """A `StagedBlob`. Its descriptor belongs to it until `discard` or `publish` hands it to a thread."""

    def __init__(self, store: FilesystemBlobStore, folder: Folder, hashing: HashBeside, blob_id: str) -> None:
        self._store = store
        self._folder = folder
        self._hashing = hashing
        self._blob_id = blob_id
        self._size = 0
        self._sha256 = b""
        self._room_checked_at = 0
        self._path, fd = as_problem(folder.create)
        self._fd: int | None = fd

    async def write(self, chunk: bytes) -> None:
        fd = self._fd
        assert fd is not None  # noqa: S101 - not after `publish`
        self._size += len(chunk)
        if self._size - self._room_checked_at >= CHECK_ROOM_BYTES:
            self._store.check_room(len(chunk))
            self._room_checked_at = self._size
        as_problem(lambda: self._folder.write(fd, chunk))
        await self._hashing.update(chunk)

    async def digest(self) -> str:
        self._sha256 = await self._hashing.digest()
        return self._sha256.hex()

    async def publish(self) -> bool:
        fd, self._fd = self._fd, None
        assert fd is not None  # noqa: S101 - called once
        footer = Footer(self._size, self._sha256)
        return await self._store.in_thread(lambda: self._folder.publish(self._blob_id, self._path, fd, footer))

    async def discard(self) -> None:
        fd, self._fd = self._fd, None
        if fd is not None:
            with suppress(Problem):  # logged, and swept later; what led here must not be hidden
                await self._store.in_thread(lambda: self._folder.discard(self._path, fd))


class _OpenFile:
    """An `OpenBlob`. The next chunk is read while the one before is sent."""

    def __init__(self, fd: int, blob: StoredBlob, executor: Executor) -> None:
        self._fd = fd
        self._blob = blob
        self._executor = executor
        self._reading: Future[bytes] | None = None
        self._sha256 = hashlib.sha256()

    @property
    def blob(self) -> StoredBlob:
        return self._blob

    async def read(self, first: int, last: int) -> AsyncIterator[bytes]:
        whole = first == 0 and last == self._blob.size - 1
        position, end = first, last + 1
        withheld = b""
        reading = self._read_on(position, end, whole)
        while position < end:
            try:
                chunk = await asyncio.wrap_future(reading)
            except OSError as error:
                raise CorruptBlob(str(error)) from error
            if not chunk:
                raise CorruptBlob("The file is shorter than it was.")
            position += len(chunk)
            if position < end:
                reading = self._read_on(position, end, whole)
            if withheld:
                yield withheld
            withheld = chunk
        if whole and self._sha256.hexdigest() != self._blob.sha256:
            raise CorruptBlob("The bytes have another digest than when they were written.")
        yield withheld

    def close(self) -> None:
        # In a thread, because a deleted blob's blocks are freed here; after the read, or it would get another's file.
        self._executor.submit(_close_after, self._reading, self._fd)

    def _read_on(self, position: int, end: int, whole: bool) -> Future[bytes]:
        self._reading = self._executor.submit(self._read, position, end, whole)
        return self._reading

    def _read(self, position: int, end: int, whole: bool) -> bytes:
        chunk = os.pread(self._fd, min(READ_BYTES, end - position), position)
        if whole:
            self._sha256.update(chunk)
        return chunk


def _close_after(reading: Future[bytes] | None, fd: int) -> None:
    if reading is not None:
        wait([reading])
    os.close(fd)


def _close_opened(opening: Future[tuple[int, StoredBlob]]) -> None:
    if not opening.cancelled() and opening.exception() is None:
        os.close(opening.result()[0])
