"""Who waits for a job costs job no more than he has to."""

from collections.abc import Sequence
from typing import Any

import pytest

from common.contracts.job import RunState, RunStatus
from common.errors import NotFound
from common.ids import new_id
from services.front.domain.job import NewJob, Owner, Status
from services.front.use_cases.advance import Advance
from services.front.use_cases.read import ReadJob, TakeReports
from tests.fakes.front_ports import MemoryBlobs, MemoryRuns
from tests.fakes.job_store import Clock, MemoryInlineStore, MemoryJobStore

ALICE = Owner("acme", "alice")


class CountedRuns(MemoryRuns):
    def __init__(self) -> None:
        super().__init__()
        self.asked = 0

    async def statuses(self, ids: Sequence[str]) -> dict[str, RunStatus]:
        self.asked += 1
        return await super().statuses(ids)


class Bench:
    """A job whose run is queued, and a reader of it; `reported` lets the next wait hear of the run's end."""

    def __init__(self) -> None:
        clock = Clock()
        self.jobs, self.runs = MemoryJobStore(clock), CountedRuns()
        self._inline = MemoryInlineStore(clock)
        self.advance = Advance(self.jobs, self._inline, MemoryBlobs(), self.runs, lease_seconds=15, ask_seconds=60)
        self.reported = False
        self.waited = 0
        changes: Any = self
        retention: Any = None
        self.read = ReadJob(self.jobs, self.runs, self.advance, changes, retention, read_grace_seconds=0)

    async def submitted(self) -> str:
        new = NewJob(new_id(), ALICE, "n", "text/plain", 2, "checksum", {})
        await self._inline.put(new.id, b"ab")
        await self.advance.carry_on(await self.jobs.insert_created(new, 15))
        return new.id

    async def wait(self, job_id: str, _seconds: float) -> None:
        """As `Changes`."""
        self.waited += 1
        self.runs.end(job_id, success=True)
        if self.reported:
            await TakeReports(self.jobs, self.advance)([self.runs.known[job_id]])


async def test_who_hears_of_the_end_by_a_report_has_asked_job_nothing() -> None:
    bench = Bench()
    bench.reported = True
    seen = await bench.read.wait(ALICE, await bench.submitted(), 60)
    assert (seen.job.status, bench.waited, bench.runs.asked) == (Status.EXECUTION_COMPLETED, 1, 0)


async def test_an_end_that_nobody_reports_is_learned_from_job() -> None:
    bench = Bench()
    seen = await bench.read.wait(ALICE, await bench.submitted(), 60)
    assert (seen.job.status, bench.waited, bench.runs.asked) == (Status.EXECUTION_COMPLETED, 1, 1)


async def test_who_does_not_wait_is_told_at_once_what_job_says() -> None:
    bench = Bench()
    seen = await bench.read.wait(ALICE, await bench.submitted(), 0)
    assert (seen.job.phase, bench.waited, bench.runs.asked) == (RunState.QUEUED, 0, 1)


async def test_nobody_waits_for_the_job_of_another() -> None:
    bench = Bench()
    with pytest.raises(NotFound):
        await bench.read.wait(Owner("acme", "bob"), await bench.submitted(), 60)
    assert (bench.waited, bench.runs.asked) == (0, 0)
