"""A tenant that has as much in the queue as it may is told so, and loses nothing of what was taken before."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from common.errors import TooManyRequests
from common.ids import new_id
from tests.integration.asking import KINDS, Ask, ask_raw, job_id_of
from tests.integration.platform import Platform, eventually, open_platform

SECONDS = 2


@pytest.fixture
async def platform(mongodb_uri: str, tmp_path: Path) -> AsyncIterator[Platform]:
    async with open_platform(mongodb_uri, f"test-{new_id()}", tmp_path, lease_seconds=0.5) as platform:
        yield platform


async def fill(platform: Platform, alice: httpx.AsyncClient) -> str:
    """Let job refuse a run, and return its job, which was taken before anybody knew."""
    platform.to_job.refused["submit"] = TooManyRequests(headers={"Retry-After": str(SECONDS)})
    job_id = job_id_of(await ask_raw(alice))

    async def known() -> bool:
        return (await ask_raw(alice)).status_code == 429

    await eventually(known)
    return job_id


@pytest.mark.parametrize("ask", KINDS)
async def test_it_is_refused_before_a_byte_is_taken(platform: Platform, ask: Ask) -> None:
    alice = platform.client()
    await fill(platform, alice)
    before = await platform.core.jobs.jobs.count_documents({})
    answer = await ask(alice)
    assert (answer.status_code, answer.json()["type"]) == (429, "/problems/too-many-requests")
    assert 1 <= int(answer.headers["retry-after"]) <= SECONDS
    assert await platform.core.jobs.jobs.count_documents({}) == before
    assert (await ask(platform.client("other", "bob"))).status_code == 201, "others don't notice"


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
    assert (await ask_raw(alice)).status_code == 201
