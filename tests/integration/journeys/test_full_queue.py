"""A tenant that has as much in the queue as it may is told so, and loses nothing of what was taken before."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from common.contracts.job import ClaimRequest, Complete
from common.errors import TooManyRequests
from common.ids import new_id
from services.front.domain.job import Status
from tests.support.manual_processor import offer_checksum
from tests.support.platform import Platform, eventually, open_platform
from tests.support.submitting import KINDS, Post, job_id_of, post_raw

SECONDS = 2


@pytest.fixture
async def platform(mongodb_uri: str, tmp_path: Path) -> AsyncIterator[Platform]:
    async with open_platform(mongodb_uri, f"test-{new_id()}", tmp_path, lease_seconds=0.5) as platform:
        yield platform


async def fill(platform: Platform, alice: httpx.AsyncClient) -> str:
    """Let job refuse a run, and return its job, which was taken before anybody knew."""
    platform.to_job.refused["submit"] = TooManyRequests(headers={"Retry-After": str(SECONDS)})
    job_id = job_id_of(await post_raw(alice))

    async def known() -> bool:
        return (await post_raw(alice)).status_code == 429

    await eventually(known)
    return job_id


@pytest.mark.parametrize("post", KINDS)
async def test_it_is_refused_before_a_byte_is_taken(platform: Platform, post: Post) -> None:
    alice = platform.client()
    await fill(platform, alice)
    before = await platform.core.jobs.jobs.count_documents({})
    answer = await post(alice)
    assert (answer.status_code, answer.json()["type"]) == (429, "/problems/too-many-requests")
    assert 1 <= int(answer.headers["retry-after"]) <= SECONDS
    assert await platform.core.jobs.jobs.count_documents({}) == before
    assert (await post(platform.client("other", "bob"))).status_code == 201, "others don't notice"


@pytest.mark.parametrize("post", KINDS)
async def test_a_repeat_of_what_was_taken_is_answered(platform: Platform, post: Post) -> None:
    alice = platform.client()
    alice.headers["Idempotency-Key"] = "key"
    job_id = job_id_of(await post(alice))
    await fill(platform, platform.client())
    assert job_id_of(await post(alice)) == job_id
    alice.headers["Idempotency-Key"] = "another"
    assert (await post(alice)).status_code == 429


async def test_no_byte_is_asked_for(platform: Platform) -> None:
    alice = platform.client()
    await fill(platform, alice)

    async def never() -> AsyncIterator[bytes]:
        pytest.fail("the body was asked for")
        yield b""

    headers = {"Content-Type": "text/plain", "Content-Length": "1000"}
    answer = await alice.post("/api/v1/job?processor=checksum", content=never(), headers=headers)
    assert answer.status_code == 429


async def test_what_was_taken_goes_on_when_there_is_room(platform: Platform) -> None:
    alice = platform.client()
    job_id = await fill(platform, alice)
    assert (await alice.get(f"/api/v1/job/{job_id}/status")).json()["status"] == "STORED"
    submits = platform.to_job.calls.count("submit")
    await asyncio.sleep(platform.settings.lease_seconds)  # the server's clock can't be moved
    await platform.recover()()
    assert platform.to_job.calls.count("submit") == submits, "job isn't asked again before its time"
    platform.to_job.refused.clear()

    async def done() -> bool:
        await platform.recover()()
        return bool((await alice.get(f"/api/v1/job/{job_id}/status")).json()["status"] == "EXECUTION_COMPLETED")

    await eventually(done)
    assert (await post_raw(alice)).status_code == 201


async def test_with_the_real_job_nothing_that_was_taken_is_lost(mongodb_uri: str, tmp_path: Path) -> None:
    async with open_platform(
        mongodb_uri, f"test-{new_id()}", tmp_path, processor=False, max_queued_per_tenant=1, lease_seconds=0.5
    ) as platform:
        await offer_checksum(platform)
        alice, taken = platform.client(), []

        async def is_full() -> bool:
            answer = await post_raw(alice)
            if answer.status_code == 429:
                return True
            taken.append(job_id_of(answer))
            return False

        await eventually(is_full)
        assert len(taken) >= 2, "who is over the limit is told so after the first that is"
        assert (await post_raw(platform.client("other", "bob"))).status_code == 201

        async def all_done() -> bool:
            """One run after the other; as one ends there is room for the next."""
            await platform.recover()()
            wanted = ClaimRequest(claim_id=new_id(), processors=["checksum"], max=8)
            for run in await platform.as_processor.claim(wanted):
                await platform.as_processor.complete(run.id, Complete(fence=run.fence, outputs=[]))
            jobs = (await platform.core.jobs.find_many(taken)).values()
            return {job.status for job in jobs} == {Status.EXECUTION_COMPLETED}

        await eventually(all_done)
