"""Calls between services that are made thousands of times a second, answered without the framework's own way.

For such a call FastAPI spends more on routing, dependencies and reading the body than the service on its work
(benchmarks/RESULTS.md). A `Call` is one route all the same: it stands in the application's table with its policy, where
the test of access finds it, and it refuses with the same problem documents.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from fastapi import FastAPI, Request
from pydantic import ValidationError
from starlette.requests import ClientDisconnect
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from common.auth import ServiceTokenVerifier
from common.errors import Forbidden, TooLarge
from common.web.access import Callers
from common.web.middleware.observing import ROUTE
from common.web.problems import invalid, problem_of, render
from gristmill.wire.base import Wire

MAX_BODY_BYTES = 16 * 2**20

Body = TypeVar("Body", bound=Wire)


@dataclass(frozen=True, slots=True)
class Heard(Generic[Body]):
    """What a call has to work with: `id` is the one in its path, or empty. `request` is the framework's view of it."""

    id: str
    body: Body
    request: Request


@dataclass(frozen=True, slots=True)
class Call(Generic[Body]):
    """One kind of POST with a JSON body: who may make it, what the body is, and what answers it.

    `handle` returns the status and the answer's body, if it has one. The path may have one `{id}`, before its last
    part.
    """

    path: str
    policy: Callers
    body: type[Body]
    handle: Callable[[Heard[Body]], Awaitable[tuple[int, Wire | None]]]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            status, answer = await self._answer(Request(scope, receive))
            body = b"" if answer is None else answer.to_wire()
        except ClientDisconnect:
            return
        except Exception as error:  # noqa: BLE001 - each becomes a problem document, as everywhere
            await render(problem_of(error))(scope, receive, send)
            return
        described = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
        headers = [] if answer is None else described
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def _answer(self, request: Request) -> tuple[int, Wire | None]:
        verifier: ServiceTokenVerifier = request.app.state.verifier
        if verifier.caller(request.headers.get("authorization")) not in self.policy.names:
            raise Forbidden
        content = await _read(request.receive)
        try:
            body = self.body.model_validate_json(content)
        except ValidationError as error:
            raise invalid(error.errors(include_url=False, include_input=False)) from None
        call_id = request.scope["path"].rsplit("/", 2)[1] if "{" in self.path else ""
        return await self.handle(Heard(call_id, body, request))


async def _read(receive: Receive) -> bytearray:
    content, more = bytearray(), True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        content += message.get("body", b"")
        if len(content) > MAX_BODY_BYTES:
            raise TooLarge
        more = message.get("more_body", False)
    return content


class Ahead:
    """ASGI middleware around an application: it looks a call up by its path, and hands on everything else."""

    def __init__(self, app: FastAPI, calls: list[Call[Any]]) -> None:
        self._app = app
        self._calls = {call.path: call for call in calls}
        for call in calls:  # as routes they also make other methods at their paths a 405
            app.router.routes.append(Route(call.path, call, methods=["POST"]))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] == "POST":
            path: str = scope["path"]
            call = self._calls.get(path)
            if call is None and path.count("/") > 2:
                before, _, last = path.rsplit("/", 2)
                call = self._calls.get(f"{before}/{{id}}/{last}")
            if call is not None:
                scope["app"], scope[ROUTE] = self._app, call.path
                return await call(scope, receive, send)
        return await self._app(scope, receive, send)
