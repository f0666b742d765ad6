"""The public routes that stream changes as server-sent events (HTML standard, section 9.2)."""

import time
from collections import Counter
from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Depends, Header, Request
from fastapi.sse import EventSourceResponse, format_sse_event
from starlette.responses import Response

from gristmill.wire.public import BatchEnded
from services.front.api.access import TokenOwner
from services.front.api.deps import BatchId, Dependencies, Deps, JobId
from services.front.api.openapi import document as docs
from services.front.api.views import PREFIX, status_view
from services.front.use_cases.read import JobSnapshot
from services.front.use_cases.watch import Watch

AT_THE_END = "-end"
_HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}

router = APIRouter(prefix=PREFIX)

LastEventId = Annotated[
    str | None, Header(alias="Last-Event-ID", description="The id of the last event that you have; of any front.")
]


# Dependencies, for their ends come after the response's, however that ends.
async def _job(owner: TokenOwner, deps: Deps, job_id: JobId, last: LastEventId = None) -> AsyncIterator[Watch]:
    async with deps.watching.job(owner, job_id, last) as watch:
        yield watch


async def _batch(owner: TokenOwner, deps: Deps, batch_id: BatchId, last: LastEventId = None) -> AsyncIterator[Watch]:
    async with deps.watching.batch(owner, batch_id, last) as watch:
        yield watch


async def _seconds(request: Request, _: TokenOwner, deps: Deps) -> float:
    """How long the stream may last: not for longer than the token of who asked for it."""
    return min(deps.stream_seconds, await deps.tokens.seconds_left(request.headers.get("authorization")))


Seconds = Annotated[float, Depends(_seconds)]


@router.get(
    "/job/{job_id}/events",
    response_class=Response,
    responses={
        **docs.events("Events named `status`, one for each change.", "JobStatusView"),
        **docs.problems(401, 404, 429, 503),
    },
    summary="The job's changes, as they happen",
    tags=["job"],
)
async def watch_job(deps: Deps, watch: Annotated[Watch, Depends(_job)], seconds: Seconds) -> Response:
    """Server-sent events. Each has the same JSON as the job's status. The stream ends after the final state, or
    earlier, with your token at the latest: to resume, send the last event's `id` as `Last-Event-ID`, and you get the
    newest state if you don't have it. If you read more slowly than the job changes, you get its newest state only.
    """
    if watch.is_over:
        return Response(status_code=204)
    return EventSourceResponse(_stream(deps, watch, seconds), headers=_HEADERS)


@router.get(
    "/batch/{batch_id}/events",
    response_class=Response,
    responses={
        **docs.events(
            "Events named `status`, each of one job, and at the end one named `batch`.", "JobStatusView", "BatchEnded"
        ),
        **docs.problems(401, 404, 429, 503),
    },
    summary="The changes of all jobs of a batch, as they happen",
    tags=["batch"],
)
async def watch_batch(
    deps: Deps,
    watch: Annotated[Watch, Depends(_batch)],
    seconds: Seconds,
    batch_id: BatchId,
    last: LastEventId = None,
) -> Response:
    """As the events of a job, for each job of the batch. Who comes again and lacks something gets every job once."""
    if watch.is_over and last is not None and last.endswith(AT_THE_END):
        return Response(status_code=204)
    return EventSourceResponse(_stream(deps, watch, seconds, batch_id), headers=_HEADERS)


async def _stream(
    deps: Dependencies, watch: Watch, seconds: float, batch_id: str | None = None
) -> AsyncIterator[bytes]:
    closes_at = time.monotonic() + seconds
    while not watch.closing and time.monotonic() < closes_at:
        for job in watch.take():
            yield format_sse_event(
                event="status", id=watch.event_id, data_str=status_view(JobSnapshot(job)).to_wire().decode()
            )
        if watch.is_over:
            if batch_id is not None:
                counts = Counter(job.status.value for job in watch.jobs.values())
                ended = BatchEnded(id=batch_id, counts=dict(counts)).to_wire().decode()
                yield format_sse_event(event="batch", id=watch.event_id + AT_THE_END, data_str=ended)
            return
        if not await watch.wait(min(deps.heartbeat_seconds, closes_at - time.monotonic())):
            yield format_sse_event(comment="heartbeat")
