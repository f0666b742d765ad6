"""Each kind of process is killed in turn while jobs come in: what was acknowledged is done, once."""

import asyncio
import base64
import hashlib
import random

import httpx

from tests.e2e.conftest import Local

JOBS = 50
AT_ONCE = 4
VICTIMS = ("services.processor", "services.job", "services.blob", "services.front")


class Clients:
    """Hand in jobs, and again where a post failed: that one was not acknowledged."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self._http = http
        self._random = random.Random(1)
        self.acknowledged: dict[str, bytes] = {}
        self._progress = asyncio.Condition()

    async def hand_in(self, count: int) -> None:
        for number in range(count):
            content = self._random.randbytes(self._random.randrange(1_000, 200_000))
            location = await self._post(content, as_json=number % 2 == 0)
            async with self._progress:
                self.acknowledged[location] = content
                self._progress.notify_all()

    async def _post(self, content: bytes, *, as_json: bool) -> str:
        while True:
            try:
                answer = await (self._post_json(content) if as_json else self._post_raw(content))
            except httpx.TransportError:
                await asyncio.sleep(0.05)
                continue
            if answer.status_code == 201:
                return answer.headers["Location"]
            assert answer.status_code >= 500, answer.text
            await asyncio.sleep(0.05)

    async def _post_json(self, content: bytes) -> httpx.Response:
        body = {
            "content": base64.b64encode(content).decode(),
            "mimetype": "application/octet-stream",
            "processor": "checksum",
        }
        return await self._http.post("/api/v1/job", json=body)

    async def _post_raw(self, content: bytes) -> httpx.Response:
        headers = {"Content-Type": "application/octet-stream"}
        return await self._http.post("/api/v1/job?processor=checksum", content=content, headers=headers)

    async def reached(self, count: int) -> None:
        async with self._progress:
            await self._progress.wait_for(lambda: len(self.acknowledged) >= count)

    async def ended(self, location: str) -> dict[str, object]:
        while True:
            try:
                answer = await self._http.get(f"{location}/status", headers={"Prefer": "wait=10"})
            except httpx.TransportError:
                await asyncio.sleep(0.05)
                continue
            assert answer.status_code in (200, 503), answer.text
            if answer.is_success and answer.json()["status"] not in ("CREATED", "STORED", "SUBMITTED"):
                job: dict[str, object] = answer.json()
                return job


async def test_survives_killing_each_process(gristmill: Local) -> None:
    async with gristmill.client() as http, asyncio.timeout(110):
        clients = Clients(http)

        async def kill_in_turn() -> None:
            for round_, module in enumerate(VICTIMS, start=1):
                await clients.reached(round_ * JOBS // (len(VICTIMS) + 1))
                await gristmill.kill(module)

        async with asyncio.TaskGroup() as group:
            group.create_task(kill_in_turn())
            for number in range(AT_ONCE):
                group.create_task(clients.hand_in(JOBS // AT_ONCE + (number < JOBS % AT_ONCE)))

        assert len(clients.acknowledged) == JOBS
        for location, content in clients.acknowledged.items():
            job = await clients.ended(location)
            assert job["status"] == "EXECUTION_COMPLETED", job
            outputs = (await http.get(location)).raise_for_status().json()["outputs"]
            assert [output["name"] for output in outputs] == ["checksum.json"]
            fetched = (await http.get(outputs[0]["href"])).raise_for_status()
            assert hashlib.sha256(fetched.content).hexdigest() == outputs[0]["sha256"]
            assert fetched.json()["digest"] == hashlib.sha256(content).hexdigest()
