"""What Prometheus is told."""

import asyncio
import time

from prometheus_client.parser import text_string_to_metric_families

from common.contracts.job import Complete
from common.mongo.client import Client
from services.job.adapters.mongodb.depths import MOST_PROCESSORS
from services.job.api.metrics import GAUGES
from tests.support.job_service import Job, a_job, an_offer

DEADLINE_SECONDS = 20
QUEUE = {name for name, _, _ in GAUGES}


async def scraped(job: Job) -> dict[tuple[str, str], float]:
    """By the metric's name and its processor."""
    answer = await job.http.get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain")
    return {
        (sample.name, sample.labels["processor"]): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
        if family.name in QUEUE
    }


async def test_depth_age_and_what_runs_by_what_is_wanted(mongodb: Client, database_name: str) -> None:
    async with a_job(mongodb, database_name) as job, a_job(mongodb, database_name) as other:
        await job.becomes_ready()
        assert await scraped(other) == {}
        began = time.monotonic()
        for processor, count in (("checksum", 3), ("checksum@1.2", 2)):
            for _ in range(count):
                await job.submit(processor)
        (claimed,) = await job.claim("checksum")
        seen = await scraped(job)
        ages = {key: seen.pop(key) for key in [*seen] if key[0] == "gristmill_queue_oldest_age_seconds"}
        assert seen == {
            ("gristmill_queue_depth", "checksum"): 2,
            ("gristmill_queue_depth", "checksum@1.2"): 2,
            ("gristmill_runs_running", "checksum"): 1,
            ("gristmill_runs_running", "checksum@1.2"): 0,
        }
        assert {processor for _, processor in ages} == {"checksum", "checksum@1.2"}
        assert all(0 <= age <= time.monotonic() - began for age in ages.values())
        await job.processor.complete(claimed.id, Complete(fence=claimed.fence, outputs=[]))
        async with asyncio.timeout(DEADLINE_SECONDS):
            while (await scraped(job))["gristmill_runs_running", "checksum"]:  # noqa: ASYNC110 - it is kept a while
                await asyncio.sleep(0.1)


async def test_a_run_that_ends_without_a_claim_leaves_the_depth(mongodb: Client, database_name: str) -> None:
    async with a_job(mongodb, database_name, sweep_seconds=0.1) as job:
        await job.becomes_ready()
        unclaimed = [await job.submit("checksum@2") for _ in range(3)]
        for run in unclaimed:
            await job.front.cancel(run.id)
        async with asyncio.timeout(DEADLINE_SECONDS):
            while (await scraped(job)).get(("gristmill_queue_depth", "checksum@2"), 0):  # noqa: ASYNC110 - likewise
                await asyncio.sleep(0.1)


async def test_what_is_live_is_never_pushed_out_by_names_that_nothing_runs(mongodb: Client, database_name: str) -> None:
    async with a_job(mongodb, database_name) as job:
        await job.becomes_ready()
        await job.processor.offer([an_offer("1.2.0")])
        await job.submit("checksum")
        await asyncio.gather(*(job.submit(f"aaa@{n}") for n in range(MOST_PROCESSORS)))
        await asyncio.gather(*(job.submit(f"aaa@{n}") for n in range(MOST_PROCESSORS)))
        found = {processor for name, processor in await scraped(job) if name == "gristmill_queue_depth"}
        assert len(found) == MOST_PROCESSORS
        assert "checksum" in found
