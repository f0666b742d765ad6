"""Load shedding: of more requests than a process can work on at once, those on top are refused while that is cheap."""

from starlette.types import ASGIApp, Receive, Scope, Send

from common.errors import Unavailable
from common.web.paths import HEALTH
from common.web.problems import render


class LoadShedding:
    """ASGI middleware that works on `most` requests at once, and answers 503 with `Retry-After` to the others.

    Requests whose path ends with one of `waiting` are let through and not counted: they wait more than they work, and
    have limits of their own.
    """

    def __init__(self, app: ASGIApp, most: int, waiting: tuple[str, ...] = ()) -> None:
        self._app = app
        self._free = most
        self._let_through = HEALTH + waiting
        self._refuse = render(Unavailable("There is too much to do already."))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"].endswith(self._let_through):
            return await self._app(scope, receive, send)
        if self._free < 1:
            return await self._refuse(scope, receive, send)
        self._free -= 1
        try:
            return await self._app(scope, receive, send)
        finally:
            self._free += 1
