"""Who calls: the policy of every public route that tells anything."""

from typing import Annotated

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from structlog.contextvars import bind_contextvars

from services.front.domain.job import Owner
from services.front.ports import Tokens

# Only documents the scheme; the check itself is `token_owner`, which the bare status path shares.
_scheme = HTTPBearer(auto_error=False, bearerFormat="JWT", description="A token meant for this service.")


async def token_owner(request: Request, _: Annotated[HTTPAuthorizationCredentials | None, Depends(_scheme)]) -> Owner:
    """A route policy: the bearer of a valid token, who sees what is his alone."""
    tokens: Tokens = request.app.state.tokens
    owner = await tokens.owner(request.headers.get("authorization"))
    bind_contextvars(tenant=owner.tenant)
    return owner


TokenOwner = Annotated[Owner, Depends(token_owner)]
