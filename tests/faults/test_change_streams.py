"""Change streams break, and can't be resumed: polling goes on, and nothing is missed."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import httpx
import pytest
from pymongo import MongoClient

from common.mongo.client import Document
from deploy.local import mongod
from tests.support.journey import ENOUGH_SECONDS, UNFINISHED, assert_completes, hand_in, logged
from tests.support.local import environment, running

pytestmark = pytest.mark.long

HISTORY_LOST = 286
"""What MongoDB answers to a token that is older than its oplog (`ChangeStreamHistoryLost`)."""
JOBS = 6


@asynccontextmanager
async def misbehaving_mongod(folder: Path, port: int) -> AsyncIterator[None]:
    """A real mongod that fails as it is told: `failCommand` is among its commands."""
    await asyncio.to_thread(folder.mkdir)
    process = await asyncio.create_subprocess_exec(
        *mongod.command(mongod.find_binary(), folder, port), "--setParameter", "enableTestCommands=1"
    )
    try:
        await mongod.initiate(port)
        yield
    finally:
        process.kill()
        await process.wait()


@contextmanager
def broken_streams(port: int) -> Iterator[None]:
    """Every change stream ends with the first thing that it is asked. Nothing else has a second batch to ask for."""
    with MongoClient[Document](mongod.uri(port)) as client:
        data = {"failCommands": ["getMore"], "errorCode": HISTORY_LOST}
        client.admin.command("configureFailPoint", "failCommand", mode="alwaysOn", data=data)
        try:
            yield
        finally:
            client.admin.command("configureFailPoint", "failCommand", mode="off")


async def seen_by_events(http: httpx.AsyncClient, location: str) -> str:
    """The last state that a job's events tell of."""
    status = ""
    async with http.stream("GET", f"{location}/events") as answer:
        async for line in answer.aiter_lines():
            if line.startswith("data: "):
                status = json.loads(line.removeprefix("data: "))["status"]
    return status


async def test_fault_27_the_change_streams_break_and_their_token_is_too_old(tmp_path: Path) -> None:
    settings = environment(tmp_path / "data")
    port = int(settings["MONGODB_PORT"])
    async with (
        misbehaving_mongod(tmp_path / "mongodb", port),
        running({**settings, "MONGODB_URI": mongod.uri(port)}) as local,
        local.client() as http,
        asyncio.timeout(ENOUGH_SECONDS),
    ):
        await assert_completes(http, await hand_in(http))
        with broken_streams(port):
            await logged(local, "front", "changes.failed", error="OperationFailure")
            await logged(local, "job", "hints.failed", error="OperationFailure")
            locations = await asyncio.gather(*(hand_in(http) for _ in range(JOBS)))
            told = await asyncio.gather(*(seen_by_events(http, location) for location in locations))
            assert told == ["EXECUTION_COMPLETED"] * JOBS
            waiting = await hand_in(http)
            waited = await http.get(f"{waiting}/status", headers={"Prefer": "wait=30"})
            assert waited.json()["status"] not in UNFINISHED
        await asyncio.gather(*(assert_completes(http, location) for location in [*locations, waiting]))
