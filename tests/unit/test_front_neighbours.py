"""A job that can't be settled holds up no other: neither in a report of many, nor among those that stand still."""

import asyncio

import pytest

from common.ids import new_id
from services.front.domain.job import Job, NewJob, Owner, Status, Transition
from services.front.use_cases.advance import Advance
from services.front.use_cases.reports import TakeReports
from services.front.use_cases.tracking.recover import Recover
from tests.fakes.front_ports import MemoryBlobs, MemoryRuns
from tests.fakes.job_store import Clock, MemoryInlineStore, MemoryJobStore


class OneIsBroken(MemoryJobStore):
    """Fails to end one job, as a database does that can't hold a write."""

    broken = ""

    async def apply(self, job_id: str, transition: Transition, lease_seconds: float = 0) -> bool:
        if job_id == self.broken and transition.target.is_final:
            raise ValueError("This write can't be held.")
        return await super().apply(job_id, transition, lease_seconds)


class Bench:
    """Three jobs whose runs have ended; the first can't be settled."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.jobs, self.runs, self.inline = OneIsBroken(self.clock), MemoryRuns(), MemoryInlineStore(self.clock)
        self.advance = Advance(self.jobs, self.inline, MemoryBlobs(), self.runs, lease_seconds=15, ask_seconds=60)

    async def ended(self) -> list[str]:
        ids = [new_id() for _ in range(3)]
        for job_id in ids:
            await self.inline.put(job_id, b"ab")
            new = NewJob(job_id, Owner("acme", "alice"), "n", "text/plain", 2, "checksum", {})
            await self.advance.carry_on(await self.jobs.insert_created(new, 15))
            self.runs.end(job_id, success=True)
        self.jobs.broken = ids[0]
        return ids

    async def statuses(self, ids: list[str]) -> list[Status]:
        found: list[Job | None] = await asyncio.gather(*(self.jobs.find(job_id) for job_id in ids))
        return [job.status for job in found if job is not None]


EXPECTED = [Status.SUBMITTED, Status.EXECUTION_COMPLETED, Status.EXECUTION_COMPLETED]


@pytest.fixture
def bench() -> Bench:
    return Bench()


async def test_the_other_runs_of_a_report_are_settled(bench: Bench) -> None:
    ids = await bench.ended()
    take_reports = TakeReports(bench.jobs, bench.advance, lambda _: None)
    settled = await take_reports([bench.runs.known[job_id] for job_id in ids])
    assert settled == ids[1:]
    assert await bench.statuses(ids) == EXPECTED


async def test_the_other_jobs_that_stand_still_go_on(bench: Bench) -> None:
    ids = await bench.ended()
    bench.clock.forward(61)
    await Recover(bench.jobs, bench.runs, bench.advance, lease_seconds=15, ask_seconds=60)()
    assert await bench.statuses(ids) == EXPECTED
