"""blob's data plane: where the URLs lead that blob signs when its store is a filesystem."""

from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response

from common.errors import Forbidden
from common.shares import Shares
from common.web.bodies import declared_size, stream
from services.blob.api.access import SignedUrl
from services.blob.domain.digests import parse_content_digest
from services.blob.domain.grants import Grant, GrantSigner
from services.blob.ports import DataPlane

PREFIX = "/data/"
# A method that wasn't signed is for the policy to refuse, like all else that was changed.
METHODS = ["PUT", "POST", "PATCH", "DELETE", "GET", "HEAD"]


def data_routes(plane: DataPlane, signer: GrantSigner, requests: Shares, *, stall_seconds: float) -> APIRouter:
    """The routes, over `plane`. An upload that sends nothing for `stall_seconds` is broken off."""
    router = APIRouter(tags=["data"])
    policy = SignedUrl(signer)

    async def receive(request: Request, grant: Annotated[Grant, Depends(policy)]) -> Response:
        if declared_size(request) not in (None, grant.size):
            raise Forbidden("The body hasn't the size that the URL asks for.")
        sha256 = parse_content_digest(request.headers.get("content-digest"))
        with requests.take(grant):
            etag = await plane.receive(grant, stream(request, stall_seconds), sha256)
        return Response(headers={"ETag": etag})

    router.add_api_route(f"{PREFIX}{{token}}", receive, methods=METHODS, summary="Send a file")
    router.add_api_route(f"{PREFIX}{{token}}/{{part}}", receive, methods=METHODS, summary="Send a part of a file")
    return router
