"""What the OpenAPI page has beyond what FastAPI takes from the routes."""

from typing import Any, get_args

from fastapi import FastAPI
from fastapi.routing import APIRoute

from common.errors import all_problems
from common.web.problems import MEDIA_TYPE
from gristmill.wire.processors import Encoding
from gristmill.wire.public import (
    DEADLINE_PATTERN,
    RETENTION_PATTERN,
    BatchEnded,
    BatchFile,
    BatchRequest,
    FaultPointer,
    JobRequest,
    ProblemView,
    UploadComplete,
    UploadedPart,
)
from services.front.api.openapi import examples
from services.front.api.openapi.links import LINKS
from services.front.domain.idempotency import MAX_KEY_CHARACTERS

_RETRY_AFTER = {"Retry-After": {"description": "Seconds to wait.", "schema": {"type": "integer"}}}
_REF = "#/components/schemas/{model}"
# Those that no route's signature names: refusals, and bodies that are read by `bodies.py`.
_MODELS = (ProblemView, FaultPointer, BatchEnded, BatchRequest, BatchFile, UploadComplete, UploadedPart)
# Problems that blob and job answer front and processors with, and front nobody.
_BETWEEN_SERVICES = {"forbidden", "stale-fence", "already-exists"}
_BODIES = {"BatchRequest": examples.BATCH_REQUEST, "UploadComplete": examples.UPLOAD_COMPLETE}
_EXAMPLE_PICTURE = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8BQDwAEhQGAhKmMIQAAAABJRU5ErkJggg=="


TAGS = [
    {"name": "job", "description": "Hand in a file, follow what becomes of it, and fetch what was made of it."},
    {"name": "batch", "description": "Hand in many files at once, which go straight to the store over signed URLs."},
    {"name": "processor", "description": "What can be done to a file."},
    {"name": "health", "description": "Whether this server runs, and whether it takes requests. Needs no token."},
]


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """`responses` for a route: each status, with the types of problem that it can mean."""
    return {status: _response(status) for status in statuses}


def json_body(model: str, *, required: bool = True) -> dict[str, Any]:
    """`openapi_extra` for a route whose body is one of `_MODELS`."""
    content = {"application/json": {"schema": {"$ref": _REF.format(model=model)}, "example": _BODIES[model]}}
    return {"requestBody": {"required": required, "content": content}}


def operation_id(route: APIRoute) -> str:
    """The name by which clients that are made from the page call an operation."""
    return route.name


def install(app: FastAPI) -> None:
    """Describe refusals as what they are: FastAPI would add a 422 of its own form to every route with a parameter."""
    describe = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            schema = describe()
            schemas = schema["components"]["schemas"]
            for name in ("HTTPValidationError", "ValidationError"):
                schemas.pop(name, None)
            for model in _MODELS:
                schemas[model.__name__] = model.model_json_schema(ref_template=_REF)
                schemas[model.__name__].pop("$defs", None)
            for operations in schema["paths"].values():
                for operation in operations.values():
                    _complete(operation)
        return app.openapi_schema or {}

    app.openapi = openapi  # type: ignore[method-assign]  # the way FastAPI documents to extend it


def _complete(operation: dict[str, Any]) -> None:
    """Say of an operation what FastAPI can't know, and not what it makes up."""
    name, answers = operation["operationId"], operation["responses"]
    for parameter in operation.get("parameters", ()):
        if (name, parameter["name"]) == ("create_job", "processor"):
            parameter["example"] = examples.FORM["processor"]
    for answer in answers.values():
        _show(answer.get("content", {}))
    for status, links in LINKS.get(name, {}).items():
        answers[status]["links"] = links
    if "application/json" in answers.get("422", {}).get("content", {}):
        del answers["422"]


def _show(content: dict[str, Any]) -> None:
    """Give what a response holds its example."""
    schema = content.get("application/json", {}).get("schema", {})
    (first, *_) = schema.get("anyOf", [schema])
    model = first.get("$ref", "").rpartition("/")[2]
    if model in examples.BY_MODEL:
        content["application/json"]["example"] = examples.BY_MODEL[model]
    if "text/event-stream" in content:
        content["text/event-stream"]["example"] = examples.EVENT


def _response(status: int) -> dict[str, Any]:
    kinds = [kind for kind in all_problems() if kind.status == status and kind.slug not in _BETWEEN_SERVICES]
    response: dict[str, Any] = {
        "description": " ".join(kind.default_detail() for kind in kinds),
        "content": {
            MEDIA_TYPE: {
                "schema": {"$ref": "#/components/schemas/ProblemView"},
                "examples": {kind.slug: {"value": kind().document()} for kind in kinds},
            }
        },
    }
    if any("Retry-After" in kind.default_headers for kind in kinds):
        response["headers"] = _RETRY_AFTER
    return response


def events(what: str, *models: str) -> dict[int | str, dict[str, Any]]:
    """`responses` for a route that sends events, each of which has one of these models, as JSON, in its `data`."""
    data = {
        "type": "string",
        "contentMediaType": "application/json",
        "contentSchema": {"anyOf": [{"$ref": _REF.format(model=model)} for model in models]},
    }
    properties = {"event": {"type": "string"}, "id": {"type": "string"}, "data": data}
    event = {"type": "object", "properties": properties, "required": list(properties)}
    return {
        200: {"description": what, "content": {"text/event-stream": {"schema": event}}},
        204: {"description": "You have the last event already: there is nothing to wait for."},
    }


_PREFER = {
    "name": "Prefer",
    "in": "header",
    "required": False,
    "description": "`wait=N` delays the response until the job is final, for up to N seconds (maximum 60).",
    "schema": {"type": "string"},
    "example": "wait=10",
}
_IDEMPOTENCY_KEY = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "Names this request for 24 hours (an operator may set another time), so that sending it again is "
    "safe: the same request makes nothing, and gets what the first has made, as it is now. No limit holds for it, and "
    "what was deleted since has the same id, and 404 at its address. Another request is refused with 422. While the "
    "first one runs the response is 409, and `Retry-After` says when it has ended or its turn is over; with "
    "`Prefer: wait=N` the response waits for it. 1-255 visible ASCII characters.",
    "schema": {"type": "string", "minLength": 1, "maxLength": MAX_KEY_CHARACTERS, "pattern": "^[!-~]+$"},
}
_WAIT_FOR_TURN = {
    **_PREFER,
    "description": "`wait=N` delays the response while another request with the same `Idempotency-Key` runs, for up to "
    "N seconds (maximum 60).",
}
IDEMPOTENT: dict[str, Any] = {"parameters": [_IDEMPOTENCY_KEY, _WAIT_FOR_TURN]}
WAIT: dict[str, Any] = {"parameters": [_PREFER]}

CREATE_BODIES: dict[str, Any] = {
    "parameters": [
        _PREFER,
        _IDEMPOTENCY_KEY,
        {
            "name": "Content-Encoding",
            "in": "header",
            "required": False,
            "description": "Raw kind: how the file is compressed. `Content-Type` is then that of the decoded file.",
            "schema": {"type": "string", "enum": list(get_args(Encoding))},
        },
        {
            "name": "params",
            "in": "query",
            "style": "form",
            "explode": True,
            "description": "Raw kind: the processor's parameters, repeated or with commas for lists.",
            "schema": {"type": "object", "additionalProperties": {"type": "string"}},
            "example": {"algorithm": "sha256"},
        },
    ],
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": JobRequest.model_json_schema(by_alias=True),
                "example": {
                    "content": _EXAMPLE_PICTURE,
                    "mimetype": "image/png",
                    "name": "dot.png",
                    "processor": "image-variants",
                    "params": {"widths": [16]},
                },
            },
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "properties": {
                        # The page fills a form in with these, and with nonsense where there is none.
                        "processor": {"type": "string", "example": examples.FORM["processor"]},
                        "name": {"type": "string", "example": examples.FORM["name"]},
                        "retention": {"type": "string", "pattern": RETENTION_PATTERN, "example": "7d"},
                        "deadline": {"type": "string", "pattern": DEADLINE_PATTERN, "example": "3600"},
                        "file": {"type": "string", "format": "binary"},
                    },
                    "required": ["file"],
                    "additionalProperties": {"type": "string"},
                },
                "example": examples.FORM,
            },
            "text/plain": {"schema": {"type": "string"}, "example": examples.TEXT},
            "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
            "image/*": {"schema": {"type": "string", "format": "binary"}},
        },
    },
}

_BYTES: dict[str, Any] = {"*/*": {"schema": {"type": "string", "format": "binary"}}}
OUTPUT: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The bytes.",
        "content": _BYTES,
        "headers": {
            "ETag": {"schema": {"type": "string"}},
            "Repr-Digest": {"description": "The SHA-256 (RFC 9530).", "schema": {"type": "string"}},
            "Content-Disposition": {"schema": {"type": "string"}},
        },
    },
    206: {"description": "The range asked for.", "content": _BYTES},
    304: {"description": "The client has these bytes already (`If-None-Match`)."},
}
