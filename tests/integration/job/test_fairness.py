"""The queue shared by tenants and by several job processes, at its real size."""

import asyncio
from collections import Counter

import pytest
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.read_concern import ReadConcern

from common.contracts.job import ClaimRequest, Complete, RunState, RunSubmit
from common.ids import new_id
from common.mongo.client import Client, Document
from services.job.adapters.mongodb.database import JobDatabase
from services.job.adapters.mongodb.flows import MongoFlows, Queued, Remainder, looking_later
from services.job.domain.rules import RetryPolicy
from services.job.ports import RunStore
from services.job.use_cases.queue import Leases, Queue
from tests.support.run_bench import a_run

DEADLINE_SECONDS = 120
POLICY = RetryPolicy(3, 0)
LONG = 30.0


@pytest.fixture
async def database(mongodb: Client, database_name: str) -> JobDatabase:
    return await another(mongodb, database_name)


async def another(mongodb: Client, database_name: str) -> JobDatabase:
    """What another job process has."""
    database = JobDatabase(mongodb, database_name)
    await database.create_indexes()
    return database


def newest(mongodb: Client, database_name: str) -> AsyncCollection[Document]:
    """The flows as they are, which no majority waits for."""
    return mongodb[database_name].get_collection("flows", read_concern=ReadConcern("local"))


async def fill(mongodb: Client, database_name: str, store: RunStore, tenant: str, count: int) -> None:
    """As if so many runs had been submitted: one is, and the others are copies of it."""
    run = a_run(tenant=tenant)
    await store.submit(run)
    runs, flows = mongodb[database_name]["runs"], mongodb[database_name]["flows"]
    template: Document = await runs.find_one({"_id": run.id}) or {}
    await runs.insert_many(({**template, "_id": new_id()} for _ in range(count - 1)), ordered=False)
    await flows.update_one({"_id": template["flow"]}, {"$inc": {"queued": count - 1}})


async def test_a_single_run_starts_within_two_runs_for_each_slot_though_ten_thousand_wait(
    mongodb: Client, database_name: str, database: JobDatabase
) -> None:
    """Fails first in, first out, where the single run would be the 10,001st."""
    slots = 4
    await fill(mongodb, database_name, database.runs, "many", 10_000)
    started: list[str] = []
    single = a_run(tenant="single")

    async def work(queue: Queue) -> None:
        while single.id not in started:
            (run,) = await queue.claim(ClaimRequest(claim_id=new_id(), processors=["checksum"]))
            started.append(run.id)
            await queue.complete(run.id, Complete(fence=run.fence, outputs=[]))

    queue = Queue(database.runs, Leases(5, 30), POLICY, on_end=lambda _: None)
    async with asyncio.timeout(DEADLINE_SECONDS):
        working = asyncio.gather(*(work(queue) for _ in range(slots)))
        while len(started) < 20:  # noqa: ASYNC110 - the workers tell nobody
            await asyncio.sleep(0.01)
        await queue.submit(single)
        before = len(started)
        await working
    assert started.index(single.id) - before < 2 * slots


async def test_racing_processes_take_each_of_five_thousand_runs_once(
    mongodb: Client, database_name: str, database: JobDatabase
) -> None:
    for tenant in ("a", "b"):
        await fill(mongodb, database_name, database.runs, tenant, 2_500)
    stores = [database.runs, (await another(mongodb, database_name)).runs]
    taken: Counter[str] = Counter()

    async def take_all(store: RunStore) -> None:
        while len(taken) < 5_000:
            claimed = await store.claim(new_id(), ["checksum"], 50, LONG)
            taken.update(each.run.id for each in claimed)

    async with asyncio.timeout(DEADLINE_SECONDS):
        await asyncio.gather(*(take_all(store) for store in stores for _ in range(4)))
    assert len(taken) == 5_000
    assert set(taken.values()) == {1}
    running = await mongodb[database_name]["runs"].count_documents({"state": RunState.RUNNING, "fence": 1})
    assert running == 5_000


async def test_what_a_crash_left_unsaid_is_found_by_the_sweep(
    mongodb: Client, database_name: str, database: JobDatabase
) -> None:
    """A run was written and its flow was not; of one flow nothing is there at all, the other sleeps."""
    flows = newest(mongodb, database_name)
    runs = [await submitted(database.runs, tenant) for tenant in ("gone", "asleep", "asleep")]
    assert await database.runs.queued_estimate("asleep") == 2, "the flows are written by now"
    await flows.delete_one({"tenant": "gone"})
    await flows.update_one({"tenant": "asleep"}, {"$unset": {"lookAt": ""}, "$set": {"queued": 0}})
    assert await database.runs.claim(new_id(), ["checksum"], 5, LONG) == []
    await database.runs.sweep(POLICY)
    assert {flow["tenant"]: flow["queued"] async for flow in flows.find({"tenant": {"$exists": True}})} == {
        "gone": 1,
        "asleep": 2,
    }
    claimed = await database.runs.claim(new_id(), ["checksum"], 5, LONG)
    assert {each.run.id for each in claimed} == {run.id for run in runs}


async def test_an_estimate_that_is_wrong_is_counted_anew(
    mongodb: Client, database_name: str, database: JobDatabase
) -> None:
    flows = newest(mongodb, database_name)
    for _ in range(3):
        await submitted(database.runs, "acme")
    assert await database.runs.queued_estimate("acme") == 3
    await flows.update_one({"tenant": "acme"}, {"$set": {"queued": 70}})
    assert await database.runs.queued_estimate("acme") == 70
    assert await database.runs.queued_count("acme") == 3
    assert await database.runs.queued_estimate("acme") == 3


async def test_a_claim_that_found_nothing_does_not_hide_what_came_meanwhile(
    mongodb: Client, database_name: str, database: JobDatabase
) -> None:
    """It looked, a run came, and only then it says that there is nothing."""
    flows = MongoFlows(newest(mongodb, database_name), mongodb[database_name]["runs"])
    flows.put(Queued("checksum", "acme"))
    await flows.all_written()
    (seen,), _ = await flows.look(["checksum"], (), 10)
    run = await submitted(database.runs, "acme")
    await flows.write(looking_later({seen.flow.key: Remainder(seen.version, None)}))
    (claimed,) = await database.runs.claim(new_id(), ["checksum"], 5, LONG)
    assert claimed.run == run


async def test_a_flow_that_runs_empty_says_so_at_once(
    mongodb: Client, database_name: str, database: JobDatabase
) -> None:
    for _ in range(3):
        await submitted(database.runs, "acme")
    await database.runs.claim(new_id(), ["checksum"], 2, LONG)
    flows = newest(mongodb, database_name)
    assert await flows.count_documents({"lookAt": {"$exists": True}, "queued": 1}) == 1
    await database.runs.claim(new_id(), ["checksum"], 1, LONG)
    assert await flows.count_documents({"lookAt": {"$exists": False}, "queued": 0, "idleSince": {"$exists": True}}) == 1


async def test_a_flow_whose_runs_ended_without_a_claim_is_removed_in_time(
    mongodb: Client, database_name: str, database: JobDatabase
) -> None:
    run = await submitted(database.runs, "acme")
    await database.runs.cancel(run.id)
    await database.runs.sweep(POLICY)
    flows = newest(mongodb, database_name)
    assert await flows.count_documents({"lookAt": {"$exists": False}, "idleSince": {"$exists": True}}) == 1
    removing = [index for index in (await flows.index_information()).values() if "expireAfterSeconds" in index]
    assert [index["key"] for index in removing] == [[("idleSince", 1)]]


async def submitted(store: RunStore, tenant: str) -> RunSubmit:
    run = a_run(tenant=tenant)
    await store.submit(run)
    return run
