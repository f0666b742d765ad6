"""A TCP proxy between two processes, which misbehaves as it is told: a network at its worst.

What may be told, as attributes, at any time; connections that are open obey too. `asked` counts requests that
begin with `only`, `spoilt` answers that were dropped, cut or changed.

- `refusing`: new connections are reset, as where nobody listens.
- `stalled`: nothing passes either way until it is unset, as where packets are lost.
- `latency`: seconds that each chunk is late, either way.
- `bytes_per_second`: of each direction of each connection.
- `drop_reply`: what is sent arrives, and at the first byte of a response the connection is reset, once for each that
  is asked for.
- `truncate_reply`: after so many bytes of a response the connection is reset.
- `flip_reply`: one bit of the byte at this offset of a response is turned.
- `only`: the last three are done to answers to requests that begin like this alone.

Bytes are those of a response's body where it is HTTP, else those of the connection.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

HOST = "127.0.0.1"
CHUNK_BYTES = 64 * 1024


@dataclass(eq=False, slots=True)
class Proxy:
    """Listens at `port`, and passes everything on to `target`."""

    target: int
    port: int = 0
    refusing: bool = False
    latency: float = 0.0
    bytes_per_second: float | None = None
    drop_reply: int = 0
    truncate_reply: int | None = None
    flip_reply: int | None = None
    only: bytes = b""
    accepted: int = 0
    asked: int = 0
    spoilt: int = 0
    _flows: asyncio.Event = field(default_factory=asyncio.Event)
    _open: set[asyncio.StreamWriter] = field(default_factory=set)

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"

    @property
    def stalled(self) -> bool:
        return not self._flows.is_set()

    @stalled.setter
    def stalled(self, stalled: bool) -> None:
        (self._flows.clear if stalled else self._flows.set)()

    def reset(self) -> None:
        """Break every connection that is open, without a goodbye."""
        for writer in self._open:
            writer.transport.abort()

    def heal(self) -> None:
        """Misbehave no more."""
        self.refusing = self.stalled = False
        self.latency, self.bytes_per_second = 0.0, None
        self.drop_reply, self.truncate_reply, self.flip_reply, self.only = 0, None, None, b""
        self.reset()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, from its start to its end."""
        self.accepted += 1
        if self.refusing:
            writer.transport.abort()
            return
        with contextlib.suppress(OSError):
            their_reader, their_writer = await asyncio.open_connection(HOST, self.target)
            self._open |= {writer, their_writer}
            asked = asyncio.Event()
            asked.set()
            try:
                async with asyncio.TaskGroup() as group:
                    group.create_task(self._pass_on(reader, their_writer, asked))
                    group.create_task(self._pass_on(their_reader, writer, asked, reply=True))
            except* OSError:  # one side is gone: so is the other, below
                pass
            finally:
                self._open -= {writer, their_writer}
                their_writer.transport.abort()
        writer.transport.abort()

    async def _pass_on(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, asked: asyncio.Event, *, reply: bool = False
    ) -> None:
        """`asked`: whether the request that is under way is one of `only`."""
        passed = 0
        while chunk := await reader.read(CHUNK_BYTES):
            await asyncio.sleep(self.latency)
            await self._flows.wait()
            if not reply and b" HTTP/1.1\r\n" in chunk:
                (asked.set if chunk.startswith(self.only) else asked.clear)()
                self.asked += asked.is_set()
            if reply:
                if chunk.startswith(b"HTTP/1.1 "):
                    passed = -chunk.index(b"\r\n\r\n") - 4
                chunk = self._spoilt(chunk, passed) if asked.is_set() else chunk
                passed += len(chunk)
            writer.write(chunk)
            await writer.drain()
            if self.bytes_per_second is not None:
                await asyncio.sleep(len(chunk) / self.bytes_per_second)
            if reply and asked.is_set() and self.truncate_reply is not None and passed >= self.truncate_reply:
                self.spoilt += 1
                raise ConnectionResetError
        if writer.can_write_eof():
            writer.write_eof()

    def _spoilt(self, chunk: bytes, passed: int) -> bytes:
        """A response's next bytes, of which `passed` have gone already. Raises to break the connection."""
        if self.drop_reply:
            self.drop_reply -= 1
            self.spoilt += 1
            raise ConnectionResetError
        if self.flip_reply is not None and 0 <= self.flip_reply - passed < len(chunk):
            at = self.flip_reply - passed
            chunk = chunk[:at] + bytes([chunk[at] ^ 1]) + chunk[at + 1 :]
            self.spoilt += 1
        if self.truncate_reply is not None:
            chunk = chunk[: max(0, self.truncate_reply - passed)]
        return chunk


@asynccontextmanager
async def proxied(target: int, port: int = 0) -> AsyncIterator[Proxy]:
    """A proxy in front of `target`, a port of this machine; at a port of its own choice unless one is named."""
    proxy = Proxy(target)
    proxy.stalled = False
    server = await asyncio.start_server(proxy.serve, HOST, port)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        server.close()
        proxy.stalled = False
        proxy.reset()
        await server.wait_closed()
