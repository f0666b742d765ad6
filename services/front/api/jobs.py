"""The public routes of a job."""

from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request
from starlette.responses import Response
from structlog.contextvars import bind_contextvars

from common.errors import NotFound, TooLarge, UnsupportedMediaType
from common.ids import is_job_id
from common.web import bodies as common_bodies
from gristmill.wire.public import (
    PROCESSOR,
    DeadlineText,
    JobCreated,
    JobRequest,
    JobStatusView,
    JobView,
    RetentionText,
)
from services.front.api import bodies
from services.front.api.access import TokenOwner
from services.front.api.headers import sha256_digest, wait_seconds
from services.front.api.idempotency import Keys, key_fields
from services.front.api.openapi import document as docs
from services.front.api.output import OutputResponse
from services.front.api.views import PREFIX, job_href, job_view, status_view
from services.front.domain import media
from services.front.domain.job import Job, Owner
from services.front.ports import Blobs
from services.front.use_cases.cancel import CancelJob
from services.front.use_cases.create import Asked, CreateJob
from services.front.use_cases.delete import DeleteJob
from services.front.use_cases.idempotency import Turn
from services.front.use_cases.read import ReadJob, Seen

# Query parameters and form fields that are the job's own; every other one is the processor's.
OF_THE_JOB = ("processor", "name", "retention", "deadline")

router = APIRouter(prefix=PREFIX, tags=["job"])


async def _create(request: Request) -> CreateJob:
    create: CreateJob = request.app.state.create
    return create


async def _read(request: Request) -> ReadJob:
    read: ReadJob = request.app.state.read
    return read


async def _cancel(request: Request) -> CancelJob:
    cancel: CancelJob = request.app.state.cancel
    return cancel


async def _delete(request: Request) -> DeleteJob:
    delete: DeleteJob = request.app.state.delete
    return delete


async def _blobs(request: Request) -> Blobs:
    blobs: Blobs = request.app.state.blobs
    return blobs


Create = Annotated[CreateJob, Depends(_create)]
Read = Annotated[ReadJob, Depends(_read)]


@router.post(
    "/job",
    status_code=201,
    response_model=JobCreated | JobStatusView,
    responses=docs.problems(400, 401, 404, 409, 413, 415, 422, 429, 502, 503, 507),
    openapi_extra=docs.CREATE_BODIES,
    summary="Create a job from a file",
)
async def create_job(
    request: Request,
    owner: TokenOwner,
    create: Create,
    read: Read,
    keys: Keys,
    processor: Annotated[str | None, Query(max_length=128, description=f"Raw kind: {PROCESSOR}")] = None,
    name: Annotated[str | None, Query(max_length=4096, description="Raw kind: the file's name, a label.")] = None,
    retention: Annotated[RetentionText | None, Query(description="Raw kind: how long the outputs are kept.")] = None,
    deadline: Annotated[DeadlineText | None, Query(description="Raw kind: how long the work may take.")] = None,
) -> Response:
    """Hand in a file, get a job id at once. The body is one of three kinds:

    - `application/json`: a small file in base64;
    - `multipart/form-data`: fields, then the field `file`; streamed;
    - anything else is the file itself, streamed; its `Content-Type` is the file's, and each query parameter other than
      `processor`, `name`, `retention` and `deadline` is one of the processor's.

    A raw file may come compressed, and says so in `Content-Encoding`: it is kept as it came, and decoded for the
    processor.

    With `Prefer: wait=N` the answer waits until the job is final, N seconds at most (60 at the most).

    With an `Idempotency-Key` it is safe to send the same request again: it makes one job.
    """
    create.admit(owner)
    encoding = media.parse_encoding(", ".join(request.headers.getlist("content-encoding")))
    asked = Asked(processor, name, request.headers.get("content-type"), retention, deadline, encoding)
    async with keys.turn(owner, "job", key_fields(request), read.exists) as turn:
        job = await _created(request, owner, create, asked, turn)
    if job is None:
        job = (await read.status(owner, turn.id)).job
    bind_contextvars(job=job.id)
    headers = {"Location": job_href(job.id)}
    body = JobCreated(id=job.id, status=job.status.value).to_wire()
    if seconds := wait_seconds(request.headers.get("prefer")):
        body = status_view(await read.wait(owner, job.id, seconds)).to_wire()
        headers["Preference-Applied"] = f"wait={seconds}"
    return Response(body, 201, headers, "application/json")


async def _created(request: Request, owner: Owner, create: CreateJob, asked: Asked, turn: Turn) -> Job | None:
    """`asked` is what a raw body's headers and query say. None when the turn repeats another."""
    declared = request.headers.get("content-length")
    size = int(declared) if declared is not None else None
    kind = media.parse(asked.mimetype)
    if asked.encoding is not None and kind in ("application/json", "multipart/form-data"):
        raise UnsupportedMediaType("A Content-Encoding is for files that are sent raw.")
    if kind == "application/json":
        return await _from_json(request, owner, create, size, turn)
    if kind == "multipart/form-data":
        form = bodies.Form(request)
        file = await form.open_file()
        fields = dict(file.fields)
        turn.says(["form", file.filename, file.content_type], file.fields)
        content = turn.hashed(form.file())
        if turn.repeats:
            await _compare(create, content, turn)
            return None
        params = [(key, value) for key, value in file.fields if key not in OF_THE_JOB]
        said = Asked(
            processor=fields.get("processor"),
            name=fields.get("name", file.filename),
            mimetype=file.content_type,
            retention=fields.get("retention"),
            deadline=fields.get("deadline"),
        )
        order = await create.order(said, params)
        return await create.from_stream(owner, order, content, None, None, turn)
    turn.says(["raw", asked.mimetype, asked.encoding], request.query_params.multi_items())
    content = turn.hashed(bodies.stream(request))
    if turn.repeats:
        await _compare(create, content, turn)
        return None
    params = [(key, value) for key, value in request.query_params.multi_items() if key not in OF_THE_JOB]
    order = await create.order(asked, params)
    digest = sha256_digest(request.headers.get("content-digest"))
    return await create.from_stream(owner, order, content, size, digest, turn)


async def _compare(create: CreateJob, content: AsyncIterator[bytes], turn: Turn) -> None:
    """A stream that is only compared, and kept nowhere."""
    await create.drain(content)
    await turn.seal()


async def _from_json(request: Request, owner: Owner, create: CreateJob, size: int | None, turn: Turn) -> Job | None:
    limit = create.json_limit()
    if size is not None and size > limit:
        raise TooLarge(f"The body is larger than {limit} bytes; send the file raw.")
    held = limit if size is None else size
    create.hold(held)
    try:
        body = await common_bodies.read(request, limit, request.app.state.stall_seconds)
        await bodies.hash_held(turn, body)
        if turn.repeats:
            await turn.seal()
            create.let_go(held)
            return None
        job, task = await create.from_json(owner, await common_bodies.parse(body, JobRequest), turn)
    except BaseException:
        create.let_go(held)
        raise
    task.add_done_callback(lambda _: create.let_go(held))
    return job


@router.get(
    "/job/{job_id}",
    response_model=JobView,
    responses=docs.problems(401, 404, 503),
    summary="The whole job",
)
async def get_job(owner: TokenOwner, read: Read, job_id: str) -> Response:
    """Its state, its outputs or its error, and when it reached each state before."""
    return Response(job_view(await read.status(owner, checked_id(job_id))).to_wire(), media_type="application/json")


@router.get(
    "/job/{job_id}/status",
    response_model=JobStatusView,
    responses=docs.problems(401, 404, 503),
    openapi_extra=docs.WAIT,
    summary="The job's state",
)
async def get_job_status(request: Request, owner: TokenOwner, read: Read, job_id: str) -> Response:
    """The state, and its outputs or its error. With `Prefer: wait=N` the answer waits until the job is final."""
    # Requests without `Prefer` are answered by `services.front.api.fast_status` before they get here.
    seconds = wait_seconds(request.headers.get("prefer"))
    headers = {"Preference-Applied": f"wait={seconds}"} if seconds else {}
    seen: Seen = await read.wait(owner, checked_id(job_id), seconds)
    return Response(status_view(seen).to_wire(), 200, headers, "application/json")


@router.post(
    "/job/{job_id}/cancel",
    response_model=JobStatusView,
    responses={
        202: {"model": JobStatusView, "description": "It is being cancelled; its state as it is now."},
        **docs.problems(401, 404, 503),
    },
    summary="Cancel the job",
)
async def cancel_job(owner: TokenOwner, cancel: Annotated[CancelJob, Depends(_cancel)], job_id: str) -> Response:
    """End a job that has not ended: work on it is stopped, and its bytes are deleted. Of one that has ended it changes
    nothing, and the answer tells how it ended. May be repeated.
    """
    seen = await cancel(owner, checked_id(job_id))
    return Response(status_view(seen).to_wire(), 200 if seen.job.status.is_final else 202, None, "application/json")


@router.delete(
    "/job/{job_id}",
    status_code=204,
    response_class=Response,
    responses=docs.problems(401, 404, 503),
    summary="Delete the job and all its bytes",
)
async def delete_job(owner: TokenOwner, delete: Annotated[DeleteJob, Depends(_delete)], job_id: str) -> Response:
    """From the answer on the job is unknown: every request for it gets 404, another DELETE too. So 404 is also what you
    hear when you repeat one whose answer was lost. If it has not ended it is cancelled. Its bytes go soon after.
    """
    await delete(owner, checked_id(job_id))
    return Response(status_code=204)


@router.get(
    "/job/{job_id}/output",
    response_class=Response,
    responses={**docs.OUTPUT, **docs.problems(401, 404, 410, 416, 502, 503)},
    summary="The first output's bytes",
)
async def get_output(
    request: Request, owner: TokenOwner, read: Read, blobs: Annotated[Blobs, Depends(_blobs)], job_id: str
) -> Response:
    """A job that has not ended is 404 `result-not-ready` with `Retry-After`; one that ended without an output is 404
    `result-not-available`. Ranges and validators work as in any download.
    """
    found = await read.output(owner, checked_id(job_id), None)
    return OutputResponse(blobs, found, request.headers, read.output_was_read)


@router.get(
    "/job/{job_id}/output/{output_name}",
    response_class=Response,
    responses={**docs.OUTPUT, **docs.problems(401, 404, 410, 416, 502, 503)},
    summary="The named output's bytes",
)
async def get_named_output(
    request: Request,
    owner: TokenOwner,
    read: Read,
    blobs: Annotated[Blobs, Depends(_blobs)],
    job_id: str,
    output_name: str,
) -> Response:
    """As of the first output, for any of those that the job lists."""
    found = await read.output(owner, checked_id(job_id), output_name)
    return OutputResponse(blobs, found, request.headers, read.output_was_read)


def checked_id(job_id: str) -> str:
    """A malformed id gets the same answer as an unknown one."""
    if not is_job_id(job_id):
        raise NotFound
    return job_id
