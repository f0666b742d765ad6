"""Serve ASGI applications until SIGTERM, then drain: not ready, finish what runs, exit."""

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from functools import partial

import uvicorn
from starlette.types import ASGIApp

from common.logging import get_logger
from common.loops import stop
from common.settings import MAX_REQUESTS, AccessLog
from common.web.middleware.observing import Observing
from common.web.middleware.shedding import LoadShedding
from common.web.protocol import HEADER_SECONDS, TAKE_SECONDS, HttpProtocol

log = get_logger()


@dataclass(frozen=True, slots=True)
class Listener:
    """An application, the address it is served at, and the settings of its `LoadShedding` and `Observing`. One that
    isn't `observed` is neither counted nor logged.
    """

    app: ASGIApp
    host: str
    port: int
    max_requests: int = MAX_REQUESTS
    waiting: tuple[str, ...] = ()
    access_log: AccessLog = "most"
    observed: bool = True


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        # One process may serve two ports, so the signals are handled once, below, and not by each server.
        yield


@dataclass(frozen=True, slots=True)
class Drain:
    """How a process ends: first it isn't ready, but takes requests for `notice_seconds`, since a balancer learns that
    only when it asks again; then it takes none, and those that run have `seconds` to finish.
    """

    notice_seconds: float
    seconds: int


class Readiness:
    """Whether this process takes requests; `/readyz` asks it, and a drain ends it."""

    def __init__(self) -> None:
        self.draining = False


def new_server(
    listener: Listener,
    drain_seconds: int,
    *,
    header_seconds: float = HEADER_SECONDS,
    take_seconds: float = TAKE_SECONDS,
) -> uvicorn.Server:
    """A server set up as all of ours are. It takes no signals: who runs it sets `should_exit`."""
    app = LoadShedding(listener.app, listener.max_requests, listener.waiting)
    return _Server(
        uvicorn.Config(
            Observing(app, listener.access_log) if listener.observed else app,
            host=listener.host,
            port=listener.port,
            loop="none",
            http=partial(HttpProtocol, header_seconds=header_seconds, take_seconds=take_seconds),  # type: ignore[arg-type]  # is only ever called
            lifespan="off",
            log_config=None,
            access_log=False,
            proxy_headers=False,  # nothing asks for a client's address, so no header need be believed for it
            server_header=False,
            timeout_graceful_shutdown=drain_seconds,
        )
    )


async def serve(listeners: list[Listener], readiness: Readiness, drain: Drain) -> None:
    """Serve until SIGTERM or SIGINT, then drain; a second signal cuts the notice short."""
    servers = [new_server(listener, drain.seconds) for listener in listeners]
    loop = asyncio.get_running_loop()

    def stop() -> None:
        log.info("serve.draining")
        loop.call_later(0 if readiness.draining else drain.notice_seconds, close)
        readiness.draining = True

    def close() -> None:
        log.info("serve.stopping")
        for server in servers:
            server.should_exit = True

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    log.info("serve.starting", ports=[listener.port for listener in listeners])
    async with asyncio.TaskGroup() as group:
        for server in servers:
            group.create_task(server.serve())


def run_server(
    open_listeners: Callable[[Readiness], AbstractAsyncContextManager[list[Listener]]], drain: Drain
) -> None:
    """Open what a service is made of, serve it, and close it again; the last of a service's four starting steps."""

    async def main() -> None:
        readiness = Readiness()
        async with open_listeners(readiness) as listeners:
            await serve(listeners, readiness, drain)

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(main())


def new_loop() -> asyncio.AbstractEventLoop:
    """An event loop of uvloop where there is one."""
    try:
        import uvloop
    except ImportError:  # not on Windows
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


@contextlib.asynccontextmanager
async def background(*loops: Callable[[], Coroutine[None, None, None]]) -> AsyncIterator[None]:
    """Run endless loops beside the body of the `async with`, and cancel them at its end."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(loop()) for loop in loops]
        try:
            yield
        finally:
            await stop(*tasks)
