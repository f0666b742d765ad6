"""Answer the owner's questions about a job, and nobody else's."""

import asyncio
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from common import telemetry
from common.coalescer import Coalescer
from common.contracts.job import RunState, RunStatus
from common.errors import Problem, ResultDeleted, ResultNotAvailable, ResultNotReady
from common.logging import get_logger
from services.front.domain.job import Job, Output, Owner, Status, authorise
from services.front.ports import Changes, JobStore, RetentionStore, Runs
from services.front.use_cases.advance import Advance

POLL_SECONDS = 2.0

log = get_logger()


@dataclass(frozen=True, slots=True)
class Seen:
    """A job as it is now; `stale` when job could not be asked, so that this is its last known state."""

    job: Job
    stale: bool = False


class ReadJob:
    """Reads jobs. A final one is answered from front's own database; of any other, job is asked before the answer."""

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
        self._ask: Coalescer[str, RunStatus | None] = Coalescer(self._ask_many)

    async def status(self, owner: Owner, job_id: str) -> Seen:
        """Raises `NotFound` unless there is such a job and it is this owner's."""
        job = authorise(await self._jobs.find(job_id), owner)
        # Before it is STORED nothing of it has gone to job.
        if job.status.is_final or job.status is Status.CREATED:
            return Seen(job)
        try:
            run = await self._ask(job.id)
        except Problem as problem:
            if problem.status < 500:
                raise
            return Seen(job, stale=True)
        if run is None:
            return Seen(job)
        return Seen(await self.learned(job, run))

    async def exists(self, job_id: str) -> bool:
        """Whether there is such a job, whoever's it is."""
        return await self._jobs.find(job_id) is not None

    async def learned(self, job: Job, run: RunStatus) -> Job:
        """The job with what job says of its run, and final if that has ended. Raises `NotFound` when it has gone."""
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

    async def wait(self, owner: Owner, job_id: str, seconds: float) -> Seen:
        """As `status`, but holds the answer until the job is final or the seconds have passed."""
        deadline = time.monotonic() + seconds
        with self._changes.listening(job_id) as ended:  # from before the first look on, or an end could fall between
            # Front hears of an end by itself: job is asked for what is answered, and every so often.
            seen, left = Seen(authorise(await self._jobs.find(job_id), owner)), seconds
            while not seen.job.status.is_final:
                if left > 0:
                    await _wait(ended, min(left, POLL_SECONDS))
                    ended.clear()
                seen = await self.status(owner, job_id)
                left = deadline - time.monotonic()
                if left <= 0:
                    break
        return seen

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

    async def output_was_read(self, job: Job, n: int) -> None:
        """The whole of output number `n` was handed to its owner. A failure to remember that only keeps the bytes for
        longer, and the answer has been given: it is logged.
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


class TakeReports:
    """Takes job's reports of runs that have ended."""

    def __init__(self, jobs: JobStore, advance: Advance) -> None:
        self._jobs = jobs
        self._advance = advance

    async def __call__(self, runs: Sequence[RunStatus]) -> list[str]:
        """The runs whose jobs are final now, or gone: job need not report these again."""
        ids = [run.id for run in runs]
        jobs = await self._jobs.find_many(ids)
        await asyncio.gather(*(self._settle(jobs[run.id], run) for run in runs if run.id in jobs))
        after = await self._jobs.find_many(jobs.keys())
        return [job_id for job_id in ids if job_id not in after or after[job_id].status.is_final]

    async def _settle(self, job: Job, run: RunStatus) -> None:
        # One report is of many jobs, each of which has a trace of its own.
        with telemetry.span("settle", parent=job.traceparent):
            await self._advance.settle(job, run)
