"""The four HTTP applications, built by the services' own composition roots over stand-ins for one another."""

from collections.abc import AsyncIterator

import pytest

from common.ids import new_id
from common.mongo.client import Client
from common.web.fast import FastRoutes
from common.web.serve import Readiness
from services.blob import app as blob
from services.blob.settings import Settings as BlobSettings
from services.front import app as front
from services.front.settings import Settings as FrontSettings
from services.job import app as job
from services.job.settings import Settings as JobSettings
from tests.fakes.front_ports import MemoryBlobs, MemoryRuns
from tests.fakes.keys import upload_key_file
from tests.support.applications import Application, DeafFront, until_ready, write_keys


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
        blob.open_apps(blob_settings, Readiness()) as (blob_app, data_app),
        job.open_app(job_settings, Readiness(), mongodb=mongodb, front=DeafFront()) as job_app,
    ):
        assert isinstance(public, FastRoutes)
        assert data_app is not None
        opened = [
            Application("front", public, public.app),
            Application("front-internal", internal, internal),
            Application("blob", blob_app, blob_app),
            Application("blob-data", data_app, data_app),
            Application("job", job_app, job_app.app),
        ]
        for application in opened:
            if application.name != "front-internal":
                await until_ready(application)
        yield opened
    await mongodb.drop_database(database)
