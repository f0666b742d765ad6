"""MongoDB stops answering, or dies, under a running Gristmill: nothing hangs, and what is promised is kept."""

import asyncio
import base64
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from tests.support.journey import RAW, assert_completes, hand_in, stopped
from tests.support.local import Local, environment, running

# Far above every deadline: only what hangs takes so long.
HANGS_SECONDS = 40
JSON = {"processor": "checksum", "mimetype": "text/plain", "content": base64.b64encode(b"json").decode()}
BATCH = {"processor": "checksum", "files": [{"name": "a", "size": 1, "mimetype": "text/plain"}]}
POST = "/api/v1/job?processor=checksum"


@pytest.fixture(scope="module")
async def local(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Local]:
    async with running(environment(Path(tmp_path_factory.mktemp("mongodb-away")))) as started:
        yield started


@pytest.fixture
async def http(local: Local) -> AsyncIterator[httpx.AsyncClient]:
    async with asyncio.timeout(90), local.client() as client:
        yield client


@pytest.mark.long
async def test_fault_18_while_mongodb_hangs_every_answer_is_503_and_none_hangs(
    local: Local, http: httpx.AsyncClient
) -> None:
    location = await hand_in(http)
    await assert_completes(http, location)
    with stopped(local, "mongod"):
        async with asyncio.timeout(HANGS_SECONDS):
            answers = await asyncio.gather(
                http.post(POST, content=b"raw", headers=RAW),
                http.post("/api/v1/job", json=JSON),
                http.post(POST, content=b"raw", headers={**RAW, "Idempotency-Key": "once"}),
                http.post("/api/v1/batch", json=BATCH),
                http.post(f"{location}/cancel"),
                http.get(location),
                http.get(f"{location}/status"),
                http.get(f"{location}/status", headers={"Prefer": "wait=5"}),
                http.get(f"{location}/output"),
                http.get(f"{location}/events"),
                http.get("/api/v1/job"),
                http.get("/readyz"),
            )
            assert (await http.get("/livez")).status_code == 200
        for answer in answers:
            assert answer.status_code == 503, (str(answer.request.url), answer.text)
            assert answer.json()["type"] == "/problems/unavailable"
            assert int(answer.headers["Retry-After"]) > 0
    await assert_completes(http, location)
    await assert_completes(http, await hand_in(http))
    assert (await http.get("/readyz")).status_code == 200


@pytest.mark.long
async def test_fault_18_what_is_acknowledged_while_mongodb_dies_completes(
    local: Local, http: httpx.AsyncClient
) -> None:
    acknowledged: list[tuple[str, bytes]] = []
    died = asyncio.Event()

    async def keep_handing_in(client: int) -> None:
        n = 0
        while not died.is_set():
            n += 1
            content = f"{client} {n}".encode()
            acknowledged.append((await hand_in(http, content), content))

    async with asyncio.TaskGroup() as group:
        for client in range(4):
            group.create_task(keep_handing_in(client))
        for _ in range(2):
            before = len(acknowledged)
            while len(acknowledged) < before + 8:  # noqa: ASYNC110 - until they are at it
                await asyncio.sleep(0.02)
            await local.kill("mongod")
        before = len(acknowledged)
        while len(acknowledged) < before + 8:  # noqa: ASYNC110 - until they are at it again
            await asyncio.sleep(0.02)
        died.set()
    for location, content in acknowledged:
        await assert_completes(http, location, content)
