"""Blobs in a bucket of S3, or of a store that speaks it.

Design
    `blobs/<id>` is a whole blob: its bytes, and then the footer that files have too (`footer.py`), so that bytes, size
    and digest become visible at once although the digest is known only after the last byte
    (docs/decisions/0010-s3-adapter.md).

    Write: up to one part is one PUT; what is longer is a multipart upload to the final key, of which nothing is visible
    until it is completed. Both are create-only, by `If-None-Match: *`, and each body carries its SHA-256 in a signed
    header, which the store checks. Read: one GET of the last bytes tells what the blob is, and is all for a short one;
    a longer one's other bytes come by a second, on condition of the first one's ETag, which is taken up again where it
    broke off.

Permissions
    On the bucket `s3:ListBucket`, `s3:ListBucketMultipartUploads`; on its objects `s3:GetObject`, `s3:PutObject`,
    `s3:DeleteObject`, `s3:AbortMultipartUpload`, `s3:ListMultipartUploadParts`; with a KMS key also
    `kms:GenerateDataKey` and `kms:Decrypt`. `python -m services.blob.setup` prints them as a policy.

Trade-offs
    - One part of each upload is in memory, and nothing is received while it is sent.
    - The store has to keep `If-None-Match: *`, on PUT and on CompleteMultipartUpload. SeaweedFS 4.48 doesn't keep the
      latter between two completions in the same moment, so one process does them one after the other; two may both win.
    - Retries and their budget are botocore's. A write whose outcome can't be learned is `Unavailable`, and its bytes
      may still become visible, whole: the retry finds them, and learns that they are there already.
    - An object without a fitting footer is not a blob, as a file isn't: logged as `blob.corrupt`, listed, deletable.
    - Two deletes of one blob at once may both succeed.
    - A delete lets a download go on that has begun, as far as the store does. A range is asked for when it is read.
"""

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import aioboto3

from common.contracts.blob import BlobLabels
from common.errors import NotFound, StorageFull, Unavailable
from common.logging import get_logger
from services.blob.adapters.footer import FOOTER_BYTES
from services.blob.adapters.s3.bucket import Bucket, S3Options, calling, open_bucket
from services.blob.adapters.s3.labels import stored
from services.blob.adapters.s3.read import BLOBS, TAIL_BYTES, OpenObject, Tail, closed_on_failure, read_tail
from services.blob.adapters.s3.write import StagedObject
from services.blob.ports import CorruptBlob, ListedBlob, OpenBlob, StagedBlob, StoredBlob

MIN_PART_BYTES = 8 * 1024 * 1024
MAX_PART_BYTES = 5 * 1024**3
MAX_PARTS = 10_000
PAGE_KEYS = 1_000
THREADS = 4
SWEEP_SECONDS = 240.0

log = get_logger()


@asynccontextmanager
async def open_s3_store(
    options: S3Options, *, max_blob_bytes: int, session: aioboto3.Session | None = None
) -> AsyncIterator["S3BlobStore"]:
    """The store in a bucket that exists. `max_blob_bytes` is the longest blob whose size isn't declared."""
    with ThreadPoolExecutor(THREADS, "blob") as executor:
        async with open_bucket(options, session) as bucket:
            yield S3BlobStore(bucket, executor, max_blob_bytes)


class S3BlobStore:
    """A `BlobStore`; the module's docstring says how."""

    def __init__(self, bucket: Bucket, executor: Executor, max_blob_bytes: int) -> None:
        self.bucket = bucket
        self.executor = executor
        self._max_blob_bytes = max_blob_bytes

    @asynccontextmanager
    async def stage(
        self, blob_id: str, size: int | None, labels: BlobLabels | None = None
    ) -> AsyncIterator[StagedBlob]:
        part_bytes = part_size(self._max_blob_bytes if size is None else size)
        metadata = stored(labels, datetime.now(UTC)) if labels else {}
        staged = StagedObject(self.bucket, self.executor, blob_id, part_bytes, metadata)
        try:
            yield staged
        finally:
            # To its end also when the caller is cancelled again: parts cost room until they are aborted.
            await asyncio.shield(asyncio.create_task(staged.discard()))

    async def open(self, blob_id: str) -> OpenBlob:
        opened = OpenObject(self.bucket, self.executor, await self._tail(blob_id, TAIL_BYTES))
        async with closed_on_failure(opened):
            await opened.begin()
        return opened

    async def stat(self, blob_id: str) -> StoredBlob:
        return (await self._tail(blob_id)).blob

    async def delete(self, blob_id: str) -> None:
        async with calling():
            # S3 doesn't say whether there was anything to delete.
            await self.bucket.client.head_object(Bucket=self.bucket.name, Key=BLOBS + blob_id)
            await self.bucket.client.delete_object(Bucket=self.bucket.name, Key=BLOBS + blob_id)

    async def page(self, prefix: str, after: str, limit: int) -> list[ListedBlob]:
        found: list[ListedBlob] = []
        while len(found) < limit:
            async with calling():
                response = await self.bucket.client.list_objects_v2(
                    Bucket=self.bucket.name,
                    Prefix=BLOBS + prefix,
                    StartAfter=BLOBS + after,
                    MaxKeys=min(PAGE_KEYS, limit - len(found)),
                )
            found += [
                ListedBlob(item["Key"].removeprefix(BLOBS), item["LastModified"])
                for item in response.get("Contents", [])
            ]
            if not response["IsTruncated"]:
                break
            after = found[-1].id
        return found

    async def sweep_staging(self, max_age_seconds: float) -> int:
        # By this process's clock: S3 refuses callers whose clock is off by more than a quarter of an hour.
        before = datetime.now(UTC) - timedelta(seconds=max_age_seconds)
        swept = 0
        pages = self.bucket.client.get_paginator("list_multipart_uploads")
        async with calling(SWEEP_SECONDS):
            async for page in pages.paginate(Bucket=self.bucket.name, Prefix=BLOBS):
                for upload in page.get("Uploads", []):
                    if upload["Initiated"] < before:
                        swept += await self._sweep(upload["Key"], upload["UploadId"], before)
        return swept

    async def check(self) -> None:
        try:
            async with calling():
                await self.bucket.client.head_bucket(Bucket=self.bucket.name)
        except NotFound:
            raise Unavailable("There is no such bucket.") from None

    async def _tail(self, blob_id: str, data_bytes: int = 0) -> Tail:
        try:
            return await read_tail(self.bucket, blob_id, data_bytes)
        except CorruptBlob as error:
            log.error("blob.corrupt", blob=blob_id, reason=str(error))
            raise NotFound from None

    async def _sweep(self, key: str, upload_id: str, before: datetime) -> bool:
        """Abort an upload unless a part came since."""
        client, name = self.bucket.client, self.bucket.name
        try:
            async with calling():
                pages = client.get_paginator("list_parts").paginate(Bucket=name, Key=key, UploadId=upload_id)
                parts = [part async for page in pages for part in page.get("Parts", [])]
                if any(part["LastModified"] >= before for part in parts):
                    return False
                await client.abort_multipart_upload(Bucket=name, Key=key, UploadId=upload_id)
        except NotFound:  # completed, or given up, since it was listed
            return False
        return True


def part_size(blob_bytes: int) -> int:
    """How long the parts have to be, in bytes, that a blob of that size fits. Raises `StorageFull` when it can't."""
    wanted = -(-(blob_bytes + FOOTER_BYTES) // MAX_PARTS)
    if wanted > MAX_PART_BYTES:
        raise StorageFull
    return max(MIN_PART_BYTES, wanted)
