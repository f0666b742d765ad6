"""Bodies as they come in and go out, never held whole."""

import asyncio
from collections.abc import AsyncIterator

from fastapi import Request
from starlette.requests import ClientDisconnect
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from common.errors import Malformed
from common.logging import get_logger
from services.blob.domain.digests import entity_tag, repr_digest
from services.blob.ports import CorruptBlob, OpenBlob, StoredBlob

log = get_logger()


async def request_body(request: Request, stall_seconds: float) -> AsyncIterator[bytes]:
    """The bytes as they arrive. Raises `Malformed` when the client goes away or sends nothing for `stall_seconds`."""
    stream = request.stream()
    try:
        while True:
            # Around each chunk, and not around the loop: a store that is slow is no fault of the client's.
            async with asyncio.timeout(stall_seconds):
                chunk = await anext(stream)
            yield chunk
    except StopAsyncIteration:
        return
    except ClientDisconnect:
        raise Malformed("The body broke off.") from None
    except TimeoutError:
        raise Malformed("The body stalled.") from None


def declared_size(request: Request) -> int | None:
    """What `Content-Length` says, if it is there. Raises `Malformed`."""
    header = request.headers.get("content-length")
    if header is None:
        return None
    if not (header.isascii() and header.isdigit() and len(header) < 20):
        raise Malformed("Content-Length isn't a number of bytes.")
    return int(header)


def describing_headers(blob: StoredBlob) -> dict[str, str]:
    """What GET and HEAD both say about a blob."""
    return {
        "Content-Length": str(blob.size),
        "Content-Type": "application/octet-stream",
        "ETag": entity_tag(blob.sha256),
        "Repr-Digest": repr_digest(blob.sha256),
        "Last-Modified": blob.stored_at.strftime("%a, %d %b %Y %H:%M:%S GMT"),
        "Accept-Ranges": "bytes",
        "X-Content-Type-Options": "nosniff",
    }


class BlobResponse(StreamingResponse):
    """A blob, or the part of it from `first` to `last`, which it closes afterwards, however that comes about."""

    def __init__(self, opened: OpenBlob, byte_range: tuple[int, int] | None) -> None:
        self._opened = opened
        size = opened.blob.size
        first, last = byte_range or (0, size - 1)
        headers = describing_headers(opened.blob)
        if byte_range:
            headers["Content-Length"] = str(last - first + 1)
            headers["Content-Range"] = f"bytes {first}-{last}/{size}"
        super().__init__(opened.read(first, last), 206 if byte_range else 200, headers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        except CorruptBlob as error:
            log.error("blob.corrupt", blob=self._opened.blob.id, reason=str(error))
            # The length has been promised, so an answer that ends here can't pass for a whole one.
            raise
        finally:
            self._opened.close()
