"""Calls to blob: bytes are streamed both ways over aiohttp, which measured faster than httpx where bodies are large."""

import base64
import hashlib
import io
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import aiohttp
from pydantic import ValidationError
from yarl import URL

from common.auth import ServiceTokenSigner
from common.contracts import Wire
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

AUDIENCE = "blob"
CHUNK_BYTES = 256 * 1024

Answer = TypeVar("Answer", bound=Wire)


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
    """blob's API. Raises `common.errors`: `Unavailable` when blob can't be reached, else what blob answered."""

    def __init__(self, session: aiohttp.ClientSession, base_url: str, signer: ServiceTokenSigner) -> None:
        self._session = session
        self._base = URL(base_url) / "api/v1/blob"
        self._uploads = URL(base_url) / "api/v1/upload"
        self._signer = signer

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
        source = _Source(body, size)
        try:
            async with self._session.put(self._base / blob_id, data=source.data, headers=headers) as response:
                await _raise_for_problem(response)
                return BlobInfo.model_validate_json(await response.read())
        except (aiohttp.ClientError, TimeoutError) as error:
            if source.error is not None:
                raise source.error from None
            raise Unavailable("blob can't be reached.") from error
        except ValidationError as error:
            raise BadGateway from error

    @asynccontextmanager
    async def open(self, blob_id: str, byte_range: str | None = None) -> AsyncIterator[BlobBody]:
        """Read a blob; `byte_range` is a `Range` header's value. Raises `NotFound`, `RangeNotSatisfiable`."""
        headers = self._headers()
        if byte_range:
            headers["Range"] = byte_range
        try:
            response = await self._session.get(self._base / blob_id, headers=headers)
        except (aiohttp.ClientError, TimeoutError) as error:
            raise Unavailable("blob can't be reached.") from error
        # What the caller raises while it reads is its own, so nothing is translated around the `yield`.
        async with response:
            yield await _body(response)

    async def head(self, blob_id: str) -> BlobInfo | None:
        """The blob's size and digest; None when there is no such blob."""
        try:
            async with self._session.head(self._base / blob_id, headers=self._headers()) as response:
                if response.status == 404:
                    return None
                body = await _body(response)
                return BlobInfo(id=blob_id, size=body.size, sha256=body.sha256)
        except (aiohttp.ClientError, TimeoutError) as error:
            raise Unavailable("blob can't be reached.") from error

    async def delete(self, blob_id: str) -> None:
        """Delete a blob; one that isn't there is no fault."""
        try:
            async with self._session.delete(self._base / blob_id, headers=self._headers()) as response:
                await _raise_for_problem(response)
        except NotFound:
            return
        except (aiohttp.ClientError, TimeoutError) as error:
            raise Unavailable("blob can't be reached.") from error

    async def list(self, prefix: str = "", after: str = "") -> BlobList:
        """A page of blobs, in the store's own order."""
        query = {"prefix": prefix, "after": after}
        try:
            async with self._session.get(self._base, params=query, headers=self._headers()) as response:
                await _raise_for_problem(response)
                return BlobList.model_validate_json(await response.read())
        except (aiohttp.ClientError, TimeoutError) as error:
            raise Unavailable("blob can't be reached.") from error
        except ValidationError as error:
            raise BadGateway from error

    def _headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self._signer.token(AUDIENCE)}"}

    async def plan_uploads(self, requests: Sequence[UploadRequest]) -> Sequence[UploadPlan]:
        """How files are to be sent straight to the store; one plan for each, in the order of the requests."""
        return (await self._ask("", PlanUploads(uploads=[*requests]), UploadPlans)).items

    async def complete_upload(self, facts: UploadFacts, parts: Sequence[CompletedPart]) -> UploadStatus:
        """Make a blob of what was sent, as far as it is there."""
        return await self._ask(f"{facts.id}/complete", CompleteUpload(facts=facts, parts=[*parts]), UploadStatus)

    async def upload_statuses(self, facts: Sequence[UploadFacts]) -> Sequence[UploadStatus]:
        """Where uploads are, in the order asked. Finishes those that it finds whole."""
        return (await self._ask("status", UploadStatusQuery(uploads=[*facts]), UploadStatusAnswer)).items

    async def abort_upload(self, blob_id: str) -> None:
        """Delete what has arrived; nothing more is taken. One that isn't there is no fault."""
        try:
            async with self._session.delete(self._uploads / blob_id, headers=self._headers()) as response:
                await _raise_for_problem(response)
        except NotFound:
            return
        except (aiohttp.ClientError, TimeoutError) as error:
            raise Unavailable("blob can't be reached.") from error

    async def _ask(self, path: str, body: Wire, answer: type[Answer]) -> Answer:
        url = self._uploads / path if path else self._uploads
        headers = {**self._headers(), "Content-Type": "application/json"}
        try:
            async with self._session.post(url, data=body.to_wire(), headers=headers) as response:
                await _raise_for_problem(response)
                return answer.model_validate_json(await response.read())
        except (aiohttp.ClientError, TimeoutError) as error:
            raise Unavailable("blob can't be reached.") from error
        except ValidationError as error:
            raise BadGateway from error


class _Source:
    """A request body that has the size that was declared, and remembers the exception which ended it.

    aiohttp would only say that the connection broke; and it cuts a body that is too long without a word.
    """

    def __init__(self, body: bytes | AsyncIterator[bytes], size: int | None) -> None:
        self.error: Exception | None = None
        self._size = size
        # Bytes go as a file would, or aiohttp would write all of them in one step of the loop.
        self.data = io.BytesIO(body) if isinstance(body, bytes) else self._watched(body)

    async def _watched(self, body: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        sent = 0
        try:
            async for chunk in body:
                sent += len(chunk)
                if self._size is not None and sent > self._size:
                    break
                yield chunk
            if self._size not in (None, sent):
                raise Malformed("The body isn't as long as was declared.")
        except Exception as error:
            self.error = error
            raise


async def _body(response: aiohttp.ClientResponse) -> BlobBody:
    await _raise_for_problem(response)
    try:
        size = int(response.headers["Content-Length"])
        sha256 = response.headers["ETag"].strip('"')
    except (KeyError, ValueError) as error:
        raise BadGateway from error
    chunks = _chunks(response)
    return BlobBody(
        status=response.status,
        size=size,
        sha256=sha256,
        content_range=response.headers.get("Content-Range"),
        chunks=_checked(chunks, sha256) if response.status == 200 else chunks,
    )


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
    document: Any
    try:
        document = json.loads(await response.read())
    except (ValueError, aiohttp.ClientError, TimeoutError):
        document = {}
    raise problem_from(response.status, document if isinstance(document, dict) else {})


def content_digest(sha256: str) -> str:
    """A `Content-Digest` or `Repr-Digest` (RFC 9530) from a SHA-256 in hex."""
    return f"sha-256=:{base64.b64encode(bytes.fromhex(sha256)).decode()}:"


@asynccontextmanager
async def open_blob_client(
    base_url: str, signer: ServiceTokenSigner, *, connector: aiohttp.BaseConnector | None = None
) -> AsyncIterator[BlobClient]:
    """A client with its own connection pool. A call ends when blob says nothing for 30 s."""
    timeout = aiohttp.ClientTimeout(total=None, connect=5, sock_connect=5, sock_read=30)
    async with aiohttp.ClientSession(
        # Kept for less long than blob keeps them, or a body could be sent into a connection that blob is closing.
        connector=connector or aiohttp.TCPConnector(limit=200, keepalive_timeout=4),
        timeout=timeout,
        auto_decompress=False,
        skip_auto_headers={"Accept-Encoding", "User-Agent", "Content-Type"},
    ) as session:
        yield BlobClient(session, base_url, signer)
