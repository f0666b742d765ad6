"""Who calls: the policy of every public route that reads or changes anything."""

from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from structlog.contextvars import bind_contextvars

from common.web import paths
from services.front.api.deps import Deps
from services.front.domain.job import Owner

# Only documents the scheme; the check itself is `Tokens.owner`, which the fast status route shares.
_scheme = HTTPBearer(auto_error=False, bearerFormat="JWT", description="A token meant for this service.")


async def token_owner(
    request: Request, deps: Deps, _: Annotated[HTTPAuthorizationCredentials | None, Depends(_scheme)]
) -> AsyncIterator[Owner]:
    """A route policy: the bearer of a valid token, who sees only what is their own, and has a share of the requests
    that are under way. Streams of events have shares of their own.
    """
    owner = await deps.tokens.owner(request.headers.get("authorization"))
    bind_contextvars(tenant=owner.tenant)
    if request.url.path.endswith(paths.EVENTS):
        yield owner
        return
    with deps.requests.take(owner):
        yield owner


async def maker(
    request: Request, deps: Deps, _: Annotated[HTTPAuthorizationCredentials | None, Depends(_scheme)]
) -> AsyncIterator[Owner]:
    """A route policy: as `token_owner`, where an `Idempotency-Key` counts. The limit of requests is kept by
    `Idempotency`, for a repeat is answered whatever its owner has used up.
    """
    owner = await deps.unlimited_tokens.owner(request.headers.get("authorization"))
    bind_contextvars(tenant=owner.tenant)
    with deps.requests.take(owner):
        yield owner


TokenOwner = Annotated[Owner, Depends(token_owner)]
Maker = Annotated[Owner, Depends(maker)]
