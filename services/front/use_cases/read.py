"""Read jobs and their outputs, each for its owner alone."""

import asyncio
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from common.coalescer import Coalescer
from common.contracts.job import RunState, RunStatus
from common.errors import NotFound, Problem, ResultDeleted, ResultNotAvailable, ResultNotReady
from common.logging import get_logger
from services.front.domain.job import Job, Output, Owner, Status, authorise
from services.front.ports import Changes, JobStore, RetentionStore, Runs
from services.front.use_cases.advance import Advance

POLL_SECONDS = 2.0

log = get_logger()


@dataclass(frozen=True, slots=True)
class JobSnapshot:
    """A job as it is now; `stale` when job could not be asked, so that this is its last known state."""

    job: Job
    stale: bool = False


class ReadJob:
    """Reads jobs. A final one is answered from front's own database; of any other, job is asked before the response."""

    def __init__(
        self,
        jobs: JobStore,
        runs: Runs,
        advance: Advance,
        changes: Changes,
        retention: RetentionStore,
        *,
        read_grace_seconds: float,
    ) -> None:
        self._jobs = jobs
        self._runs = runs
        self._advance = advance
        self._changes = changes
        self._retention = retention
        self._read_grace_seconds = read_grace_seconds
        self._ask: Coalescer[str, RunStatus | None] = Coalescer(
            self._ask_many,
            is_away=lambda error: isinstance(error, Problem),  # a refusal of job's is no single run's
        )

    async def status(self, owner: Owner, job_id: str) -> JobSnapshot:
        """Raises `NotFound` unless there is such a job and it is this owner's."""
        job = authorise(await self._jobs.find(job_id), owner)
        # Before it is STORED nothing of it has gone to job.
        if job.status.is_final or job.status is Status.CREATED:
            return JobSnapshot(job)
        try:
            run = await self._ask(job.id)
        except Problem as problem:
            if problem.status < 500:
                raise
            return JobSnapshot(job, stale=True)
        if run is None:
            return JobSnapshot(job)
        return JobSnapshot(await self.learned(job, run))

    async def exists(self, job_id: str) -> bool:
        """Whether there is such a job, whoever's it is."""
        return await self._jobs.find(job_id) is not None

    async def made(self, owner: Owner, job_id: str) -> Job:
        """The job that a request has made, as front knows it now, though its owner has deleted it since. Raises
        `NotFound`.
        """
        job = await self._jobs.find(job_id)
        if job is None or job.owner != owner:
            raise NotFound
        return job

    async def learned(self, job: Job, run: RunStatus) -> Job:
        """The job with the state of its run, and final if that has ended. Raises `NotFound` when it was deleted."""
        if job.status is Status.STORED or run.status not in (RunState.QUEUED, RunState.RUNNING):
            await self._advance.settle(job, run)
            job = authorise(await self._jobs.find(job.id), job.owner)
        if job.status.is_final:
            return job
        return replace(
            job,
            phase=run.phase or run.status.value,
            progress=run.progress,
            queue_position=run.queue_position,
            attempt=run.attempt or None,
            started_at=run.started_at,
        )

    async def _ask_many(self, ids: Sequence[str]) -> Sequence[RunStatus | None]:
        found = await self._runs.statuses(list(dict.fromkeys(ids)))
        return [found.get(job_id) for job_id in ids]

    async def wait(self, owner: Owner, job_id: str, seconds: float) -> JobSnapshot:
        """As `status`, but returns only when the job is final or the seconds have passed."""
        return await self.end_of(authorise(await self._jobs.find(job_id), owner), seconds)

    async def end_of(self, job: Job, seconds: float) -> JobSnapshot:
        """As `wait`, for a job that was just read or written: an end since then is heard, and needs no other read."""
        deadline = time.monotonic() + seconds
        with self._changes.listening(job.id) as ended:
            # Front hears of an end by itself: job is asked for what is returned, and every so often.
            snapshot, remaining = JobSnapshot(job), seconds
            while not snapshot.job.status.is_final:
                if remaining > 0:
                    await _wait(ended, min(remaining, POLL_SECONDS))
                    ended.clear()
                snapshot = await self.status(job.owner, job.id)
                remaining = deadline - time.monotonic()
                if remaining <= 0:
                    break
        return snapshot

    async def output(self, owner: Owner, job_id: str, name: str | None) -> tuple[Job, int, Output]:
        """The output of that name, or the first, and its number. Raises `NotFound`, `ResultNotReady`,
        `ResultNotAvailable`, `ResultDeleted`.
        """
        job = (await self.status(owner, job_id)).job
        if not job.status.is_final:
            raise ResultNotReady
        for n, output in enumerate(job.outputs):
            if name is None or output.name == name:
                if job.bytes_deleted:
                    raise ResultDeleted
                return job, n, output
        raise ResultNotAvailable

    async def has_expired(self, job: Job) -> bool:
        """By the store's clock, by which its bytes are deleted."""
        return job.expires_at is not None and job.expires_at <= await self._jobs.now()

    async def output_was_read(self, job: Job, n: int) -> None:
        """The whole of output number `n` was handed to its owner. A failure to remember that only keeps the bytes for
        longer, and the response has been given: it is logged.
        """
        if not job.retention.until_read:
            return
        try:
            await self._retention.output_read(job.id, n, self._read_grace_seconds)
        except Exception:
            log.exception("read.not_remembered", job=job.id, output=n)


async def _wait(event: asyncio.Event, seconds: float) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()
