"""What an owner does with an upload: get fresh URLs for what is missing, and complete it."""

from collections.abc import Sequence

from common.contracts.upload import CompletedPart, UploadPlan, UploadRequest, UploadStatus
from common.errors import Conflict, Problem
from common.logging import get_logger
from services.front.domain.batch import upload_seconds
from services.front.domain.job import VERIFYING, Job, JobError, Owner, Status, Transition, authorise
from services.front.ports import BatchStore, Blobs, JobStore
from services.front.use_cases.advance import Advance
from services.front.use_cases.batch import facts_of

LONGEST_SECONDS = 30 * 86_400
UPLOAD_MISMATCH = JobError("upload-mismatch", "The file that was uploaded isn't the one that was announced.")

log = get_logger()


class Uploads:
    """Each step may be done twice, by two processes, with the same result."""

    def __init__(
        self,
        jobs: JobStore,
        batches: BatchStore,
        blobs: Blobs,
        advance: Advance,
        *,
        most_seconds: float,
        lease_seconds: float,
    ) -> None:
        self._jobs = jobs
        self._batches = batches
        self._blobs = blobs
        self._advance = advance
        self._most_seconds = most_seconds
        self._lease_seconds = lease_seconds

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
        remaining = int((waiting.upload.expires_at - await self._jobs.now()).total_seconds())
        request = UploadRequest(facts=facts_of(waiting), from_part=from_part, expires_in=max(1, remaining))
        return (await self._blobs.plan_uploads([request]))[0]

    async def complete(self, owner: Owner, job_id: str, parts: Sequence[CompletedPart]) -> tuple[Job, bool]:
        """Complete an upload. Returns the job, and whether the file is still being verified. Raises
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
        await self.apply(job, status)
        job = authorise(await self._jobs.find(job_id), owner)
        return job, job.phase == VERIFYING

    async def apply(self, job: Job, status: UploadStatus) -> None:
        """Move a job on by the state of its upload: to its end, to `STORED` and further, or not at all."""
        if status.state == "VERIFYING":
            await self._batches.verifying([job.id])
        elif status.state == "MISMATCH":
            await self._advance.finish(job.id, Transition.not_stored(UPLOAD_MISMATCH))
        elif status.state == "COMPLETE" and status.sha256 is not None and status.size is not None:
            await self._jobs.apply(job.id, Transition.stored(status.size, status.sha256), self._lease_seconds)
            stored = await self._jobs.find(job.id)
            if stored is not None and stored.status is Status.STORED and not stored.held:
                try:
                    await self._advance.carry_on(stored)
                except Problem as problem:
                    log.warning("job.left_to_tracker", job=job.id, status=stored.status, reason=problem.slug)
