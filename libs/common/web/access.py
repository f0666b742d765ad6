"""Who may call what. Every route carries one of these policies, and a test walks the routes to see that it does.

They are coroutines because FastAPI would send a plain function through its thread pool on each request.
"""

from dataclasses import dataclass, field

from fastapi import Request

from common.auth import ServiceTokenVerifier
from common.errors import Forbidden


@dataclass(frozen=True)
class Callers:
    """A route policy: only these services may call. Use as `Depends(Callers("front"))`.

    The application's `state.verifier` identifies the caller.
    """

    names: frozenset[str] = field(default_factory=frozenset)

    async def __call__(self, request: Request) -> str:
        verifier: ServiceTokenVerifier = request.app.state.verifier
        caller = verifier.caller(request.headers.get("authorization"))
        if caller not in self.names:
            raise Forbidden
        return caller


def callers(*names: str) -> Callers:
    return Callers(frozenset(names))


async def public() -> None:
    """A route policy: anybody may call; the response has nothing that belongs to an owner."""
