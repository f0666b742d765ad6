"""Renders every refusal as an RFC 9457 problem document, the framework's own included."""

from collections.abc import Mapping, Sequence

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.routing import iter_route_contexts
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails, to_json
from pymongo.errors import PyMongoError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response

from common.errors import (
    Invalid,
    Malformed,
    MethodNotAllowed,
    NotFound,
    Problem,
    Unavailable,
    all_problems,
)
from common.logging import get_logger
from common.mongo.client import is_unavailable
from gristmill.faults import explain, explain_one

MEDIA_TYPE = "application/problem+json"
CLIENT_GONE = 499  # nginx's number, which no RFC has

log = get_logger()


def render(problem: Problem) -> Response:
    return Response(to_json(problem.document()), problem.status, problem.headers, MEDIA_TYPE)


def problem_of(error: Exception) -> Problem:
    """The problem that an exception means to a client; one that nobody foresaw is logged and has no details."""
    if isinstance(error, Problem):
        return error
    if isinstance(error, PyMongoError) and is_unavailable(error):
        log.warning("mongodb.unavailable", error=type(error).__name__)
        return Unavailable()
    log.error("request.failed", exc_info=error)
    return Problem()


def pointer(location: tuple[int | str, ...]) -> str:
    """A JSON Pointer (RFC 6901) from pydantic's location."""
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in location)


def invalid(error: ValidationError, model: type[BaseModel]) -> Problem:
    """400 for what isn't JSON, else 422 with a pointer to each fault and a sentence about it."""
    if any(fault["type"] == "json_invalid" for fault in error.errors(include_url=False)):
        return Malformed("The body isn't valid JSON.")
    return Invalid(errors=[{"pointer": pointer(where), "detail": what} for where, what in explain(error, model)])


def _of_framework(faults: Sequence[ErrorDetails]) -> Problem:
    """Likewise of the framework's own checks, where a location begins with the part of the request."""
    if any(fault["type"] == "json_invalid" for fault in faults):
        return Malformed("The body isn't valid JSON.")
    kinds = {"query": "query parameter"}
    return Invalid(
        errors=[
            {
                "pointer": pointer(fault["loc"][1:]),
                "detail": explain_one(fault, {}, kinds.get(str(fault["loc"][0]), "field")),
            }
            for fault in faults
        ]
    )


def install(app: FastAPI) -> None:
    """Answer with problem documents, whatever goes wrong."""

    async def on_error(_request: Request, error: Exception) -> Response:
        return render(problem_of(error))

    async def on_http(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)  # noqa: S101 - narrows what Starlette promises
        headers: Mapping[str, str] = error.headers or {}
        if error.status_code == 405:
            return render(MethodNotAllowed(headers={**headers, "Allow": ", ".join(_allowed(request))}))
        if error.status_code == 404:
            return render(NotFound())
        kinds = [kind for kind in all_problems() if kind.status == error.status_code]
        return render(kinds[0](headers=headers) if kinds else Malformed())

    async def on_validation(_request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)  # noqa: S101 - narrows what FastAPI promises
        return render(_of_framework(error.errors()))  # FastAPI's dicts are pydantic's

    async def on_disconnect(_request: Request, _error: Exception) -> Response:
        return Response(status_code=CLIENT_GONE)  # which nobody gets, but the log

    app.add_exception_handler(ClientDisconnect, on_disconnect)
    app.add_exception_handler(Problem, on_error)
    app.add_exception_handler(PyMongoError, on_error)
    app.add_exception_handler(HTTPException, on_http)
    app.add_exception_handler(RequestValidationError, on_validation)
    app.add_exception_handler(Exception, on_error)


def _allowed(request: Request) -> list[str]:
    """The methods of all routes at this address; Starlette names only those of the first."""
    routes = iter_route_contexts(request.app.routes)
    here = [route for route in routes if route.path_regex and route.path_regex.match(request.url.path)]
    return sorted({method for route in here for method in route.methods or ()})
