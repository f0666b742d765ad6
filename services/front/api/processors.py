"""Which processors there are."""

from typing import Annotated

from fastapi import APIRouter, Depends, Request

from common.contracts.public import ProcessorList
from services.front.api import docs
from services.front.api.access import token_owner
from services.front.api.views import PREFIX
from services.front.use_cases.catalogue import Catalogue

router = APIRouter(prefix=PREFIX, tags=["processor"], dependencies=[Depends(token_owner)])


async def _catalogue(request: Request) -> Catalogue:
    catalogue: Catalogue = request.app.state.catalogue
    return catalogue


@router.get("/processor", responses=docs.problems(401, 503), summary="The processors on offer")
async def list_processors(catalogue: Annotated[Catalogue, Depends(_catalogue)]) -> ProcessorList:
    """Every processor offered in the last 30 days, with the JSON Schema of its parameters; `live` says whether one
    runs now.
    """
    return ProcessorList(items=list(await catalogue.all()))
