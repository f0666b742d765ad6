"""Removes bytes that nothing owns: blobs of no job or of a losing attempt, and inline bytes that blob has."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta

from common.contracts.blob import BlobListItem
from common.ids import blob_owner
from common.logging import get_logger
from services.front.domain.disposal import is_garbage
from services.front.domain.job import Status
from services.front.ports import Blobs, InlineStore, JobStore

INLINE_BATCH = 500
DELETES_AT_ONCE = 16

log = get_logger()


class Sweep:
    """Looks at bytes older than `orphan_seconds` only, so that what is just being written is left alone."""

    def __init__(self, jobs: JobStore, inline: InlineStore, blobs: Blobs, *, orphan_seconds: float) -> None:
        self._jobs = jobs
        self._inline = inline
        self._blobs = blobs
        self._orphan_seconds = orphan_seconds
        self._slots = asyncio.Semaphore(DELETES_AT_ONCE)

    async def inline(self) -> int:
        """Delete inline bytes whose job has gone past `CREATED`, or was never written. Returns how many."""
        ids = await self._inline.older_than(self._orphan_seconds, INLINE_BATCH)
        jobs = await self._jobs.find_many(ids)
        done = [job_id for job_id in ids if job_id not in jobs or jobs[job_id].status is not Status.CREATED]
        if done:
            await self._inline.delete(done)
        return len(done)

    async def blobs(self) -> int:
        """Walk through all blobs once, and delete those that nothing owns. Returns how many."""
        before = await self._jobs.now() - timedelta(seconds=self._orphan_seconds)
        deleted, after = 0, ""
        while True:
            page = await self._blobs.list(after=after)
            deleted += await self._page([item for item in page.items if item.stored_at < before])
            if page.next is None:
                return deleted
            after = page.next

    async def _page(self, items: Sequence[BlobListItem]) -> int:
        owners = {item.id: owner for item in items if (owner := blob_owner(item.id))}
        jobs = await self._jobs.find_many({job_id for job_id, _ in owners.values()})
        garbage = [blob_id for blob_id, (job_id, fence) in owners.items() if is_garbage(jobs.get(job_id), fence)]
        await asyncio.gather(*(self._delete(blob_id) for blob_id in garbage))
        return len(garbage)

    async def _delete(self, blob_id: str) -> None:
        async with self._slots:
            await self._blobs.delete(blob_id)
            log.info("sweep.deleted", blob=blob_id)
