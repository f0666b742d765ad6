"""Delete a job for its owner: nobody sees it from then on, its run is cancelled, and its bytes go with its end."""

from common.errors import NotFound, Problem
from common.logging import get_logger
from services.front.domain.job import Owner, Transition, authorise
from services.front.ports import JobStore
from services.front.use_cases.advance import Advance

log = get_logger()


class DeleteJob:
    """One write hides the job, and asks for the rest, which any process carries on: `services.front.domain.disposal`
    says what is deleted when.
    """

    def __init__(self, jobs: JobStore, advance: Advance, *, again_seconds: float) -> None:
        self._jobs = jobs
        self._advance = advance
        self._again_seconds = again_seconds

    async def __call__(self, owner: Owner, job_id: str) -> None:
        """Raises `NotFound` unless there is such a job, it is this owner's, and it was not deleted before."""
        authorise(await self._jobs.find(job_id), owner)
        job = await self._jobs.delete(job_id, self._again_seconds)
        if job is None:
            raise NotFound
        if job.is_fronts_alone:
            await self._advance.finish(job.id, Transition.withdrawn())
            job = await self._jobs.find(job_id)
        if job is None or job.status.is_final:
            return
        try:
            await self._advance.cancel(job)
        except Problem as problem:
            log.warning("delete.left_to_tracker", job=job_id, reason=problem.slug)
