"""The four HTTP applications, built by the services' own composition roots over stand-ins for one another."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from fastapi import FastAPI
from starlette.types import ASGIApp

from common.contracts.job import RunStatus
from common.ids import new_id
from common.mongo import Client
from common.web.serve import Readiness
from services.blob import app as blob
from services.blob.settings import Settings as BlobSettings
from services.front import app as front
from services.front.api.fast_status import FastStatus
from services.front.settings import Settings as FrontSettings
from services.job import app as job
from services.job.settings import Settings as JobSettings
from tests.fakes.front_ports import MemoryBlobs, MemoryRuns
from tests.fakes.keys import CALLERS, private_key, upload_key_file


@dataclass(frozen=True)
class Application:
    """`served` is what the server calls; `routes` is the FastAPI application in it."""

    name: str
    served: ASGIApp
    routes: FastAPI


class DeafFront:
    """Hears no reports; none is made here."""

    async def report(self, runs: Sequence[RunStatus]) -> list[str]:
        raise NotImplementedError


def write_keys(folder: Path) -> tuple[Path, Path]:
    """A private key's file, and the folder with the public keys of all callers."""
    callers = folder / "callers"
    callers.mkdir()
    for name in CALLERS:
        public = private_key(name).public_key()
        (callers / f"{name}.pem").write_bytes(public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    key_file = folder / "front.pem"
    key_file.write_bytes(private_key("front").private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return key_file, callers


async def until_ready(application: Application) -> None:
    """Wait until it has reached its database: to close a client that is just connecting leaks its socket."""
    transport = httpx.ASGITransport(application.served)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client, asyncio.timeout(10):
        while not (await client.get("/readyz")).is_success:  # noqa: ASYNC110 - it waits for a part that tells nobody
            await asyncio.sleep(0.01)


@pytest.fixture(scope="package")
async def applications(
    mongodb: Client, mongodb_uri: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[list[Application]]:
    """Front's public one and its internal one, blob's and job's."""
    folder, database = tmp_path_factory.mktemp("applications"), f"test-{new_id()}"
    key_file, callers = write_keys(folder)
    secret_file = folder / "users.secret"
    secret_file.write_text("a secret of more than thirty-two bytes, for tests")
    front_settings = FrontSettings(
        callers_dir=callers,
        key_file=key_file,
        mongodb_uri=mongodb_uri,
        database=database,
        blob_url="http://blob",
        job_url="http://job",
        token_algorithms=["HS256"],
        token_secret_file=secret_file,
        token_audience="gristmill",
        token_issuer="https://issuer.example",
    )
    blob_settings = BlobSettings(
        callers_dir=callers, data_dir=folder / "blobs", upload_key_file=upload_key_file(folder)
    )
    job_settings = JobSettings(
        callers_dir=callers,
        key_file=key_file,
        mongodb_uri=mongodb_uri,
        database=database,
        front_url="http://front",
    )
    async with (
        front.open_core(front_settings, blobs=MemoryBlobs(), runs=MemoryRuns()) as core,
        front.open_apps(front_settings, Readiness(), core) as (public, internal),
        blob.open_app(blob_settings, Readiness()) as blob_app,
        job.open_app(job_settings, Readiness(), mongodb=mongodb, front=DeafFront()) as job_app,
    ):
        assert isinstance(public, FastStatus)
        assert isinstance(public._app, FastAPI)
        opened = [
            Application("front", public, public._app),
            Application("front-internal", internal, internal),
            Application("blob", blob_app, blob_app),
            Application("job", job_app, job_app._app),
        ]
        for application in opened:
            if application.name != "front-internal":
                await until_ready(application)
        yield opened
    await mongodb.drop_database(database)
