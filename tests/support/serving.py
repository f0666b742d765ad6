"""Serves an application on a loopback port, inside the test's own event loop, by the server that ships."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.types import ASGIApp

from common.settings import MAX_REQUESTS
from common.web import paths
from common.web.protocol import HEADER_SECONDS, TAKE_SECONDS
from common.web.serve import Listener, new_server


@asynccontextmanager
async def serving(
    app: ASGIApp,
    *,
    port: int = 0,
    header_seconds: float = HEADER_SECONDS,
    take_seconds: float = TAKE_SECONDS,
    max_requests: int = MAX_REQUESTS,
) -> AsyncIterator[str]:
    """The base URL, without a slash at its end, of a server that accepts connections from the first moment."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", port))
        listening.listen()  # so a connection made before the server's first step waits instead of being refused
        host, port = listening.getsockname()
        listener = Listener(app, host, port, max_requests, paths.EVENTS + paths.CLAIMS)
        server = new_server(listener, drain_seconds=1, header_seconds=header_seconds, take_seconds=take_seconds)
        task = asyncio.create_task(server.serve(sockets=[listening]))
        try:
            yield f"http://{host}:{port}"
        finally:
            server.should_exit = True
            await task
