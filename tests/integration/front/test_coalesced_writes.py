"""Changes of jobs that share a request to MongoDB: one that can't be held doesn't spoil what the others hear."""

import asyncio

from pymongo.errors import BulkWriteError

from common.ids import new_id
from common.mongo.client import Client
from services.front.adapters.mongodb.jobs import MongoJobStore
from services.front.domain.job import JobError, NewJob, Owner, Status, Transition

LONG = 600.0
HALF_A_DOCUMENT = "x" * 9 * 1024 * 1024


async def test_who_made_a_change_is_told_so_though_its_request_failed(mongodb: Client, database_name: str) -> None:
    jobs = MongoJobStore(mongodb, database_name)
    large, small = [
        await jobs.insert_created(NewJob(new_id(), Owner("acme", "alice"), name, "text/plain", 1, "checksum", {}), LONG)
        for name in (HALF_A_DOCUMENT, "small")
    ]
    too_much = Transition.not_stored(JobError("internal", HALF_A_DOCUMENT))
    refused, made = await asyncio.gather(
        jobs.apply(large.id, too_much), jobs.apply(small.id, Transition.withdrawn()), return_exceptions=True
    )
    assert isinstance(refused, BulkWriteError)
    assert made is True
    assert {job.id: job.status for job in (await jobs.find_many([large.id, small.id])).values()} == {
        large.id: Status.CREATED,
        small.id: Status.CANCELLED,
    }
