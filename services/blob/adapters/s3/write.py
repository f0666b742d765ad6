"""Writing half of the S3 store: bytes become one PUT, or the parts of a multipart upload."""

import asyncio
import base64
import hashlib
import random
from collections.abc import Mapping
from concurrent.futures import Executor
from contextlib import suppress
from io import BytesIO
from typing import Any
from uuid import uuid4

from botocore.exceptions import ClientError

from common.errors import AlreadyExists, NotFound, Problem, Unavailable
from services.blob.adapters.footer import Footer
from services.blob.adapters.hashing import HashBeside
from services.blob.adapters.s3.bucket import PART_SECONDS, Bucket, PreconditionFailed, calling
from services.blob.adapters.s3.read import BLOBS, read_tail
from services.blob.ports import CorruptBlob

# How often a name that was taken a moment ago, and is free now, is tried again.
MAX_TRIES = 6
PAUSE_SECONDS = 0.05
COPY_BYTES = 128 * 1024 * 1024
COPIES_AT_ONCE = 4
MAX_COPIES = 9_999


class StagedObject:
    """A `StagedBlob`. Holds one part in memory, and sends it when the next byte would make it too long."""

    def __init__(
        self,
        bucket: Bucket,
        executor: Executor,
        blob_id: str,
        part_bytes: int,
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        self._bucket = bucket
        self._executor = executor
        self._blob_id = blob_id
        self._part_bytes = part_bytes
        self._hashing = HashBeside(executor)
        self._size = 0
        self._sha256 = b""
        self._part = BytesIO()
        self._upload_id: str | None = None
        self._sent: list[Any] = []
        # By this we know our own object again when the response to a successful write was lost.
        self._writer = str(uuid4())
        self._metadata = {**(metadata or {}), "writer": self._writer}

    async def write(self, chunk: bytes) -> None:
        self._size += len(chunk)
        await self._hashing.update(chunk)
        rest = memoryview(chunk)
        while self._part.tell() + len(rest) > self._part_bytes:
            room = self._part_bytes - self._part.tell()
            self._part.write(rest[:room])
            rest = rest[room:]
            await self._send_part()
        self._part.write(rest)

    async def digest(self) -> str:
        self._sha256 = await self._hashing.digest()
        return self._sha256.hex()

    async def copy(self, key: str, etag: str, size: int, sha256: bytes) -> None:
        """Instead of any `write`: take the bytes of another object, of more than one part, inside the store.

        Raises `NotFound`, and `PreconditionFailed` when the object is no longer the one with that entity tag.
        """
        self._size, self._sha256 = size, sha256
        upload_id = await self._open()
        # As many as it takes, and all alike: the footer comes after them, so none of them may be too short.
        count = -(-size // max(COPY_BYTES, -(-size // MAX_COPIES)))
        each = -(-size // count)
        at_once = asyncio.Semaphore(COPIES_AT_ONCE)

        async def copy_one(number: int) -> Any:
            first = number * each
            async with at_once, calling(PART_SECONDS):
                response = await self._bucket.client.upload_part_copy(
                    Bucket=self._bucket.name,
                    Key=BLOBS + self._blob_id,
                    UploadId=upload_id,
                    PartNumber=number + 1,
                    CopySource={"Bucket": self._bucket.name, "Key": key},
                    CopySourceIfMatch=etag,
                    CopySourceRange=f"bytes={first}-{min(first + each, size) - 1}",
                )
            copied = response["CopyPartResult"]
            checksum = {"ChecksumSHA256": copied["ChecksumSHA256"]} if "ChecksumSHA256" in copied else {}
            return {"PartNumber": number + 1, "ETag": copied["ETag"], **checksum}

        self._sent = await asyncio.gather(*(copy_one(number) for number in range(count)))

    async def publish(self) -> bool:
        footer = Footer(self._size, self._sha256)
        self._part.write(footer.pack())
        if self._upload_id is not None:
            await self._send_part()
        for number in range(MAX_TRIES):
            failure: Problem | None = None
            try:
                await self._create()
            except PreconditionFailed:
                pass
            except (Unavailable, NotFound) as error:
                failure = error  # the response to a write that was done may be what is missing
            else:
                return self._done()
            try:
                there = await read_tail(self._bucket, self._blob_id)
            except NotFound:
                if failure:
                    raise Unavailable("The store failed.") from failure
                # It was deleted since, or its writer hasn't come to its end.
                await asyncio.sleep(random.uniform(0, PAUSE_SECONDS * 2**number))  # noqa: S311 - jitter
                continue
            except CorruptBlob:  # its id stays taken until it is deleted
                raise AlreadyExists from None
            if there.writer == self._writer:
                return self._done()
            if (there.blob.size, there.blob.sha256) != (footer.size, footer.sha256.hex()):
                raise AlreadyExists
            return False
        raise Unavailable("The store doesn't decide who may write this blob.")

    async def discard(self) -> None:
        """Give up what was not published."""
        if self._upload_id is None:
            return
        with suppress(Problem):  # logged, and swept later; what led here must not be hidden
            async with calling():
                await self._bucket.client.abort_multipart_upload(
                    Bucket=self._bucket.name, Key=BLOBS + self._blob_id, UploadId=self._upload_id
                )

    def _done(self) -> bool:
        self._upload_id = None
        return True

    async def _create(self) -> None:
        """Make the object, unless there is one. Raises `PreconditionFailed`."""
        where: dict[str, Any] = {"Bucket": self._bucket.name, "Key": BLOBS + self._blob_id}
        checksum = await self._checksum() if self._upload_id is None else None
        async with self._bucket.lock(where["Key"]), calling(PART_SECONDS):
            if self._bucket.conditional_writes:
                where["IfNoneMatch"] = "*"
            else:
                await self._look_first()
            if checksum is not None:
                await self._bucket.client.put_object(
                    **where, Body=self._part, ChecksumSHA256=checksum, **self._properties()
                )
            else:
                await self._bucket.client.complete_multipart_upload(
                    **where, UploadId=self._upload_id or "", MultipartUpload={"Parts": self._sent}
                )

    async def _look_first(self) -> None:
        """What the store doesn't check, as well as it can be done from here: another process may write meanwhile."""
        try:
            await self._bucket.client.head_object(Bucket=self._bucket.name, Key=BLOBS + self._blob_id)
        except ClientError as error:
            if error.response["ResponseMetadata"]["HTTPStatusCode"] != 404:
                raise
        else:
            raise PreconditionFailed("The object is there.")

    async def _send_part(self) -> None:
        checksum = await self._checksum()
        upload_id = await self._open()
        number = len(self._sent) + 1
        async with calling(PART_SECONDS):
            sent = await self._bucket.client.upload_part(
                Bucket=self._bucket.name,
                Key=BLOBS + self._blob_id,
                UploadId=upload_id,
                PartNumber=number,
                Body=self._part,
                ChecksumSHA256=checksum,
            )
        self._sent.append({"PartNumber": number, "ETag": sent["ETag"], "ChecksumSHA256": checksum})
        self._part = BytesIO()

    async def _open(self) -> str:
        if self._upload_id is None:
            async with calling():
                response = await self._bucket.client.create_multipart_upload(
                    Bucket=self._bucket.name,
                    Key=BLOBS + self._blob_id,
                    ChecksumAlgorithm="SHA256",
                    **self._properties(),
                )
            self._upload_id = response["UploadId"]
        return self._upload_id

    async def _checksum(self) -> str:
        """The part's SHA-256 in base64; the part is at its beginning then."""
        loop = asyncio.get_running_loop()
        with self._part.getbuffer() as data:
            digest = await loop.run_in_executor(self._executor, lambda: hashlib.sha256(data).digest())
        self._part.seek(0)
        return base64.b64encode(digest).decode()

    def _properties(self) -> dict[str, Any]:
        return {
            "ContentType": "application/octet-stream",
            "Metadata": self._metadata,
            **self._bucket.encryption,
        }
