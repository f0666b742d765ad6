"""The public route that lists jobs."""

from datetime import UTC, datetime
from typing import Annotated
from urllib.parse import urlencode

from fastapi import APIRouter, Query
from pydantic import AwareDatetime
from starlette.responses import Response

from common.errors import Invalid
from gristmill.wire.public import JobList, JobStatus
from services.front.api.access import TokenOwner
from services.front.api.deps import Cursor, Deps, PageSize
from services.front.api.openapi import document as docs
from services.front.api.views import PREFIX, job_view
from services.front.domain.job import Status
from services.front.domain.listing import Filters
from services.front.use_cases.read import JobSnapshot

_PATH = f"{PREFIX}/job"

router = APIRouter(prefix=PREFIX, tags=["job"])


@router.get(
    "/job",
    response_model=JobList,
    responses=docs.problems(400, 401, 422, 503),
    summary="Your jobs, newest first",
)
async def list_jobs(
    owner: TokenOwner,
    deps: Deps,
    status: Annotated[
        list[JobStatus], Query(max_length=len(Status), description="In one of these states; may be repeated.")
    ] = [],  # noqa: B006 - FastAPI copies it, and documents it only as a plain value
    processor: Annotated[
        str | None, Query(max_length=128, description="As the job names it, version included.")
    ] = None,
    batch: Annotated[str | None, Query(max_length=64, description="The id of a batch.")] = None,
    name: Annotated[str | None, Query(max_length=255, description="The file's whole name.")] = None,
    created_after: Annotated[AwareDatetime | None, Query(alias="createdAfter", description="RFC 3339.")] = None,
    created_before: Annotated[AwareDatetime | None, Query(alias="createdBefore", description="RFC 3339.")] = None,
    cursor: Cursor = "",
    page_size: PageSize = 50,
) -> Response:
    """Only your own. A cursor is valid for its owner and with the same filters only.

    The list has the last stored state of each job; get the job itself for its progress.
    """
    after, before = _utc("createdAfter", created_after), _utc("createdBefore", created_before)
    filters = Filters(tuple(sorted({Status(one) for one in status})), processor, batch, name, after, before)
    given = {
        "status": [one.value for one in filters.statuses],
        "processor": processor,
        "batch": batch,
        "name": name,
        "createdAfter": after.isoformat() if after else None,
        "createdBefore": before.isoformat() if before else None,
    }
    given = {key: value for key, value in given.items() if value}
    of = {"path": _PATH, **given}
    page = await deps.list_jobs(owner, filters, deps.cursors.read(owner, of, cursor), page_size)
    following = deps.cursors.seal(owner, of, page.next) if page.next else None
    headers = {}
    if following is not None:
        query = urlencode({**given, "cursor": following, "limit": page_size}, doseq=True)
        headers["Link"] = f'<{_PATH}?{query}>; rel="next"'
    items = [job_view(JobSnapshot(job)) for job in page.jobs]
    body = JobList.model_construct(items=items, next=following)
    return Response(body.to_wire(), 200, headers, "application/json")


def _utc(name: str, moment: datetime | None) -> datetime | None:
    try:
        return moment.astimezone(UTC) if moment else None
    except OverflowError:  # the offset leads out of the years 1 to 9999
        raise Invalid(errors=[{"pointer": f"/{name}", "detail": "There is no such moment in UTC."}]) from None
