"""What front's stores promise of a job that its owner deleted: the MongoDB ones and the fakes pass the same suite."""

import asyncio

import pytest

from common.ids import new_id
from common.mongo.client import Client
from services.front.adapters.mongodb.jobs import MongoJobStore
from services.front.adapters.mongodb.listing import MongoListingStore
from services.front.domain.batch import NewBatch
from services.front.domain.job import FINAL, NewJob, NewUpload, Status, Transition
from services.front.domain.listing import Filters
from tests.contract.test_retention_store import ALICE, DAY, LEASE, LONG, Stores, stores

__all__ = ["stores"]


@pytest.mark.parametrize("status", Status)
async def test_one_of_many_deletes_it_and_it_is_due_as_soon_as_it_is_final(stores: Stores, status: Status) -> None:
    job_id = await stores.job_in(status)
    if status.is_final:
        assert await stores.due() == {job_id}
        await stores.retention.await_expiry([job_id], input_deleted=True)
    answers = await asyncio.gather(*(stores.jobs.delete(job_id, LONG) for _ in range(5)))
    (deleted,) = [job for job in answers if job is not None]
    assert deleted == await stores.job(job_id)
    assert deleted.deleted_at is not None
    assert (deleted.status, deleted.owner) == (status, ALICE)
    assert deleted.cancel_requested == (status not in FINAL)
    assert await stores.due() == ({job_id} if status.is_final else set())
    if not status.is_final:
        assert await stores.jobs.apply(job_id, Transition.cancelled())
        assert await stores.due() == {job_id}
        assert not (await stores.job(job_id)).cancel_requested
    assert (await stores.job(job_id)).deleted_at == deleted.deleted_at


async def test_one_that_is_not_there_is_not_deleted(stores: Stores) -> None:
    assert await stores.jobs.delete(new_id(), LONG) is None


async def test_the_cancel_of_one_that_is_not_final_is_repeated(stores: Stores) -> None:
    job_id = await stores.job_in(Status.SUBMITTED)
    await stores.jobs.delete(job_id, LEASE)
    assert not await stores.jobs.claim_cancels(LONG, 10)
    await stores.lapse()
    assert [job.id for job in await stores.jobs.claim_cancels(LONG, 10)] == [job_id]


async def test_what_a_tracker_knew_before_does_not_put_it_off(stores: Stores) -> None:
    first, second = [await stores.job_in(Status.EXECUTION_COMPLETED) for _ in range(2)]
    assert await stores.due() == {first, second}
    for job_id in (first, second):
        await stores.jobs.delete(job_id, LONG)
    await stores.retention.await_expiry([first], input_deleted=True)
    await stores.retention.bytes_deleted([second], DAY)
    assert await stores.due() == {first, second}


async def test_its_record_rests_when_its_bytes_are_gone(stores: Stores) -> None:
    job_id, other = [await stores.job_in(Status.EXECUTION_COMPLETED) for _ in range(2)]
    await stores.jobs.delete(job_id, LONG)
    assert await stores.due() == {job_id, other}
    await stores.retention.bytes_deleted([job_id, other], LEASE, deleted=True)
    job = await stores.job(job_id)
    assert (job.bytes_deleted, job.input_deleted) == (True, True)
    assert not (await stores.job(other)).bytes_deleted, "nobody has deleted it"
    await stores.lapse()
    assert await stores.due() == {job_id}


async def test_it_is_no_file_of_its_batch_for_those_who_do_not_ask_for_it(stores: Stores) -> None:
    batch_id = new_id()
    new = [NewJob(new_id(), ALICE, "$a", "text/plain", 3, "checksum", {}) for _ in range(3)]
    await stores.batches.insert_uploads([NewUpload(job, batch_id, None, 100, 112_000, False) for job in new])
    await stores.batches.insert_batch(NewBatch(batch_id, ALICE, "n", "checksum", False))
    first, *others = sorted(job.id for job in new)
    await stores.jobs.delete(first, LONG)
    await stores.jobs.apply(first, Transition.withdrawn())
    assert [job.id for job in (await stores.batches.batch_jobs(batch_id, "", 2)).jobs] == others
    assert [job.id for job in (await stores.batches.batch_jobs(batch_id, "", 9, deleted=True)).jobs] == [first, *others]
    assert await stores.batches.batch_counts(batch_id) == {Status.CREATED: 2}
    assert await stores.batches.batch_counts(batch_id, deleted=True) == {Status.CREATED: 2, Status.CANCELLED: 1}


@pytest.mark.parametrize("status", [Status.SUBMITTED, Status.EXECUTION_COMPLETED])
async def test_no_list_has_it_and_another_store_that_remembers_it_sees_that(
    mongodb: Client, database_name: str, status: Status
) -> None:
    here, there = (MongoJobStore(mongodb, database_name) for _ in range(2))
    listing = MongoListingStore(mongodb, database_name)
    await listing.create_indexes()
    new = NewJob(new_id(), ALICE, "$a", "text/plain", 3, "checksum", {}, "ab" * 32)
    await here.insert_stored(new, LONG)
    await here.apply(new.id, Transition.submitted(), LONG)
    if status.is_final:
        await here.apply(new.id, Transition.completed(1, 1, ()))
    for _ in range(2):
        found = await there.find(new.id)
        assert found is not None
        assert found.deleted_at is None
    assert len((await listing.owned(ALICE, Filters(), None, 9)).jobs) == 1
    await here.delete(new.id, LONG)
    found = await there.find(new.id)
    assert found is not None
    assert found.deleted_at is not None
    for filters in (Filters(), Filters((status,)), Filters(name="$a")):
        assert not (await listing.owned(ALICE, filters, None, 9)).jobs
