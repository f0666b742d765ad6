"""A Gristmill is started before its MongoDB."""

import asyncio
import os
from contextlib import AsyncExitStack
from pathlib import Path

import httpx
import pytest

from deploy.local import mongod
from tests.support.journey import ENOUGH_SECONDS, assert_completes, hand_in
from tests.support.local import environment, running
from tests.support.processes import children_of

pytestmark = pytest.mark.long

PORTS = ("FRONT_PORT", "JOB_PORT")


async def answer(http: httpx.AsyncClient, port: str, probe: str) -> httpx.Response:
    """What a process says to a probe, once it listens."""
    while True:
        try:
            return await http.get(f"http://127.0.0.1:{port}/{probe}")
        except httpx.TransportError:
            await asyncio.sleep(0.05)


def services() -> set[int]:
    return {
        pid for mine in children_of(os.getpid()) for pid, line in children_of(mine).items() if "-m services" in line
    }


async def test_fault_17_mongodb_is_not_there_at_start(tmp_path: Path) -> None:
    settings = environment(tmp_path / "data")
    port = mongod.free_port()
    # Not MONGODB_URI, which `make up` looks at before it starts anything.
    settings |= dict.fromkeys(("FRONT_MONGODB_URI", "JOB_MONGODB_URI"), mongod.uri(port))
    async with asyncio.timeout(ENOUGH_SECONDS), AsyncExitStack() as stack, httpx.AsyncClient(trust_env=False) as http:
        starting = asyncio.create_task(stack.enter_async_context(running(settings)))
        for of in PORTS:
            assert (await answer(http, settings[of], "livez")).status_code == 200
            unready = await answer(http, settings[of], "readyz")
            assert (unready.status_code, unready.json()["type"]) == (503, "/problems/unavailable")
        before = services()
        late = await mongod.start(tmp_path / "mongodb", port)
        try:
            local = await starting
            for of in PORTS:
                assert (await answer(http, settings[of], "readyz")).status_code == 200
            async with local.client() as client:
                await assert_completes(client, await hand_in(client))
            assert len(before) >= 4
            assert services() >= before, "nobody was started again"
            await stack.aclose()
        finally:
            late.kill()
            await late.wait()
