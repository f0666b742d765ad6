"""Early responses that arrive: the connection is closed only after its client had a chance to read the response."""

import asyncio
from contextlib import suppress

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

LINGER_SECONDS = 2.0
# A shorter body is in the kernel's buffers anyway, and the server reads and drops it; the connection can stay.
SHORT_BODY_BYTES = 64 * 1024


class LingeringClose:
    """When a request is answered before its body has arrived, say `Connection: close`, and close with care.

    A server that refuses a large body and closes at once resets the connection, and the client, which is still
    sending, may lose the response; one that keeps the connection would have to swallow the rest. So the response is
    sent in full, what still comes is dropped for a moment, and then the connection is closed (RFC 9112, 9.6).
    """

    def __init__(self, app: ASGIApp, seconds: float = LINGER_SECONDS) -> None:
        self._app = app
        self._seconds = seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not _may_be_long(Headers(scope=scope)):
            await self._app(scope, receive, send)
            return
        ended = lingers = False

        def watch(message: Message) -> Message:
            nonlocal ended
            ended = ended or message["type"] == "http.disconnect" or not message.get("more_body", False)
            return message

        async def watched_receive() -> Message:
            return watch(await receive())

        async def lingering_send(message: Message) -> None:
            nonlocal lingers
            if message["type"] == "http.response.start" and not ended:
                lingers = True
                MutableHeaders(scope=message)["connection"] = "close"
            elif lingers and not message.get("more_body", False):
                await send({**message, "more_body": True})
                with suppress(TimeoutError):
                    async with asyncio.timeout(self._seconds):
                        while not ended:
                            await watched_receive()
                message = {"type": "http.response.body"}
            await send(message)

        await self._app(scope, watched_receive, lingering_send)


def _may_be_long(headers: Headers) -> bool:
    length = headers.get("content-length", "")
    return "transfer-encoding" in headers or (length.isdigit() and int(length[:20]) > SHORT_BODY_BYTES)
