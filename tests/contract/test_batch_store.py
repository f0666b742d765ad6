"""What front's store of batches promises: the MongoDB one and the fake pass the same suite."""

import asyncio
from dataclasses import dataclass
from datetime import timedelta

import pytest

from common.ids import new_id
from common.mongo.client import Client
from services.front.adapters.mongodb.batches import MongoBatchStore
from services.front.adapters.mongodb.jobs import MongoJobStore
from services.front.domain.batch import NewBatch
from services.front.domain.job import JobError, NewJob, NewUpload, Output, Owner, Status, Transition
from services.front.domain.listing import LISTED_OUTPUTS
from services.front.ports import BatchStore, JobStore
from tests.fakes.job_store import Clock, MemoryBatchStore, MemoryJobStore

ALICE = Owner("$acme", "alice")
FIRST_LOOK = 2.0


@dataclass
class Stores:
    jobs: JobStore
    batches: BatchStore
    clock: Clock | None
    """A clock that a test can move, in the fake only."""

    async def until_due(self) -> None:
        """Lets the time go by until an upload is looked at for the first time."""
        if self.clock is not None:
            self.clock.forward(FIRST_LOOK)
        else:
            await asyncio.sleep(FIRST_LOOK)  # the server's clock can't be moved


@pytest.fixture(params=["mongodb", "memory"])
async def stores(request: pytest.FixtureRequest, mongodb: Client, database_name: str) -> Stores:
    if request.param == "memory":
        clock = Clock()
        jobs = MemoryJobStore(clock)
        return Stores(jobs, MemoryBatchStore(jobs), clock)
    store, batches = MongoJobStore(mongodb, database_name), MongoBatchStore(mongodb, database_name)
    await store.create_indexes()
    await batches.create_indexes()
    return Stores(store, batches, None)


def new_upload(batch_id: str, *, held: bool = False) -> NewUpload:
    job = NewJob(new_id(), ALICE, "$a.txt", "text/plain", 7, "checksum", {"$x": 1}, encoding="xz")
    return NewUpload(job, batch_id, "ab" * 32, 100, 112_000, held)


async def new_batch(stores: Stores, count: int, *, held: bool = False) -> tuple[str, list[str]]:
    batch_id = new_id()
    uploads = [new_upload(batch_id, held=held) for _ in range(count)]
    await stores.batches.insert_uploads(uploads)
    await stores.batches.insert_batch(NewBatch(batch_id, ALICE, "$name", "checksum", held))
    return batch_id, [upload.job.id for upload in uploads]


async def test_uploads_are_jobs_that_wait(stores: Stores) -> None:
    batch_id, (job_id,) = await new_batch(stores, 1)
    job = await stores.jobs.find(job_id)
    assert job is not None
    assert (job.status, job.batch_id, job.size, job.sha256) == (Status.CREATED, batch_id, 7, None)
    assert job.encoding == "xz"
    assert job.upload is not None
    assert job.upload.sha256 == "ab" * 32
    assert job.upload.expires_at == job.created_at + timedelta(seconds=100)
    await stores.until_due()
    assert await stores.jobs.claim_lapsed({Status.CREATED}, 1, 10) == [], "nobody's lease is on it"


async def test_a_batch_comes_back_as_it_was_written(stores: Stores) -> None:
    batch_id, _ = await new_batch(stores, 1)
    batch = await stores.batches.find_batch(batch_id)
    assert batch is not None
    assert (batch.id, batch.owner, batch.name, batch.processor, batch.held) == (
        batch_id,
        ALICE,
        "$name",
        "checksum",
        False,
    )
    assert await stores.batches.find_batch(new_id()) is None
    assert set(await stores.batches.find_batches([batch_id, new_id()])) == {batch_id}


async def test_pages_and_counts_are_of_one_batch(stores: Stores) -> None:
    batch_id, ids = await new_batch(stores, 5)
    await new_batch(stores, 3)
    await stores.jobs.apply(ids[0], Transition.not_stored(JobError("upload-expired", "")))
    assert await stores.batches.batch_counts(batch_id) == {Status.CREATED: 4, Status.STORED_ERROR: 1}
    first = await stores.batches.batch_jobs(batch_id, "", 3)
    second = await stores.batches.batch_jobs(batch_id, first.jobs[-1].id, 3)
    assert [job.id for job in [*first.jobs, *second.jobs]] == sorted(ids)
    assert (first.more, second.more) == (True, False)


async def test_a_page_has_the_first_outputs_of_each_job(stores: Stores) -> None:
    batch_id, (few, many) = await new_batch(stores, 2)
    for job_id, count in ((few, LISTED_OUTPUTS), (many, LISTED_OUTPUTS + 1)):
        outputs = tuple(Output(str(n), "text/plain", 1, "ab" * 32) for n in range(count))
        await stores.jobs.apply(job_id, Transition.stored(7, "ab" * 32), 600)
        await stores.jobs.apply(job_id, Transition.submitted(), 600)
        await stores.jobs.apply(job_id, Transition.completed(1, 1, outputs))
    page = await stores.batches.batch_jobs(batch_id, "", 9)
    assert not page.more
    counts = {job.id: (len(job.outputs), job.output_count) for job in page.jobs}
    assert counts == {few: (LISTED_OUTPUTS, None), many: (LISTED_OUTPUTS, LISTED_OUTPUTS + 1)}


async def test_an_upload_that_is_due_is_taken_once_and_then_rests_longer(stores: Stores) -> None:
    _, ids = await new_batch(stores, 4)
    assert await stores.batches.claim_uploads(10) == []
    await stores.until_due()
    taken = await asyncio.gather(*(stores.batches.claim_uploads(10) for _ in range(3)))
    assert sorted(job.id for jobs in taken for job in jobs) == sorted(ids)
    await stores.until_due()
    assert await stores.batches.claim_uploads(10) == [], "the pause has doubled"


async def test_an_upload_that_is_done_is_not_looked_at_again(stores: Stores) -> None:
    _, ids = await new_batch(stores, 2)
    await stores.jobs.apply(ids[0], Transition.stored(7, "ab" * 32), 600)
    await stores.jobs.apply(ids[1], Transition.not_stored(JobError("upload-expired", "")))
    await stores.until_due()
    assert await stores.batches.claim_uploads(10) == []


async def test_announced_files_count_for_their_owner_until_they_come_or_never_will(stores: Stores) -> None:
    _, (first, second, _) = await new_batch(stores, 3)
    assert await stores.batches.announced_files(ALICE, 100) == 3
    assert await stores.batches.announced_files(ALICE, 2) == 2
    assert await stores.batches.announced_files(Owner("$acme", "bob"), 100) == 0
    assert await stores.jobs.apply(first, Transition.stored(7, "ab" * 32), 10)
    assert await stores.jobs.apply(second, Transition.withdrawn())
    assert await stores.batches.announced_files(ALICE, 100) == 1


async def test_an_expiry_moves_forth_but_not_past_the_most(stores: Stores) -> None:
    _, (job_id,) = await new_batch(stores, 1)
    for seconds, most, expected in [(50, 1000, 100), (500, 1000, 500), (5000, 1000, 1000), (5, 1000, 1000)]:
        job = await stores.batches.extend_upload(job_id, seconds, most)
        assert job is not None
        assert job.upload is not None
        life = (job.upload.expires_at - job.created_at).total_seconds()
        assert expected <= life < expected + 10
    await stores.jobs.apply(job_id, Transition.stored(7, "ab" * 32), 600)
    assert await stores.batches.extend_upload(job_id, 50, 1000) is None


async def test_a_held_job_goes_on_only_when_its_batch_is_released(stores: Stores) -> None:
    batch_id, ids = await new_batch(stores, 2, held=True)
    assert [batch.id for batch in await stores.batches.claim_held(10)] == [batch_id]
    for job_id in ids:
        await stores.jobs.apply(job_id, Transition.stored(7, "ab" * 32), 0)
    assert await stores.jobs.claim_lapsed({Status.STORED}, 600, 10) == []
    await stores.batches.release_batch(batch_id)
    released = await stores.jobs.claim_lapsed({Status.STORED}, 600, 10)
    assert sorted(job.id for job in released) == sorted(ids)
    assert not any(job.held for job in released)
    await stores.until_due()
    assert await stores.batches.claim_held(10) == []


async def test_a_held_job_can_be_withdrawn_until_its_batch_is_released(stores: Stores) -> None:
    batch_id, (first, second) = await new_batch(stores, 2, held=True)
    for job_id in (first, second):
        await stores.jobs.apply(job_id, Transition.stored(3, "ab" * 32), 100)
    assert await stores.jobs.apply(first, Transition.withdrawn())
    await stores.batches.release_batch(batch_id)
    assert not await stores.jobs.apply(second, Transition.withdrawn())


async def test_a_file_that_is_verified_says_so_until_it_is(stores: Stores) -> None:
    _, ids = await new_batch(stores, 2)
    await stores.jobs.apply(ids[1], Transition.stored(3, "ab" * 32), 100)
    await stores.batches.verifying(ids)
    assert [job.phase for job in (await stores.jobs.find_many(ids)).values()].count("VERIFYING") == 1
    await stores.jobs.apply(ids[0], Transition.stored(3, "ab" * 32), 100)
    assert not any(job.phase for job in (await stores.jobs.find_many(ids)).values())


async def test_held_batches_have_their_turns(stores: Stores) -> None:
    ids = {(await new_batch(stores, 1, held=True))[0] for _ in range(4)}
    first = await stores.batches.claim_held(2)
    second = await stores.batches.claim_held(2)
    assert {batch.id for batch in [*first, *second]} == ids, "those that wait long don't keep others from their turn"
    assert await stores.batches.claim_held(2) == []
    await stores.until_due()
    assert len(await stores.batches.claim_held(10)) == 4


async def test_what_is_forgotten_is_gone(stores: Stores) -> None:
    _, ids = await new_batch(stores, 2)
    await stores.batches.forget(ids[:1])
    assert set(await stores.jobs.find_many(ids)) == set(ids[1:])


async def test_what_is_there_is_not_written_again(stores: Stores) -> None:
    batch_id = new_id()
    upload = new_upload(batch_id)
    batch = NewBatch(batch_id, ALICE, "$name", "checksum", held=True)
    await stores.batches.insert_uploads([upload])
    await stores.batches.insert_batch(batch)
    await stores.jobs.apply(upload.job.id, Transition.not_stored(JobError("upload-expired", "It was late.")))
    await stores.batches.release_batch(batch_id)
    before = await stores.batches.find_batch(batch_id)
    await stores.batches.insert_uploads([upload])
    await stores.batches.insert_batch(batch)
    job = await stores.jobs.find(upload.job.id)
    assert job is not None
    assert job.status is Status.STORED_ERROR
    assert await stores.batches.find_batch(batch_id) == before
