"""A Gristmill of real processes, started as `make up` starts it, on ports and data of its own."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from common.auth import ServiceTokenSigner
from common.clients.blob import BlobClient, open_blob_client
from common.clients.http import ServiceHttp, open_http
from common.clients.job import JobClient
from deploy.local import keys, tokens
from deploy.local.mongod import free_ports
from tests.support.processes import alive, children_of, until

UP_SECONDS = 60
RUNNER = (sys.executable, "-m", "deploy.local", "up")
# Whoever waits for a lease to lapse need not wait long.
SHORT_LEASES = {
    "JOB_LEASE_SECONDS": "3",
    "JOB_START_SECONDS": "1",
    "JOB_SWEEP_SECONDS": "0.5",
    "PROCESSOR_HEARTBEAT_SECONDS": "0.5",
    "FRONT_LEASE_SECONDS": "3",
    "FRONT_RECOVERY_SECONDS": "0.5",
    "FRONT_ASK_SECONDS": "3",
}


@dataclass
class Local:
    """A running Gristmill. `pid` is the runner's, whose children are the services."""

    process: asyncio.subprocess.Process
    pid: int
    url: str
    blob_url: str
    job_url: str
    data: Path
    said: list[str]

    def client(self, tenant: str = "acme", subject: str = "alice") -> httpx.AsyncClient:
        token = tokens.make(keys.ensure(self.data).users_secret, tenant, subject, ttl=3600)
        return httpx.AsyncClient(
            base_url=self.url, headers={"Authorization": f"Bearer {token}"}, timeout=60, trust_env=False
        )

    def blob(self) -> AbstractAsyncContextManager[BlobClient]:
        """blob's API, called as front calls it."""
        key = keys.ensure(self.data).private("front")
        return open_blob_client(self.blob_url, ServiceTokenSigner.from_file("front", key))

    @asynccontextmanager
    async def job(self) -> AsyncIterator[JobClient]:
        """job's API, likewise."""
        signer = ServiceTokenSigner.from_file("front", keys.ensure(self.data).private("front"))
        async with open_http(self.job_url) as http:
            yield JobClient(ServiceHttp(http, signer, "job"))

    def pid_of(self, module: str) -> int | None:
        """The process that runs a module, or `mongod`; None while it is between death and restart."""
        for pid, arguments in children_of(self.pid).items():
            if arguments.endswith(f"-m {module}") or arguments.split()[0].endswith(f"/{module}"):
                return pid
        return None

    async def kill(self, module: str) -> None:
        """SIGKILL a service, and return when the runner has started it again."""
        before = self.pid_of(module)
        assert before is not None
        os.kill(before, signal.SIGKILL)
        await until(lambda: self.pid_of(module) not in (None, before))


def environment(data: Path) -> dict[str, str]:
    """Settings of a Gristmill that is in nobody's way."""
    names = ("FRONT_PORT", "FRONT_INTERNAL_PORT", "BLOB_PORT", "BLOB_DATA_PORT", "JOB_PORT", "MONGODB_PORT", "S3_PORT")
    ports = dict(zip(names, map(str, free_ports(len(names))), strict=True))
    return {"PATH": os.environ["PATH"], "GRISTMILL_DATA": str(data), "DEMO": "0", **ports, **SHORT_LEASES}


@asynccontextmanager
async def running(
    settings: dict[str, str], command: tuple[str, ...] = RUNNER, folder: Path | None = None
) -> AsyncIterator[Local]:
    """Start it (in a `folder`), wait until it says that all is ready, and stop it as Ctrl-C does."""
    process = await asyncio.create_subprocess_exec(
        *command, cwd=folder, env=settings, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    assert process.stdout
    said: list[str] = []
    runner = process.pid
    try:
        async with asyncio.timeout(UP_SECONDS):
            async for line in process.stdout:
                said.append(line.decode().rstrip())
                if said[-1].startswith("Ctrl-C"):
                    break
            else:
                pytest.fail("It did not come up:\n" + "\n".join(said))
        if command != RUNNER:
            runner = next(iter(children_of(process.pid)))
        url, blob_url, job_url = (f"http://127.0.0.1:{settings[f'{of}_PORT']}" for of in ("FRONT", "BLOB", "JOB"))
        yield Local(process, runner, url, blob_url, job_url, Path(settings["GRISTMILL_DATA"]), said)
    finally:
        for pid in alive({runner}):
            os.kill(pid, signal.SIGINT)
        said += (await process.stdout.read()).decode().splitlines()
        await process.wait()
        print("\n".join(said))  # noqa: T201 - pytest shows it when a test has failed
