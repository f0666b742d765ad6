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
    (`locks.py`, docs/decisions/0030-backup-by-snapshot-reads.md), and who would delete meanwhile gets `Unavailable`.
    With keys (docs/decisions/0031-encryption-at-rest.md) a file is encrypted pieces (`pieces.py`) and another footer
    (`encrypted_footer.py`), and `known-keys/` remembers under which (`known_keys.py`). Plain files can be read all the
    same. No byte of what is encrypted is on disk as it is, nor its digest.

Permissions
    Files are 0600 and folders 0700; the process needs nothing outside the data folder. Ids become file names, so
    they must have been checked (`domain/ids.py`).

Trade-offs
    - One volume of one host, with hard links (so neither FAT nor some network mounts). Any number of blob processes
      on that host may share the folder.
    - The loop writes each plain chunk itself: the page cache takes it faster than a thread could be woken. What may
      wait for the disk (fsync, link, unlink, reading, listing) is done in threads, and so are hashing and encryption.
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
from services.blob.adapters.filesystem.folder import Disk, Folder, OpenFile, StagingFile, as_problem
from services.blob.adapters.filesystem.known_keys import note_newest
from services.blob.adapters.filesystem.master_keys import MasterKeys
from services.blob.adapters.filesystem.pieces import Writer
from services.blob.adapters.footer import FOOTER_BYTES, Footer
from services.blob.adapters.hashing import Beside, HashBeside
from services.blob.ports import CorruptBlob, ListedBlob, OpenBlob, StagedBlob, StoredBlob

READ_BYTES = 512 * 1024
# The threads wait for the disk most of their time, so there may be many more of them than processors.
THREADS = 32
# How often, while bytes arrive, it is looked whether there is room for more.
CHECK_ROOM_BYTES = 8 * 1024 * 1024

Result = TypeVar("Result")


@asynccontextmanager
async def open_filesystem_store(
    root: Path, *, min_free_bytes: int = 0, disk: Disk | None = None, keys: MasterKeys | None = None
) -> AsyncIterator["FilesystemBlobStore"]:
    """The store in `root`, which is made when it is missing. `min_free_bytes` of the volume are never filled. With
    `keys` what is new is encrypted.
    """
    folder = Folder(root, disk or Disk(), keys)
    with ThreadPoolExecutor(THREADS, "blob") as executor:
        store = FilesystemBlobStore(folder, executor, min_free_bytes)
        await store.in_thread(folder.prepare)
        await store.in_thread(lambda: note_newest(folder))
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
        staged = _StagedFile(self, as_problem(self.folder.create), blob_id)
        try:
            yield staged
        finally:
            await staged.discard()

    async def open(self, blob_id: str) -> OpenBlob:
        opening = self._submit(lambda: as_problem(lambda: self.folder.open(blob_id)))
        try:
            opened = await asyncio.wrap_future(opening)
        except asyncio.CancelledError:
            opening.add_done_callback(_close_opened)
            raise
        return _OpenFile(opened, self.executor)

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


class Arriving:
    """Bytes on their way to disk, of which there is a digest at the end; while they come it is looked for room.

    Plain ones are written by the loop; those that are encrypted are so beside it, and written from there.
    """

    def __init__(self, store: FilesystemBlobStore, writer: Writer) -> None:
        self._store = store
        self._writer = writer
        self._hashing = HashBeside(store.executor)
        self._writing = Beside(store.executor, self._put) if writer.computes else None
        self._room_checked_at = 0
        self.size = 0

    async def write(self, chunk: bytes) -> None:
        self.size += len(chunk)
        if self.size - self._room_checked_at >= CHECK_ROOM_BYTES:
            self._store.check_room(len(chunk))
            self._room_checked_at = self.size
        if self._writing is None:
            self._put(chunk)
        else:
            await self._writing.update(chunk)
        await self._hashing.update(chunk)

    async def digest(self) -> bytes:
        """The SHA-256 of all that was written; to be called last."""
        if self._writing is not None:
            await self._writing.finish()
        return await self._hashing.digest()

    async def give_up(self, close: Callable[[], None]) -> None:
        """Call `close` when nothing is written any more, to its end also when the caller is cancelled again."""

        def stop_and_close() -> None:
            if self._writing is not None:
                self._writing.stop()
            close()

        await self._store.in_thread(stop_and_close)

    def _put(self, chunk: bytes) -> None:
        as_problem(lambda: self._writer.write(chunk))


class _StagedFile:
    """A `StagedBlob`. Its file belongs to it until `discard` or `publish` hands it to a thread."""

    def __init__(self, store: FilesystemBlobStore, file: StagingFile, blob_id: str) -> None:
        self._store = store
        self._blob_id = blob_id
        self._arriving = Arriving(store, file.writer)
        self._sha256 = b""
        self._file: StagingFile | None = file

    async def write(self, chunk: bytes) -> None:
        await self._arriving.write(chunk)

    async def digest(self) -> str:
        self._sha256 = await self._arriving.digest()
        return self._sha256.hex()

    async def publish(self) -> bool:
        file, self._file = self._file, None
        assert file is not None  # noqa: S101 - called once
        footer = Footer(self._arriving.size, self._sha256)
        return await self._store.in_thread(lambda: self._store.folder.publish(self._blob_id, file, footer))

    async def discard(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            with suppress(Problem):  # logged, and swept later; what led here must not be hidden
                await self._arriving.give_up(lambda: self._store.folder.discard(file))


class _OpenFile:
    """An `OpenBlob`. The next chunk is read while the one before is sent."""

    def __init__(self, opened: OpenFile, executor: Executor) -> None:
        self._opened = opened
        self._executor = executor
        self._reading: Future[bytes | memoryview] | None = None
        self._sha256 = hashlib.sha256()

    @property
    def blob(self) -> StoredBlob:
        return self._opened.blob

    async def read(self, first: int, last: int) -> AsyncIterator[bytes | memoryview]:
        # Of an encrypted blob each piece is checked before any of it is given away, so there is no more to find out.
        hashed = first == 0 and last == self.blob.size - 1 and not self._opened.encrypted
        position, end = first, last + 1
        withheld: bytes | memoryview = b""
        reading = self._read_on(position, end, hashed)
        while position < end:
            try:
                chunk = await asyncio.wrap_future(reading)
            except OSError as error:
                raise CorruptBlob(str(error)) from error
            if not chunk:
                raise CorruptBlob("The file is shorter than it was.")
            position += len(chunk)
            if position < end:
                reading = self._read_on(position, end, hashed)
            if withheld:
                yield withheld
            withheld = chunk
        if hashed and self._sha256.hexdigest() != self.blob.sha256:
            raise CorruptBlob("The bytes have another digest than when they were written.")
        yield withheld

    def close(self) -> None:
        # In a thread, because a deleted blob's blocks are freed here; after the read, or it would get another's file.
        self._executor.submit(_close_after, self._reading, self._opened.fd)

    def _read_on(self, position: int, end: int, hashed: bool) -> Future[bytes | memoryview]:
        self._reading = self._executor.submit(self._read, position, end, hashed)
        return self._reading

    def _read(self, position: int, end: int, hashed: bool) -> bytes | memoryview:
        # Up to where pieces end, whatever the first byte was.
        chunk = self._opened.read(position, min(end, position - position % READ_BYTES + READ_BYTES))
        if hashed:
            self._sha256.update(chunk)
        return chunk


def _close_after(reading: Future[bytes | memoryview] | None, fd: int) -> None:
    if reading is not None:
        wait([reading])
    os.close(fd)


def _close_opened(opening: Future[OpenFile]) -> None:
    if not opening.cancelled() and opening.exception() is None:
        os.close(opening.result().fd)
