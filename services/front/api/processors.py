"""Which processors there are."""

from fastapi import APIRouter
from starlette.responses import Response

from gristmill.wire.public import ProcessorList
from services.front.api.access import TokenOwner
from services.front.api.deps import Deps
from services.front.api.openapi import document as docs
from services.front.api.views import PREFIX, processor_view

router = APIRouter(prefix=PREFIX, tags=["processor"])


@router.get(
    "/processor",
    response_model=ProcessorList,
    responses=docs.problems(401, 503),
    summary="The processors on offer, and the server's limits",
)
async def list_processors(owner: TokenOwner, deps: Deps) -> Response:
    """Every processor that was offered in the last 30 days, with the JSON Schema of its parameters, and its versions.
    A processor or version is `live` while a process runs it.
    """
    items = [processor_view(offer, deps.limits) for offer in await deps.catalogue.all()]
    body = ProcessorList(items=items, limits=deps.server_limits, stored_bytes=await deps.quota.kept(owner))
    return Response(body.to_wire(), media_type="application/json")
