"""Each request is timed, counted, logged, and a span of its trace where there are any."""

import time
from collections.abc import Awaitable
from contextlib import nullcontext
from typing import ClassVar

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from common import telemetry
from common.ids import is_job_id
from common.logging import get_logger
from common.metrics import ACTIVE_REQUESTS, REQUEST_BYTES, REQUEST_SECONDS, RESPONSE_BYTES
from common.settings import AccessLog
from common.web.paths import POLLED

METHODS = frozenset({"GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"})
ROUTE = "http.route"
"""Where in its scope a request has its route's template, if it was answered before the framework routed it."""

_NO_SPAN = nullcontext()

log = get_logger()


class Observing:
    """ASGI middleware, the outermost. `most` leaves out of the log what polls and succeeds."""

    active: ClassVar[int] = 0
    """The requests that are being answered, at all of the process's ports."""

    def __init__(self, app: ASGIApp, access_log: AccessLog = "most") -> None:
        self._app = app
        self._access_log = access_log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        method = scope["method"] if scope["method"] in METHODS else "_OTHER"
        started, status, arrived, sent = time.perf_counter(), 499, 0, 0  # 499: its client went before the response

        async def counted_receive() -> Message:
            nonlocal arrived
            message = await receive()
            arrived += len(message.get("body", b""))
            return message

        def counted_send(message: Message) -> Awaitable[None]:
            nonlocal status, sent
            if message["type"] == "http.response.start":
                status = message["status"]
            else:
                sent += len(message.get("body", b""))
            return send(message)

        spanned = telemetry.is_on() and not scope["path"].endswith(POLLED)
        Observing.active += 1
        with telemetry.server_span(scope) if spanned else _NO_SPAN as span:
            try:
                await self._app(scope, counted_receive, counted_send)
            finally:
                Observing.active -= 1
                route, seconds = _route(scope), time.perf_counter() - started
                REQUEST_SECONDS.series(method, route, str(status)).observe(seconds)
                RESPONSE_BYTES.series(method, route).observe(sent)
                if arrived:
                    REQUEST_BYTES.series(method, route).observe(arrived)
                telemetry.answered(span, method, route, status)
                if self._is_logged(scope["path"], status):
                    job = scope.get("path_params", {}).get("job_id", "")
                    log.info(
                        "request.completed",
                        method=method,
                        route=route,
                        status=status,
                        milliseconds=round(seconds * 1000, 1),
                        bytes_in=arrived,
                        bytes_out=sent,
                        **({"job": job} if is_job_id(job) else {}),
                    )

    def _is_logged(self, path: str, status: int) -> bool:
        if self._access_log == "most":
            return status >= 400 or not path.endswith(POLLED)
        return self._access_log == "all"


ACTIVE_REQUESTS.set_function(lambda: Observing.active)  # counted without the lock of a gauge, which one loop can spare


def _route(scope: Scope) -> str:
    """The template of the address, never the address itself; empty where there is none."""
    if ROUTE in scope:
        route: str = scope[ROUTE]
        return route
    return getattr(scope.get("route"), "path", "")
