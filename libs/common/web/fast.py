"""Routes that are requested thousands of times a second, answered ahead of the framework.

For such a request FastAPI spends more on routing, dependencies and reading the body than the service on its work
(docs/decisions/0016-fast-routes.md). A `FastRoute` has what any route has: a method, a path, a policy that the test of
access finds, problem documents, and the same fields in the log.
"""

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

from fastapi import FastAPI, Request
from pydantic import ValidationError
from pydantic_core import to_json
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from common.errors import TooLarge
from common.web.access import Callers
from common.web.middleware.observing import ROUTE
from common.web.problems import MEDIA_TYPE, invalid, problem_of
from gristmill.wire.base import Wire

JSON = (b"content-type", b"application/json")
MAX_BODY_BYTES = 16 * 2**20

Body = TypeVar("Body", bound=Wire)
RawHeaders = list[tuple[bytes, bytes]]
FastResponse = tuple[int, RawHeaders, bytes | None]
"""Status, header fields, and the body; None for a response without one, which then has no length either."""


@dataclass(frozen=True, slots=True)
class FastRoute:
    """One method at one path, which may have one parameter, as its last part but one: `/job/{job_id}/status`.

    `respond` gets the scope, `receive`, and the parameter's value (empty where the path has none). It returns None,
    before it has received anything, to leave a request to the framework; whatever it raises becomes a problem document.
    `policy` is who may call, for whoever walks the routes: `respond` enforces it.
    """

    method: str
    path: str
    policy: object
    respond: Callable[[Scope, Receive, str], Awaitable[FastResponse | None]]

    @property
    def parameter(self) -> str:
        """The name of the path's parameter, empty where it has none."""
        return self.path.partition("{")[2].partition("}")[0]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """As the framework's route, where the path leads here by another way than `FastRoutes`."""
        parameter = scope.get("path_params", {}).get(self.parameter, "")
        if not await self.answered(scope, receive, send, parameter):
            await Response(status_code=404)(scope, receive, send)

    async def answered(self, scope: Scope, receive: Receive, send: Send, parameter: str) -> bool:
        """Whether the request was answered; False leaves it as it came."""
        try:
            response = await self.respond(scope, receive, parameter)
        except ClientDisconnect:
            return True
        except Exception as error:  # noqa: BLE001 - each becomes a problem document, as everywhere
            response = _problem(error)
        if response is None:
            return False
        status, headers, body = response
        if body is not None:
            headers.append((b"content-length", b"%d" % len(body)))
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body or b""})
        return True


class FastRoutes:
    """ASGI middleware around an application: it looks a route up by its method and path, and hands on what has none."""

    def __init__(self, app: FastAPI, routes: Iterable[FastRoute]) -> None:
        self.app = app
        self._routes: dict[tuple[str, str, str], FastRoute] = {}
        for route in routes:
            before, _, after = route.path.partition(f"/{{{route.parameter}}}/")
            self._routes[route.method, before, after] = route

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            path, method = scope["path"], scope["method"]
            route, parameter = self._routes.get((method, path, "")), ""
            if route is None and path.count("/") > 2:
                before, parameter, after = path.rsplit("/", 2)
                route = self._routes.get((method, before, after))
            if route is not None:
                scope["app"] = self.app
                if await route.answered(_marked(scope, route, parameter), receive, send, parameter):
                    return
                del scope[ROUTE], scope["path_params"]
        await self.app(scope, receive, send)


def _marked(scope: Scope, route: FastRoute, parameter: str) -> Scope:
    """What `Observing` reads, as the framework would have left it."""
    scope[ROUTE] = route.path
    scope["path_params"] = {route.parameter: parameter} if parameter else {}
    return scope


def _problem(error: Exception) -> FastResponse:
    problem = problem_of(error)
    headers = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in problem.headers.items()]
    return problem.status, [*headers, (b"content-type", MEDIA_TYPE.encode())], to_json(problem.document())


@dataclass(frozen=True, slots=True)
class CallContext(Generic[Body]):
    """What a call has to work with: `id` is the one in its path, or empty. `request` is the framework's view of it."""

    id: str
    body: Body
    request: Request


def call(
    path: str,
    policy: Callers,
    model: type[Body],
    handle: Callable[[CallContext[Body]], Awaitable[tuple[int, Wire | None]]],
) -> FastRoute:
    """A call between services: a POST with a JSON body of `model`, of at most `MAX_BODY_BYTES`. `handle` returns the
    status and the response's body, if it has one. Raises what the policy raises, `TooLarge`, `Malformed`, `Invalid`.
    """

    async def respond(scope: Scope, receive: Receive, parameter: str) -> FastResponse:
        request = Request(scope, receive)
        await policy(request)
        content = await _read(receive)
        try:
            body = model.model_validate_json(content)
        except ValidationError as error:
            raise invalid(error, model) from None
        status, response = await handle(CallContext(parameter, body, request))
        return (status, [], None) if response is None else (status, [JSON], response.to_wire())

    return FastRoute("POST", path, policy, respond)


def add_calls(app: FastAPI, calls: list[FastRoute]) -> FastRoutes:
    """The application with these calls ahead of it, and in its table of routes: there the test of access finds them,
    and other methods at their paths are refused with 405.
    """
    for each in calls:
        app.router.routes.append(Route(each.path, each, methods=[each.method]))
    return FastRoutes(app, calls)


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
