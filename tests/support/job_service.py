"""One process of job over ASGI with a real MongoDB, and front and a processor that talk to it."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx

from common.clients.http import ServiceHttp, open_http
from common.clients.job import JobClient
from common.contracts.job import ClaimedRun, ClaimRequest, InputRef, OutputInfo, RunStatus, RunSubmit
from common.errors import Unavailable
from common.ids import new_id
from common.mongo.client import Client
from common.web.serve import Readiness
from gristmill.wire.processors import OfferedLimits, ProcessorOffer
from services.job.app import open_app
from services.job.settings import Settings
from tests.fakes.keys import signer, verifier

OUTPUT = OutputInfo(name="a.webp", mimetype="image/webp", size=3, sha256="0" * 64)
DEADLINE_SECONDS = 20


class FakeFront:
    """Front's ear: settles what it hears, unless it is away."""

    def __init__(self) -> None:
        self.away = False
        self.heard: asyncio.Queue[RunStatus] = asyncio.Queue()

    async def report(self, runs: Sequence[RunStatus]) -> list[str]:
        if self.away:
            raise Unavailable
        for run in runs:
            self.heard.put_nowait(RunStatus.model_validate_json(run.to_wire()))
        return [run.id for run in runs]


class Job:
    """One process of job, and what talks to it."""

    def __init__(self, http: httpx.AsyncClient, readiness: Readiness, front: FakeFront) -> None:
        self.http = http
        self.readiness = readiness
        self.front_ear = front
        self.front = JobClient(ServiceHttp(http, signer("front"), "job"))
        self.processor = JobClient(ServiceHttp(http, signer("processor"), "job"))

    async def becomes_ready(self) -> None:
        async with asyncio.timeout(DEADLINE_SECONDS * 2):
            while (await self.http.get("/readyz")).status_code != 200:  # noqa: ASYNC110 - it shows by asking alone
                await asyncio.sleep(0.05)

    async def submit(self, processor: str = "checksum") -> RunSubmit:
        run = a_run(processor)
        await self.front.submit(run)
        return run

    async def claim(self, processor: str = "checksum", limit: int = 1, wait: float = 10) -> list[ClaimedRun]:
        return await self.processor.claim(a_claim(processor, limit, wait))

    async def status(self, run_id: str) -> RunStatus:
        return (await self.front.statuses([run_id]))[run_id]


def a_run(processor: str = "checksum") -> RunSubmit:
    run_id = new_id()
    picture = InputRef(blob_id=f"i-{run_id}", name="a.png", mimetype="image/png", size=1, sha256="0" * 64)
    return RunSubmit(id=run_id, inputs=[picture], processor=processor, params={"widths": [16]}, tenant="acme")


def a_claim(processor: str = "checksum", limit: int = 1, wait: float = 0) -> ClaimRequest:
    return ClaimRequest(claim_id=new_id(), processors=[processor], max=limit, wait_seconds=wait, first=True)


def an_offer(version: str) -> ProcessorOffer:
    schema = {"$schema": "x", "properties": {"$ref": {"const": "$name"}}, "version": version}
    limits = OfferedLimits(memory_bytes=2**20)
    return ProcessorOffer(
        name="checksum", version=version, summary="$sums", media_types=["*/*"], params=schema, limits=limits
    )


@asynccontextmanager
async def a_job(mongodb: Client, database: str, **changes: Any) -> AsyncIterator[Job]:
    fields = {"mongodb_uri": "unused", "database": database, "front_url": "unused", **changes}
    settings = Settings(callers_dir=Path("unused"), key_file=Path("unused"), **fields)
    readiness, front = Readiness(), FakeFront()
    async with AsyncExitStack() as stack:
        app = await stack.enter_async_context(
            open_app(settings, readiness, mongodb=mongodb, front=front, verifier=verifier("job"))
        )
        http = await stack.enter_async_context(open_http("http://job", transport=httpx.ASGITransport(app)))
        yield Job(http, readiness, front)
