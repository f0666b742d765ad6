"""An output's bytes, streamed from blob to the client."""

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from common.clients.blob import content_digest
from common.errors import BadGateway, NotFound, ResultDeleted
from common.ids import output_blob_id
from common.shares import Shares
from services.front.api.headers import attachment
from services.front.domain import media
from services.front.domain.job import Job, Output
from services.front.ports import Blobs
from services.front.use_cases.read import ReadJob


class OutputResponse(Response):
    """Opens the blob only when it is sent, so that it is closed again whatever becomes of the client.

    blob withholds the last chunk of a whole body until its digest fits; a body that breaks off breaks the connection.
    """

    def __init__(
        self,
        blobs: Blobs,
        downloads: Shares,
        found: tuple[Job, int, Output],
        request_headers: Headers,
        read: ReadJob,
    ) -> None:
        self._job, self._n, self._output = found
        self._blobs = blobs
        self._downloads = downloads
        self._read = read
        self._blob_id = output_blob_id(self._job.id, self._job.fence or 0, self._n)
        self._request_headers = request_headers
        super().__init__(None)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        etag = f'"{self._output.sha256}"'
        wanted = self._request_headers.get("if-none-match", "")
        if wanted and (wanted.strip() == "*" or etag in [tag.strip().removeprefix("W/") for tag in wanted.split(",")]):
            await Response(status_code=304, headers={"ETag": etag})(scope, receive, send)
            return
        byte_range = self._request_headers.get("range")
        if self._request_headers.get("if-range", etag) != etag:
            byte_range = None
        try:
            with self._downloads.take(self._job.owner):
                is_whole = await self._sent(etag, byte_range, scope, receive, send)
        except NotFound:
            # The tracker deletes first and writes it down after.
            if await self._read.has_expired(self._job):
                raise ResultDeleted from None
            raise BadGateway("The output's bytes can't be found.") from None
        if is_whole:
            await self._read.output_was_read(self._job, self._n)

    async def _sent(self, etag: str, byte_range: str | None, scope: Scope, receive: Receive, send: Send) -> bool:
        """Whether the whole of the output was sent, which ends when the client goes. With ranges a client fetches what
        it lacks, and nobody knows when it has everything.
        """
        async with self._blobs.open(self._blob_id, byte_range) as body:
            headers = {
                "Content-Type": media.safe(self._output.mimetype),
                "Content-Length": str(body.size),
                "ETag": etag,
                "Repr-Digest": content_digest(self._output.sha256),
                "Accept-Ranges": "bytes",
                "Content-Disposition": attachment(self._output.name),
                "X-Content-Type-Options": "nosniff",
                "Cache-Control": "private, no-cache",
            }
            if body.content_range:
                headers["Content-Range"] = body.content_range
            # Before the response begins, so that a body which is spoilt at once is a 502.
            chunk = await anext(body.chunks, b"")
            raw = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
            await send({"type": "http.response.start", "status": body.status, "headers": raw})
            client = Request(scope, receive)
            while chunk:
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
                # Sending to a client that has gone raises nothing, so it has to be asked for.
                if await client.is_disconnected():
                    return False
                chunk = await anext(body.chunks, b"")
            await send({"type": "http.response.body", "body": b""})
            return body.status == 200
