"""What blob is made of: the only place where its parts are put together."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from fastapi import FastAPI
from fastapi.middleware.cors import CORSMiddleware

from common.auth import ServiceTokenVerifier
from common.logging import get_logger
from common.shares import Shares
from common.web import health, metrics, problems
from common.web.serve import Listener, Readiness, background
from services.blob.adapters.filesystem.master_keys import MasterKeys
from services.blob.adapters.filesystem.store import open_filesystem_store
from services.blob.adapters.filesystem.uploads import DataUrls, open_filesystem_uploads
from services.blob.adapters.s3.bucket import S3Options
from services.blob.adapters.s3.store import open_s3_store
from services.blob.adapters.s3.uploads import open_s3_uploads
from services.blob.adapters.timed import TimedStore
from services.blob.api.data import data_routes
from services.blob.api.routes import blob_routes
from services.blob.api.uploads import upload_routes
from services.blob.domain.grants import GrantSigner
from services.blob.ports import BlobStore, DataPlane, UploadStore
from services.blob.settings import Settings, StoreSettings

SWEEP_SECONDS = 300
PREFLIGHT_SECONDS = 3600

log = get_logger()


@asynccontextmanager
async def open_listeners(settings: Settings, readiness: Readiness) -> AsyncIterator[list[Listener]]:
    """blob as it is served: each application at its own address."""
    async with open_apps(settings, readiness) as (app, data_app):
        served = [(app, settings.port)] if data_app is None else [(app, settings.port), (data_app, settings.data_port)]
        yield [
            Listener(each, settings.host, port, settings.max_requests, access_log=settings.access_log)
            for each, port in served
        ]


@asynccontextmanager
async def open_apps(
    settings: Settings, readiness: Readiness, *, verifier: ServiceTokenVerifier | None = None
) -> AsyncIterator[tuple[FastAPI, FastAPI | None]]:
    """The application for the other services, the one for whoever has a signed URL (where the store has no such URLs
    of its own), their store, and the sweeper of what dead writers left.
    """
    verifier = verifier or ServiceTokenVerifier.from_folder("blob", settings.callers_dir)
    async with open_storage(settings) as storage:

        async def sweep() -> None:
            await sweep_forever(storage, settings.staging_max_age_seconds, settings.upload_max_age_seconds)

        async with background(sweep):
            yield make_app(storage, verifier, settings, readiness), make_data_app(storage, settings, readiness)


@dataclass(frozen=True, slots=True)
class Storage:
    """What a store is to blob. One that has signed URLs of its own needs no `plane`."""

    blobs: BlobStore
    uploads: UploadStore
    plane: tuple[DataPlane, GrantSigner] | None = None


@asynccontextmanager
async def open_storage(settings: Settings) -> AsyncIterator[Storage]:
    """The store that the settings name."""
    if settings.store == "s3":
        options = s3_options(settings)
        async with (
            open_s3_store(options, max_blob_bytes=settings.max_blob_bytes) as s3,
            open_s3_uploads(s3, options) as s3_uploads,
        ):
            yield Storage(TimedStore(s3, settings.store), s3_uploads)
        return
    assert settings.data_dir is not None  # noqa: S101 - the settings have seen to it
    assert settings.upload_key_file is not None  # noqa: S101 - likewise
    signer = GrantSigner(settings.upload_key_file.read_bytes())
    async with (
        open_filesystem_store(
            settings.data_dir, min_free_bytes=settings.min_free_bytes, keys=MasterKeys.read(settings.keys)
        ) as store,
        open_filesystem_uploads(store, DataUrls(settings.data_url, signer)) as uploads,
    ):
        yield Storage(TimedStore(store, settings.store), uploads, (uploads, signer))


def s3_options(settings: StoreSettings) -> S3Options:
    """The S3 part of the settings, where they name a bucket."""
    assert settings.s3_bucket is not None  # noqa: S101 - likewise
    return S3Options(
        bucket=settings.s3_bucket,
        region=settings.s3_region,
        endpoint=settings.s3_endpoint,
        public_endpoint=settings.s3_public_endpoint,
        addressing=settings.s3_addressing,
        sse=settings.s3_sse,
        sse_kms_key_id=settings.s3_sse_kms_key_id,
        conditional_writes=settings.s3_conditional_writes,
    )


def make_app(storage: Storage, verifier: ServiceTokenVerifier, settings: Settings, readiness: Readiness) -> FastAPI:
    """The routes for the other services, over a store that is open already."""
    app = FastAPI(title="Gristmill blob", openapi_url=None, redirect_slashes=False)
    app.state.verifier = verifier
    problems.install(app)
    health.install(app, readiness, storage.blobs.check)
    app.include_router(metrics.router())
    app.include_router(
        blob_routes(storage.blobs, max_blob_bytes=settings.max_blob_bytes, stall_seconds=settings.stall_seconds)
    )
    app.include_router(
        upload_routes(storage.uploads, max_blob_bytes=settings.max_blob_bytes, stall_seconds=settings.stall_seconds)
    )
    return app


def make_data_app(storage: Storage, settings: Settings, readiness: Readiness) -> FastAPI | None:
    """The data plane, if the store has one: nothing but what a signed URL allows, to pages of `upload_origins` too (the
    Fetch standard's CORS).
    """
    if storage.plane is None:
        return None
    plane, signer = storage.plane
    app = FastAPI(title="Gristmill blob's data plane", openapi_url=None, redirect_slashes=False)
    problems.install(app)
    health.install(app, readiness, storage.blobs.check)
    requests = Shares("uploads under way", settings.max_requests)
    app.include_router(data_routes(plane, signer, requests, stall_seconds=settings.stall_seconds))
    app.add_middleware(
        CORSMiddleware,
        allow_origins=settings.upload_origins,
        allow_methods=["PUT"],
        allow_headers=["Content-Type", "Content-Digest"],
        expose_headers=["ETag", "Retry-After"],
        max_age=PREFLIGHT_SECONDS,
    )
    return app


async def sweep_forever(storage: Storage, staging_max_age_seconds: float, upload_max_age_seconds: float) -> None:
    """Remove what writers and users have left who don't come back, now and every few minutes."""
    while True:
        try:
            files = await storage.blobs.sweep_staging(staging_max_age_seconds)
            uploads = await storage.uploads.sweep_uploads(upload_max_age_seconds)
        except Exception as error:  # noqa: BLE001 - a sweep that fails is tried again; the service goes on
            log.error("blob.sweep_failed", error=repr(error))
        else:
            if files or uploads:
                log.info("blob.swept", files=files, uploads=uploads)
        await asyncio.sleep(SWEEP_SECONDS)
