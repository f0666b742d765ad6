"""The public routes of a job."""

import time
from contextlib import suppress
from typing import Annotated

from fastapi import APIRouter, Query, Request
from starlette.responses import Response
from structlog.contextvars import bind_contextvars

from common.errors import TooManyRequests, Unavailable
from common.web.disconnects import while_connected
from gristmill.wire.public import JobCreated, JobStatusView, JobView
from services.front.api import submission
from services.front.api.access import Maker, TokenOwner
from services.front.api.deps import Deps, JobId, OutputName
from services.front.api.headers import wait_seconds
from services.front.api.openapi import document as docs
from services.front.api.output import OutputResponse
from services.front.api.views import PREFIX, job_href, job_view, status_view
from services.front.use_cases.read import JobSnapshot

router = APIRouter(prefix=PREFIX, tags=["job"])


@router.post(
    "/job",
    status_code=201,
    response_model=JobCreated | JobStatusView,
    responses=docs.problems(400, 401, 404, 409, 413, 415, 422, 429, 502, 503, 507),
    openapi_extra=docs.CREATE_BODIES,
    summary="Create a job from a file",
)
async def create_job(
    request: Request, owner: Maker, deps: Deps, query: Annotated[submission.QueryOptions, Query()]
) -> Response:
    """Hand in a file, and get the id of a job at once. The body is one of three kinds:

    - `application/json`: a small file in base64;
    - `multipart/form-data`: fields, then the field `file`; streamed;
    - anything else is the file itself, streamed; its `Content-Type` is the file's, and each query parameter other than
      `processor`, `name`, `retention` and `deadline` is one of the processor's.

    A raw file may be compressed, with a `Content-Encoding`: it is kept as it came, and decoded for the processor.

    With `Prefer: wait=N` the response waits until the job is final, for up to N seconds (maximum 60).

    With an `Idempotency-Key` it is safe to repeat a request: all of them together create one job.
    """
    keys, seconds = request.headers.getlist("idempotency-key"), wait_seconds(request.headers.get("prefer"))
    began = time.monotonic()
    async with deps.idempotency.request(owner, "job", keys, deps.read.exists, seconds) as idempotent:
        waited = time.monotonic() - began
        submitted = await submission.parse(request, owner, query, deps.bodies, idempotent)
        job = await deps.create(owner, submitted, idempotent) or await deps.read.made(owner, idempotent.id)
    bind_contextvars(job=job.id)
    headers = {"Location": job_href(job.id)}
    body = JobCreated(id=job.id, status=job.status.value).to_wire()
    if seconds and job.deleted_at is None:
        with suppress(TooManyRequests, Unavailable):  # the job is made: a preference that can't be kept is no failure
            with deps.waits.take(owner):
                snapshot = await while_connected(request, deps.read.end_of(job, seconds - waited))
            body = status_view(snapshot).to_wire()
            headers["Preference-Applied"] = f"wait={seconds}"
    return Response(body, 201, headers, "application/json")


@router.get(
    "/job/{job_id}",
    response_model=JobView,
    responses=docs.problems(401, 404, 503),
    summary="The whole job",
)
async def get_job(owner: TokenOwner, deps: Deps, job_id: JobId) -> Response:
    """Its state, its outputs or its error, and when it reached each state before."""
    return Response(job_view(await deps.read.status(owner, job_id)).to_wire(), media_type="application/json")


@router.get(
    "/job/{job_id}/status",
    response_model=JobStatusView,
    responses=docs.problems(401, 404, 503),
    openapi_extra=docs.WAIT,
    summary="The job's state",
)
async def get_job_status(request: Request, owner: TokenOwner, deps: Deps, job_id: JobId) -> Response:
    """The state, and its outputs or its error. With `Prefer: wait=N` the response waits until the job is final."""
    # `services.front.api.status` answers requests without `Prefer` before they get here.
    seconds = wait_seconds(request.headers.get("prefer"))
    headers = {"Preference-Applied": f"wait={seconds}"} if seconds else {}
    with deps.waits.take(owner):
        snapshot: JobSnapshot = await while_connected(request, deps.read.wait(owner, job_id, seconds))
    return Response(status_view(snapshot).to_wire(), 200, headers, "application/json")


@router.post(
    "/job/{job_id}/cancel",
    response_model=JobStatusView,
    responses={
        202: {"model": JobStatusView, "description": "It is being cancelled; its state as it is now."},
        **docs.problems(401, 404, 503),
    },
    summary="Cancel the job",
)
async def cancel_job(owner: TokenOwner, deps: Deps, job_id: JobId) -> Response:
    """End a job that has not ended: work on it is stopped, and its bytes are deleted. A job that has ended doesn't
    change; the response has the state in which it ended. Safe to repeat.
    """
    snapshot = await deps.cancel(owner, job_id)
    return Response(
        status_view(snapshot).to_wire(), 200 if snapshot.job.status.is_final else 202, None, "application/json"
    )


@router.delete(
    "/job/{job_id}",
    status_code=204,
    response_class=Response,
    responses=docs.problems(401, 404, 503),
    summary="Delete the job and all its bytes",
)
async def delete_job(owner: TokenOwner, deps: Deps, job_id: JobId) -> Response:
    """A job that has not ended is cancelled first; its bytes are deleted soon after. From then on every request for
    the job gets 404, another DELETE too: if you lost the first response, treat this 404 as success.
    """
    await deps.delete(owner, job_id)
    return Response(status_code=204)


@router.get(
    "/job/{job_id}/output",
    response_class=Response,
    responses={**docs.OUTPUT, **docs.problems(401, 404, 410, 416, 502, 503)},
    summary="The first output's bytes",
)
async def get_output(request: Request, owner: TokenOwner, deps: Deps, job_id: JobId) -> Response:
    """A job that has not ended is 404 `result-not-ready` with `Retry-After`; one that ended without an output is 404
    `result-not-available`. Ranges and validators work as in any download.
    """
    found = await deps.read.output(owner, job_id, None)
    return OutputResponse(deps.blobs, deps.downloads, found, request.headers, deps.read)


@router.get(
    "/job/{job_id}/output/{output_name}",
    response_class=Response,
    responses={**docs.OUTPUT, **docs.problems(401, 404, 410, 416, 502, 503)},
    summary="The named output's bytes",
)
async def get_named_output(
    request: Request, owner: TokenOwner, deps: Deps, job_id: JobId, output_name: OutputName
) -> Response:
    """As of the first output, for any of those that the job lists."""
    found = await deps.read.output(owner, job_id, output_name)
    return OutputResponse(deps.blobs, deps.downloads, found, request.headers, deps.read)
