"""Uploads on their way: fresh URLs for what is missing, and the end of each, which is found even if nobody says so."""

import asyncio
from collections.abc import Sequence
from datetime import datetime, timedelta

from common.contracts.upload import CompletedPart, UploadPlan, UploadRequest, UploadStatus
from common.errors import Conflict, Problem
from common.ids import input_blob_id
from common.logging import get_logger
from services.front.domain.batch import BATCH_FAILED, Batch, upload_seconds, verdict
from services.front.domain.job import VERIFYING, Job, JobError, Owner, Status, Transition, authorise
from services.front.ports import BatchStore, Blobs, JobStore
from services.front.use_cases.advance import Advance
from services.front.use_cases.batch import facts_of

# A batch is written right after its jobs; those that still have none then were never told to anybody.
WITHOUT_BATCH = timedelta(minutes=2)
LONGEST_SECONDS = 30 * 86_400
BATCH = 500
AT_ONCE = 32
UPLOAD_MISMATCH = JobError("upload-mismatch", "The file that was uploaded isn't the one that was announced.")
UPLOAD_EXPIRED = JobError("upload-expired", "The file was not uploaded in time.")

log = get_logger()


class Uploads:
    """Any number of processes may look at the same uploads: each step can be done twice with the same result."""

    def __init__(
        self,
        jobs: JobStore,
        batches: BatchStore,
        blobs: Blobs,
        advance: Advance,
        *,
        most_seconds: float,
        grace_seconds: float,
        lease_seconds: float,
    ) -> None:
        self._jobs = jobs
        self._batches = batches
        self._blobs = blobs
        self._advance = advance
        self._most_seconds = most_seconds
        self._grace = timedelta(seconds=grace_seconds)
        self._lease_seconds = lease_seconds
        self._slots = asyncio.Semaphore(AT_ONCE)

    async def plan(self, owner: Owner, job_id: str, from_part: int) -> UploadPlan:
        """What has arrived, and fresh URLs for the rest, which moves the expiry. Raises `NotFound`, and `Conflict`
        when the job doesn't wait for an upload.
        """
        job = authorise(await self._jobs.find(job_id), owner)
        if job.upload is None:
            raise Conflict("This job doesn't wait for an upload.")
        seconds = upload_seconds(job.size, 0, job.upload.bits_per_second, self._most_seconds)
        waiting = await self._batches.extend_upload(job_id, seconds, LONGEST_SECONDS)
        if waiting is None or waiting.upload is None:  # not any more
            raise Conflict("This job doesn't wait for an upload.")
        left = int((waiting.upload.expires_at - await self._jobs.now()).total_seconds())
        request = UploadRequest(facts=facts_of(waiting), from_part=from_part, expires_in=max(1, left))
        return (await self._blobs.plan_uploads([request]))[0]

    async def complete(self, owner: Owner, job_id: str, parts: Sequence[CompletedPart]) -> tuple[Job, bool]:
        """Say that everything was sent. Returns the job, and whether the file is still being verified. Raises
        `NotFound`, and `Conflict` when parts are missing or the job never waited for an upload.
        """
        job = authorise(await self._jobs.find(job_id), owner)
        if job.upload is None:
            raise Conflict("This job doesn't wait for an upload.")
        if job.status is not Status.CREATED:
            return job, False
        status = await self._blobs.complete_upload(facts_of(job), parts)
        if status.state == "OPEN":
            raise Conflict("Parts of the file are missing; the upload's plan names them.")
        await self._settle(job, status)
        job = authorise(await self._jobs.find(job_id), owner)
        return job, job.phase == VERIFYING

    async def look(self) -> int:
        """Look at every upload that is due, and at every held batch. Returns how many uploads there were."""
        looked = 0
        while jobs := await self._batches.take_uploads(BATCH):
            looked += len(jobs)
            await self._look_at(jobs)
        while batches := await self._batches.take_held(BATCH):
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
                    await self._advance.finish(job, Transition.not_stored(UPLOAD_EXPIRED))
                else:
                    await self._settle(job, status)
            except Problem as problem:
                log.warning("upload.later", job=job.id, reason=problem.slug)

    async def _settle(self, job: Job, status: UploadStatus) -> None:
        if status.state == "VERIFYING":
            await self._batches.verifying([job.id])
        elif status.state == "MISMATCH":
            await self._advance.finish(job, Transition.not_stored(UPLOAD_MISMATCH))
        elif status.state == "COMPLETE" and status.sha256 is not None and status.size is not None:
            await self._jobs.apply(job.id, Transition.stored(status.size, status.sha256), self._lease_seconds)
            stored = await self._jobs.find(job.id)
            if stored is not None and stored.status is Status.STORED and not stored.held:
                try:
                    await self._advance.carry_on(stored)
                except Problem as problem:
                    log.warning("job.left_to_tracker", job=job.id, status=stored.status, reason=problem.slug)

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
        while jobs := await self._batches.batch_jobs(batch.id, after, BATCH, deleted=True):
            after = jobs[-1].id
            await asyncio.gather(*(self._fail(job) for job in jobs))

    async def _fail(self, job: Job) -> None:
        if job.status is Status.CREATED:
            await self._advance.finish(job, Transition.not_stored(BATCH_FAILED))
        elif job.status is Status.STORED:
            await self._advance.finish(job, Transition.not_submitted(BATCH_FAILED))
