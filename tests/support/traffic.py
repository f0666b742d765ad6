"""What is said over HTTP between a client and the services, written down as it is answered."""

import re
from collections.abc import MutableMapping
from dataclasses import dataclass, field
from typing import Any

import jwt
from starlette.types import ASGIApp, Receive, Scope, Send

ID = re.compile(r"[^/]*[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}[^/]*")
TOKEN = re.compile(r"^/data/.*")


@dataclass(frozen=True, slots=True)
class Message:
    """One request, and how it was answered."""

    caller: str
    callee: str
    request: str
    """Its method and path, with `{id}` and `{token}` for what is another one each time."""
    status: int


@dataclass(slots=True)
class Traffic:
    """All that was said through its taps, in the order of the responses."""

    messages: list[Message] = field(default_factory=list)

    def tap(self, app: ASGIApp, name: str) -> ASGIApp:
        """The application, with a listener before it."""

        async def tapped(scope: Scope, receive: Receive, send: Send) -> None:
            async def heard(message: MutableMapping[str, Any]) -> None:
                if message["type"] == "http.response.start":
                    self.messages.append(Message(_caller(scope), name, _request(scope), message["status"]))
                await send(message)

            await app(scope, receive, heard)

        return tapped


def _caller(scope: Scope) -> str:
    """Who says that it calls: the services by the name in their token, and everybody else is a client."""
    bearer = dict(scope["headers"]).get(b"authorization", b"").decode().removeprefix("Bearer ")
    try:
        issuer = jwt.decode(bearer, options={"verify_signature": False})["iss"]
    except (jwt.InvalidTokenError, KeyError, RecursionError):  # none, or one that tests have spoilt
        return "client"
    return issuer if issuer in ("front", "job", "processor") else "client"


def _request(scope: Scope) -> str:
    path = TOKEN.sub("/data/{token}", ID.sub("{id}", scope["path"]))
    return f"{scope['method']} {path}"
