"""A cancel that read the job before it moved on does no harm to what has happened since."""

from typing import Any

import pytest

from common.contracts.job import RunState
from common.ids import new_id
from services.front.domain.job import Job, NewJob, Owner, Status
from services.front.use_cases.advance import Advance
from services.front.use_cases.cancel import CancelJob
from services.front.use_cases.reports import TakeReports
from tests.fakes.front_ports import MemoryBlobs, MemoryRuns
from tests.fakes.job_store import Clock, MemoryInlineStore, MemoryJobStore

ALICE = Owner("acme", "alice")


class Behind:
    """A store whose first read is answered as it was before."""

    def __init__(self, jobs: MemoryJobStore, before: Job) -> None:
        self._jobs = jobs
        self._before: Job | None = before

    async def find(self, job_id: str) -> Job | None:
        before, self._before = self._before, None
        return before or await self._jobs.find(job_id)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._jobs, name)


@pytest.mark.parametrize(("has_succeeded", "end"), [(False, Status.CANCELLED), (True, Status.EXECUTION_COMPLETED)])
async def test_a_job_that_has_gone_to_job_meanwhile_is_ended_by_job(has_succeeded: bool, end: Status) -> None:
    clock = Clock()
    jobs, inline, blobs, runs = MemoryJobStore(clock), MemoryInlineStore(clock), MemoryBlobs(), MemoryRuns()
    advance = Advance(jobs, inline, blobs, runs, lease_seconds=15, ask_seconds=60)
    new = NewJob(new_id(), ALICE, "n", "text/plain", 2, "checksum", {})
    await inline.put(new.id, b"ab")
    created = await jobs.insert_created(new, 15)
    await advance.carry_on(created)
    if has_succeeded:
        runs.end(new.id, success=True)
    behind: Any = Behind(jobs, created)
    seen = await CancelJob(behind, advance, again_seconds=15)(ALICE, new.id)
    assert seen.job.status is end
    run = runs.known[new.id]
    assert run.status is (RunState.SUCCESS if has_succeeded else RunState.CANCELLED)
    await TakeReports(jobs, advance, lambda _: None)([run])
    assert await jobs.find(new.id) == seen.job
