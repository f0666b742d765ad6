"""Finds the end of each upload, even if its owner never completes it; and decides held batches."""

import asyncio
from collections.abc import Sequence
from datetime import datetime, timedelta

from common.contracts.upload import UploadStatus
from common.errors import Problem
from common.ids import input_blob_id
from common.logging import get_logger
from services.front.domain.batch import BATCH_FAILED, Batch, verdict
from services.front.domain.job import Job, JobError, Status, Transition
from services.front.ports import BatchStore, Blobs, JobStore
from services.front.use_cases.advance import Advance
from services.front.use_cases.batch import facts_of
from services.front.use_cases.upload import Uploads

# A batch is written right after its jobs; no response has named those that still have none then.
WITHOUT_BATCH = timedelta(minutes=2)
PAGE_SIZE = 500
AT_ONCE = 32
UPLOAD_EXPIRED = JobError("upload-expired", "The file was not uploaded in time.")

log = get_logger()


class TrackUploads:
    """Any number may run: an upload that is due is claimed by one alone, and what it then does could be done twice."""

    def __init__(
        self,
        jobs: JobStore,
        batches: BatchStore,
        blobs: Blobs,
        advance: Advance,
        uploads: Uploads,
        *,
        grace_seconds: float,
    ) -> None:
        self._jobs = jobs
        self._batches = batches
        self._blobs = blobs
        self._advance = advance
        self._uploads = uploads
        self._grace = timedelta(seconds=grace_seconds)
        self._slots = asyncio.Semaphore(AT_ONCE)

    async def __call__(self) -> int:
        """Look at every upload that is due, and at every held batch. Returns how many uploads there were."""
        looked = 0
        while jobs := await self._batches.claim_uploads(PAGE_SIZE):
            looked += len(jobs)
            await self._look_at(jobs)
        while batches := await self._batches.claim_held(PAGE_SIZE):
            for batch in batches:
                await self._decide(batch)
        return looked

    async def _look_at(self, jobs: Sequence[Job]) -> None:
        now = await self._jobs.now()
        known = await self._batches.find_batches({job.batch_id for job in jobs if job.batch_id})
        orphans = [job for job in jobs if job.batch_id not in known]
        await self._forget([job for job in orphans if job.created_at + WITHOUT_BATCH < now])
        waiting = [job for job in jobs if job.batch_id in known]
        if not waiting:
            return
        statuses = await self._blobs.upload_statuses([facts_of(job) for job in waiting])
        # Side by side, so that their writes and submits are coalesced.
        await asyncio.gather(*(self._one(job, status, now) for job, status in zip(waiting, statuses, strict=True)))

    async def _one(self, job: Job, status: UploadStatus, now: datetime) -> None:
        late = job.upload is not None and job.upload.expires_at + self._grace < now
        async with self._slots:
            try:
                if status.state == "OPEN" and late:
                    await self._advance.finish(job.id, Transition.not_stored(UPLOAD_EXPIRED))
                else:
                    await self._uploads.apply(job, status)
            except Problem as problem:
                log.warning("upload.later", job=job.id, reason=problem.slug)

    async def _forget(self, jobs: Sequence[Job]) -> None:
        for job in jobs:
            await self._blobs.abort_upload(input_blob_id(job.id))
        if jobs:
            await self._batches.forget([job.id for job in jobs])
            log.info("upload.forgotten", jobs=len(jobs))

    async def _decide(self, batch: Batch) -> None:
        """Start a held batch when every file is there, or end it when one can't come."""
        # A file that its owner has deleted was cancelled, or had ended: it counts as that.
        decision = verdict(await self._batches.batch_counts(batch.id, deleted=True))
        if decision is None:
            return
        if not decision:
            await self._fail_rest(batch)
            counts = await self._batches.batch_counts(batch.id, deleted=True)
            if counts.get(Status.CREATED) or counts.get(Status.STORED):
                return  # a file came just now; what is released here would be worked on
        await self._batches.release_batch(batch.id)
        log.info("batch.decided", batch=batch.id, starts=decision)

    async def _fail_rest(self, batch: Batch) -> None:
        after = ""
        while jobs := (await self._batches.batch_jobs(batch.id, after, PAGE_SIZE, deleted=True)).jobs:
            after = jobs[-1].id
            await asyncio.gather(*(self._fail(job) for job in jobs))

    async def _fail(self, job: Job) -> None:
        if job.status is Status.CREATED:
            await self._advance.finish(job.id, Transition.not_stored(BATCH_FAILED))
        elif job.status is Status.STORED:
            await self._advance.finish(job.id, Transition.not_submitted(BATCH_FAILED))
