"""Who waits for a job costs job no more than he has to."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from common.contracts.job import RunState, RunStatus
from common.errors import NotFound
from common.ids import new_id
from services.front.adapters.mongodb.changes import MongoChanges
from services.front.domain.job import Job, NewJob, Owner, Status
from services.front.use_cases import read
from services.front.use_cases.advance import Advance
from services.front.use_cases.read import ReadJob
from services.front.use_cases.reports import TakeReports
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
    """A job whose run is queued, a reader of it, and its end, which is heard of when a test says so."""

    def __init__(self) -> None:
        clock = Clock()
        self.jobs, self.runs = MemoryJobStore(clock), CountedRuns()
        self._inline = MemoryInlineStore(clock)
        self.advance = Advance(self.jobs, self._inline, MemoryBlobs(), self.runs, lease_seconds=15, ask_seconds=60)
        jobs: Any = None  # only follows a stream, which there is none of here
        self.changes = MongoChanges(jobs)
        retention: Any = None
        self.read = ReadJob(self.jobs, self.runs, self.advance, self.changes, retention, read_grace_seconds=0)

    async def submitted(self) -> str:
        new = NewJob(new_id(), ALICE, "n", "text/plain", 2, "checksum", {})
        await self._inline.put(new.id, b"ab")
        await self.advance.carry_on(await self.jobs.insert_created(new, 15))
        return new.id

    async def reported(self, job_id: str) -> None:
        """The run ends, and job reports it here; no change stream says so."""
        self.runs.end(job_id, success=True)
        await TakeReports(self.jobs, self.advance, self.changes.wake)([self.runs.known[job_id]])


@pytest.fixture
def bench() -> Bench:
    return Bench()


async def test_who_hears_of_the_end_by_a_report_has_asked_job_nothing(bench: Bench) -> None:
    job_id = await bench.submitted()
    waiting = asyncio.create_task(bench.read.wait(ALICE, job_id, 60))
    await asyncio.sleep(0)
    await bench.reported(job_id)
    assert ((await waiting).job.status, bench.runs.asked) == (Status.EXECUTION_COMPLETED, 0)


async def test_an_end_while_the_wait_begins_is_heard(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(read, "POLL_SECONDS", 60)
    job_id = await bench.submitted()
    find = bench.jobs.find

    async def find_and_end(job_id: str) -> Job | None:
        found = await find(job_id)
        if found is not None and not found.status.is_final:
            await bench.reported(job_id)
        return found

    monkeypatch.setattr(bench.jobs, "find", find_and_end)
    async with asyncio.timeout(20):
        seen = await bench.read.wait(ALICE, job_id, 60)
    assert (seen.job.status, bench.runs.asked) == (Status.EXECUTION_COMPLETED, 0)


async def test_an_end_that_nobody_hears_of_is_learned_from_job(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(read, "POLL_SECONDS", 0.01)
    job_id = await bench.submitted()
    bench.runs.end(job_id, success=True)
    async with asyncio.timeout(20):
        seen = await bench.read.wait(ALICE, job_id, 60)
    assert (seen.job.status, bench.runs.asked) == (Status.EXECUTION_COMPLETED, 1)


async def test_who_waits_for_what_was_just_made_reads_only_its_end(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = await bench.jobs.find(await bench.submitted())
    assert job is not None
    find, found = bench.jobs.find, list[Job | None]()

    async def find_and_count(job_id: str) -> Job | None:
        found.append(await find(job_id))
        return found[-1]

    monkeypatch.setattr(bench.jobs, "find", find_and_count)
    waiting = asyncio.create_task(bench.read.end_of(job, 60))
    await asyncio.sleep(0)
    await bench.reported(job.id)
    seen = await waiting
    assert (seen.job.status, found) == (Status.EXECUTION_COMPLETED, [seen.job])


async def test_an_end_between_a_read_and_the_wait_is_heard(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(read, "POLL_SECONDS", 60)
    job = await bench.jobs.find(await bench.submitted())
    assert job is not None
    await bench.reported(job.id)
    async with asyncio.timeout(20):
        seen = await bench.read.end_of(job, 60)
    assert (seen.job.status, bench.runs.asked) == (Status.EXECUTION_COMPLETED, 0)


@pytest.mark.parametrize("seconds", [0, 0.01])
async def test_who_has_waited_long_enough_is_told_what_job_says(bench: Bench, seconds: float) -> None:
    seen = await bench.read.wait(ALICE, await bench.submitted(), seconds)
    assert (seen.job.phase, bench.runs.asked) == (RunState.QUEUED, 1)


async def test_nobody_waits_for_the_job_of_another(bench: Bench) -> None:
    with pytest.raises(NotFound):
        await bench.read.wait(Owner("acme", "bob"), await bench.submitted(), 60)
    assert bench.runs.asked == 0
