"""Serves a rival with the very settings of our own services: uvloop, httptools, no access log."""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from starlette.types import ASGIApp

from common.web.serve import Drain, Listener, Readiness, run_server

DRAIN_SECONDS = 1


@asynccontextmanager
async def _nothing() -> AsyncIterator[None]:
    yield


def serve(app: ASGIApp, port: int, opened: AbstractAsyncContextManager[object] | None = None) -> None:
    @asynccontextmanager
    async def listeners(_readiness: Readiness) -> AsyncIterator[list[Listener]]:
        async with opened or _nothing():
            yield [Listener(app, "127.0.0.1", port, observed=False)]

    run_server(listeners, Drain(0, DRAIN_SECONDS))
