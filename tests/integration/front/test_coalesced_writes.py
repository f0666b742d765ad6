"""Changes of jobs that share a request to MongoDB: one that can't be held doesn't spoil what the others hear."""

import asyncio

from pymongo.errors import BulkWriteError

from common.ids import new_id
from common.mongo.client import Client, opened
from services.front.adapters.mongodb.jobs import MongoJobStore
from services.front.domain.job import JobError, NewJob, Owner, Status, Transition
from tests.support.commands import Commands

LONG = 600.0
HALF_A_DOCUMENT = "x" * 9 * 1024 * 1024


def new_job(name: str = "n") -> NewJob:
    return NewJob(new_id(), Owner("acme", "alice"), name, "text/plain", 1, "checksum", {}, "ab" * 32)


async def test_who_made_a_change_is_told_so_though_its_request_failed(mongodb: Client, database_name: str) -> None:
    jobs = MongoJobStore(mongodb, database_name)
    large, small = [await jobs.insert_created(new_job(name), LONG) for name in (HALF_A_DOCUMENT, "small")]
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


async def test_only_what_was_there_already_is_read_after_a_write(mongodb_uri: str, database_name: str) -> None:
    commands = Commands()
    async with opened(mongodb_uri, commands) as client:
        jobs = MongoJobStore(client, database_name)
        there, *new = [new_job() for _ in range(5)]
        await jobs.insert_stored(there, LONG)
        assert await jobs.apply(there.id, Transition.submitted(), LONG)
        assert {command.name for command in commands.said} == {"update"}
        written = await asyncio.gather(*(jobs.insert_stored(job, LONG) for job in [there, *new]))
    assert [job.id for job in written] == [there.id, *(job.id for job in new)]
    assert [job.status for job in written] == [Status.SUBMITTED, *[Status.STORED] * 4]
    assert [command.name for command in commands.said].count("find") == 1
