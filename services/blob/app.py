"""What blob is made of: the only place where its parts are put together."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from fastapi import FastAPI

from common.auth import ServiceTokenVerifier
from common.logging import get_logger
from common.web import health, problems
from common.web.linger import LingeringClose
from common.web.serve import Listener, Readiness, background
from services.blob.adapters.filesystem import open_filesystem_store
from services.blob.adapters.s3 import open_s3_store
from services.blob.adapters.s3_bucket import S3Options
from services.blob.api.routes import blob_routes
from services.blob.ports import BlobStore
from services.blob.settings import Settings, StoreSettings

SWEEP_SECONDS = 300

log = get_logger()


@asynccontextmanager
async def open_listeners(settings: Settings, readiness: Readiness) -> AsyncIterator[list[Listener]]:
    """blob as it is served: its one application at its one address."""
    async with open_app(settings, readiness) as app:
        yield [Listener(app, settings.host, settings.port)]


@asynccontextmanager
async def open_app(
    settings: Settings, readiness: Readiness, *, verifier: ServiceTokenVerifier | None = None
) -> AsyncIterator[FastAPI]:
    """The application, its store and the sweeper of what dead writers left."""
    verifier = verifier or ServiceTokenVerifier.from_folder("blob", settings.callers_dir)
    async with open_store(settings) as store:

        async def sweep() -> None:
            await sweep_forever(store, settings.staging_max_age_seconds)

        async with background(sweep):
            yield make_app(store, verifier, settings, readiness)


def open_store(settings: Settings) -> AbstractAsyncContextManager[BlobStore]:
    """The store that the settings name."""
    if settings.store == "s3":
        return open_s3_store(s3_options(settings), max_blob_bytes=settings.max_blob_bytes)
    assert settings.data_dir is not None  # noqa: S101 - the settings have seen to it
    return open_filesystem_store(settings.data_dir, min_free_bytes=settings.min_free_bytes)


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
    )


def make_app(store: BlobStore, verifier: ServiceTokenVerifier, settings: Settings, readiness: Readiness) -> FastAPI:
    """The routes over a store that is open already."""
    app = FastAPI(title="Gristmill blob", openapi_url=None, redirect_slashes=False)
    app.state.verifier = verifier
    app.add_middleware(LingeringClose)
    problems.install(app)
    health.install(app, readiness, store.check)
    app.include_router(blob_routes(store, max_blob_bytes=settings.max_blob_bytes, stall_seconds=settings.stall_seconds))
    return app


async def sweep_forever(store: BlobStore, max_age_seconds: float) -> None:
    """Remove the leftovers of writers that died, now and every few minutes."""
    while True:
        try:
            swept = await store.sweep_staging(max_age_seconds)
        except Exception as error:  # noqa: BLE001 - a sweep that fails is tried again; the service goes on
            log.error("blob.sweep_failed", error=repr(error))
        else:
            if swept:
                log.info("blob.staging_swept", files=swept)
        await asyncio.sleep(SWEEP_SECONDS)
