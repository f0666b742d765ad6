"""uvicorn's HTTP protocol, with what it leaves out: a deadline and a size for a request's headers, a deadline for who
takes nothing of a response, and refusals that are problem documents even where the request can't be read. And without
two of its copies of each body.
"""

import asyncio
from typing import Any

from pydantic_core import to_json
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from common.errors import Malformed
from common.web.middleware.linger import LINGER_SECONDS

HEADER_SECONDS = 10.0
# What is written at a time has to be taken in this time; the largest of these pieces has half a MiB.
TAKE_SECONDS = 60.0
MAX_HEADER_BYTES = 64 * 1024
_TOO_LARGE = {"type": "about:blank", "title": "Request Header Fields Too Large", "status": 431}


class HttpProtocol(HttpToolsProtocol):
    """One connection. It is closed when a request's headers, the first's or a later one's, take too long to arrive.

    What is read between two turns of the loop may come on top of `MAX_HEADER_BYTES`.
    """

    def __init__(
        self,
        *args: Any,
        header_seconds: float = HEADER_SECONDS,
        take_seconds: float = TAKE_SECONDS,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self._header_seconds = header_seconds
        self._take_seconds = take_seconds
        self._untaken: asyncio.TimerHandle | None = None
        self._header_bytes = 0
        self._in_headers = True
        self._deadline: asyncio.TimerHandle | None = None
        self._refused = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's own
        super().connection_made(transport)
        self._set_deadline()

    def connection_lost(self, exc: Exception | None) -> None:
        self._end_headers()
        self._end_untaken()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        super().pause_writing()
        # Whoever doesn't read would hold the response, and what it is read from, for ever.
        self._untaken = self.loop.call_later(self._take_seconds, self.transport.abort)

    def resume_writing(self) -> None:
        self._end_untaken()
        super().resume_writing()

    def data_received(self, data: bytes) -> None:
        if self._refused:
            return
        if self._in_headers:
            self._header_bytes += len(data)
        super().data_received(data)
        if self._refused:
            return
        if self._in_headers and self._header_bytes > MAX_HEADER_BYTES:
            self._refuse(431, _TOO_LARGE)
        elif self._deadline is None and (self._in_headers or self._is_idle()):
            # Only now: most requests' headers arrive at once, and need none. What comes after a response and begins no
            # request, such as the rest of its body, has ended uvicorn's own deadline for idle connections.
            self._set_deadline()

    def _is_idle(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def on_message_begin(self) -> None:
        if not self._in_headers:
            self._in_headers, self._header_bytes = True, 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._end_headers()
        super().on_headers_complete()

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._in_headers:  # else it is a trailer, which nobody asks for and no size limits (RFC 9110, 6.5)
            super().on_header(name, value)

    def on_body(self, body: bytes) -> None:
        received: bytes | bytearray = self.cycle.body
        if not received:
            # To `bytes` that are empty, bytes are added without a copy; and out of bytes uvicorn makes no others.
            self.cycle.body = b""  # type: ignore[assignment]
        elif isinstance(received, bytes):
            self.cycle.body = bytearray(received)  # or each of many small chunks would copy all of those before it
        super().on_body(body)

    def send_400_response(self, msg: str) -> None:
        self._refuse(400, Malformed(msg).document())

    def _set_deadline(self) -> None:
        self._deadline = self.loop.call_later(self._header_seconds, self._on_deadline)

    def _end_headers(self) -> None:
        self._in_headers = False
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _end_untaken(self) -> None:
        if self._untaken is not None:
            self._untaken.cancel()
            self._untaken = None

    def _on_deadline(self) -> None:
        if self.cycle is not None and not self.cycle.response_complete:
            self._set_deadline()  # the response to the request before this one is still under way
        else:
            self.transport.close()

    def _refuse(self, status: int, document: dict[str, Any]) -> None:
        self._end_headers()
        self._refused = True
        if self.cycle is not None and not self.cycle.response_complete:
            # It is the body that can't be read: its request has lost its client, and may not answer any more.
            self.cycle.disconnected = True
            self.cycle.message_event.set()
            if self.cycle.response_started:
                self.transport.close()
                return
        body = to_json(document)
        self.transport.write(
            STATUS_LINE[status]
            + b"content-type: application/problem+json\r\nconnection: close\r\ncontent-length: %d\r\n\r\n" % len(body)
            + body
        )
        # Closed at once, under a client that still sends, the connection would be reset and the response lost.
        self.loop.call_later(LINGER_SECONDS, self.transport.close)
