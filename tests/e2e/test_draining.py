"""A front that is told to stop says so before it refuses anything."""

import asyncio
import contextlib
import os
import signal
from pathlib import Path

import httpx
import pytest

from tests.support.local import Local, environment, running
from tests.support.processes import until

pytestmark = pytest.mark.long

LATE_JOBS = 8


async def test_a_front_that_stops_takes_requests_until_balancers_know(tmp_path: Path) -> None:
    settings = {**environment(tmp_path), "FRONT_NOTICE_SECONDS": "8", "FRONT_DRAIN_SECONDS": "20"}
    async with running(settings) as local, local.client() as http, local.client() as latecomer, asyncio.timeout(50):
        front = local.pid_of("services.front")
        assert front is not None
        waiting = await http.post(
            "/api/v1/job?processor=checksum", content=b"1", headers={"Content-Type": "text/plain"}
        )
        os.kill(front, signal.SIGTERM)
        while (await http.get("/readyz")).status_code != 503:  # noqa: ASYNC110 - it shows by asking alone
            await asyncio.sleep(0.02)
        for number in range(LATE_JOBS):  # which take longer than a server takes to close its port
            late = await latecomer.post(
                "/api/v1/job?processor=checksum",
                content=b"%d" % number,
                headers={"Content-Type": "text/plain", "Prefer": "wait=20", "Connection": "close"},
            )
            assert (late.status_code, late.json()["status"]) == (201, "EXECUTION_COMPLETED")
        assert local.pid_of("services.front") == front
        await until(lambda: local.pid_of("services.front") not in (None, front))
        await _ready(local)
        answer = await http.get(f"{waiting.headers['Location']}/status", headers={"Prefer": "wait=20"})
        assert answer.json()["status"] == "EXECUTION_COMPLETED"


async def _ready(local: Local) -> None:
    async with local.client() as http:
        while True:
            with contextlib.suppress(httpx.TransportError):
                if (await http.get("/readyz")).is_success:
                    return
            await asyncio.sleep(0.05)
