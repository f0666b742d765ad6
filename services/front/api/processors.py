"""Which processors there are."""

from typing import Annotated

from fastapi import APIRouter, Depends, Request
from starlette.responses import Response

from gristmill.wire.public import ProcessorList, ServerLimits
from services.front.api.access import token_owner
from services.front.api.openapi import document as docs
from services.front.api.views import PREFIX, processor_view
from services.front.domain.limits import Limits
from services.front.use_cases.catalogue import Catalogue

router = APIRouter(prefix=PREFIX, tags=["processor"], dependencies=[Depends(token_owner)])


async def _catalogue(request: Request) -> Catalogue:
    catalogue: Catalogue = request.app.state.catalogue
    return catalogue


@router.get(
    "/processor",
    response_model=ProcessorList,
    responses=docs.problems(401, 503),
    summary="The processors on offer, and the server's limits",
)
async def list_processors(request: Request, catalogue: Annotated[Catalogue, Depends(_catalogue)]) -> Response:
    """Every processor offered in the last 30 days, with the JSON Schema of its parameters, and each of its versions;
    `live` says whether one runs now.
    """
    limits: Limits = request.app.state.limits
    server: ServerLimits = request.app.state.server_limits
    items = [processor_view(offer, limits) for offer in await catalogue.all()]
    return Response(ProcessorList(items=items, limits=server).to_wire(), media_type="application/json")
