"""Change streams wake claims that wait in another process; nothing but speed depends on them."""

import asyncio

from common.contracts.job import RunError, RunSubmit
from common.ids import new_id
from common.loops import stop
from common.mongo.client import Client
from services.job.adapters.mongodb.database import JobDatabase
from services.job.domain.rules import RetryPolicy
from tests.support.run_bench import a_run

DEADLINE_SECONDS = 20


async def test_what_is_queued_or_requeued_is_hinted_at(mongodb: Client, database_name: str) -> None:
    here, there = (JobDatabase(mongodb, database_name) for _ in range(2))
    await here.create_indexes()
    heard: asyncio.Queue[str | None] = asyncio.Queue()

    async def listen() -> None:
        async for processor in here.runs.queued():
            heard.put_nowait(processor)

    async def queued() -> RunSubmit:
        run = a_run("checksum")
        await there.runs.submit(run)
        return run

    async with asyncio.timeout(DEADLINE_SECONDS):
        listening = asyncio.create_task(listen())
        try:
            while heard.empty():  # the stream tells only of what comes after it was opened
                await queued()
                await asyncio.sleep(0.05)
            requeued = a_run("image-variants")
            await there.runs.submit(requeued)
            while await heard.get() != requeued.processor:
                pass
            (claimed,) = await there.runs.claim(new_id(), [requeued.processor], 1, 30)
            failure = RunError(type="internal", detail="x")
            await there.runs.fail(claimed.run.id, claimed.fence, failure, RetryPolicy(3, 0))
            while await heard.get() != requeued.processor:
                pass
        finally:
            await stop(listening)  # a cancellation alone may get lost
