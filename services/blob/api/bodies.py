"""Blobs as they go out, never held whole."""

from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from common.logging import get_logger
from services.blob.domain.digests import entity_tag, repr_digest
from services.blob.ports import CorruptBlob, OpenBlob, StoredBlob

log = get_logger()


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
            # The length has been promised, so a response that ends here can't pass for a whole one.
            raise
        finally:
            self._opened.close()
