"""A store whose work is timed, as `gristmill_store_operation_duration_seconds`."""

import time
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from typing import TypeVar

from common.contracts.blob import BlobLabels
from common.metrics import STORE_SECONDS
from services.blob.ports import BlobStore, ListedBlob, OpenBlob, StagedBlob, StoredBlob

Result = TypeVar("Result")


class TimedStore:
    """A `BlobStore` around another one. What comes and goes in pieces is as slow as its client: of a write the
    publishing is timed, and of a read the opening.
    """

    def __init__(self, store: BlobStore, name: str) -> None:
        self._store = store
        self._name = name

    @asynccontextmanager
    async def stage(
        self, blob_id: str, size: int | None, labels: BlobLabels | None = None
    ) -> AsyncIterator[StagedBlob]:
        async with self._store.stage(blob_id, size, labels) as staged:
            yield _TimedBlob(staged, self)

    async def open(self, blob_id: str) -> OpenBlob:
        return await self.timed("open", self._store.open(blob_id))

    async def stat(self, blob_id: str) -> StoredBlob:
        return await self.timed("stat", self._store.stat(blob_id))

    async def delete(self, blob_id: str) -> None:
        await self.timed("delete", self._store.delete(blob_id))

    async def page(self, prefix: str, after: str, limit: int) -> list[ListedBlob]:
        return await self.timed("page", self._store.page(prefix, after, limit))

    async def sweep_staging(self, max_age_seconds: float) -> int:
        return await self.timed("sweep", self._store.sweep_staging(max_age_seconds))

    async def check(self) -> None:
        await self.timed("check", self._store.check())

    async def timed(self, operation: str, work: Awaitable[Result]) -> Result:
        started = time.perf_counter()
        try:
            return await work
        finally:
            STORE_SECONDS.series(self._name, operation).observe(time.perf_counter() - started)


class _TimedBlob:
    """A `StagedBlob`."""

    def __init__(self, staged: StagedBlob, store: TimedStore) -> None:
        self._staged = staged
        self._store = store

    async def write(self, chunk: bytes) -> None:
        await self._staged.write(chunk)

    async def digest(self) -> str:
        return await self._staged.digest()

    async def publish(self) -> bool:
        return await self._store.timed("publish", self._staged.publish())
