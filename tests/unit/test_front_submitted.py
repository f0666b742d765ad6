"""That job has a run is written with its end, or a moment later, or by the tracker."""

from typing import Any

import pytest

from common.contracts.job import RunState
from common.errors import Unavailable
from common.ids import new_id
from services.front.adapters.mongodb.changes import MongoChanges
from services.front.domain.job import Job, NewJob, Owner, Status, Transition
from services.front.use_cases.advance import Advance
from services.front.use_cases.create import Background
from services.front.use_cases.reports import TakeReports
from services.front.use_cases.submitted import LateSubmitted
from services.front.use_cases.tracking.recover import Recover
from tests.fakes.front_ports import MemoryBlobs, MemoryRuns
from tests.fakes.job_store import Clock, MemoryInlineStore, MemoryJobStore

LEASE, ASK = 15.0, 60.0


class Written(MemoryJobStore):
    """Keeps what is written, and can be away."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock)
        self.tried: list[Status] = []
        self.away = False

    async def apply(self, job_id: str, transition: Transition, lease_seconds: float = 0) -> bool:
        if self.away:
            raise Unavailable
        self.tried.append(transition.target)
        return await super().apply(job_id, transition, lease_seconds)


class Bench:
    """A front that has just handed a run over to job."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.jobs, self.runs = Written(self.clock), MemoryRuns()
        inline, blobs = MemoryInlineStore(self.clock), MemoryBlobs()
        self.advance = Advance(self.jobs, inline, blobs, self.runs, lease_seconds=LEASE, ask_seconds=ASK)
        self.late = LateSubmitted(self.advance)
        stream: Any = None  # there is none here
        self.changes = MongoChanges(stream)
        self.changes.ended = self.late.ended
        self.background = Background(self.advance, self.late)

    async def handed_over(self) -> str:
        new = NewJob(new_id(), Owner("acme", "alice"), "n", "text/plain", 2, "checksum", {}, "ab" * 32)
        await self.background.carry_on(await self.jobs.insert_stored(new, LEASE))
        assert new.id in self.runs.known
        return new.id

    async def job(self, job_id: str) -> Job:
        job = await self.jobs.find(job_id)
        assert job is not None
        return job


@pytest.fixture
def bench() -> Bench:
    return Bench()


@pytest.mark.parametrize("pauses", [0, 1])
async def test_a_run_that_ends_within_a_moment_takes_one_write(bench: Bench, pauses: int) -> None:
    job_id = await bench.handed_over()
    for _ in range(pauses):
        await bench.late.write()
    bench.runs.end(job_id, success=True)
    await TakeReports(bench.jobs, bench.advance, bench.changes.wake)([bench.runs.known[job_id]])
    for _ in range(3):
        await bench.late.write()
    assert bench.jobs.tried == [Status.EXECUTION_COMPLETED]
    states = [status for status, _ in (await bench.job(job_id)).history]
    assert states == [Status.CREATED, Status.STORED, Status.SUBMITTED, Status.EXECUTION_COMPLETED]


async def test_a_run_that_takes_longer_is_submitted_though_nobody_asks(bench: Bench) -> None:
    job_id = await bench.handed_over()
    await bench.late.write()
    assert (await bench.job(job_id)).status is Status.STORED
    await bench.late.write()
    assert (await bench.job(job_id)).status is Status.SUBMITTED
    await bench.late.write()
    assert bench.jobs.tried == [Status.SUBMITTED]


async def test_what_could_not_be_written_is_the_trackers_and_stays_one_run(bench: Bench) -> None:
    job_id = await bench.handed_over()
    await bench.late.write()
    bench.jobs.away = True
    with pytest.raises(Unavailable):
        await bench.late.write()
    bench.jobs.away = False
    await bench.late.write()
    assert (await bench.job(job_id)).status is Status.STORED
    bench.clock.forward(LEASE)
    await Recover(bench.jobs, bench.runs, bench.advance, lease_seconds=LEASE, ask_seconds=ASK)()
    assert (await bench.job(job_id)).status is Status.SUBMITTED
    assert {run.status for run in bench.runs.known.values()} == {RunState.QUEUED}
    assert len(bench.runs.submitted) == 1
