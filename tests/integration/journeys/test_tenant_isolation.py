"""One owner never learns that another's job exists."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from common.ids import new_id
from tests.support.platform import Platform, open_platform

OTHERS = [("acme", "bob"), ("other", "alice"), ("other", "bob"), ("alice", "acme")]
PATHS = ["", "/status", "/output", "/output/checksum.json"]


@pytest.fixture(scope="module")
async def platform(mongodb_uri: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Platform]:
    folder = Path(tmp_path_factory.mktemp("isolation"))
    async with open_platform(mongodb_uri, f"test-{new_id()}", folder) as platform:
        yield platform


async def finished_job(platform: Platform, client: httpx.AsyncClient) -> str:
    created = await client.post(
        "/api/v1/job?processor=checksum",
        content=b"secret",
        headers={"Content-Type": "text/plain", "Prefer": "wait=20"},
    )
    assert created.json()["status"] == "EXECUTION_COMPLETED"
    job_id: str = created.json()["id"]
    return job_id


def said(answer: httpx.Response) -> tuple[int, dict[str, str], bytes]:
    return answer.status_code, dict(answer.headers), answer.content


@pytest.mark.parametrize("prefer", [None, "wait=1"])
async def test_anothers_job_looks_like_none_on_every_route(platform: Platform, prefer: str | None) -> None:
    job_id = await finished_job(platform, platform.client())
    headers = {"Prefer": prefer} if prefer else {}
    for tenant, subject in OTHERS:
        stranger = platform.client(tenant, subject)
        for path in PATHS:
            foreign = await stranger.get(f"/api/v1/job/{job_id}{path}", headers=headers)
            unknown = await stranger.get(f"/api/v1/job/{new_id()}{path}", headers=headers)
            assert foreign.status_code == 404
            assert said(foreign) == said(unknown)


async def test_anothers_job_is_not_cancelled_and_looks_like_none(platform: Platform) -> None:
    job_id = await finished_job(platform, platform.client())
    for tenant, subject in OTHERS:
        stranger = platform.client(tenant, subject)
        answers = [
            await stranger.post(f"/api/v1/job/{other}/cancel") for other in (job_id, new_id(), "nonsense", "a" * 500)
        ]
        assert {answer.status_code for answer in answers} == {404}
        assert len({(tuple(answer.headers.items()), answer.content) for answer in answers}) == 1


async def test_an_integer_and_its_text_are_the_same_owner(platform: Platform) -> None:
    job_id = await finished_job(platform, platform.client(7, 42))
    assert (await platform.client("7", "42").get(f"/api/v1/job/{job_id}")).status_code == 200


async def test_reads_that_coalesce_are_checked_one_by_one(platform: Platform) -> None:
    job_id = await finished_job(platform, platform.client())
    readers = [platform.client(), *(platform.client(*other) for other in OTHERS)] * 20
    answers = await asyncio.gather(*(reader.get(f"/api/v1/job/{job_id}/status") for reader in readers))
    assert [answer.status_code for answer in answers] == [200, 404, 404, 404, 404] * 20


async def test_a_stranger_asking_never_makes_front_ask_job(platform: Platform) -> None:
    created = await platform.client().post(
        "/api/v1/job?processor=checksum", content=b"x", headers={"Content-Type": "text/plain"}
    )
    await platform.final(platform.client(), created.json()["id"])
    platform.to_job.calls.clear()
    platform.to_blob.calls.clear()
    for path in PATHS:
        await platform.client("other", "eve").get(created.headers["location"] + path)
    await platform.client("other", "eve").post(created.headers["location"] + "/cancel")
    assert platform.to_job.calls == platform.to_blob.calls == []
