"""Gristmill's own processes, started with the environment that `make up` gives them, and others beside them."""

import asyncio
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from benchmarks.measure import say
from common.auth import ServiceTokenSigner
from common.contracts.job import Offers
from deploy.local import keys, mongod, processes, tokens
from deploy.local.keys import Keys
from deploy.local.settings import LocalSettings
from deploy.local.supervisor import Process, Supervisor
from gristmill.wire.processors import ProcessorOffer

READY_SECONDS = 60
TOKEN_SECONDS = 86_400
_POLL_SECONDS = 0.05
# One owner makes all the requests, which have to be counted and not refused.
UNLIMITED = {"FRONT_RATE_REQUESTS": "1000000000"}


@dataclass(frozen=True, slots=True)
class System:
    """Some of the processes, up and ready, over a mongod of their own."""

    settings: LocalSettings
    keys: Keys
    mongodb_uri: str
    supervisor: Supervisor

    @property
    def job_url(self) -> str:
        return f"http://127.0.0.1:{self.settings.job_port}"

    @property
    def front_url(self) -> str:
        return self.settings.front_url

    async def start(self, name: str, *command: str, **variables: str) -> None:
        """One more process, which ends with the others."""
        await self.supervisor.start(Process(name, command, {**os.environ, **variables}))

    @property
    def blob_url(self) -> str:
        return f"http://127.0.0.1:{self.settings.blob_port}"

    async def offer(self, name: str) -> None:
        """Let there be a processor of this name, so that front takes files for it; nothing runs them."""
        signer = ServiceTokenSigner.from_file("processor", self.keys.private("processor"))
        headers = {"Authorization": f"Bearer {signer.token('job')}", "Content-Type": "application/json"}
        offer = ProcessorOffer(name=name, version="1.0.0", summary="Nothing.", media_types=["*/*"], params={})
        async with (
            aiohttp.ClientSession(self.job_url, headers=headers) as http,
            http.post("/api/v1/processor", data=Offers(offers=[offer]).to_wire()) as response,
        ):
            response.raise_for_status()

    def token(self, subject: str) -> str:
        return tokens.make(self.keys.users_secret, "bench", subject, TOKEN_SECONDS)


@asynccontextmanager
async def system(data: Path, names: Sequence[str], **variables: str) -> AsyncIterator[System]:
    """The processes of these names of the Procfile; `variables` go before what `make up` tells them."""
    settings = LocalSettings(
        gristmill_data=data,
        front_port=mongod.free_port(),
        blob_port=mongod.free_port(),
        blob_data_port=mongod.free_port(),
        job_port=mongod.free_port(),
        front_internal_port=mongod.free_port(),
    )
    made = keys.ensure(data)
    port = mongod.free_port()
    async with Supervisor(data / "logs", say) as supervisor:
        # Variables of the shell, such as PROCESSOR_SLOTS, would make two runs differ.
        kept = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "LANG", "TMPDIR")}
        await supervisor.start(processes.embedded_mongod(settings, port, kept))
        await mongod.initiate(port)
        uri = mongod.uri(port)
        for process in processes.services(settings, made, uri, {**kept, **UNLIMITED, **variables}):
            if process.name in names:
                await supervisor.start(process)
        urls = {"front": settings.front_port, "blob": settings.blob_port, "job": settings.job_port}
        for name in names:
            if name in urls:
                await answers(f"http://127.0.0.1:{urls[name]}/readyz")
        yield System(settings, made, uri, supervisor)


async def answers(url: str) -> None:
    """Wait until this address answers 2xx; `TimeoutError` after a minute."""
    async with asyncio.timeout(READY_SECONDS), aiohttp.ClientSession() as http:
        while True:
            with suppress(aiohttp.ClientError):
                async with http.get(url) as response:
                    if response.ok:
                        return
            await asyncio.sleep(_POLL_SECONDS)
