"""Calls to blob: bytes are streamed both ways over aiohttp, which measured faster than httpx where bodies are large."""

import asyncio
import base64
import hashlib
import io
import json
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from typing import Any, TypeVar

import aiohttp
from pydantic import ValidationError
from yarl import URL

from common import telemetry
from common.auth import ServiceTokenSigner
from common.clients.bulkhead import Bulkhead
from common.contracts.blob import LABELS_HEADER, BlobInfo, BlobLabels, BlobList
from common.contracts.upload import (
    CompletedPart,
    CompleteUpload,
    PlanUploads,
    UploadFacts,
    UploadPlan,
    UploadPlans,
    UploadRequest,
    UploadStatus,
    UploadStatusAnswer,
    UploadStatusQuery,
)
from common.errors import BadGateway, Malformed, NotFound, Unavailable, problem_from
from gristmill.wire.base import Wire

AUDIENCE = "blob"
CHUNK_BYTES = 256 * 1024
SECONDS = 30.0
MOST_READERS, MOST_WRITERS = 300, 300
# Readers and writers last as long as the clients behind them, who may be slow: the rest has connections of its own.
CONNECTIONS = MOST_READERS + MOST_WRITERS + 100

Model = TypeVar("Model", bound=Wire)


@dataclass(frozen=True, slots=True)
class BlobBody:
    """An open blob, or a range of it: `status` 200 or 206, the headers that describe it, and its bytes.

    `chunks` raises `BadGateway` when blob breaks off, so that a short body never passes for a whole one; and of a
    whole blob it withholds the last chunk until the digest fits, in case the bytes changed on the way.
    """

    status: int
    size: int
    sha256: str
    content_range: str | None
    chunks: AsyncIterator[bytes]


class BlobClient:
    """blob's API. Raises `common.errors`: `Unavailable` when blob can't be reached or too much of it is asked at once,
    else what blob answered.

    A call that moves few bytes ends within `seconds`. A body may take its time, but within so many seconds some of it
    has to pass. aiohttp makes a call once more whose connection broke, unless a stream was begun (RFC 9110, 9.2.2).
    """

    def __init__(
        self, session: aiohttp.ClientSession, base_url: str, signer: ServiceTokenSigner, *, seconds: float = SECONDS
    ) -> None:
        self._session = session
        self._base = URL(base_url) / "api/v1/blob"
        self._uploads = URL(base_url) / "api/v1/upload"
        self._signer = signer
        self._seconds = seconds
        self._calls = Bulkhead(AUDIENCE)
        self._readers = Bulkhead(AUDIENCE, MOST_READERS)
        self._writers = Bulkhead(AUDIENCE, MOST_WRITERS)

    async def put(
        self,
        blob_id: str,
        body: bytes | AsyncIterator[bytes],
        *,
        size: int | None = None,
        sha256: str | None = None,
        labels: BlobLabels | None = None,
    ) -> BlobInfo:
        """Write a blob; with the same bytes as before it is the same answer, with others `AlreadyExists`.

        `size` and `sha256` (hex) are checked by blob while the bytes arrive. An exception that `body` raises
        aborts the upload, so that nothing is kept, and comes out as it is. Raises `Malformed` when `body` doesn't
        have `size` bytes.
        """
        headers = self._headers()
        if isinstance(body, bytes):
            size = len(body)
        if size is not None:
            headers["Content-Length"] = str(size)
        if sha256 is not None:
            headers["Content-Digest"] = content_digest(sha256)
        if labels is not None:
            headers[LABELS_HEADER] = labels.to_header()
        source = _Source(body, size, self._seconds)
        url = self._base / blob_id
        try:
            with self._called(), self._writers if isinstance(source.data, AsyncIterator) else nullcontext():
                async with source.deadline, self._session.put(url, data=source.data, headers=headers) as response:
                    source.ended = True
                    await _raise_for_problem(response)
                    return _read(await response.read(), BlobInfo)
        except Unavailable:
            if source.error is not None:
                raise source.error from None
            raise

    @asynccontextmanager
    async def open(self, blob_id: str, byte_range: str | None = None) -> AsyncIterator[BlobBody]:
        """Read a blob; `byte_range` is a `Range` header's value. Raises `NotFound`, `RangeNotSatisfiable`."""
        headers = self._headers()
        if byte_range:
            headers["Range"] = byte_range
        with self._readers:
            with self._called():
                response = await self._session.get(self._base / blob_id, headers=headers)
            # What the caller raises while it reads is its own, so nothing is translated around the `yield`.
            async with response:
                yield await _body(response)

    async def head(self, blob_id: str) -> BlobInfo | None:
        """The blob's size and digest; None when there is no such blob."""
        try:
            headers, _ = await self._call("HEAD", self._base / blob_id)
        except NotFound:
            return None
        size, sha256 = _described(headers)
        return BlobInfo(id=blob_id, size=size, sha256=sha256)

    async def delete(self, blob_id: str) -> None:
        """Delete a blob; one that isn't there is no fault."""
        with suppress(NotFound):
            await self._call("DELETE", self._base / blob_id)

    async def list(self, prefix: str = "", after: str = "") -> BlobList:
        """A page of blobs, in the store's own order."""
        _, content = await self._call("GET", self._base.with_query(prefix=prefix, after=after))
        return _read(content, BlobList)

    async def plan_uploads(self, requests: Sequence[UploadRequest]) -> Sequence[UploadPlan]:
        """How files are to be sent straight to the store; one plan for each, in the order of the requests."""
        return (await self._ask(self._uploads, PlanUploads(uploads=[*requests]), UploadPlans)).items

    async def complete_upload(self, facts: UploadFacts, parts: Sequence[CompletedPart]) -> UploadStatus:
        """Make a blob of what was sent, as far as it is there."""
        url = self._uploads / facts.id / "complete"
        return await self._ask(url, CompleteUpload(facts=facts, parts=[*parts]), UploadStatus)

    async def upload_statuses(self, facts: Sequence[UploadFacts]) -> Sequence[UploadStatus]:
        """Where uploads are, in the order asked. Finishes those that it finds whole."""
        query = UploadStatusQuery(uploads=[*facts])
        return (await self._ask(self._uploads / "status", query, UploadStatusAnswer)).items

    async def abort_upload(self, blob_id: str) -> None:
        """Delete what has arrived; nothing more is taken. One that isn't there is no fault."""
        with suppress(NotFound):
            await self._call("DELETE", self._uploads / blob_id)

    async def _ask(self, url: URL, body: Wire, model: type[Model]) -> Model:
        _, content = await self._call("POST", url, body)
        return _read(content, model)

    async def _call(self, method: str, url: URL, body: Wire | None = None) -> tuple[Mapping[str, str], bytes]:
        """A call that moves few bytes: the headers and the body of its response."""
        headers = self._headers()
        data = None
        if body is not None:
            headers["Content-Type"] = "application/json"
            data = body.to_wire()
        with self._called():
            async with (
                asyncio.timeout(self._seconds),
                self._session.request(method, url, data=data, headers=headers) as response,
            ):
                await _raise_for_problem(response)
                return response.headers, await response.read()

    def _headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self._signer.token(AUDIENCE)}", **telemetry.headers()}

    @contextmanager
    def _called(self) -> Iterator[None]:
        with self._calls:
            try:
                yield
            except (aiohttp.ClientError, TimeoutError) as error:
                raise Unavailable("blob can't be reached.") from error


class _Source:
    """A request body that has the size that was declared, and remembers the exception which ended it.

    aiohttp would only say that the connection broke; and it cuts a body that is too long without a word.

    `deadline` is passed when blob takes nothing of the body for so many seconds, which aiohttp has no timeout for.
    """

    def __init__(self, body: bytes | AsyncIterator[bytes], size: int | None, seconds: float) -> None:
        self.error: Exception | None = None
        self.ended = False
        self._size = size
        self._seconds = seconds
        if isinstance(body, bytes):
            # Bytes go as a file would, or aiohttp would write all of them in one step of the loop.
            self.data: io.BytesIO | AsyncIterator[bytes] = io.BytesIO(body)
            self.deadline = asyncio.timeout(seconds)
        else:
            self.data = self._watched(body)
            self.deadline = asyncio.timeout(None)

    async def _watched(self, body: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        loop = asyncio.get_running_loop()
        sent = 0
        try:
            async for chunk in body:
                sent += len(chunk)
                if self._size is not None and sent > self._size:
                    break
                self._expect_by(loop.time() + self._seconds)
                yield chunk
                self._expect_by(None)
            if self._size not in (None, sent):
                raise Malformed("The body isn't as long as was declared.")
        except Exception as error:
            self.error = error
            raise

    def _expect_by(self, when: float | None) -> None:
        if not self.ended:
            self.deadline.reschedule(when)


async def _body(response: aiohttp.ClientResponse) -> BlobBody:
    await _raise_for_problem(response)
    size, sha256 = _described(response.headers)
    chunks = _chunks(response)
    return BlobBody(
        status=response.status,
        size=size,
        sha256=sha256,
        content_range=response.headers.get("Content-Range"),
        chunks=_checked(chunks, sha256) if response.status == 200 else chunks,
    )


def _described(headers: Mapping[str, str]) -> tuple[int, str]:
    """A blob's size, or that of a range of it, and its digest."""
    try:
        return int(headers["Content-Length"]), headers["ETag"].strip('"')
    except (KeyError, ValueError) as error:
        raise BadGateway from error


def _read(content: bytes, model: type[Model]) -> Model:
    try:
        return model.model_validate_json(content)
    except ValidationError as error:
        raise BadGateway from error


async def _chunks(response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    try:
        async for chunk in response.content.iter_chunked(CHUNK_BYTES):
            yield chunk
    except (aiohttp.ClientError, TimeoutError) as error:
        raise BadGateway("blob broke off.") from error


async def _checked(chunks: AsyncIterator[bytes], sha256: str) -> AsyncIterator[bytes]:
    digest = hashlib.sha256()
    withheld = b""
    async for chunk in chunks:
        digest.update(chunk)
        if withheld:
            yield withheld
        withheld = chunk
    if digest.hexdigest() != sha256:
        raise BadGateway("blob's bytes don't have blob's digest.")
    yield withheld


async def _raise_for_problem(response: aiohttp.ClientResponse) -> None:
    if response.ok:
        return
    if response.status == 404 and response.method == "HEAD":
        raise NotFound  # it has no document that says so
    document: Any
    try:
        document = json.loads(await response.read())
    except (ValueError, aiohttp.ClientError, TimeoutError):
        document = {}
    retry_after = response.headers.get("Retry-After")
    raise problem_from(response.status, document if isinstance(document, dict) else {}, retry_after)


def content_digest(sha256: str) -> str:
    """A `Content-Digest` or `Repr-Digest` (RFC 9530) from a SHA-256 in hex."""
    return f"sha-256=:{base64.b64encode(bytes.fromhex(sha256)).decode()}:"


@asynccontextmanager
async def open_blob_client(
    base_url: str,
    signer: ServiceTokenSigner,
    *,
    seconds: float = SECONDS,
    connector: aiohttp.BaseConnector | None = None,
) -> AsyncIterator[BlobClient]:
    """A client with its own connection pool. A call ends when nothing passes for `seconds`."""
    timeout = aiohttp.ClientTimeout(total=None, connect=5, sock_connect=5, sock_read=seconds)
    async with aiohttp.ClientSession(
        # Kept for less long than blob keeps them, or a body could be sent into a connection that blob is closing.
        connector=connector or aiohttp.TCPConnector(limit=CONNECTIONS, keepalive_timeout=4),
        timeout=timeout,
        auto_decompress=False,
        skip_auto_headers={"Accept-Encoding", "User-Agent", "Content-Type"},
    ) as session:
        yield BlobClient(session, base_url, signer, seconds=seconds)
