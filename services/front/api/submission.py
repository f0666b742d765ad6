"""What `POST /job` hands in: each of three kinds of body becomes the same `Submission`."""

import asyncio
import base64
import binascii
import hashlib

from fastapi import Request
from pydantic import BaseModel, Field

from common.errors import DigestMismatch, Invalid, TooLarge, UnsupportedMediaType
from common.web.bodies import JSON, declared_size
from gristmill.wire.processors import Encoding
from gristmill.wire.public import PROCESSOR, DeadlineText, JobRequest, RetentionText
from services.front.api.bodies import Bodies, Form
from services.front.api.headers import sha256_digest
from services.front.domain import media
from services.front.domain.job import Owner
from services.front.use_cases.create import Submission, SubmissionOptions
from services.front.use_cases.idempotency import IdempotentRequest

FORM = "multipart/form-data"
# What a JSON body may have beside its content.
JSON_REST_BYTES = 256 * 1024


class QueryOptions(BaseModel):
    """The options of a file that is sent raw. Every other query parameter is one of the processor's."""

    processor: str | None = Field(None, max_length=128, description=f"Raw kind: {PROCESSOR}")
    name: str | None = Field(None, max_length=4096, description="Raw kind: the file's name, a label.")
    retention: RetentionText | None = Field(None, description="Raw kind: how long the outputs are kept.")
    deadline: DeadlineText | None = Field(None, description="Raw kind: how long the work may take.")


# In a form, fields of these names are the job's own likewise.
OPTIONS = frozenset(QueryOptions.model_fields)


async def parse(
    request: Request, owner: Owner, query: QueryOptions, bodies: Bodies, idempotent: IdempotentRequest
) -> Submission:
    """The submission of a request, whose file is streamed unless it is JSON.

    Raises `Malformed`, `TooLarge`, `UnsupportedMediaType`, `Invalid`, `DigestMismatch`, and `Unavailable` while too
    many JSON bodies are in memory.
    """
    encoding = media.parse_encoding(", ".join(request.headers.getlist("content-encoding")))
    kind = media.parse(request.headers.get("content-type"))
    if encoding is not None and kind in (JSON, FORM):
        raise UnsupportedMediaType("A Content-Encoding is for files that are sent raw.")
    if kind == JSON:
        return await _from_json(request, owner, bodies, idempotent)
    if kind == FORM:
        return await _from_form(request, bodies, idempotent)
    return _raw(request, query, encoding, bodies, idempotent)


def _raw(
    request: Request, query: QueryOptions, encoding: Encoding | None, bodies: Bodies, idempotent: IdempotentRequest
) -> Submission:
    pairs, mimetype = request.query_params.multi_items(), request.headers.get("content-type")
    options = SubmissionOptions(
        processor=query.processor,
        name=query.name,
        mimetype=mimetype,
        retention=query.retention,
        deadline=query.deadline,
        encoding=encoding,
    )
    idempotent.describe(["raw", mimetype, encoding], pairs)
    params = [(name, value) for name, value in pairs if name not in OPTIONS]
    digest = sha256_digest(request.headers.get("content-digest"))
    return Submission(options, params, idempotent.hashed(bodies.stream(request)), declared_size(request), digest)


async def _from_form(request: Request, bodies: Bodies, idempotent: IdempotentRequest) -> Submission:
    form = Form(request.headers.get("content-type", ""), bodies.stream(request))
    file = await form.open_file()
    fields = dict(file.fields)
    options = SubmissionOptions(
        processor=fields.get("processor"),
        name=fields.get("name", file.filename),
        mimetype=file.content_type,
        retention=fields.get("retention"),
        deadline=fields.get("deadline"),
    )
    idempotent.describe(["form", file.filename, file.content_type], file.fields)
    params = [(name, value) for name, value in file.fields if name not in OPTIONS]
    return Submission(options, params, idempotent.hashed(form.file()))


async def _from_json(request: Request, owner: Owner, bodies: Bodies, idempotent: IdempotentRequest) -> Submission:
    limit = bodies.max_json_bytes * 4 // 3 + JSON_REST_BYTES
    if (declared_size(request) or 0) > limit:
        raise TooLarge(f"The body is larger than {limit} bytes; send the file raw.")
    if idempotent.repeats:
        idempotent.describe([JSON])
        return Submission(SubmissionOptions(), {}, idempotent.hashed(bodies.stream(request)))
    body, share = await bodies.read_json(request, owner, JobRequest, limit, idempotent=idempotent)
    try:
        content = await asyncio.to_thread(_decoded, body, bodies.max_json_bytes)
    except BaseException:
        share.release()
        raise
    options = SubmissionOptions(
        processor=body.processor,
        name=body.name,
        mimetype=body.mimetype,
        retention=body.retention,
        deadline=body.deadline,
    )
    return Submission(options, body.params, content, size=len(content), release=share.release)


def _decoded(body: JobRequest, max_bytes: int) -> bytes:
    try:
        content = base64.b64decode(body.content, validate=True)
    except (binascii.Error, ValueError):
        raise Invalid(errors=[{"pointer": "/content", "detail": "This isn't base64."}]) from None
    if not content:
        raise Invalid(errors=[{"pointer": "/content", "detail": "The file is empty."}])
    if len(content) > max_bytes:
        raise TooLarge(f"The file is larger than {max_bytes} bytes.")
    if body.md5 is not None and hashlib.md5(content, usedforsecurity=False).hexdigest() != body.md5.lower():
        raise DigestMismatch
    return content
