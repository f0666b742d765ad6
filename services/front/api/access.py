"""Who calls: the policy of every public route that reads or changes anything."""

from typing import Annotated

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from structlog.contextvars import bind_contextvars

from services.front.api.deps import Deps
from services.front.domain.job import Owner

# Only documents the scheme; the check itself is `Tokens.owner`, which the fast status route shares.
_scheme = HTTPBearer(auto_error=False, bearerFormat="JWT", description="A token meant for this service.")


async def token_owner(
    request: Request, deps: Deps, _: Annotated[HTTPAuthorizationCredentials | None, Depends(_scheme)]
) -> Owner:
    """A route policy: the bearer of a valid token, who sees only what is their own."""
    owner = await deps.tokens.owner(request.headers.get("authorization"))
    bind_contextvars(tenant=owner.tenant)
    return owner


async def maker(
    request: Request, deps: Deps, _: Annotated[HTTPAuthorizationCredentials | None, Depends(_scheme)]
) -> Owner:
    """A route policy: as `token_owner`, where an `Idempotency-Key` counts. The limit of requests is kept by
    `Idempotency`, for a repeat is answered whatever its owner has used up.
    """
    owner = await deps.unlimited_tokens.owner(request.headers.get("authorization"))
    bind_contextvars(tenant=owner.tenant)
    return owner


TokenOwner = Annotated[Owner, Depends(token_owner)]
Maker = Annotated[Owner, Depends(maker)]
