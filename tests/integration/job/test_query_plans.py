"""Every query that the queue sends uses an index."""

import asyncio

from common.contracts.job import InputRef, RunError, RunSubmit
from common.ids import new_id
from common.mongo.client import Client
from gristmill.wire.processors import ProcessorOffer
from services.job.adapters.mongodb.database import JobDatabase
from services.job.adapters.mongodb.flows import MongoFlows
from services.job.adapters.mongodb.positions import MOST_LOADED, MongoPositions
from services.job.domain.fairness import flow_key
from services.job.domain.rules import RetryPolicy
from services.job.domain.tenants import Tenant, Tenants
from services.job.ports import Handover
from tests.support.query_plans import explained, found, one_by_one, recorded, stages
from tests.support.run_bench import a_run

POLICY = RetryPolicy(3, 0)


async def every_query(database: JobDatabase) -> None:
    run_id = new_id()
    picture = InputRef(blob_id=f"i-{run_id}", name="a", mimetype="image/png", size=1, sha256="0" * 64)
    run = RunSubmit(id=run_id, inputs=[picture], processor="p", params={}, tenant="acme")
    await database.runs.submit(run)
    await database.runs.submit(run)
    for end in ("fail", "complete"):
        (claimed,) = await database.runs.claim(new_id(), ["p", "q"], 5, 30)
        await database.runs.heartbeat(run_id, claimed.fence, 30, started=True, phase=None)
        if end == "fail":
            await database.runs.fail(run_id, claimed.fence, RunError(type="internal", detail="x"), POLICY)
        else:
            await database.runs.complete(run_id, claimed.fence, [])
            await database.runs.complete(run_id, claimed.fence, [])
    await database.runs.sweep(POLICY)
    lapsing = run.model_copy(update={"id": new_id()})
    await database.runs.submit(lapsing)
    (claimed,) = await database.runs.claim(new_id(), ["p"], 5, 30)
    await database.runs.heartbeat(lapsing.id, claimed.fence, 0, started=True, phase=None)
    await database.runs.sweep(RetryPolicy(1, 0))
    (report,) = await database.runs.claim_reports(10)
    await database.runs.settle([report.id])
    await database.runs.statuses([run_id])
    await database.runs.cancel(run_id)
    await database.runs.cancel(new_id())
    await database.runs.delete(run_id)
    await database.runs.queued_estimate("acme")
    await database.runs.queued_count("acme")
    await database.depths.depths()
    offer = ProcessorOffer(name="p", version="1.0.0", summary="", media_types=["*/*"], params={})
    await database.offers.offer([offer], 90)
    await database.offers.offered(90, 3600)


async def test_no_query_scans_a_collection(mongodb_uri: str, database_name: str) -> None:
    async with recorded(mongodb_uri) as (client, recorder):
        database = JobDatabase(client, database_name, Tenants(Tenant(max_running=100)))
        await database.create_indexes()
        await every_query(database)
        commands, seen = list(recorder.commands), set[str]()
        for command in one_by_one(commands):
            used = stages(await explained(client, database_name, command))
            assert "COLLSCAN" not in used, command
            assert used, command
            seen |= used
    assert {"IXSCAN", "UPDATE", "DISTINCT_SCAN", "SORT_MERGE"} <= seen
    assert len(commands) >= 20


async def test_a_run_that_has_ended_is_in_no_index_for_those_that_have_not(mongodb: Client, database_name: str) -> None:
    database = JobDatabase(mongodb, database_name)
    await database.create_indexes()
    for end in ("complete", "fail", "cancel", "deadline"):
        run = a_run(end, deadline_seconds=0.001 if end == "deadline" else 60)
        await database.runs.submit(run, Handover(new_id(), 30))
        await database.runs.heartbeat(run.id, 1, 30, started=True, phase="p", progress=0.5)
        match end:
            case "complete":
                await database.runs.complete(run.id, 1, [])
            case "fail":
                await database.runs.fail(run.id, 1, RunError(type="internal", detail="x"), None)
            case "cancel":
                await database.runs.cancel(run.id)
            case "deadline":
                assert await database.runs.sweep(POLICY) == 1
    runs = mongodb[database_name]["runs"]
    for field in ("deadlineAt", "leaseUntil", "claimId", "started", "phase", "progress"):
        assert await runs.count_documents({field: {"$exists": True}}) == 0, field


async def test_a_claim_reads_what_it_takes_in_the_order_of_the_indexes(mongodb_uri: str, database_name: str) -> None:
    """Among many flows and many runs it reads a few of each."""
    async with recorded(mongodb_uri) as (client, recorder):
        database = JobDatabase(client, database_name)
        await database.create_indexes()
        for tenant in range(80):
            await asyncio.gather(*(database.runs.submit(a_run(tenant=f"t{tenant}")) for _ in range(3)))
        recorder.commands.clear()
        assert len(await database.runs.claim(new_id(), ["checksum", "checksum@1"], 5, 30)) == 5
        flows, runs = (command for command in recorder.commands if "aggregate" in command)
        look, rows = [await explained(client, database_name, command) for command in (flows, runs)]
    assert not {"SORT", "COLLSCAN"} & (stages(look) | stages(rows))
    assert max(found("totalDocsExamined", look)) <= 64
    assert max(found("totalKeysExamined", look)) <= 66
    for examined in ("totalKeysExamined", "totalDocsExamined"):
        assert [*found(examined, rows)] == [2] * 5, "of each flow one more than is taken"


async def test_positions_are_looked_up_once_for_many_and_cost_little(mongodb_uri: str, database_name: str) -> None:
    async with recorded(mongodb_uri) as (client, recorder):
        database = JobDatabase(client, database_name)
        await database.create_indexes()
        runs = [a_run(tenant=f"t{n % 20}") for n in range(100)]
        await asyncio.gather(*(database.runs.submit(run) for run in runs))
        recorder.commands.clear()
        there = client[database_name]
        positions = MongoPositions(MongoFlows(there["flows"], there["runs"]), there["runs"], Tenants(), lambda: 0.0)
        found_out = await positions.of({run.id: flow_key(run.processor, run.tenant) for run in runs})
        assert len(found_out) == 5 * MOST_LOADED
        looks = [command for command in recorder.commands if "aggregate" in command]
        assert len(looks) == MOST_LOADED, "what would take too long is left out"
        recorder.commands.clear()
        asked = {run.id: flow_key(run.processor, run.tenant) for run in runs if run.id in found_out}
        assert await positions.of(asked) == found_out
        assert recorder.commands == []
        plan = await explained(client, database_name, looks[0])
    assert not {"SORT", "FETCH", "COLLSCAN"} & stages(plan)
    assert max(found("totalKeysExamined", plan)) == 5


async def test_metrics_seek_from_flow_to_flow_and_read_no_run(mongodb_uri: str, database_name: str) -> None:
    async with recorded(mongodb_uri) as (client, recorder):
        database = JobDatabase(client, database_name)
        await database.create_indexes()
        for tenant in ("a", "b"):
            await asyncio.gather(*(database.runs.submit(a_run(tenant=tenant)) for _ in range(50)))
        await database.runs.claim(new_id(), ["checksum"], 10, 30)
        recorder.commands.clear()
        await database.depths.depths()
        plans = [await explained(client, database_name, command) for command in recorder.commands]
    assert len(plans) == 3
    for plan in plans:
        assert "COLLSCAN" not in stages(plan)
        assert max(found("totalKeysExamined", plan)) <= 12
        assert max(found("totalDocsExamined", plan)) <= 2, "two flows, and of runs only the index"


async def test_what_runs_is_counted_from_the_index_alone(mongodb_uri: str, database_name: str) -> None:
    async with recorded(mongodb_uri) as (client, recorder):
        database = JobDatabase(client, database_name, Tenants(Tenant(max_running=2)))
        await database.create_indexes()
        for tenant in ("a", "b", "c"):
            await asyncio.gather(*(database.runs.submit(a_run(tenant=tenant)) for _ in range(5)))
        assert len(await database.runs.claim(new_id(), ["checksum"], 15, 30)) == 6
        recorder.commands.clear()
        assert await database.runs.claim(new_id(), ["checksum"], 15, 30) == []
        (counted,) = (command for command in recorder.commands if command.get("aggregate") == "runs")
        plan = await explained(client, database_name, counted)
    assert max(found("totalKeysExamined", plan)) <= 7
    assert max(found("totalDocsExamined", plan)) == 0


async def test_the_sweep_seeks_from_flow_to_flow(mongodb_uri: str, database_name: str) -> None:
    async with recorded(mongodb_uri) as (client, recorder):
        database = JobDatabase(client, database_name)
        await database.create_indexes()
        for tenant in ("a", "b"):
            await asyncio.gather(*(database.runs.submit(a_run(tenant=tenant)) for _ in range(100)))
        recorder.commands.clear()
        await database.runs.sweep(POLICY)
        (flows,) = (
            command for command in recorder.commands if {"$group": {"_id": "$flow"}} in command.get("pipeline", ())
        )
        plan = await explained(client, database_name, flows)
    assert "DISTINCT_SCAN" in stages(plan)
    assert max(found("totalKeysExamined", plan)) <= 3
