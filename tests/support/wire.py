"""A connection to front, byte by byte, for what no client would send."""

import asyncio
import json
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

from starlette.types import Receive, Scope, Send

from tests.support.platform import token

KINDS = {
    "raw": ("/api/v1/job?processor=checksum", "text/plain", b"some"),
    "json": ("/api/v1/job", "application/json", b'{"content": "AAAA'),
    "batch": ("/api/v1/batch", "application/json", b'{"processor": "checksum", "name": "AAAA'),
    "form": (
        "/api/v1/job",
        "multipart/form-data; boundary=b",
        b'--b\r\nContent-Disposition: form-data; name="processor"\r\n\r\nchecksum\r\n'
        b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\nContent-Type: text/plain\r\n\r\nsome',
    ),
}


class Watched:
    """Front, and the requests that it has done with, however they ended."""

    def __init__(self, app: Any) -> None:
        self._app = app
        self.ended: asyncio.Queue[str] = asyncio.Queue()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self._app(scope, receive, send)
        finally:
            self.ended.put_nowait(scope["method"])


class Wire:
    """A connection to front."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def open(cls, address: str) -> "Wire":
        parts = urlsplit(address)
        return cls(*await asyncio.open_connection(parts.hostname, parts.port))

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def post(self, kind: str, *headers: str) -> None:
        """The headers of a `POST /job` of that kind, and the beginning of its body."""
        path, content_type, beginning = KINDS[kind]
        fields = [f"Authorization: Bearer {token()}", f"Content-Type: {content_type}", "Host: front", *headers]
        if "Transfer-Encoding: chunked" in headers:
            beginning = chunk(beginning)
        await self.send(f"POST {path} HTTP/1.1\r\n".encode() + "\r\n".join(fields).encode() + b"\r\n\r\n" + beginning)

    async def refusal(self) -> tuple[int, dict[str, str], dict[str, Any]]:
        """The response: a problem document, after which the connection is closed."""
        async with asyncio.timeout(20):
            head = await self.reader.readuntil(b"\r\n\r\n")
            status, *fields = head.decode().strip().split("\r\n")
            headers = {name.lower(): value.strip() for name, value in (field.split(":", 1) for field in fields)}
            body = await self.reader.readexactly(int(headers["content-length"]))
            with suppress(ConnectionResetError):  # what this client still sends when the connection has been closed
                assert await self.reader.read() == b""
        self.writer.close()
        assert headers["content-type"] == "application/problem+json"
        assert headers["connection"] == "close"
        return int(status.split()[1]), headers, json.loads(body)


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)
