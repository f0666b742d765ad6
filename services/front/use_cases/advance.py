"""Moves a job on: its bytes to blob, its run to job, and job's verdict to its end."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from common.contracts.blob import BlobLabels
from common.contracts.job import InputRef, RunError, RunState, RunStatus, RunSubmit
from common.errors import AlreadyExists, Invalid, Malformed, Problem, TooLarge, TooManyRequests
from common.ids import input_blob_id
from gristmill.texts import is_output_name
from services.front.domain.job import Job, JobError, Output, Status, Transition
from services.front.ports import Blobs, InlineStore, JobStore, Runs
from services.front.use_cases.queue_backoff import QueueBackoff

INPUT_LOST = JobError("input-lost", "The input never reached the store and can no longer come.")
# Anything else, a timeout or a 5xx, may succeed later.
_DEFINITE_REFUSALS = (AlreadyExists, Invalid, Malformed, TooLarge)


class Advance:
    """The steps of a job's life after it is written. Each may be done twice, by two processes, with the same result:
    blob ids and run ids are the job's own, and every change of state is conditional.
    """

    def __init__(
        self, jobs: JobStore, inline: InlineStore, blobs: Blobs, runs: Runs, *, lease_seconds: float, ask_seconds: float
    ) -> None:
        self._jobs = jobs
        self._inline = inline
        self._blobs = blobs
        self._runs = runs
        self._lease_seconds = lease_seconds
        self._ask_seconds = ask_seconds
        self.queue_backoff = QueueBackoff()

    async def carry_on(self, job: Job) -> None:
        """Take a job as far as it goes now. Raises what blob or job raised when they are away: its lease then lapses,
        and the tracker carries it on.
        """
        if await self.hand_over(job):
            await self.submitted(job.id)

    async def hand_over(self, job: Job) -> bool:
        """As `carry_on`, but `SUBMITTED` isn't written. Returns whether it is to be, now that job has the run."""
        if job.status is Status.CREATED:
            async with self._lease_kept(job):
                stored = await self._store(job)
            if stored is None:
                return False
            job = stored
        if job.cancel_requested:
            await self.cancel(job)
        elif job.status is Status.STORED:
            return await self._submit_stored(job)
        elif job.status is Status.SUBMITTED:
            await self.ask(job)
        return False

    async def submitted(self, job_id: str) -> None:
        """Write that job has the run, unless more is known by now."""
        await self._jobs.apply(job_id, Transition.submitted(), self._ask_seconds)

    async def _store(self, job: Job) -> Job | None:
        content = await self._inline.get(job.id)
        if content is not None:
            try:
                blob = await self._blobs.put(input_blob_id(job.id), content, size=len(content), labels=_labels_of(job))
            except _DEFINITE_REFUSALS as refusal:
                await self.finish(job.id, Transition.not_stored(_refused(refusal)))
                return None
        else:
            # Somebody else has stored it since, or the bytes are lost.
            found = await self._blobs.head(input_blob_id(job.id))
            if found is None:
                await self.finish(job.id, Transition.not_stored(INPUT_LOST))
                return None
            blob = found
        won = await self._jobs.apply(job.id, Transition.stored(blob.size, blob.sha256), self._lease_seconds)
        stored = await self._jobs.find(job.id)
        if won:
            await self._inline.delete([job.id])
        elif stored is None or (stored.status.is_final and stored.sha256 is None):
            await self._blobs.delete(blob.id)  # its owner has cancelled it while it was on its way
        return stored

    async def _submit_stored(self, job: Job) -> bool:
        try:
            await self._submit(job)
        except _DEFINITE_REFUSALS as refusal:
            await self.finish(job.id, Transition.not_submitted(_refused(refusal)))
            return False
        return True

    async def ask(self, job: Job) -> None:
        """Learn from job what became of a run, and submit it again if job doesn't know it."""
        run = (await self._runs.statuses([job.id])).get(job.id)
        if run is None:
            await self._submit(job)
        else:
            await self.settle(job, run)

    async def _submit(self, job: Job) -> None:
        """Submit a run. When its tenant has too many it is for later, as when job is away."""
        self.queue_backoff.check(job.owner.tenant)
        try:
            await self._runs.submit(_run_of(job))
        except TooManyRequests as refusal:
            self.queue_backoff.remember(job.owner.tenant, refusal)
            raise

    async def cancel(self, job: Job) -> None:
        """Have job cancel the run, and apply its verdict: an end that came first stands."""
        await self.settle(job, await self._runs.cancel(job.id))

    async def settle(self, job: Job, run: RunStatus) -> None:
        """Apply the state of a run. If job knows a run it was submitted, unless it was cancelled."""
        if run.status in (RunState.QUEUED, RunState.RUNNING):
            if job.status is Status.STORED:
                await self.submitted(job.id)
        else:
            await self.end(run)

    async def end(self, run: RunStatus) -> bool:
        """End the job of a run that has ended, in one write. Returns whether this call has ended it."""
        return await self.finish(run.id, _end_of(run))

    async def finish(self, job_id: str, transition: Transition) -> bool:
        """Make a job final. The one place where that is done: what has to follow the end of a job belongs here.
        Returns whether this call has made it so.
        """
        return await self._jobs.apply(job_id, transition)

    @asynccontextmanager
    async def _lease_kept(self, job: Job) -> AsyncIterator[None]:
        async def renew() -> None:
            while True:
                await asyncio.sleep(self._lease_seconds / 3)
                if not await self._jobs.renew(job.id, job.status, self._lease_seconds):
                    return

        renewing = asyncio.create_task(renew())
        try:
            yield
        finally:
            renewing.cancel()


def _refused(refusal: Problem) -> JobError:
    return JobError("refused", f"It was refused: {refusal.detail}")


def _end_of(run: RunStatus) -> Transition:
    if run.status is RunState.CANCELLED:
        return Transition.cancelled(run.started_at, run.queued_at)
    if run.status is RunState.SUCCESS and all(is_output_name(output.name) for output in run.outputs):
        outputs = tuple(Output(o.name, o.mimetype, o.size, o.sha256) for o in run.outputs)
        return Transition.completed(run.fence, run.attempt, outputs, run.started_at, run.queued_at)
    # Also where a name isn't allowed: job keeps the same rule, so this is for whoever could report in its place.
    error = run.error or RunError(type="internal", detail="The processor failed.")
    return Transition.failed(run.attempt, JobError(error.type, error.detail), run.started_at, run.queued_at)


def _run_of(job: Job) -> RunSubmit:
    if job.sha256 is None:
        raise Problem(f"The job {job.id} has no digest yet.")
    blob = InputRef(
        blob_id=input_blob_id(job.id),
        name=job.name,
        mimetype=job.mimetype,
        size=job.size,
        sha256=job.sha256,
        encoding=job.encoding,
    )
    return RunSubmit(
        id=job.id,
        inputs=[blob],
        processor=job.processor,
        params=dict(job.params),
        tenant=job.owner.tenant,
        deadline_seconds=job.deadline_seconds,
        traceparent=job.traceparent,
    )


def _labels_of(job: Job) -> BlobLabels:
    owner = job.owner
    return BlobLabels(tenant=owner.tenant, subject=owner.subject, name=job.name, media_type=job.mimetype)
