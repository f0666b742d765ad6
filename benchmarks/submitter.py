"""Plays front to job: submits runs, and hears from job when they have ended."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
from aiohttp import web

from benchmarks.measure import Sample, percentile
from common.auth import ServiceTokenSigner
from common.contracts.job import InputRef, RunSubmit
from common.ids import input_blob_id, new_id


class Submitter:
    """One for each job process, so that all reports come here."""

    def __init__(self, http: aiohttp.ClientSession, signer: ServiceTokenSigner) -> None:
        self._http = http
        self._signer = signer
        self._waiting: dict[str, asyncio.Future[float]] = {}

    async def reported(self, request: web.Request) -> web.Response:
        """`POST /internal/run`, as front has it: every run is settled."""
        ids = [run["id"] for run in json.loads(await request.read())["runs"]]
        for run_id in ids:
            ended = self._waiting.pop(run_id, None)
            if ended is not None:
                ended.set_result(time.monotonic())
        return web.json_response({"settled": ids})

    async def round(self, processor: str, count: int, submitters: int, idle: int) -> Sample:
        """`count` runs by so many submitters at once, in runs per second; then `idle` single ones, in milliseconds."""
        bodies = [new_run(processor) for _ in range(count)]
        left = iter(bodies)
        started = time.monotonic()
        ends: list[asyncio.Future[float]] = []

        async def submit_some() -> None:
            for run in left:
                ends.append(await self._submit(run))  # noqa: PERF401 - an `await` for each is the point

        await asyncio.gather(*(submit_some() for _ in range(submitters)))
        submitted = time.monotonic()
        ended = max(await asyncio.gather(*ends))
        taken = []
        for _ in range(idle):
            run, before = new_run(processor), time.monotonic()
            taken.append(await (await self._submit(run)) - before)
        return {
            "submits": count / (submitted - started),
            "rate": count / (ended - started),
            "p50": percentile(taken, 50) * 1e3,
            "p99": percentile(taken, 99) * 1e3,
        }

    async def _submit(self, run: RunSubmit) -> asyncio.Future[float]:
        ended = self._waiting[run.id] = asyncio.get_running_loop().create_future()
        headers = {"Authorization": f"Bearer {self._signer.token('job')}", "Content-Type": "application/json"}
        async with self._http.post("/api/v1/job", data=run.to_wire(), headers=headers) as response:
            response.raise_for_status()
            await response.read()
        return ended


def new_run(processor: str) -> RunSubmit:
    job_id = new_id()
    source = InputRef(blob_id=input_blob_id(job_id), name="x", mimetype="text/plain", size=1, sha256="0" * 64)
    return RunSubmit(id=job_id, inputs=[source], processor=processor, params={}, tenant="bench")


@asynccontextmanager
async def listening(submitter: Submitter, port: int) -> AsyncIterator[None]:
    """The port that job reports to."""
    app = web.Application(client_max_size=2**24)
    app.router.add_post("/internal/run", submitter.reported)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", port).start()
        yield
    finally:
        await runner.cleanup()
