"""A blob store in memory, which keeps `services.blob.ports` as the shipped ones do."""

import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime

from common.contracts.blob import BlobLabels
from common.errors import AlreadyExists, NotFound, StorageFull
from services.blob.ports import CorruptBlob, ListedBlob, OpenBlob, StagedBlob, StoredBlob


class MemoryBlobStore:
    """`capacity` is how many bytes it holds before it says that it is full."""

    def __init__(self, capacity: int = 2**40) -> None:
        self.blobs: dict[str, tuple[StoredBlob, bytes]] = {}
        self.staged: list[StagedBytes] = []
        self._capacity = capacity

    def room(self) -> int:
        kept = sum(blob.size for blob, _ in self.blobs.values())
        return self._capacity - kept - sum(len(staged.data) for staged in self.staged)

    @asynccontextmanager
    async def stage(
        self, blob_id: str, size: int | None, labels: BlobLabels | None = None
    ) -> AsyncIterator[StagedBlob]:
        if (size or 0) > self.room():
            raise StorageFull
        staged = StagedBytes(self, blob_id)
        self.staged.append(staged)
        try:
            yield staged
        finally:
            self.staged.remove(staged)

    async def open(self, blob_id: str) -> OpenBlob:
        return OpenBytes(*self._find(blob_id))

    async def stat(self, blob_id: str) -> StoredBlob:
        return self._find(blob_id)[0]

    async def delete(self, blob_id: str) -> None:
        self._find(blob_id)
        del self.blobs[blob_id]

    async def page(self, prefix: str, after: str, limit: int) -> list[ListedBlob]:
        ids = sorted(blob_id for blob_id in self.blobs if blob_id.startswith(prefix) and blob_id > after)
        return [ListedBlob(blob_id, self.blobs[blob_id][0].stored_at) for blob_id in ids[:limit]]

    async def sweep_staging(self, max_age_seconds: float) -> int:
        return 0  # what is staged in memory dies with its writer

    async def check(self) -> None:
        pass

    def _find(self, blob_id: str) -> tuple[StoredBlob, bytes]:
        if blob_id not in self.blobs:
            raise NotFound
        return self.blobs[blob_id]


class StagedBytes:
    def __init__(self, store: MemoryBlobStore, blob_id: str) -> None:
        self.data = bytearray()
        self._store = store
        self._blob_id = blob_id

    async def write(self, chunk: bytes) -> None:
        if len(chunk) > self._store.room():
            raise StorageFull
        self.data += chunk

    async def digest(self) -> str:
        return hashlib.sha256(self.data).hexdigest()

    async def publish(self) -> bool:
        sha256 = await self.digest()
        if self._blob_id in self._store.blobs:
            if self._store.blobs[self._blob_id][0].sha256 != sha256:
                raise AlreadyExists
            return False
        blob = StoredBlob(self._blob_id, len(self.data), sha256, datetime.now(UTC))
        self._store.blobs[self._blob_id] = (blob, bytes(self.data))
        return True


class OpenBytes:
    def __init__(self, blob: StoredBlob, data: bytes) -> None:
        self.blob = blob
        self._data = data

    async def read(self, first: int, last: int) -> AsyncIterator[bytes]:
        part = self._data[first : last + 1]
        if len(part) == self.blob.size and hashlib.sha256(part).hexdigest() != self.blob.sha256:
            raise CorruptBlob
        yield part

    def close(self) -> None:
        pass
