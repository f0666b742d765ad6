"""The policy of blob's data plane: no caller, but a URL that blob itself has signed."""

import time
from dataclasses import dataclass

from fastapi import Request

from common.errors import Forbidden
from services.blob.domain.grants import Grant, GrantSigner


@dataclass(frozen=True)
class SignedUrl:
    """A route policy: anybody may call whose URL allows just this, by its method, to its part, and now."""

    signer: GrantSigner

    async def __call__(self, request: Request) -> Grant:
        grant = self.signer.read(request.path_params["token"])
        if grant is None or grant.method != request.method or grant.expires_at <= time.time():
            raise Forbidden("The URL doesn't allow this, or not any more.")
        if request.path_params.get("part") != (None if grant.part is None else str(grant.part)):
            raise Forbidden("The URL is another part's.")
        return grant
