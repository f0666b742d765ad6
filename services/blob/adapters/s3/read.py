"""Reading half of the S3 store: the tail that says what a blob is, and its bytes."""

import contextlib
from collections.abc import AsyncIterator
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any

import aiohttp
from botocore.exceptions import BotoCoreError

from common.errors import NotFound, Unavailable
from common.logging import get_logger
from services.blob.adapters.footer import FOOTER_BYTES, unpack_footer
from services.blob.adapters.hashing import HashBeside
from services.blob.adapters.s3.bucket import Bucket, PreconditionFailed, calling
from services.blob.ports import CorruptBlob, StoredBlob

BLOBS = "blobs/"
# A blob that isn't longer is read by one call. A longer one's last bytes come with its footer.
TAIL_BYTES = 256 * 1024
READ_BYTES = 512 * 1024
# How often a body may break off without a byte between, before the read fails.
MAX_BREAKS = 3

log = get_logger()


@dataclass(frozen=True, slots=True)
class Tail:
    """What the end of an object says, and the blob's last bytes as far as they were asked for."""

    blob: StoredBlob
    etag: str
    writer: str
    data: bytes


async def read_tail(bucket: Bucket, blob_id: str, data_bytes: int = 0) -> Tail:
    """The footer and at most `data_bytes` of the blob before it.

    Raises `NotFound`, and `CorruptBlob` for an object that has no footer that fits.
    """
    try:
        async with calling():
            response = await bucket.client.get_object(
                Bucket=bucket.name, Key=BLOBS + blob_id, Range=f"bytes=-{data_bytes + FOOTER_BYTES}"
            )
            body = response["Body"]
            async with body:  # `as` would give the response below, which doesn't check the length
                fetched = await body.read()
    except PreconditionFailed:  # an empty object has no last bytes
        raise CorruptBlob("The object is empty.") from None
    # A store that was asked for more than there is may response with the whole, and without a range.
    whole = int(response.get("ContentRange", "").rpartition("/")[2] or len(fetched))
    footer = unpack_footer(fetched[-FOOTER_BYTES:], whole)
    if footer is None:
        raise CorruptBlob("The object has no footer that fits.")
    blob = StoredBlob(blob_id, footer.size, footer.sha256.hex(), response["LastModified"])
    return Tail(blob, response["ETag"], response.get("Metadata", {}).get("writer", ""), fetched[:-FOOTER_BYTES])


class OpenObject:
    """An `OpenBlob`. Its download has begun when it is opened, for a store lets one go on while the blob is deleted."""

    def __init__(self, bucket: Bucket, executor: Executor, tail: Tail) -> None:
        self._bucket = bucket
        self._executor = executor
        self._tail = tail
        # Where the bytes begin that came with the footer, and so the download ends.
        self._border = tail.blob.size - len(tail.data)
        self._body: Any = None
        self._position = 0

    @property
    def blob(self) -> StoredBlob:
        return self._tail.blob

    async def begin(self) -> None:
        """Start the download of what the tail doesn't hold. Raises `NotFound`."""
        if self._border:
            try:
                await self._download(0, self._border - 1)
            except PreconditionFailed:
                raise NotFound from None

    async def read(self, first: int, last: int) -> AsyncIterator[bytes]:
        if first > 0 or last < self.blob.size - 1:
            async for chunk in self._bytes(first, last):
                yield chunk
            return
        hashing = HashBeside(self._executor)
        withheld = b""
        async for chunk in self._bytes(first, last):
            await hashing.update(chunk)
            if withheld:
                yield withheld
            withheld = chunk
        if (await hashing.digest()).hex() != self.blob.sha256:
            raise CorruptBlob("The bytes have another digest than when they were written.")
        yield withheld

    def close(self) -> None:
        if self._body is not None:
            self._body.close()
            self._body = None

    async def _bytes(self, first: int, last: int) -> AsyncIterator[bytes]:
        position, breaks = first, 0
        while position < min(last + 1, self._border):
            try:
                chunk = await self._next_chunk(position, min(last, self._border - 1))
            except Unavailable:
                breaks += 1
                if breaks == MAX_BREAKS:
                    raise
                self.close()
                continue
            breaks = 0
            chunk = chunk[: last + 1 - position]
            position += len(chunk)
            yield chunk
        if last >= self._border and (rest := self._tail.data[position - self._border : last + 1 - self._border]):
            yield rest

    async def _next_chunk(self, position: int, last: int) -> bytes:
        if self._body is None or self._position != position:
            self.close()
            try:
                await self._download(position, last)
            except (NotFound, PreconditionFailed):
                raise CorruptBlob("The object is no longer there, or is another.") from None
        try:
            # No deadline but the socket's own: a reader that is slow is no fault of the store's.
            chunk: bytes = await self._body.read(READ_BYTES)
        except (BotoCoreError, aiohttp.ClientError, TimeoutError) as error:
            log.warning("blob.read_broke_off", blob=self.blob.id, error=repr(error))
            raise Unavailable("The store broke off.") from error
        if not chunk:
            raise Unavailable("The store broke off.")
        self._position += len(chunk)
        return chunk

    async def _download(self, first: int, last: int) -> None:
        async with calling():
            response = await self._bucket.client.get_object(
                Bucket=self._bucket.name,
                Key=BLOBS + self.blob.id,
                Range=f"bytes={first}-{last}",
                IfMatch=self._tail.etag,
            )
        self._body, self._position = response["Body"], first


@contextlib.asynccontextmanager
async def closed_on_failure(opened: OpenObject) -> AsyncIterator[None]:
    """Lets go of what was opened, when what has to follow fails or is cancelled."""
    try:
        yield
    except BaseException:
        opened.close()
        raise
