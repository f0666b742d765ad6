"""The public routes of batches, and of the uploads of their files."""

from typing import Annotated

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from common.contracts.upload import MAX_PARTS, CompletedPart
from gristmill.wire.public import BatchRequest, BatchView, JobStatusView, UploadComplete, UploadView
from services.front.api.access import Maker, TokenOwner
from services.front.api.deps import MAX_PAGE_SIZE, BatchId, Cursor, Deps, JobId, PageSize
from services.front.api.headers import wait_seconds
from services.front.api.openapi import document as docs
from services.front.api.views import PREFIX, batch_view, status_view, upload_view
from services.front.domain.job import Owner
from services.front.domain.listing import Position
from services.front.use_cases.batch import BatchSnapshot
from services.front.use_cases.read import JobSnapshot

# A thousand files with the longest names, or the entity tags of ten thousand parts, and as much again.
MAX_JSON_BYTES = 8 * 1024 * 1024

router = APIRouter(prefix=PREFIX, tags=["batch"])


@router.post(
    "/batch",
    status_code=201,
    response_model=BatchView,
    responses=docs.problems(400, 401, 404, 409, 413, 415, 422, 429, 502, 503, 507),
    openapi_extra={**docs.json_body("BatchRequest"), **docs.IDEMPOTENT},
    summary="Create jobs for files that you upload",
)
async def create_batch(request: Request, owner: Maker, deps: Deps) -> Response:
    """Announce 1-1,000 files. The response has a job for each, and the URLs to send the files to, straight to the
    store.

    One response has up to 1,000 URLs; get the others from the job's `upload`. With large parameters it has the first of
    the jobs, and `next` for the others. The size is exact: a byte more or less is refused.
    """
    keys, seconds = request.headers.getlist("idempotency-key"), wait_seconds(request.headers.get("prefer"))
    async with deps.idempotency.request(owner, "batch", keys, deps.batches.exists, seconds) as idempotent:
        if idempotent.repeats:
            await deps.bodies.compare_json(request, MAX_JSON_BYTES, idempotent)
            snapshot = await deps.batches.again(owner, idempotent.id)
        else:
            body, share = await deps.bodies.read_json(
                request, owner, BatchRequest, MAX_JSON_BYTES, idempotent=idempotent
            )
            with share:
                snapshot = await deps.batches.create(owner, body, idempotent)
    return _response(owner, deps, snapshot, 201, MAX_PAGE_SIZE, {"Location": f"{PREFIX}/batch/{snapshot.batch.id}"})


@router.get(
    "/batch/{batch_id}",
    response_model=BatchView,
    responses=docs.problems(400, 401, 404, 422, 503),
    summary="A batch: its counts, and a page of its jobs with their outputs",
)
async def get_batch(
    owner: TokenOwner,
    deps: Deps,
    batch_id: BatchId,
    cursor: Cursor = "",
    page_size: PageSize = 50,
) -> Response:
    """How many of its jobs are in each state, and a page of the jobs. URLs for a file that is missing are at its job's
    `upload`.
    """
    after = deps.cursors.read(owner, _of(batch_id), cursor)
    snapshot = await deps.batches.show(owner, batch_id, after.job_id if after else "", page_size)
    return _response(owner, deps, snapshot, 200, page_size, {})


def _of(batch_id: str) -> dict[str, str]:
    """The list that a cursor is of."""
    return {"path": f"{PREFIX}/batch/{batch_id}"}


def _response(
    owner: Owner, deps: Deps, snapshot: BatchSnapshot, status: int, page_size: int, headers: dict[str, str]
) -> Response:
    """With a cursor and a `Link` where there are more jobs."""
    of, following = _of(snapshot.batch.id), None
    if snapshot.next is not None:
        following = deps.cursors.seal(owner, of, Position.of(snapshot.jobs[-1]))
        headers["Link"] = f'<{of["path"]}?cursor={following}&limit={page_size}>; rel="next"'
    return Response(batch_view(snapshot, following).to_wire(), status, headers, "application/json")


@router.get(
    "/job/{job_id}/upload",
    response_model=UploadView,
    responses=docs.problems(401, 404, 409, 422, 503),
    summary="The parts that have arrived, and fresh URLs for the rest",
)
async def get_upload(
    owner: TokenOwner,
    deps: Deps,
    job_id: JobId,
    from_part: Annotated[int, Query(alias="from", ge=1, le=MAX_PARTS, description="The first part asked for.")] = 1,
) -> Response:
    """Also moves the expiry: you can resume an upload after a crash or on another machine, for up to 30 days."""
    plan = await deps.uploads.plan(owner, job_id, from_part)
    return Response(upload_view(plan).to_wire(), media_type="application/json")


@router.post(
    "/job/{job_id}/upload/complete",
    response_model=JobStatusView,
    responses={
        202: {"model": JobStatusView, "description": "All is there, and is being verified."},
        **docs.problems(400, 401, 404, 409, 413, 415, 422, 503),
    },
    openapi_extra=docs.json_body("UploadComplete", required=False),
    summary="Complete an upload",
)
async def complete_upload(request: Request, owner: TokenOwner, deps: Deps, job_id: JobId) -> Response:
    """Declare that the whole file was sent. Optional: an upload that is complete is found in any case, only later."""
    body, share = await deps.bodies.read_json(request, owner, UploadComplete, MAX_JSON_BYTES, default=b"{}")
    with share:
        parts = [CompletedPart(number=part.number, etag=part.etag) for part in body.parts]
    job, verifying = await deps.uploads.complete(owner, job_id, parts)
    return Response(status_view(JobSnapshot(job)).to_wire(), 202 if verifying else 200, media_type="application/json")
