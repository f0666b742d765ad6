"""The whole way: a file POSTed to front until its job is EXECUTION_COMPLETED, through all five processes."""

import asyncio
import random
import time
from contextlib import suppress
from functools import partial
from pathlib import Path

import aiohttp

from benchmarks.measure import Effort, Sample, Section, alternate, percentile
from benchmarks.system import System, system

JOBS = 200
IDLE_JOBS = 50
AT_ONCE = 32
BODY_BYTES = 10_000
READY_SECONDS = 60
QUERY = "/api/v1/job?processor=checksum"
HEADERS = {"Content-Type": "application/octet-stream", "Prefer": "wait=60"}


async def run(effort: Effort, folder: Path) -> Section:
    jobs, idle = effort.of(JOBS), effort.of(IDLE_JOBS)
    section = Section(
        "public",
        "A small file through the public API",
        f"{jobs} raw POSTs of {BODY_BYTES // 1000} KB to `checksum` a round, {AT_ONCE} at once, each with `Prefer: "
        f"wait=60` until EXECUTION_COMPLETED; then {idle} single ones. front, tracker, blob, job and one processor "
        "with one slot (one run at a time, in a child process), as `make up` starts them. No peer, so no ratio.",
        {"rate": "jobs/s", "p50": "p50 of one, ms", "p99": "p99 of one, ms"},
    )
    async with (
        system(folder, ["front", "tracker", "blob", "job", "processor"]) as up,
        aiohttp.ClientSession(up.front_url, headers={"Authorization": f"Bearer {up.token('alice')}"}) as http,
    ):
        await _offered(up, http)
        section.results = await alternate({"Gristmill": partial(_round, http, jobs, idle)}, effort)
    return section


async def _round(http: aiohttp.ClientSession, jobs: int, idle: int) -> Sample:
    left = iter(range(jobs))

    async def post_some() -> None:
        for _ in left:
            await _post(http)

    started = time.monotonic()
    await asyncio.gather(*(post_some() for _ in range(AT_ONCE)))
    rate = jobs / (time.monotonic() - started)
    taken = []
    for _ in range(idle):
        before = time.monotonic()
        await _post(http)
        taken.append(time.monotonic() - before)
    return {"rate": rate, "p50": percentile(taken, 50) * 1e3, "p99": percentile(taken, 99) * 1e3}


async def _post(http: aiohttp.ClientSession) -> None:
    async with http.post(QUERY, data=random.randbytes(BODY_BYTES), headers=HEADERS) as response:
        said = await response.json()
    if said.get("status") != "EXECUTION_COMPLETED":
        raise RuntimeError(f"The job has not come to its end: {said}")


async def _offered(up: System, http: aiohttp.ClientSession) -> None:
    async with asyncio.timeout(READY_SECONDS):
        while True:
            with suppress(aiohttp.ClientError):
                async with http.get(f"{up.front_url}/api/v1/processor") as response:
                    if response.ok and (await response.json())["items"]:
                        return
            await asyncio.sleep(0.05)
