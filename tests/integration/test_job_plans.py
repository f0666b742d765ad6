"""Every query that the queue sends uses an index: each is recorded as it is sent, and then explained."""

from collections.abc import Iterator
from typing import Any

from pymongo import AsyncMongoClient
from pymongo.monitoring import CommandFailedEvent, CommandListener, CommandStartedEvent, CommandSucceededEvent

from common.contracts.job import InputRef, ProcessorOffer, RunError, RunSubmit
from common.ids import new_id
from common.mongo import Document
from services.job.adapters.mongodb import JobDatabase
from services.job.domain.rules import RetryPolicy

POLICY = RetryPolicy(3, 0)
EXPLAINED = ("find", "update", "filter", "sort", "limit", "projection", "updates")


class Recorder(CommandListener):
    def __init__(self) -> None:
        self.commands: list[Document] = []

    def started(self, event: CommandStartedEvent) -> None:
        if event.command_name in ("find", "update"):
            self.commands.append({name: event.command[name] for name in event.command if name in EXPLAINED})

    def succeeded(self, event: CommandSucceededEvent) -> None:
        """Only what is sent matters."""

    def failed(self, event: CommandFailedEvent) -> None:
        """Only what is sent matters."""


def stages(plan: object) -> Iterator[str]:
    if isinstance(plan, dict):
        if "stage" in plan:
            yield plan["stage"]
        for part in plan.values():
            yield from stages(part)
    elif isinstance(plan, list):
        for part in plan:
            yield from stages(part)


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
    (report,) = await database.runs.take_reports(10)
    await database.runs.settle([report.id])
    await database.runs.statuses([run_id])
    offer = ProcessorOffer(name="p", version="1.0.0", summary="", media_types=["*/*"], params={})
    await database.offers.offer([offer], 90)
    await database.offers.offered(90, 3600)


async def test_no_query_scans_a_collection(mongodb_uri: str, database_name: str) -> None:
    recorder = Recorder()
    async with AsyncMongoClient[Document](mongodb_uri, event_listeners=[recorder], tz_aware=True) as client:
        database = JobDatabase(client, database_name)
        await database.create_indexes()
        await every_query(database)
        commands, seen = list(recorder.commands), set[str]()
        for command in one_by_one(commands):
            explained = await client[database_name].command("explain", command, verbosity="queryPlanner")
            used = set(stages(explained["queryPlanner"]["winningPlan"]))
            assert "COLLSCAN" not in used, command
            seen |= used
    assert {"IXSCAN", "UPDATE"} <= seen
    assert len(commands) >= 20


async def test_the_order_of_the_queue_is_the_indexs(mongodb_uri: str, database_name: str) -> None:
    recorder = Recorder()
    async with AsyncMongoClient[Document](mongodb_uri, event_listeners=[recorder], tz_aware=True) as client:
        database = JobDatabase(client, database_name)
        await database.create_indexes()
        await database.runs.claim(new_id(), ["p", "q"], 5, 30)
        (queued,) = (command for command in recorder.commands if "processor" in command["filter"])
        explained = await client[database_name].command("explain", queued, verbosity="queryPlanner")
    assert "SORT" not in set(stages(explained["queryPlanner"]["winningPlan"]))
    bounds: Any = str(explained["queryPlanner"]["winningPlan"])
    assert "'availableAt': ['[MinKey, MaxKey]']" not in bounds


def one_by_one(commands: list[Document]) -> Iterator[Document]:
    """An update of many statements as updates of one each, which is what can be explained."""
    for command in commands:
        for update in command.get("updates", [None]):
            yield command if update is None else {**command, "updates": [update]}
