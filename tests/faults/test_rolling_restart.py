"""Every process is restarted in turn while clients are at work; none of them notices."""

import asyncio
import base64
import hashlib
import json
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

from deploy.local import keys, mongod, processes
from deploy.local.mongod import free_ports
from deploy.local.settings import LocalSettings
from deploy.local.supervisor import Supervisor
from tests.faults.balancer import Balanced, balancing
from tests.support.journey import RAW, UNFINISHED
from tests.support.local import Local, environment, running
from tests.support.processes import children_of, until

EXIT_SECONDS = 30
"""How long a process may take to end once it was told to."""
ALL_SECONDS = 480
CLIENTS_OF_A_KIND = 2
# The balancer asks four times a second; the rest of the 30 s is for what is under way.
NOTICE_SECONDS, DRAIN_SECONDS = "2", "25"
PROCESSORS = "2"
REPLICAS = ("FRONT_PORT", "FRONT_INTERNAL_PORT", "BLOB_PORT", "JOB_PORT")
REPLICATED = ("front", "tracker", "blob", "job")


@dataclass(frozen=True)
class Cluster:
    """Two of each service, one of them in a local Gristmill, behind a balancer."""

    local: Local
    others: Supervisor
    ports: dict[str, tuple[int, int]]
    url: str

    def client(self) -> httpx.AsyncClient:
        http = self.local.client()
        http.base_url = httpx.URL(self.url)
        return http

    async def restart_all(self) -> None:
        """SIGTERM to every process, each when the one before it has its successor."""
        for name in REPLICATED:
            module = "services.front.tracker" if name == "tracker" else f"services.{name}"
            await self._restart(name, 0, partial(self.local.pid_of, module))
            await self._restart(name, 1, partial(self._other, name))
        for pid in self._processors():
            os.kill(pid, signal.SIGTERM)
            async with asyncio.timeout(EXIT_SECONDS):
                await until(partial(self._is_replaced, pid))

    def _other(self, name: str) -> int | None:
        return self.others.running.get(name)

    def _is_replaced(self, processor: int) -> bool:
        now = self._processors()
        return processor not in now and len(now) == int(PROCESSORS)

    async def _restart(self, name: str, replica: int, pid_now: Callable[[], int | None]) -> None:
        before = pid_now()
        assert before is not None
        os.kill(before, signal.SIGTERM)
        async with asyncio.timeout(EXIT_SECONDS):
            await until(lambda: pid_now() != before)
        await until(lambda: pid_now() is not None)
        if name != "tracker":
            await ready(self.ports[f"{name.upper()}_PORT"][replica])

    def _processors(self) -> list[int]:
        return [pid for pid, line in children_of(self.local.pid).items() if line.endswith("-m services.processor")]


async def ready(port: int) -> None:
    """Until a replica says that it takes requests."""
    async with httpx.AsyncClient(trust_env=False) as http:
        while True:
            with suppress(httpx.TransportError):
                if (await http.get(f"http://127.0.0.1:{port}/readyz")).is_success:
                    return
            await asyncio.sleep(0.05)


@asynccontextmanager
async def cluster(folder: Path) -> AsyncIterator[Cluster]:
    first = environment(folder / "data")
    second = dict(zip(REPLICAS, map(str, free_ports(len(REPLICAS))), strict=True))
    ports = {name: (int(first[name]), int(second[name])) for name in REPLICAS}
    front, internal, blob, job = (
        Balanced(port, ports[name], has_probes=name != "FRONT_INTERNAL_PORT")
        for name, port in zip(REPLICAS, free_ports(len(REPLICAS)), strict=True)
    )
    told = {
        **first,
        "BLOB_STORE": "s3",  # a folder is for one blob alone
        "PROCESSORS": PROCESSORS,
        "FRONT_BLOB_URL": blob.url,
        "FRONT_JOB_URL": job.url,
        "JOB_FRONT_URL": internal.url,
        "PROCESSOR_BLOB_URL": blob.url,
        "PROCESSOR_JOB_URL": job.url,
        **{f"{name}_NOTICE_SECONDS": NOTICE_SECONDS for name in ("FRONT", "BLOB", "JOB")},
        **{f"{name}_DRAIN_SECONDS": DRAIN_SECONDS for name in ("FRONT", "BLOB", "JOB", "PROCESSOR")},
    }
    async with balancing(folder, front, internal, blob, job), running(told) as local:
        settings = LocalSettings(
            gristmill_data=local.data,
            blob_store="s3",
            s3_port=int(first["S3_PORT"]),
            front_port=ports["FRONT_PORT"][1],
            front_internal_port=ports["FRONT_INTERNAL_PORT"][1],
            blob_port=ports["BLOB_PORT"][1],
            job_port=ports["JOB_PORT"][1],
        )
        uri = mongod.uri(int(first["MONGODB_PORT"]))
        async with Supervisor(folder / "logs", print) as others:
            for process in processes.services(settings, keys.ensure(local.data), uri, {**told, **second}):
                if process.name in REPLICATED:
                    await others.start(process)
            for name in ("FRONT_PORT", "BLOB_PORT", "JOB_PORT"):
                await ready(ports[name][1])
            yield Cluster(local, others, ports, front.url)


@dataclass(frozen=True)
class Clients:
    """Who go on until they are told that it is over. Whatever isn't answered as it should be fails the test."""

    http: httpx.AsyncClient
    over: asyncio.Event
    done: dict[str, int]

    async def keep(self, work: Callable[[bytes], Awaitable[None]], number: int) -> None:
        while not self.over.is_set():
            await work(f"{work.__name__} {number} {self.done[work.__name__]}".encode())
            self.done[work.__name__] += 1

    async def send_raw_and_wait(self, content: bytes) -> None:
        answer = await self.http.post(
            "/api/v1/job?processor=checksum", content=content, headers={**RAW, "Prefer": "wait=20"}
        )
        assert answer.status_code == 201, answer.text
        await self._check(answer.headers["Location"], content)

    async def send_json_and_ask(self, content: bytes) -> None:
        file = {"mimetype": "text/plain", "content": base64.b64encode(content).decode()}
        answer = await self.http.post("/api/v1/job", json={"processor": "checksum", **file})
        assert answer.status_code == 201, answer.text
        while (await self._get(f"{answer.headers['Location']}/status"))["status"] in UNFINISHED:  # noqa: ASYNC110 - it asks
            await asyncio.sleep(0.05)
        await self._get("/api/v1/job?limit=5")
        await self._check(answer.headers["Location"], content)

    async def send_and_watch(self, content: bytes) -> None:
        """A stream may end early; who comes again with the last id gets what is new."""
        answer = await self.http.post("/api/v1/job?processor=checksum", content=content, headers=RAW)
        assert answer.status_code == 201, answer.text
        location, status, headers = answer.headers["Location"], "", dict[str, str]()
        while status in ("", *UNFINISHED):
            async with self.http.stream("GET", f"{location}/events", headers=headers) as events:
                assert events.status_code in (200, 204), await events.aread()
                if events.status_code == 204:
                    break
                async for line in events.aiter_lines():
                    field, _, value = line.partition(": ")
                    if field == "id":
                        headers = {"Last-Event-ID": value}
                    elif field == "data":
                        status = json.loads(value)["status"]
        await self._check(location, content)

    async def _check(self, location: str, content: bytes) -> None:
        job = await self._get(location)
        assert job["status"] == "EXECUTION_COMPLETED", job
        (output,) = job["outputs"]
        assert (await self._get(output["href"]))["digest"] == hashlib.sha256(content).hexdigest()

    async def _get(self, path: str) -> dict[str, Any]:
        answer = await self.http.get(path)
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found


@pytest.mark.slow
async def test_fault_28_every_process_is_restarted_in_turn_under_load(tmp_path: Path) -> None:
    async with cluster(tmp_path) as gristmill, gristmill.client() as http, asyncio.timeout(ALL_SECONDS):
        clients = Clients(http, asyncio.Event(), {})
        kinds = (clients.send_raw_and_wait, clients.send_json_and_ask, clients.send_and_watch)
        clients.done.update(dict.fromkeys((kind.__name__ for kind in kinds), 0))
        async with asyncio.TaskGroup() as group:
            for kind in kinds:
                for number in range(CLIENTS_OF_A_KIND):
                    group.create_task(clients.keep(kind, number))
            await gristmill.restart_all()
            clients.over.set()
        print(clients.done)  # noqa: T201 - pytest shows it when a test has failed
        assert min(clients.done.values()) > 8
