"""The primary of a replica set of three dies under a running Gristmill, which goes on with the next."""

import asyncio
from collections import Counter
from pathlib import Path

import httpx
import pytest

from tests.faults.replica_set import three_nodes
from tests.support.journey import ENOUGH_SECONDS, RAW, assert_completes
from tests.support.local import environment, running

CLIENTS = 4
JOBS_AROUND = 12


@pytest.mark.slow
async def test_fault_16_the_primary_of_three_nodes_is_killed(tmp_path: Path) -> None:
    acknowledged: list[tuple[str, bytes]] = []
    answers: Counter[int] = Counter()
    enough = asyncio.Event()

    async def keep_handing_in(http: httpx.AsyncClient, client: int) -> None:
        while not enough.is_set():
            content = f"{client} {answers.total()}".encode()
            answer = await http.post("/api/v1/job?processor=checksum", content=content, headers=RAW)
            answers[answer.status_code] += 1
            if answer.status_code == 201:
                acknowledged.append((answer.headers["Location"], content))
            else:
                assert answer.status_code == 503, answer.text
                assert int(answer.headers["Retry-After"]) > 0

    async def more(count: int) -> None:
        wanted = len(acknowledged) + count
        while len(acknowledged) < wanted:  # noqa: ASYNC110 - until they are at it
            await asyncio.sleep(0.02)

    async with three_nodes(tmp_path / "mongodb") as replica_set, asyncio.timeout(ENOUGH_SECONDS):
        settings = {**environment(tmp_path / "data"), "MONGODB_URI": replica_set.uri}
        async with running(settings) as local, local.client() as http, asyncio.TaskGroup() as group:
            for client in range(CLIENTS):
                group.create_task(keep_handing_in(http, client))
            await more(JOBS_AROUND)
            killed = await replica_set.kill_primary()
            assert await replica_set.primary() != killed
            await more(JOBS_AROUND)
            enough.set()
            for location, content in acknowledged:
                await assert_completes(http, location, content)
    assert answers[201] == len({location for location, _ in acknowledged})
