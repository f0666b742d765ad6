"""Every query that front's stores send uses an index, and reads what it wants and little more.

job's are tested in test_job_plans.py.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta

import pytest
from pymongo import AsyncMongoClient

from common.ids import new_id
from common.mongo.client import Document
from services.front.adapters.mongodb.batches import MongoBatchStore
from services.front.adapters.mongodb.inline import MongoInlineStore
from services.front.adapters.mongodb.jobs import MongoJobStore
from services.front.adapters.mongodb.listing import MongoListingStore
from services.front.adapters.mongodb.offers import MongoOfferStore
from services.front.adapters.mongodb.retention import MongoRetentionStore
from services.front.adapters.mongodb.usage import MongoUsageStore
from services.front.domain.batch import NewBatch
from services.front.domain.job import JobError, NewJob, NewUpload, Output, Owner, Status, Transition
from services.front.domain.listing import Filters, Position
from services.front.domain.retention import DEFAULT, Retention
from tests.support.query_plans import Recorder, explained, found, one_by_one, recorded, stages

MANY = 300
LONG = 600.0
LATER = datetime(9000, 1, 1, tzinfo=UTC)


class Stores:
    """Front's stores over a client that is listened to."""

    def __init__(self, client: AsyncMongoClient[Document], database: str, recorder: Recorder) -> None:
        self.client = client
        self.database = client[database]
        self.recorder = recorder
        self.jobs = MongoJobStore(client, database)
        self.inline = MongoInlineStore(client, database)
        self.offers = MongoOfferStore(client, database)
        self.batches = MongoBatchStore(client, database)
        self.listing = MongoListingStore(client, database)
        self.retention = MongoRetentionStore(client, database)
        self.usage = MongoUsageStore(client, database)


@pytest.fixture
async def stores(mongodb_uri: str, database_name: str) -> AsyncIterator[Stores]:
    """Stores with some hundred jobs in each state and as many inline bytes, all young and under a lease; nothing of
    them is due.
    """
    async with recorded(mongodb_uri) as (client, recorder):
        stores = Stores(client, database_name, recorder)
        await stores.jobs.create_indexes()
        await stores.inline.create_indexes()
        await stores.batches.create_indexes()
        await stores.listing.create_indexes()
        await stores.retention.create_indexes()
        await stores.usage.create_indexes()
        created = await stores.jobs.insert_created(new_job(), LONG)
        await stores.inline.put(created.id, b"bytes")
        template = await stores.database["jobs"].find_one({}) or {}
        bytes_template = await stores.database["inline"].find_one({}) or {}
        ids = [new_id() for _ in range(MANY)]
        await stores.database["jobs"].insert_many(
            {**template, "_id": job_id, "status": status.value, "retireAt": LATER}
            for job_id, status in zip(ids, 100 * [*Status], strict=False)
        )
        await stores.database["inline"].insert_many({**bytes_template, "_id": job_id} for job_id in ids)
        recorder.commands.clear()
        yield stores


def new_job(retention: Retention = DEFAULT) -> NewJob:
    return NewJob(new_id(), Owner("acme", "alice"), "a.txt", "text/plain", 5, "checksum", {}, "ab" * 32, retention)


async def inserts(stores: Stores) -> None:
    await stores.jobs.insert_created(new_job(), LONG)
    await stores.jobs.insert_stored(new_job(), LONG)


async def reads(stores: Stores) -> None:
    await stores.jobs.find(new_id())
    await stores.jobs.find_many([new_id() for _ in range(32)])


async def transitions(stores: Stores) -> None:
    job = await stores.jobs.insert_created(new_job(), LONG)
    assert await stores.jobs.renew(job.id, Status.CREATED, LONG)
    assert await stores.jobs.apply(job.id, Transition.stored(5, "ab" * 32), LONG)
    assert await stores.jobs.apply(job.id, Transition.submitted(), LONG)
    assert await stores.jobs.apply(job.id, Transition.completed(1, 1, (Output("o", "text/plain", 1, "ab" * 32),)))
    assert not await stores.jobs.apply(job.id, Transition.not_stored(JobError("internal", "late")))


async def recovery(stores: Stores) -> None:
    lapsed = await stores.jobs.insert_created(new_job(), -1)
    assert [job.id for job in await stores.jobs.claim_lapsed({Status.CREATED, Status.STORED}, LONG, 100)] == [lapsed.id]
    assert not await stores.jobs.claim_lapsed({Status.SUBMITTED}, LONG, 100)


async def cancels(stores: Stores) -> None:
    job = await stores.jobs.insert_created(new_job(), LONG)
    assert await stores.jobs.request_cancel(job.id, -1)
    assert [taken.id for taken in await stores.jobs.claim_cancels(LONG, 100)] == [job.id]
    assert await stores.jobs.apply(job.id, Transition.withdrawn())


async def retention(stores: Stores) -> None:
    batch = NewBatch(new_id(), Owner("acme", "alice"), "a", "checksum", held=False)
    upload = NewUpload(new_job(Retention(60, until_read=True)), batch.id, None, LONG, 112_000, held=False)
    await stores.batches.insert_uploads([upload])
    await stores.batches.insert_batch(batch)
    job_id = upload.job.id
    await stores.jobs.apply(job_id, Transition.stored(5, "ab" * 32), LONG)
    await stores.jobs.apply(job_id, Transition.submitted(), LONG)
    await stores.jobs.apply(job_id, Transition.completed(1, 1, (Output("o", "text/plain", 1, "ab" * 32),)))
    stores.recorder.commands.clear()
    (job,) = await stores.retention.claim_retiring(LONG, 100)
    await stores.retention.await_expiry([job_id], input_deleted=True)
    await stores.retention.output_read(job_id, 0, LONG)
    await stores.retention.bytes_deleted([job_id], LONG)
    await stores.retention.forget([job])


async def deletes(stores: Stores) -> None:
    job = await stores.jobs.insert_created(new_job(), LONG)
    assert await stores.jobs.delete(job.id, LONG)
    assert await stores.jobs.apply(job.id, Transition.withdrawn())
    (due,) = await stores.retention.claim_retiring(LONG, 100)
    await stores.retention.bytes_deleted([due.id], LONG, deleted=True)
    assert not await stores.jobs.delete(job.id, LONG)


async def batch_pages(stores: Stores) -> None:
    batch = NewBatch(new_id(), Owner("acme", "alice"), "a", "checksum", held=False)
    uploads = [NewUpload(new_job(), batch.id, None, LONG, 112_000, held=False) for _ in range(3)]
    await stores.batches.insert_uploads(uploads)
    stores.recorder.commands.clear()
    assert len((await stores.batches.batch_jobs(batch.id, "", 1)).jobs) == 1
    assert len((await stores.batches.batch_jobs(batch.id, "", 1, deleted=True)).jobs) == 1


async def usage(stores: Stores) -> None:
    await stores.jobs.insert_created(new_job(), LONG)
    stores.recorder.commands.clear()
    await stores.usage.owner_bytes(Owner("acme", "alice"))
    await stores.usage.tenant_bytes("acme")


async def batch_counts(stores: Stores) -> None:
    batch = NewBatch(new_id(), Owner("acme", "alice"), "a", "checksum", held=False)
    uploads = [NewUpload(new_job(), batch.id, None, LONG, 112_000, held=False) for _ in range(3)]
    await stores.batches.insert_uploads(uploads)
    stores.recorder.commands.clear()
    assert await stores.batches.announced_files(batch.owner, 2) == 2
    assert await stores.batches.batch_counts(batch.id) == {Status.CREATED: 3}
    assert await stores.batches.batch_counts(batch.id, deleted=True) == {Status.CREATED: 3}


async def listing(stores: Stores) -> None:
    owner, beginning = Owner("acme", "alice"), Position(LATER, new_id())
    mine = [await stores.jobs.insert_created(new_job(), LONG) for _ in range(3)]
    stores.recorder.commands.clear()
    for filters in (
        Filters(),
        Filters((Status.CREATED,)),
        Filters((Status.CREATED, Status.STORED), name="a.txt"),
        Filters(processor="checksum", name="a.txt", created_after=mine[0].created_at - timedelta(days=1)),
    ):
        assert len((await stores.listing.owned(owner, filters, None, 2)).jobs) == 2
        assert len((await stores.listing.owned(owner, filters, beginning, 2)).jobs) == 2
    for nothing in (Filters(name="b"), Filters(batch_id=new_id()), Filters((Status.STORED,), processor="pdf")):
        assert not (await stores.listing.owned(owner, nothing, None, 2)).jobs
    assert not (await stores.listing.owned(Owner("acme", "bob"), Filters(), None, 2)).jobs


async def tasks(stores: Stores) -> None:
    assert await stores.jobs.claim_task("sweep", 60)
    assert not await stores.jobs.claim_task("sweep", 60)


async def inline_bytes(stores: Stores) -> None:
    job_id = new_id()
    await stores.inline.put(job_id, b"bytes")
    assert await stores.inline.get(job_id) == b"bytes"
    await stores.inline.delete([job_id])


async def inline_age(stores: Stores) -> None:
    assert await stores.inline.older_than(3600, 500) == []


async def inline_total(stores: Stores) -> None:
    assert await stores.inline.waiting_bytes() > MANY


async def offers(stores: Stores) -> None:
    await stores.offers.save_offers([])
    await stores.offers.load_offers()


# Each with the most documents that one of its commands may read: those it wants, and none that it doesn't.
JOURNEYS = [
    (inserts, 1),
    (reads, 0),
    (transitions, 1),
    (recovery, 1),
    (cancels, 1),
    (retention, 1),
    (deletes, 1),
    (batch_pages, 2),  # the second says that there are more
    (batch_counts, 0),  # counts in the index alone
    (usage, 0),  # adds up in the index alone
    (listing, 3),
    (tasks, 1),
    (inline_bytes, 1),
    (inline_age, 0),
    (inline_total, 0),  # adds up the index alone
    (offers, 1),
]


@pytest.mark.parametrize(("journey", "most_read"), JOURNEYS, ids=[journey.__name__ for journey, _ in JOURNEYS])
async def test_it_uses_an_index_and_reads_only_what_it_wants(
    stores: Stores, journey: Callable[[Stores], Awaitable[None]], most_read: int
) -> None:
    await journey(stores)
    commands = list(stores.recorder.commands)
    assert commands
    for command in one_by_one(commands):
        plan = await explained(stores.client, stores.database.name, command)
        assert "COLLSCAN" not in stages(plan), command
        assert max(found("totalDocsExamined", plan)) <= most_read, command


async def test_a_collection_scan_would_be_seen(stores: Stores) -> None:
    await stores.database["jobs"].find({"name": "a.txt"}).to_list()
    (command,) = stores.recorder.commands
    plan = await explained(stores.client, stores.database.name, command)
    assert "COLLSCAN" in stages(plan)
    assert max(found("totalDocsExamined", plan)) > MANY
