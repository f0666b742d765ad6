"""uvicorn's HTTP protocol, with what it leaves out: a deadline and a size for a request's headers, a deadline for who
takes nothing of a response, early responses that arrive, and refusals that are problem documents even where the request
can't be read. And without two of its copies of each body.
"""

import asyncio
from collections.abc import Callable, Iterable
from typing import Any

import httptools
from pydantic_core import to_json
from uvicorn._types import ASGI3Application
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from common.errors import Malformed

HEADER_SECONDS = 10.0
# What is written at a time has to be taken in this time; the largest of these pieces has half a MiB.
TAKE_SECONDS = 60.0
MAX_HEADER_BYTES = 64 * 1024
MOST_AHEAD = 16
LINGER_SECONDS = 2.0
# A shorter body is in the kernel's buffers anyway, and the server reads and drops it; the connection can stay.
SHORT_BODY_BYTES = 64 * 1024
_TOO_LARGE = {"type": "about:blank", "title": "Request Header Fields Too Large", "status": 431}


class _Parser(httptools.HttpRequestParser):
    """Takes what follows the headers of a request with `Upgrade` for its body, which httptools never does: it would
    parse the body as the next request.
    """

    def __init__(self, protocol: "HttpProtocol") -> None:
        super().__init__(protocol)
        self._protocol = protocol
        self.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn sets them

    def feed_data(self, data: bytes) -> None:  # type: ignore[override]  # uvicorn gives it no other
        try:
            super().feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._protocol.go_on_without_upgrade(data[upgrade.args[0] :])


class HttpProtocol(HttpToolsProtocol):
    """One connection. It is closed when a request's headers, the first's or a later one's, take too long to arrive.

    What is read between two turns of the loop may come on top of `MAX_HEADER_BYTES`.

    A response that is sent before its request's body has arrived closes the connection, unless the body is short. A
    server that closed at once would reset the connection, and a client that still sends may lose the response. So what
    comes is dropped for `LINGER_SECONDS` first (RFC 9112, 9.6); the request itself is over by then, and counts nowhere.

    `Upgrade` is ignored (RFC 9110, 7.8), as HTTP/2 and WebSockets aren't offered.

    Requests may be sent ahead, before the response to the one before has ended: `MOST_AHEAD` of them, and for
    `header_seconds`. Until then nothing is read, so nobody would see that the client has gone.
    """

    def __init__(
        self,
        *args: Any,
        header_seconds: float = HEADER_SECONDS,
        take_seconds: float = TAKE_SECONDS,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.parser = _Parser(self)
        self._header_seconds = header_seconds
        self._take_seconds = take_seconds
        self._untaken: asyncio.TimerHandle | None = None
        self._ahead: asyncio.TimerHandle | None = None
        self._under_way: RequestResponseCycle | None = None
        self._header_bytes = 0
        self._in_headers = True
        self._deadline: asyncio.TimerHandle | None = None
        self._lingering = False
        self._keeps_alive = True

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's own
        super().connection_made(transport)
        self._set_deadline()

    def connection_lost(self, exc: Exception | None) -> None:
        self._end_headers()
        self._end_untaken()
        self._end_ahead()
        if self._under_way is not None and not self._under_way.response_complete:
            # uvicorn tells only the last that came, which may be one that was sent ahead.
            self._under_way.disconnected = True
            self._under_way.message_event.set()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        super().pause_writing()
        # Whoever doesn't read would hold the response, and what it is read from, for ever.
        self._expect_taken()

    def resume_writing(self) -> None:
        self._end_untaken()
        super().resume_writing()
        if self.transport.is_closing():
            self._close()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.transport.is_closing():
            self._close()

    def timeout_keep_alive_handler(self) -> None:
        self._close()

    def data_received(self, data: bytes) -> None:
        if self._lingering:
            return
        if self._in_headers:
            self._header_bytes += len(data)
        super().data_received(data)
        if self._lingering:
            return
        if self.cycle is not None and self.cycle.more_body and self.cycle.transport is self.transport:
            self._expect_body()
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
        if self._is_upgrade():
            return
        self._end_headers()
        super().on_headers_complete()
        if len(self.pipeline) > MOST_AHEAD:
            self.transport.abort()
        self._expect_turn()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        self._under_way = cycle
        self._end_ahead()
        self._expect_turn()
        super()._start_asgi_task(cycle, app)

    def _expect_turn(self) -> None:
        if self.pipeline and self._ahead is None:
            self._ahead = self.loop.call_later(self._header_seconds, self.transport.abort)

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

    def _expect_body(self) -> None:
        """Only for a body that didn't come with its headers: until it is whole, a response ends the connection."""
        self.cycle.transport = _UnreadBody(self.transport, self.linger)  # type: ignore[assignment]  # what a cycle calls
        self._keeps_alive = self.cycle.keep_alive
        if _may_be_long(self.cycle.scope["headers"]):
            self.cycle.keep_alive = False

    def on_message_complete(self) -> None:
        if self._is_upgrade():
            return
        super().on_message_complete()
        if self.cycle.transport is not self.transport:  # as `_expect_body` has left it
            self.cycle.transport = self.transport
            if not self.cycle.response_started:
                self.cycle.keep_alive = self._keeps_alive

    def shutdown(self) -> None:
        self._keeps_alive = False
        super().shutdown()

    def _is_upgrade(self) -> bool:
        return bool(self.parser.should_upgrade()) and self.parser.get_method() != b"CONNECT"

    def go_on_without_upgrade(self, rest: bytes) -> None:
        """Parse the headers again as if `Upgrade` weren't among them, and `rest`, which has come behind them."""
        method = self.parser.get_method()
        if method == b"CONNECT":  # is refused, and what follows it is no HTTP
            self.cycle.keep_alive = False
            self._lingering = True
            return
        fields = [name + b": " + value + b"\r\n" for name, value in self.headers if name != b"upgrade"]
        head = method + b" " + self.url + b" HTTP/1.1\r\n" + b"".join(fields) + b"\r\n"
        self.parser = _Parser(self)
        self.parser.feed_data(head + rest)

    def linger(self) -> None:
        """Drop what comes, and close a little later."""
        self._end_headers()
        self._lingering = True
        self.loop.call_later(LINGER_SECONDS, self._close)

    def send_400_response(self, msg: str) -> None:
        self._refuse(400, Malformed(msg).document())

    def _set_deadline(self) -> None:
        self._deadline = self.loop.call_later(self._header_seconds, self._on_deadline)

    def _end_headers(self) -> None:
        self._in_headers = False
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _end_ahead(self) -> None:
        if self._ahead is not None:
            self._ahead.cancel()
            self._ahead = None

    def _end_untaken(self) -> None:
        if self._untaken is not None:
            self._untaken.cancel()
            self._untaken = None

    def _on_deadline(self) -> None:
        if self.cycle is not None and not self.cycle.response_complete:
            self._set_deadline()  # the response to the request before this one is still under way
        else:
            self._close()

    def _close(self) -> None:
        """What was written before has to be taken in time here too."""
        self.transport.close()
        self._expect_taken()

    def _expect_taken(self) -> None:
        if self._untaken is None:
            self._untaken = self.loop.call_later(self._take_seconds, self.transport.abort)

    def _refuse(self, status: int, document: dict[str, Any]) -> None:
        self.linger()
        if self.cycle is not None and not self.cycle.response_complete:
            # It is the body that can't be read: its request has lost its client, and may not answer any more.
            self.cycle.disconnected = True
            self.cycle.message_event.set()
            if self.cycle.response_started:
                self._close()
                return
        body = to_json(document)
        self.transport.write(
            STATUS_LINE[status]
            + b"content-type: application/problem+json\r\nconnection: close\r\ncontent-length: %d\r\n\r\n" % len(body)
            + body
        )


class _UnreadBody:
    """A connection as the request sees it whose body hasn't arrived: what closes it makes it linger."""

    def __init__(self, transport: asyncio.Transport, linger: Callable[[], None]) -> None:
        self.write = transport.write
        self.is_closing = transport.is_closing
        self.close = linger


def _may_be_long(headers: Iterable[tuple[bytes, bytes]]) -> bool:
    for name, value in headers:
        if name == b"content-length":
            return int(value[:20]) > SHORT_BODY_BYTES  # of digits only, or the parser would have refused it
        if name == b"transfer-encoding":
            return True
    return False
