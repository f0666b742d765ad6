"""Take job's reports of runs that have ended."""

import asyncio
from collections.abc import Sequence

from common import telemetry
from common.contracts.job import RunStatus
from common.logging import get_logger
from services.front.domain.job import Job
from services.front.ports import JobStore
from services.front.use_cases.advance import Advance

log = get_logger()


class TakeReports:
    """Any process may take a report, and take it again: a job that is final stays as it is."""

    def __init__(self, jobs: JobStore, advance: Advance) -> None:
        self._jobs = jobs
        self._advance = advance

    async def __call__(self, runs: Sequence[RunStatus]) -> list[str]:
        """The runs whose jobs are final now, or gone: job need not report these again."""
        ids = [run.id for run in runs]
        jobs = await self._jobs.find_many(ids)
        settling = (self._settle(jobs[run.id], run) for run in runs if run.id in jobs)
        for failure in await asyncio.gather(*settling, return_exceptions=True):
            if isinstance(failure, Exception):  # the others are settled all the same; job reports this one again
                log.error("report.not_settled", exc_info=failure)
            elif failure is not None:
                raise failure
        after = await self._jobs.find_many(jobs.keys())
        return [job_id for job_id in ids if job_id not in after or after[job_id].status.is_final]

    async def _settle(self, job: Job, run: RunStatus) -> None:
        # One report is of many jobs, each of which has a trace of its own.
        with telemetry.span("settle", parent=job.traceparent):
            await self._advance.settle(job, run)
