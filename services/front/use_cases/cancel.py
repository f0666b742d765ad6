"""Cancel a job for its owner: front decides alone while it can, and then job does."""

from common.errors import Problem
from common.logging import get_logger
from services.front.domain.job import Owner, Transition, authorise
from services.front.ports import JobStore
from services.front.use_cases.advance import Advance
from services.front.use_cases.read import JobSnapshot

log = get_logger()


class CancelJob:
    """Safe to repeat, and by any number at once: a job has one end, and every response has it."""

    def __init__(self, jobs: JobStore, advance: Advance, *, again_seconds: float) -> None:
        self._jobs = jobs
        self._advance = advance
        self._again_seconds = again_seconds

    async def __call__(self, owner: Owner, job_id: str) -> JobSnapshot:
        """The job: final, whatever it ended as, or with `cancel_requested` when job could not be asked, as the tracker
        then does until it is answered. Raises `NotFound` unless there is such a job and it is this owner's.
        """
        job = authorise(await self._jobs.find(job_id), owner)
        if job.is_fronts_alone:
            # Its bytes go as those of any job that has ended do.
            await self._advance.finish(job.id, Transition.withdrawn())
        # Written down before job is asked: whatever dies now, the tracker knows.
        wanted = await self._jobs.request_cancel(job_id, self._again_seconds)
        away = False
        if wanted is not None:
            try:
                await self._advance.cancel(wanted)
            except Problem as problem:
                away = True
                log.warning("cancel.left_to_tracker", job=job_id, reason=problem.slug)
        job = authorise(await self._jobs.find(job_id), owner)
        return JobSnapshot(job, stale=away and not job.status.is_final)
