"""blob's data plane: where the URLs lead that blob signs when its store is a filesystem."""

from collections.abc import Sequence
from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

from common.errors import Forbidden
from common.web.bodies import declared_size, stream
from services.blob.api.access import SignedUrl
from services.blob.domain.digests import parse_content_digest
from services.blob.domain.grants import Grant, GrantSigner
from services.blob.ports import DataPlane

PREFIX = "/data/"
# A method that wasn't signed is for the policy to refuse, like all else that was changed.
METHODS = ["PUT", "POST", "PATCH", "DELETE", "GET", "HEAD"]
PREFLIGHT_SECONDS = 3600


def data_routes(plane: DataPlane, signer: GrantSigner, *, stall_seconds: float) -> APIRouter:
    """The routes, over `plane`. An upload that sends nothing for `stall_seconds` is broken off."""
    router = APIRouter(tags=["data"])
    policy = SignedUrl(signer)

    async def receive(request: Request, grant: Annotated[Grant, Depends(policy)]) -> Response:
        if declared_size(request) not in (None, grant.size):
            raise Forbidden("The body hasn't the size that the URL asks for.")
        sha256 = parse_content_digest(request.headers.get("content-digest"))
        etag = await plane.receive(grant, stream(request, stall_seconds), sha256)
        return Response(headers={"ETag": etag})

    router.add_api_route(f"{PREFIX}{{token}}", receive, methods=METHODS, summary="Send a file")
    router.add_api_route(f"{PREFIX}{{token}}/{{part}}", receive, methods=METHODS, summary="Send a part of a file")
    return router


class DataCors:
    """Lets pages of `origins` send files (the Fetch standard's CORS); the rest of blob is no browser's business."""

    def __init__(self, app: ASGIApp, origins: Sequence[str]) -> None:
        self._app = app
        self._cors = CORSMiddleware(
            app,
            allow_origins=origins,
            allow_methods=["PUT"],
            allow_headers=["Content-Type", "Content-Digest"],
            expose_headers=["ETag", "Retry-After"],
            max_age=PREFLIGHT_SECONDS,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        public = scope["type"] == "http" and scope["path"].startswith(PREFIX)
        await (self._cors if public else self._app)(scope, receive, send)
