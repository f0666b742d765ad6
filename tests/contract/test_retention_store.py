"""What front's stores promise of what follows the end of a job: the MongoDB ones and the fakes pass the same suite."""

import asyncio
from dataclasses import dataclass
from datetime import datetime

import pytest

from common.ids import new_id
from common.mongo.client import Client
from services.front.adapters.mongodb.batches import MongoBatchStore
from services.front.adapters.mongodb.jobs import MongoJobStore
from services.front.adapters.mongodb.retention import MongoRetentionStore
from services.front.domain.batch import NewBatch
from services.front.domain.job import FINAL, Job, JobError, NewJob, NewUpload, Output, Owner, Status, Transition
from services.front.domain.retention import Retention
from services.front.ports import BatchStore, JobStore, RetentionStore
from tests.fakes.job_store import Clock, MemoryBatchStore, MemoryJobStore, MemoryRetentionStore

ALICE = Owner("$acme", "alice")
LEASE = 0.3
LONG = 600.0
DAY = 86_400
A_DAY = Retention(DAY)
ERROR = JobError("internal", "$x")
OUTPUTS = tuple(Output(name, "text/plain", 3, "cd" * 32) for name in ("$a", "b"))
PATHS: dict[Status, list[Transition]] = {
    Status.CREATED: [],
    Status.STORED: [Transition.stored(3, "ab" * 32)],
    Status.STORED_ERROR: [Transition.not_stored(ERROR)],
    Status.SUBMITTED_ERROR: [Transition.stored(3, "ab" * 32), Transition.not_submitted(ERROR)],
    Status.SUBMITTED: [Transition.stored(3, "ab" * 32), Transition.submitted()],
    Status.EXECUTION_COMPLETED: [
        Transition.stored(3, "ab" * 32),
        Transition.submitted(),
        Transition.completed(2, 1, OUTPUTS),
    ],
    Status.EXECUTION_ERROR: [
        Transition.stored(3, "ab" * 32),
        Transition.submitted(),
        Transition.failed(3, ERROR),
    ],
    Status.CANCELLED: [Transition.cancelled()],
}


@dataclass
class Stores:
    jobs: JobStore
    batches: BatchStore
    retention: RetentionStore
    clock: Clock | None
    """A clock that a test can move, in the fake only."""

    async def lapse(self) -> None:
        """Lets `LEASE` seconds go by."""
        if self.clock is not None:
            self.clock.forward(LEASE)
        else:
            await asyncio.sleep(LEASE)  # the server's clock can't be moved

    async def job(self, job_id: str) -> Job:
        job = await self.jobs.find(job_id)
        assert job is not None
        return job

    async def job_in(self, status: Status, retention: Retention = A_DAY) -> str:
        new = NewJob(new_id(), ALICE, "$a", "text/plain", 3, "checksum", {}, retention=retention)
        await self.jobs.insert_created(new, LONG)
        for transition in PATHS[status]:
            assert await self.jobs.apply(new.id, transition, LONG)
        return new.id

    async def due(self, lease: float = LONG) -> set[str]:
        return {job.id for job in await self.retention.claim_retiring(lease, 100)}


@pytest.fixture(params=["mongodb", "memory"])
async def stores(request: pytest.FixtureRequest, mongodb: Client, database_name: str) -> Stores:
    if request.param == "memory":
        clock = Clock()
        jobs = MemoryJobStore(clock)
        batches = MemoryBatchStore(jobs)
        return Stores(jobs, batches, MemoryRetentionStore(jobs, batches), clock)
    retention = MongoRetentionStore(mongodb, database_name)
    await retention.create_indexes()
    return Stores(MongoJobStore(mongodb, database_name), MongoBatchStore(mongodb, database_name), retention, None)


def seconds(later: datetime | None, earlier: datetime | None) -> float:
    assert later is not None
    assert earlier is not None
    return (later - earlier).total_seconds()


@pytest.mark.parametrize("status", Status)
async def test_the_time_counts_from_the_end(stores: Stores, status: Status) -> None:
    job_id = await stores.job_in(Status.CREATED)
    await stores.lapse()
    for transition in PATHS[status]:
        await stores.jobs.apply(job_id, transition, LONG)
    job = await stores.job(job_id)
    assert job.retention == Retention(DAY)
    assert seconds(job.expires_at, job.ended_at or job.created_at) == DAY
    if status.is_final:
        assert seconds(job.ended_at, job.created_at) >= LEASE


@pytest.mark.parametrize("status", Status)
async def test_only_a_final_job_is_due_and_it_at_once(stores: Stores, status: Status) -> None:
    job_id = await stores.job_in(status)
    assert await stores.due() == ({job_id} if status in FINAL else set())


async def test_each_is_taken_by_one_alone(stores: Stores) -> None:
    ids = [await stores.job_in(Status.STORED_ERROR) for _ in range(5)]
    taken = await asyncio.gather(*(stores.retention.claim_retiring(LONG, 10) for _ in range(4)))
    assert sorted(job.id for jobs in taken for job in jobs) == sorted(ids)


async def test_what_a_crash_leaves_is_due_again(stores: Stores) -> None:
    job_id = await stores.job_in(Status.EXECUTION_COMPLETED)
    assert await stores.due(LEASE) == {job_id}
    assert await stores.due() == set()
    await stores.lapse()
    assert await stores.due() == {job_id}


@pytest.mark.parametrize("input_deleted", [True, False])
async def test_after_its_end_a_job_rests_until_it_expires(stores: Stores, input_deleted: bool) -> None:
    lasting, ending = [await stores.job_in(Status.EXECUTION_COMPLETED, Retention(n)) for n in (DAY, 1)]
    assert await stores.due(LEASE) == {lasting, ending}
    await stores.retention.await_expiry([lasting, ending], input_deleted=input_deleted)
    assert (await stores.job(lasting)).input_deleted == input_deleted
    assert not (await stores.job(lasting)).bytes_deleted
    await stores.lapse()
    assert await stores.due() == set()
    for _ in range(3):
        await stores.lapse()
    assert await stores.due() == {ending}


async def test_a_job_whose_bytes_are_gone_rests_until_it_is_old(stores: Stores) -> None:
    job_id = await stores.job_in(Status.EXECUTION_COMPLETED)
    before = await stores.job(job_id)
    assert await stores.due(LEASE) == {job_id}
    await stores.retention.bytes_deleted([job_id], 2 * LEASE)
    job = await stores.job(job_id)
    assert (job.bytes_deleted, job.input_deleted) == (True, True)
    assert (job.status, job.outputs, job.history, job.updated_at) == (
        before.status,
        before.outputs,
        before.history,
        before.updated_at,
    )
    await stores.lapse()
    assert await stores.due() == set()
    await stores.lapse()
    assert await stores.due() == {job_id}


async def test_a_batch_goes_with_the_last_of_its_jobs(stores: Stores) -> None:
    batch_id = new_id()
    new = [NewJob(new_id(), ALICE, "a", "text/plain", 3, "checksum", {}) for _ in range(2)]
    await stores.batches.insert_uploads([NewUpload(job, batch_id, None, 100, 112_000, False) for job in new])
    await stores.batches.insert_batch(NewBatch(batch_id, ALICE, "n", "checksum", False))
    for job in new:
        await stores.jobs.apply(job.id, Transition.not_stored(ERROR))
    first, second = await stores.retention.claim_retiring(LONG, 10)
    assert seconds(first.expires_at, first.ended_at) == Retention().seconds
    await stores.retention.forget([first])
    assert await stores.batches.find_batch(batch_id) is not None
    await stores.retention.forget([second])
    assert await stores.batches.find_batch(batch_id) is None
    assert await stores.jobs.find_many([first.id, second.id]) == {}


UNTIL_READ = Retention(DAY, until_read=True)


async def test_an_until_read_job_expires_after_all_was_read(stores: Stores) -> None:
    job_id = await stores.job_in(Status.EXECUTION_COMPLETED, UNTIL_READ)
    await stores.due()
    await stores.retention.await_expiry([job_id], input_deleted=True)
    for _ in range(2):
        await stores.retention.output_read(job_id, 0, LEASE)
    job = await stores.job(job_id)
    assert seconds(job.expires_at, job.ended_at) == DAY, "one output twice is not two"
    await stores.retention.output_read(job_id, 1, LEASE)
    expires_at = (await stores.job(job_id)).expires_at
    assert seconds(expires_at, job.ended_at) < DAY
    assert await stores.due() == set()
    await stores.lapse()
    await stores.retention.output_read(job_id, 1, LONG)
    assert (await stores.job(job_id)).expires_at == expires_at, "one that was read again changes nothing"
    assert await stores.due() == {job_id}


async def test_a_read_never_makes_a_job_last_longer(stores: Stores) -> None:
    job_id = await stores.job_in(Status.EXECUTION_COMPLETED, Retention(1, until_read=True))
    before = (await stores.job(job_id)).expires_at
    for n in range(2):
        await stores.retention.output_read(job_id, n, LONG)
    assert (await stores.job(job_id)).expires_at == before


async def test_a_read_while_a_tracker_works_is_not_lost(stores: Stores) -> None:
    job_id = await stores.job_in(Status.EXECUTION_COMPLETED, UNTIL_READ)
    assert await stores.due() == {job_id}
    for n in range(2):
        await stores.retention.output_read(job_id, n, 0)
    await stores.retention.await_expiry([job_id], input_deleted=True)
    assert await stores.due() == {job_id}


async def test_reads_of_other_jobs_count_for_nothing(stores: Stores) -> None:
    job_id = await stores.job_in(Status.EXECUTION_COMPLETED)
    before = await stores.job(job_id)
    for n in range(2):
        await stores.retention.output_read(job_id, n, 0)
    assert await stores.job(job_id) == before
    gone = await stores.job_in(Status.EXECUTION_COMPLETED, UNTIL_READ)
    await stores.retention.bytes_deleted([gone], DAY)
    before = await stores.job(gone)
    for n in range(2):
        await stores.retention.output_read(gone, n, 0)
    assert await stores.job(gone) == before
