"""All four services in one process: a real mongod, a real folder, real child processes; what is between them can fail
on demand.
"""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import jwt
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from fastapi import FastAPI

from common.clients.blob import BlobClient, open_blob_client
from common.clients.front import FrontClient
from common.clients.http import ServiceHttp, open_http
from common.clients.job import JobClient
from common.contracts.job import RunStatus
from common.errors import Problem, Unavailable
from common.mongo.client import connect, opened
from common.web.serve import Readiness
from deploy.local.mongod import free_port
from services.blob import app as blob_app
from services.blob.adapters.s3.uploads import open_s3_uploads
from services.blob.settings import Settings as BlobSettings
from services.front import app as front_app
from services.front.domain.job import Status
from services.front.settings import Settings as FrontSettings
from services.front.use_cases.tracking.recover import Recover
from services.front.use_cases.tracking.retire import Retire
from services.front.use_cases.tracking.sweep import Sweep
from services.front.use_cases.tracking.uploads import TrackUploads
from services.job import app as job_app
from services.job.settings import Settings as JobSettings
from services.processor import registry
from services.processor.app import open_worker
from services.processor.settings import Settings as ProcessorSettings
from tests.fakes import keys
from tests.support.commands import Commands
from tests.support.s3 import TestBucket
from tests.support.serving import serving
from tests.support.traffic import Traffic

SECRET = "a secret of more than thirty-two bytes, for tests"
AUDIENCE = "gristmill"
ISSUER = "https://issuer.example"
QUICK_JOB: dict[str, Any] = {"lease_seconds": 3, "start_seconds": 1, "sweep_seconds": 0.2, "backoff_seconds": 0.1}
QUICK_PROCESSOR: dict[str, Any] = {"heartbeat_seconds": 0.5, "claim_wait_seconds": 5}


def token(tenant: Any = "acme", subject: Any = "alice", **claims: Any) -> str:
    """A token that front takes, unless `claims` spoil it; a claim of None is left out."""
    now = int(time.time())
    all_claims = {
        "tid": tenant,
        "sub": subject,
        "iss": ISSUER,
        "aud": AUDIENCE,
        "iat": now,
        "exp": now + 600,
        **claims,
    }
    return jwt.encode({k: v for k, v in all_claims.items() if v is not None}, SECRET, algorithm="HS256")


class Outage:
    """Stands between a service and one that it calls. While it is on, calls can't get through; while `refused` names
    some, these get the refusal.
    """

    def __init__(self, real: Any) -> None:
        self._real = real
        self.on = False
        self.refused: dict[str, Problem] = {}
        self.calls: list[str] = []

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._real, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            self.calls.append(name)
            if self.on:
                raise Unavailable
            if name in self.refused:
                raise self.refused[name]
            return method(*args, **kwargs)

        return call


class Reports:
    """job's way to front's internal port, which is there only later, and may be cut."""

    def __init__(self) -> None:
        self.front: FrontClient | None = None
        self.on = False

    async def report(self, runs: Sequence[RunStatus]) -> list[str]:
        if self.front is None or self.on:
            raise Unavailable
        return await self.front.report(runs)


@dataclass
class Platform:
    """The running services, and handles to look at them and to disturb them."""

    front: Any
    settings: FrontSettings
    core: front_app.Core
    blob: BlobClient
    to_blob: Outage
    to_job: Outage
    reports: Reports
    as_processor: JobClient
    """job, as a processor calls it: to offer, claim and report by hand."""
    wire: Traffic
    to_mongodb: dict[str, Commands]
    """What front and job say to MongoDB, by their names."""
    _clients: list[httpx.AsyncClient] = field(default_factory=list)

    def client(self, tenant: Any = "acme", subject: Any = "alice", *, bearer: str | None = None) -> httpx.AsyncClient:
        """A client of front's public API, with a token of its own."""
        bearer = token(tenant, subject) if bearer is None else bearer
        client = httpx.AsyncClient(
            transport=httpx.ASGITransport(self.wire.tap(self.front, "front"), raise_app_exceptions=False),
            base_url="http://front",
            headers={"Authorization": f"Bearer {bearer}"} if bearer else {},
            timeout=60,
        )
        self._clients.append(client)
        return client

    def recover(self) -> Recover:
        """A tracker's work, to be done now."""
        s = self.settings
        return Recover(
            self.core.jobs, self.core.runs, self.core.advance, lease_seconds=s.lease_seconds, ask_seconds=s.ask_seconds
        )

    def retire(
        self, *, keep_inputs: bool = False, record_seconds: float = 7_776_000, hidden_seconds: float = 86_400
    ) -> Retire:
        return Retire(
            self.core.jobs,
            self.core.retention,
            self.core.inline,
            self.core.blobs,
            self.core.runs,
            keep_inputs=keep_inputs,
            record_seconds=record_seconds,
            hidden_seconds=hidden_seconds,
            lease_seconds=self.settings.lease_seconds,
        )

    def track_uploads(self) -> TrackUploads:
        return TrackUploads(
            self.core.jobs,
            self.core.batches,
            self.core.blobs,
            self.core.advance,
            self.core.uploads,
            grace_seconds=self.settings.upload_grace_seconds,
        )

    def sweep(self) -> Sweep:
        return Sweep(self.core.jobs, self.core.inline, self.core.blobs, orphan_seconds=self.settings.orphan_seconds)

    async def final(self, client: httpx.AsyncClient, job_id: str) -> dict[str, Any]:
        """The job's status once it is final."""
        async with asyncio.timeout(30):
            while True:
                answer = await client.get(f"/api/v1/job/{job_id}/status", headers={"Prefer": "wait=10"})
                answer.raise_for_status()
                status: dict[str, Any] = answer.json()
                if Status(status["status"]).is_final:
                    return status


def _write_keys(folder: Path) -> tuple[Path, Path]:
    callers = folder / "callers"
    callers.mkdir(parents=True)
    for name in keys.CALLERS:
        key = keys.private_key(name)
        (folder / f"{name}.pem").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        (callers / f"{name}.pem").write_bytes(
            key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        )
    (folder / "users.secret").write_text(SECRET)
    return folder, callers


@asynccontextmanager
async def open_platform(
    mongodb_uri: str,
    database: str,
    folder: Path,
    *,
    processor: bool = True,
    bucket: TestBucket | None = None,
    max_queued_per_tenant: int = 100_000,
    quick: bool = True,
    **front_settings: Any,
) -> AsyncIterator[Platform]:
    """Everything, opened in the order of its needs; `front_settings` override front's own. Blobs are kept in `bucket`,
    if there is one. Unless it is `quick`, leases, sweeps and heartbeats come when they do by default.
    """
    database = f"{database}-{os.environ.get('PYTEST_XDIST_WORKER', '')}"  # workers share one mongod
    key_folder, callers = await asyncio.to_thread(_write_keys, folder / "keys")
    settings = FrontSettings(
        **{
            "callers_dir": callers,
            "key_file": key_folder / "front.pem",
            "mongodb_uri": mongodb_uri,
            "database": f"{database}-front",
            "blob_url": "http://blob",
            "job_url": "http://job",
            "token_algorithms": ["HS256"],
            "token_secret_file": key_folder / "users.secret",
            "token_audience": AUDIENCE,
            "token_issuer": ISSUER,
            **front_settings,
        }
    )
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        blob_settings = BlobSettings(
            callers_dir=callers,
            data_dir=folder / "blobs",
            upload_key_file=keys.upload_key_file(folder),
            port=free_port(),
            data_port=free_port(),
        )
        wire = Traffic()
        blob, data_plane = await enter(_blob(blob_settings, bucket))
        if data_plane is not None:
            await enter(serving(wire.tap(data_plane, "blob"), port=blob_settings.data_port))
        blob_url = await enter(serving(wire.tap(blob, "blob"), port=blob_settings.port))
        reports = Reports()
        job_settings = JobSettings(
            callers_dir=callers,
            key_file=key_folder / "job.pem",
            mongodb_uri=mongodb_uri,
            database=f"{database}-job",
            front_url="http://front",
            max_queued_per_tenant=max_queued_per_tenant,
            **(QUICK_JOB if quick else {}),
        )
        to_mongodb = {"front": Commands(), "job": Commands()}
        for_job = await enter(opened(mongodb_uri, to_mongodb["job"]))
        job = await enter(job_app.open_app(job_settings, Readiness(), mongodb=for_job, front=reports))

        async def job_client(caller: str) -> JobClient:
            http = await enter(open_http("http://job", transport=httpx.ASGITransport(wire.tap(job, "job"))))
            return JobClient(ServiceHttp(http, keys.signer(caller), "job"))

        blob_client = await enter(open_blob_client(blob_url, keys.signer("front")))
        to_blob, to_job = Outage(blob_client), Outage(await job_client("front"))
        for_front = await enter(opened(mongodb_uri, to_mongodb["front"]))
        core = await enter(front_app.open_core(settings, mongodb=for_front, blobs=to_blob, runs=to_job))
        public, internal = await enter(front_app.open_apps(settings, Readiness(), core))
        internal_http = await enter(
            open_http("http://front", transport=httpx.ASGITransport(wire.tap(internal, "front")))
        )
        reports.front = FrontClient(ServiceHttp(internal_http, keys.signer("job"), "front"))

        as_processor = await job_client("processor")
        platform = Platform(
            public, settings, core, blob_client, to_blob, to_job, reports, as_processor, wire, to_mongodb
        )
        if processor:
            times = QUICK_PROCESSOR if quick else {}
            await enter(_processor(folder, key_folder, as_processor, blob_url, **times))
            await _offered(platform)
        yield platform
        for client in platform._clients:
            await client.aclose()
    await _drop(mongodb_uri, database)


@asynccontextmanager
async def _blob(settings: BlobSettings, bucket: TestBucket | None) -> AsyncIterator[tuple[FastAPI, FastAPI | None]]:
    if bucket is None:
        async with blob_app.open_apps(settings, Readiness()) as apps:
            yield apps
        return
    async with (
        bucket.open_store() as store,
        open_s3_uploads(store, bucket.options, bucket.session) as uploads,
    ):
        yield blob_app.make_app(blob_app.Storage(store, uploads), keys.verifier("blob"), settings, Readiness()), None


@asynccontextmanager
async def _processor(
    folder: Path, key_folder: Path, job: JobClient, blob_url: str, **times: Any
) -> AsyncIterator[None]:
    settings = ProcessorSettings(
        job_url="http://job",
        blob_url=blob_url,
        key_file=key_folder / "processor.pem",
        work_dir=folder,
        drain_seconds=0,
        **times,
    )
    async with (
        open_blob_client(blob_url, keys.signer("processor")) as blob,
        open_worker(settings, job, blob, registry.installed()) as worker,
    ):
        running = asyncio.create_task(worker.run())
        yield
        worker.stop()
        await running


async def _offered(platform: Platform) -> None:
    await eventually(platform.to_job.processors)


async def eventually(check: Callable[[], Awaitable[object]]) -> None:
    """Returns once `check` returns something true; what it looks at changes in another process."""
    async with asyncio.timeout(20):
        while not await check():  # noqa: ASYNC110 - another process can't set an event of ours
            await asyncio.sleep(0.05)


async def _drop(mongodb_uri: str, database: str) -> None:
    async with connect(mongodb_uri) as client:
        for name in ("front", "job"):
            await client.drop_database(f"{database}-{name}")
