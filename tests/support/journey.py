"""What every fault test does: start a Gristmill, hand a file in, and see that it comes to its one promised end."""

import asyncio
import hashlib
import json
import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx

from tests.support.local import Local, environment, running

CONTENT = b"hello, faults"
UNFINISHED = ("CREATED", "STORED", "SUBMITTED")
ENOUGH_SECONDS = 90
RAW = {"Content-Type": "text/plain"}


@asynccontextmanager
async def crashing(moment: str, folder: Path, **settings: str) -> AsyncIterator[tuple[Local, Path]]:
    """A Gristmill of which one process dies once, at `moment` (common/crash.py), and the file that says it did."""
    mark = folder / "crashed"
    told = {**environment(folder / "data"), "JOB_BACKOFF_SECONDS": "0.1", **settings}
    async with running({**told, "CRASH_AT": moment, "CRASH_MARK": str(mark)}) as local:
        async with asyncio.timeout(ENOUGH_SECONDS):
            yield local, mark


@contextmanager
def stopped(local: Local, module: str) -> Iterator[None]:
    """A service that is there and answers nothing, as after a SIGSTOP."""
    pid = local.pid_of(module)
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


async def hand_in(http: httpx.AsyncClient, content: bytes = CONTENT) -> str:
    """Where the job is. A post that isn't acknowledged is made again, as a client would."""
    while True:
        try:
            answer = await http.post("/api/v1/job?processor=checksum", content=content, headers=RAW)
        except httpx.TransportError:
            await asyncio.sleep(0.05)
            continue
        if answer.status_code == 201:
            return str(answer.headers["Location"])
        assert answer.status_code in (502, 503), answer.text
        await asyncio.sleep(0.05)


async def ended(http: httpx.AsyncClient, location: str) -> dict[str, Any]:
    """The job's status once it is final."""
    while True:
        try:
            answer = await http.get(f"{location}/status", headers={"Prefer": "wait=10"})
        except httpx.TransportError:
            await asyncio.sleep(0.05)
            continue
        assert answer.status_code in (200, 503), answer.text
        if answer.is_success and answer.json()["status"] not in UNFINISHED:
            job: dict[str, Any] = answer.json()
            return job


async def assert_completes(http: httpx.AsyncClient, location: str, content: bytes = CONTENT) -> None:
    """The job is done, has one output, and that is the right one."""
    job = await ended(http, location)
    assert job["status"] == "EXECUTION_COMPLETED", job
    outputs = (await http.get(location)).raise_for_status().json()["outputs"]
    assert [output["name"] for output in outputs] == ["checksum.json"]
    fetched = (await http.get(outputs[0]["href"])).raise_for_status()
    assert hashlib.sha256(fetched.content).hexdigest() == outputs[0]["sha256"]
    assert fetched.json()["digest"] == hashlib.sha256(content).hexdigest()


async def logged(local: Local, process: str, action: str, **fields: object) -> None:
    """Wait until a process has logged an action with these fields."""
    log = local.data / "logs" / f"{process}.log"
    wanted = {"action": action, **fields}.items()
    while not any(wanted <= entry.items() for entry in _entries(log)):  # noqa: ASYNC110 - another process writes it
        await asyncio.sleep(0.05)


def _entries(log: Path) -> Iterator[dict[str, Any]]:
    for line in log.read_text().splitlines():
        with suppress(json.JSONDecodeError):  # the last one may be half written
            yield json.loads(line)
