"""What a run costs: the commands that job sends to MongoDB for it."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from pymongo.errors import WriteError
from pymongo.read_concern import ReadConcern
from pymongo.write_concern import WriteConcern

from common.contracts.job import RunState
from common.ids import new_id
from common.mongo.client import Client, Document
from services.job.adapters.mongodb.claims import MongoClaims
from services.job.adapters.mongodb.database import JobDatabase
from services.job.adapters.mongodb.flows import MongoFlows
from services.job.domain.tenants import Tenants
from services.job.ports import Handover
from tests.support.query_plans import recorded
from tests.support.run_bench import a_run

Step = Callable[[], Awaitable[None]]


def names(commands: list[Document]) -> list[tuple[str, Any]]:
    """Each command's name, and its collection."""
    return [next(iter(command.items())) for command in commands]


async def test_that_front_knows_an_end_is_written_without_waiting_for_the_journal(
    mongodb_uri: str, database_name: str
) -> None:
    async with recorded(mongodb_uri) as (client, recorder):
        database = JobDatabase(client, database_name)
        await database.create_indexes()
        run = a_run()
        await database.runs.submit(run, Handover(new_id(), 30))
        await database.runs.complete(run.id, 1, [])
        assert len(recorder.journaled) == 2, "what a run becomes is durable"
        recorder.journaled.clear()
        await database.runs.settle([run.id])
        assert recorder.journaled == []
        assert await client[database_name]["runs"].count_documents({"reportDueAt": {"$exists": True}}) == 0


async def test_a_claim_reads_once_where_to_look_and_once_what_it_takes(mongodb_uri: str, database_name: str) -> None:
    """What it won is not read back, and a claim that says it is the first isn't asked what it has."""
    async with recorded(mongodb_uri) as (client, recorder):
        database = JobDatabase(client, database_name)
        await database.create_indexes()
        for _ in range(3):
            await database.runs.submit(a_run())
        await database.runs.queued_count("acme")
        recorder.commands.clear()
        claim_id = new_id()
        first = await database.runs.claim(claim_id, ["checksum"], 2, 30, first=True)
        looks, takes = [("aggregate", "flows"), ("aggregate", "runs")], [("update", "runs"), ("update", "flows")]
        assert names(recorder.commands) == looks + takes
        assert len(recorder.journaled) == 4, "three submits, and one for both runs"
        recorder.commands.clear()
        assert await database.runs.claim(claim_id, ["checksum"], 2, 30) == first
        assert ("find", "runs") in names(recorder.commands)


async def test_what_ended_is_known_without_reading_it(mongodb_uri: str, database_name: str) -> None:
    async with recorded(mongodb_uri) as (client, recorder):
        database = JobDatabase(client, database_name)
        await database.create_indexes()
        run = a_run()
        await database.runs.submit(run, Handover(new_id(), 30))
        recorder.commands.clear()
        ended = await database.runs.complete(run.id, 1, [])
        assert names(recorder.commands) == [("findAndModify", "runs")]
        assert await database.runs.statuses([run.id]) == [ended]


class Interfered:
    """The collection of runs; `before` and `after` are done beside the first write to it."""

    def __init__(self, runs: Any, *, before: Step | None = None, after: Step | None = None) -> None:
        self._runs = runs
        self._before = before
        self._after = after

    def __getattr__(self, name: str) -> Any:
        return getattr(self._runs, name)

    async def bulk_write(self, writes: Any) -> Any:
        before, after, self._before, self._after = self._before, self._after, None, None
        if before is not None:
            await before()
        written = await self._runs.bulk_write(writes)
        if after is not None:
            await after()
        return written


def claims_of(mongodb: Client, database_name: str, interfered: Any) -> MongoClaims:
    flows = mongodb[database_name].get_collection(
        "flows", read_concern=ReadConcern("local"), write_concern=WriteConcern(w=1)
    )
    return MongoClaims(interfered, MongoFlows(flows, mongodb[database_name]["runs"]), Tenants())


async def test_a_run_that_was_taken_and_given_back_meanwhile_is_not_taken_by_the_fence_that_it_had(
    mongodb: Client, database_name: str
) -> None:
    other = JobDatabase(mongodb, database_name)
    await other.create_indexes()
    run = a_run()
    await other.runs.submit(run)
    await other.runs.queued_count("acme")

    async def take_and_give_back() -> None:
        (taken,) = await other.runs.claim(new_id(), ["checksum"], 1, 30)
        await other.runs.release(run.id, taken.fence)

    runs = Interfered(mongodb[database_name]["runs"], before=take_and_give_back)
    for claimed in await claims_of(mongodb, database_name, runs).claim(new_id(), ["checksum"], 1, 30, first=True):
        await other.runs.heartbeat(run.id, claimed.fence, 30, started=True)


async def test_claims_whose_write_failed_but_took_hold_get_what_it_took_and_no_more(
    mongodb: Client, database_name: str
) -> None:
    database = JobDatabase(mongodb, database_name)
    await database.create_indexes()
    for _ in range(4):
        await database.runs.submit(a_run())
    await database.runs.queued_count("acme")

    async def fail() -> None:
        raise WriteError("Not of the database as a whole.")

    claims = claims_of(mongodb, database_name, Interfered(mongodb[database_name]["runs"], after=fail))
    both = await asyncio.gather(*(claims.claim(new_id(), ["checksum"], 1, 30, first=True) for _ in range(2)))
    assert [len(claimed) for claimed in both] == [1, 1]
    assert await mongodb[database_name]["runs"].count_documents({"state": RunState.RUNNING}) == 2
