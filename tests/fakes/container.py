"""A container as the processor `analyzer` calls it: a real HTTP server on a real socket that misbehaves as told."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

CHUNK_BYTES = 64 * 1024

Answer = Callable[["Call"], Awaitable[None]]


@dataclass
class Call:
    """One request, and the connection that it came over. `headers` have names in lower case."""

    line: str
    headers: dict[str, str]
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    body_bytes: int = 0
    body: bytes = b""

    async def read(self) -> None:
        """All of the body; its first bytes are kept."""
        left = int(self.headers["content-length"])
        while left:
            chunk = await self.reader.read(min(left, CHUNK_BYTES))
            left -= len(chunk)
            self.body_bytes += len(chunk)
            self.body = (self.body + chunk)[:100] if len(self.body) < 100 else self.body
            if not chunk:
                return

    async def send(self, *pieces: str | bytes) -> None:
        for piece in pieces:
            self.writer.write(piece.encode() if isinstance(piece, str) else piece)
            await self.writer.drain()


@dataclass
class Container:
    """`answers` are given one a call, the last one from then on."""

    url: str
    answers: list[Answer] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            line, *fields = (await reader.readuntil(b"\r\n\r\n")).decode().rstrip().split("\r\n")
            headers = {name.lower(): value.strip() for name, _, value in (each.partition(":") for each in fields)}
            call = Call(line, headers, reader, writer)
            self.calls.append(call)
            await self.answers[min(len(self.calls), len(self.answers)) - 1](call)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the caller has gone away, which is what some tests want it to do
        finally:
            writer.close()


@asynccontextmanager
async def container(*answers: Answer) -> AsyncIterator[Container]:
    """One that listens while the body lasts."""
    made = Container("", list(answers))
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    # A name and not an address, so that names are looked up too.
    made.url = f"http://localhost:{server.sockets[0].getsockname()[1]}/"
    try:
        yield made
    finally:
        server.close()


def answer(status: str, body: str = "", *headers: str) -> Answer:
    """Reads the request, and answers it as HTTP wants it."""

    async def give(call: Call) -> None:
        await call.read()
        length = f"Content-Length: {len(body.encode())}"
        await call.send("\r\n".join([f"HTTP/1.1 {status}", length, *headers, "", body]))

    return give


def raw(*pieces: str) -> Answer:
    """Reads the request, sends this, and hangs up."""

    async def give(call: Call) -> None:
        await call.read()
        await call.send(*pieces)

    return give


async def refuse_early(call: Call) -> None:
    """Answers before it has read the body, and hangs up."""
    await call.send(
        "HTTP/1.1 413 Too Large\r\nContent-Type: text/plain\r\nContent-Length: 19\r\n\r\nAt most five pages."
    )


async def hang(call: Call) -> None:
    """Reads the request, and then nothing until the caller hangs up."""
    await call.read()
    await call.reader.read()


async def drip(call: Call) -> None:
    """Sends a byte now and then, for ever."""
    await call.read()
    await call.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    while not call.reader.at_eof():
        await call.send("1\r\n.\r\n")
        await asyncio.sleep(0.02)  # the point of it: always a little, and never the end


async def endless(call: Call) -> None:
    """Sends without end."""
    await call.read()
    await call.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    while not call.reader.at_eof():
        await call.send(f"{CHUNK_BYTES:x}\r\n", bytes(CHUNK_BYTES), "\r\n")


def zeros(size: int) -> Answer:
    """Answers with so many zero bytes."""

    async def give(call: Call) -> None:
        await call.read()
        await call.send(f"HTTP/1.1 200 OK\r\nContent-Length: {size}\r\n\r\n")
        for _ in range(size // CHUNK_BYTES):
            await call.send(bytes(CHUNK_BYTES))

    return give
