"""What the routes work with: built once in `app.py`, and handed to each route by its type."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Path, Query, Request
from pydantic import AfterValidator

from common.errors import NotFound
from common.ids import is_job_id
from common.shares import Shares
from gristmill.wire.public import ServerLimits
from services.front.api.bodies import Bodies
from services.front.api.cursors import MAX_CHARACTERS, Cursors
from services.front.domain.limits import Limits
from services.front.ports import Blobs, Tokens
from services.front.use_cases.batch import Batches
from services.front.use_cases.cancel import CancelJob
from services.front.use_cases.catalogue import Catalogue
from services.front.use_cases.create import CreateJob
from services.front.use_cases.delete import DeleteJob
from services.front.use_cases.idempotency import Idempotency
from services.front.use_cases.listing import ListJobs
from services.front.use_cases.quota import Quota
from services.front.use_cases.read import ReadJob
from services.front.use_cases.upload import Uploads
from services.front.use_cases.watch import Watching

MAX_PAGE_SIZE = 200


@dataclass(frozen=True, slots=True)
class Dependencies:
    """The public application's parts. `tokens` takes a request of its owner's budget for each that it verifies, and
    `unlimited_tokens` doesn't. `requests`, `waits` and `downloads` are what owners may have under way, a wait being a
    request with `Prefer: wait`; `heartbeat_seconds` and `stream_seconds` are those of an event stream.
    """

    tokens: Tokens
    unlimited_tokens: Tokens
    requests: Shares
    waits: Shares
    downloads: Shares
    bodies: Bodies
    idempotency: Idempotency
    create: CreateJob
    read: ReadJob
    cancel: CancelJob
    delete: DeleteJob
    list_jobs: ListJobs
    cursors: Cursors
    batches: Batches
    uploads: Uploads
    blobs: Blobs
    watching: Watching
    heartbeat_seconds: float
    stream_seconds: float
    catalogue: Catalogue
    quota: Quota
    limits: Limits
    server_limits: ServerLimits


async def _dependencies(request: Request) -> Dependencies:
    dependencies: Dependencies = request.app.state.dependencies
    return dependencies


Deps = Annotated[Dependencies, Depends(_dependencies)]


def _known_form(text: str) -> str:
    if not is_job_id(text):
        raise NotFound
    return text


JobId = Annotated[
    str, Path(description="The job's id, as the response to its POST has it."), AfterValidator(_known_form)
]
"""A UUIDv7. A malformed id gets the same response as an unknown one."""
BatchId = Annotated[
    str, Path(description="The batch's id, as the response to its POST has it."), AfterValidator(_known_form)
]
"""Likewise."""

OutputName = Annotated[str, Path(description="The output's name, as the job lists it.")]
Cursor = Annotated[str, Query(max_length=MAX_CHARACTERS, description="`next` of the page before.")]
PageSize = Annotated[int, Query(alias="limit", ge=1, le=MAX_PAGE_SIZE, description="The page size, in jobs.")]
