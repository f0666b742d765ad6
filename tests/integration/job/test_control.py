"""Runs that are ended from outside, lapse, or wait for a processor, as front and processors see it."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from common.contracts.job import (
    Complete,
    Fail,
    Heartbeat,
    Release,
    RunError,
    RunState,
)
from common.errors import Conflict, Forbidden, NotFound, StaleFence
from common.ids import new_id
from common.mongo.client import Client
from tests.support.job_service import DEADLINE_SECONDS, OUTPUT, Job, a_job, a_run, an_offer


@pytest.fixture
async def job(mongodb: Client, database_name: str) -> AsyncIterator[Job]:
    async with a_job(mongodb, database_name, backoff_seconds=0, sweep_seconds=0.1) as job:
        await job.becomes_ready()
        yield job


async def test_a_cancelled_run_is_taken_from_its_processor_and_front_is_told(job: Job) -> None:
    run = await job.submit()
    (claimed,) = await job.claim()
    await job.processor.heartbeat(run.id, Heartbeat(fence=claimed.fence))
    cancelled = await job.front.cancel(run.id)
    assert (cancelled.id, cancelled.status) == (run.id, RunState.CANCELLED)
    with pytest.raises(StaleFence):
        await job.processor.heartbeat(run.id, Heartbeat(fence=claimed.fence))
    with pytest.raises(StaleFence):
        await job.processor.complete(run.id, Complete(fence=claimed.fence, outputs=[OUTPUT]))
    assert await job.front.cancel(run.id) == cancelled == await job.status(run.id)
    async with asyncio.timeout(DEADLINE_SECONDS):
        assert await job.front_ear.heard.get() == cancelled


async def test_a_run_that_is_cancelled_before_it_is_submitted_is_handed_to_nobody(job: Job) -> None:
    run = a_run()
    assert (await job.front.cancel(run.id)).status == RunState.CANCELLED
    claiming = asyncio.create_task(job.claim(wait=30))
    await job.front.submit(run)
    following = await job.submit()
    async with asyncio.timeout(DEADLINE_SECONDS):
        assert [claimed.id for claimed in await claiming] == [following.id]
    assert (await job.status(run.id)).status == RunState.CANCELLED


async def test_a_run_is_deleted_once_it_has_ended(job: Job) -> None:
    run = await job.submit()
    with pytest.raises(Conflict):
        await job.front.delete(run.id)
    await job.front.cancel(run.id)
    for _ in range(2):
        await job.front.delete(run.id)
    assert await job.front.statuses([run.id]) == {}
    await job.front.submit(run)
    assert await job.claim(wait=0) == []


@pytest.mark.parametrize("call", ["cancel", "delete"])
async def test_only_front_ends_runs_and_only_by_an_id_that_it_may_have_given(job: Job, call: str) -> None:
    with pytest.raises(NotFound):
        await getattr(job.front, call)("no-id-of-a-job")
    with pytest.raises(Forbidden):
        await getattr(job.processor, call)(new_id())


async def test_a_processor_stopped_past_its_lease_wakes_and_changes_nothing(
    mongodb: Client, database_name: str
) -> None:
    async with a_job(mongodb, database_name, lease_seconds=0.3, sweep_seconds=0.1, backoff_seconds=0) as job:
        await job.becomes_ready()
        run = await job.submit()
        (stopped,) = await job.claim()
        await job.processor.heartbeat(run.id, Heartbeat(fence=stopped.fence, phase="decode", progress=0.5))
        (other,) = await job.claim(wait=15)
        assert other.id == run.id
        await job.processor.complete(run.id, Complete(fence=other.fence, outputs=[OUTPUT]))
        before = await job.status(run.id)
        for late in (
            job.processor.heartbeat(run.id, Heartbeat(fence=stopped.fence)),
            job.processor.complete(run.id, Complete(fence=stopped.fence, outputs=[])),
            job.processor.fail(run.id, Fail(fence=stopped.fence, error=RunError(type="internal", detail="x"))),
            job.processor.release(run.id, Release(fence=stopped.fence)),
        ):
            with pytest.raises(StaleFence):
                await late
        assert await job.status(run.id) == before
        assert (before.status, before.attempt, before.fence) == (RunState.SUCCESS, 2, other.fence)


async def test_a_run_that_kills_its_processor_three_times_is_poison(mongodb: Client, database_name: str) -> None:
    async with a_job(mongodb, database_name, lease_seconds=0.3, sweep_seconds=0.1, backoff_seconds=0) as job:
        await job.becomes_ready()
        run = await job.submit()
        for _ in range(3):
            (claimed,) = await job.claim(wait=15)
            await job.processor.heartbeat(run.id, Heartbeat(fence=claimed.fence))
        async with asyncio.timeout(DEADLINE_SECONDS):
            report = await job.front_ear.heard.get()
        assert (report.id, report.status, report.attempt) == (run.id, RunState.FAILED, 3)
        assert report.error is not None
        assert report.error.type == "poison"


async def test_a_run_ends_by_its_deadline_though_nobody_can_take_it(job: Job) -> None:
    run = a_run("never-offered").model_copy(update={"deadline_seconds": 0.5})
    await job.front.submit(run)
    async with asyncio.timeout(DEADLINE_SECONDS):
        report = await job.front_ear.heard.get()
    assert (report.id, report.status, report.attempt) == (run.id, RunState.FAILED, 0)
    assert report.error is not None
    assert report.error.type == "deadline"


async def test_who_claims_a_run_is_told_how_long_it_has(job: Job) -> None:
    for claim_first in (False, True):
        run = a_run().model_copy(update={"deadline_seconds": 60})
        claiming = asyncio.create_task(job.claim(wait=10)) if claim_first else None
        await job.front.submit(run)
        (claimed,) = await (claiming or job.claim())
        assert claimed.deadline_seconds is not None
        assert 0 < claimed.deadline_seconds <= 60


async def test_a_run_waits_for_a_processor_until_one_that_fits_is_live(job: Job) -> None:
    pinned = await job.submit("checksum@1.2")
    await job.processor.offer([an_offer("1.3.0")])
    assert (await job.status(pinned.id)).phase == "waiting-for-processor"
    await job.processor.offer([an_offer("1.2.7")])
    assert (await job.status(pinned.id)).phase == "QUEUED"
    (claimed,) = await job.claim("checksum@1.2")
    await job.processor.heartbeat(pinned.id, Heartbeat(fence=claimed.fence, phase="UPLOADING", progress=0.25))
    status = await job.status(pinned.id)
    assert (status.phase, status.progress, status.attempt) == ("UPLOADING", 0.25, 1)


async def test_offers_are_kept_by_version_and_the_highest_describes(job: Job) -> None:
    for version in ("1.9.0", "1.10.0", "1.2.0"):
        await job.processor.offer([an_offer(version)])
    (offered,) = await job.front.processors()
    assert (offered.version, offered.live, offered.summary) == ("1.10.0", True, "$sums")
    assert offered.params == an_offer("1.10.0").params
    assert [version.version for version in offered.versions] == ["1.10.0", "1.9.0", "1.2.0"]
    for kept in offered.versions:
        said = an_offer(kept.version)
        assert (kept.params, kept.media_types, kept.limits) == (said.params, said.media_types, said.limits)
        assert kept.live
