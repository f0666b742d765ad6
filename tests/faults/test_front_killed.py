"""Front is killed beside the write that makes a job: there is none, or it comes to its end without its client."""

import asyncio
import base64
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.journey import CONTENT, RAW, assert_completes, crashing, hand_in, logged
from tests.support.marks import long

# Until its lease has lapsed, the key belongs to the front that died.
SHORT_KEYS = {"FRONT_IDEMPOTENCY_LEASE_SECONDS": "1"}
KEY = {"Idempotency-Key": "only-once"}
BODY = {"content": base64.b64encode(CONTENT).decode(), "mimetype": "text/plain", "processor": "checksum"}


async def post(http: httpx.AsyncClient, kind: str) -> httpx.Response:
    if kind == "json":
        return await http.post("/api/v1/job", json=BODY, headers=KEY)
    return await http.post("/api/v1/job?processor=checksum", content=CONTENT, headers={**RAW, **KEY})


async def post_again(http: httpx.AsyncClient, kind: str) -> str:
    """Where the job is, which a client learns that goes on asking with the key of a post that broke off."""
    while True:
        try:
            answer = await post(http, kind)
        except httpx.TransportError:
            await asyncio.sleep(0.05)
            continue
        if answer.status_code != 409:
            return str(answer.raise_for_status().headers["Location"])
        await asyncio.sleep(0.1)


async def jobs(http: httpx.AsyncClient) -> list[dict[str, Any]]:
    """All that there are, once front is back."""
    while True:
        try:
            answer = await http.get("/api/v1/job")
        except httpx.TransportError:
            await asyncio.sleep(0.05)
            continue
        items: list[dict[str, Any]] = answer.raise_for_status().json()["items"]
        return items


@pytest.mark.parametrize("kind", long("raw", "json"))
async def test_fault_01_front_killed_before_the_job_is_written(tmp_path: Path, kind: str) -> None:
    async with crashing("front.writing", tmp_path, **SHORT_KEYS) as (local, mark), local.client() as http:
        with pytest.raises(httpx.TransportError):
            await post(http, kind)
        assert mark.exists()
        assert await jobs(http) == []
        location = await post_again(http, kind)
        assert [f"/api/v1/job/{job['id']}" for job in await jobs(http)] == [location]
        await assert_completes(http, location)


@pytest.mark.parametrize(
    ("kind", "state"),
    [
        pytest.param("json", "CREATED", id="04", marks=pytest.mark.long),
        pytest.param("raw", "STORED", id="05", marks=pytest.mark.long),
    ],
)
async def test_fault_02_04_05_front_killed_after_the_job_is_written(tmp_path: Path, kind: str, state: str) -> None:
    async with crashing("front.written", tmp_path, **SHORT_KEYS) as (local, mark), local.client() as http:
        with pytest.raises(httpx.TransportError):
            await post(http, kind)
        assert mark.exists()
        (job,) = await jobs(http)
        # Job has never heard of it, and its client doesn't ask: nobody but the tracker moves it on.
        await logged(local, "tracker", "recover.carried_on", job=job["id"], status=state)
        location = f"/api/v1/job/{job['id']}"
        await assert_completes(http, location)
        assert await post_again(http, kind) == location
        assert len(await jobs(http)) == 1


@pytest.mark.long
async def test_fault_05_front_killed_before_it_has_written_that_job_has_the_run(tmp_path: Path) -> None:
    async with crashing("front.submitted", tmp_path) as (local, mark), local.client() as http:
        await assert_completes(http, await hand_in(http))
        assert mark.exists()
        for job in await jobs(http):  # one or two: front may have died before its response
            location = f"/api/v1/job/{job['id']}"
            await assert_completes(http, location)
            done = (await http.get(location)).raise_for_status().json()
            states = [entry["status"] for entry in done["history"]]
            assert (states, done["attempt"]) == (["CREATED", "STORED", "SUBMITTED", "EXECUTION_COMPLETED"], 1)
