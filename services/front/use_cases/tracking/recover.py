"""Brings jobs that stand still to their end. What a crash left is found by its lapsed lease."""

import asyncio
from collections.abc import Sequence

from common import telemetry
from common.contracts.job import RunStatus
from common.errors import Problem
from common.logging import get_logger
from services.front.domain.job import Job, Status
from services.front.ports import JobStore, Runs
from services.front.use_cases.advance import Advance

PAGE_SIZE = 100
AT_ONCE = 16

log = get_logger()


class Recover:
    """Any number may run: a lapsed lease is taken by one alone, and what it then does could be done twice."""

    def __init__(
        self, jobs: JobStore, runs: Runs, advance: Advance, *, lease_seconds: float, ask_seconds: float
    ) -> None:
        self._jobs = jobs
        self._runs = runs
        self._advance = advance
        self._lease_seconds = lease_seconds
        self._ask_seconds = ask_seconds
        self._slots = asyncio.Semaphore(AT_ONCE)

    async def __call__(self) -> int:
        """Take up every job that stands still now. Returns how many there were."""
        return await self._carry_on_unsubmitted() + await self._ask_about_submitted() + await self._repeat_cancels()

    async def _carry_on_unsubmitted(self) -> int:
        taken = 0
        while jobs := await self._jobs.claim_lapsed({Status.CREATED, Status.STORED}, self._lease_seconds, PAGE_SIZE):
            taken += len(jobs)
            await asyncio.gather(*(self._one(job) for job in jobs))
        return taken

    async def _ask_about_submitted(self) -> int:
        asked = 0
        while jobs := await self._jobs.claim_lapsed({Status.SUBMITTED}, self._ask_seconds, PAGE_SIZE):
            asked += len(jobs)
            await self._ask(jobs)
        return asked

    async def _repeat_cancels(self) -> int:
        repeated = 0
        while jobs := await self._jobs.claim_cancels(self._lease_seconds, PAGE_SIZE):
            repeated += len(jobs)
            await asyncio.gather(*(self._one(job) for job in jobs))
        return repeated

    async def _ask(self, jobs: Sequence[Job]) -> None:
        try:
            runs = await self._runs.statuses([job.id for job in jobs])
        except Problem as problem:
            log.warning("recover.job_away", jobs=len(jobs), reason=problem.slug)
            return
        await asyncio.gather(*(self._one(job, runs.get(job.id)) for job in jobs))

    async def _one(self, job: Job, run: RunStatus | None = None) -> None:
        async with self._slots:
            with telemetry.span("recover", parent=job.traceparent):
                await self._carried_on(job, run)

    async def _carried_on(self, job: Job, run: RunStatus | None) -> None:
        """Whatever is wrong with this job, the others go on."""
        try:
            if run is not None:
                await self._advance.settle(job, run)
                return
            await self._advance.carry_on(job)
            log.info("recover.carried_on", job=job.id, status=job.status)
        except Problem as problem:
            log.warning("recover.later", job=job.id, status=job.status, reason=problem.slug)
        except Exception:
            log.exception("recover.failed", job=job.id, status=job.status)
