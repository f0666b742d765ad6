"""What users have sent to S3 and is no blob yet: `uploads/<id>`, or an open multipart upload of that key.

Nobody reads it before it is verified. A blob is made of it by copying inside the store, with the footer after it.
"""

from collections import defaultdict
from collections.abc import AsyncIterator, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from common.contracts.upload import UploadFacts
from common.errors import NotFound
from services.blob.adapters.hashing import HashBeside
from services.blob.adapters.s3.bucket import Bucket, PreconditionFailed, calling
from services.blob.adapters.s3.labels import labels, stored
from services.blob.adapters.s3.read import READ_BYTES
from services.blob.adapters.s3.write import StagedObject
from services.blob.domain.uploads import is_single, part, part_count, part_size

UPLOADS = "uploads/"


@dataclass(frozen=True, slots=True)
class Incoming:
    """The object of an upload. `state` is empty, or what its verification came to."""

    etag: str
    size: int
    state: str
    sent_at: datetime


class IncomingObjects:
    """All that is under `uploads/`."""

    def __init__(self, bucket: Bucket, executor: Executor) -> None:
        self._bucket = bucket
        self._executor = executor

    async def look(self, upload_id: str) -> Incoming:
        """What has arrived whole. Raises `NotFound`."""
        async with calling():
            head = await self._bucket.client.head_object(**self._where(upload_id))
        state = head.get("Metadata", {}).get("state", "")
        if not head["ContentLength"] and not state:
            # SeaweedFS 4.48 keeps this of a request that broke off before its first byte. The next one needs the key.
            async with calling():
                await self._bucket.client.delete_object(**self._where(upload_id), IfMatch=head["ETag"])
            raise NotFound
        return Incoming(head["ETag"], head["ContentLength"], state, head["LastModified"])

    async def find_multipart(self, upload_id: str) -> str:
        """The one multipart upload that counts. Raises `NotFound`."""
        found = await self._multiparts(upload_id)
        if not found:
            raise NotFound
        return found[0]

    async def open_multipart(self, facts: UploadFacts) -> str:
        """The one multipart upload that counts, which is opened if need be."""
        for number in range(2):
            found = await self._multiparts(facts.id)
            if found:
                break
            if number == 0:
                async with calling():
                    await self._bucket.client.create_multipart_upload(
                        **self._where(facts.id), Metadata=labels(facts), **self._bucket.encryption
                    )
        else:
            raise NotFound
        return found[0]

    async def parts(self, facts: UploadFacts, multipart: str, declared: Mapping[int, str]) -> dict[int, str]:
        """The entity tags of the parts that have arrived, by their numbers. Raises `NotFound`.

        A store may keep both when a part is sent twice (SeaweedFS does), with times in whole seconds. Then the one
        counts that `declared` has, else the later; and where that can't be decided, none, so that it is sent once more.
        """
        async with calling():
            pages = self._bucket.client.get_paginator("list_parts").paginate(
                **self._where(facts.id), UploadId=multipart
            )
            listed = [item async for page in pages for item in page.get("Parts", [])]
        sent: dict[int, dict[str, datetime]] = defaultdict(dict)
        count = part_count(facts.size)
        for item in listed:
            number, etag = item["PartNumber"], item["ETag"].strip('"')
            if number <= count and item["Size"] == part(facts.size, number).size:
                sent[number][etag] = max(item["LastModified"], sent[number].get(etag, item["LastModified"]))
        chosen = {number: _chosen(etags, declared.get(number)) for number, etags in sent.items()}
        return {number: etag for number, etag in chosen.items() if etag}

    async def join(self, upload_id: str, multipart: str, parts: Mapping[int, str]) -> None:
        """Make one object of the parts. Raises `NotFound` when another has, or has aborted them."""
        joined: Any = [{"PartNumber": number, "ETag": etag} for number, etag in sorted(parts.items())]
        async with calling():
            await self._bucket.client.complete_multipart_upload(
                **self._where(upload_id), UploadId=multipart, MultipartUpload={"Parts": joined}
            )

    async def digest(self, upload_id: str, incoming: Incoming) -> bytes:
        """Read it all for its SHA-256. Raises `NotFound` when it is another now."""
        hashing = HashBeside(self._executor)
        async for chunk in self._read(upload_id, incoming):
            await hashing.update(chunk)
        return await hashing.digest()

    async def make_blob(self, facts: UploadFacts, incoming: Incoming, sha256: bytes) -> None:
        """The verified bytes become the blob. Raises `NotFound` when they are others now, and `AlreadyExists`."""
        each = part_size(facts.size)
        staged = StagedObject(self._bucket, self._executor, facts.id, each, stored(facts, incoming.sent_at))
        try:
            if is_single(facts.size):
                async for chunk in self._read(facts.id, incoming):
                    await staged.write(chunk)
                await staged.digest()
            else:
                await staged.copy(UPLOADS + facts.id, incoming.etag, incoming.size, sha256)
            await staged.publish()
        except PreconditionFailed:
            raise NotFound from None
        finally:
            await staged.discard()

    async def mark(self, upload_id: str, state: str) -> None:
        """Put a mark in the place of the bytes. A URL of a single upload is refused because of it."""
        async with calling():
            await self._bucket.client.put_object(
                **self._where(upload_id), Body=b"", Metadata={"state": state}, **self._bucket.encryption
            )

    async def remove(self, upload_id: str) -> None:
        """Delete what has arrived, and take nothing more; nothing to delete is no fault."""
        for multipart in await self._multiparts(upload_id):
            try:
                async with calling():
                    await self._bucket.client.abort_multipart_upload(**self._where(upload_id), UploadId=multipart)
            except NotFound:
                pass
        async with calling():
            await self._bucket.client.delete_object(**self._where(upload_id))

    async def _multiparts(self, upload_id: str) -> list[str]:
        key = UPLOADS + upload_id
        async with calling():
            response = await self._bucket.client.list_multipart_uploads(Bucket=self._bucket.name, Prefix=key)
        found = [upload for upload in response.get("Uploads", []) if upload["Key"] == key]
        # Two requests at once may each have opened one; all then go by the first.
        return [each["UploadId"] for each in sorted(found, key=lambda each: (each["Initiated"], each["UploadId"]))]

    async def _read(self, upload_id: str, incoming: Incoming) -> AsyncIterator[bytes]:
        try:
            async with calling():
                response = await self._bucket.client.get_object(**self._where(upload_id), IfMatch=incoming.etag)
        except PreconditionFailed:
            raise NotFound from None
        body = response["Body"]
        async with body:  # `as` would give the response below, whose `read` has no length
            while True:
                async with calling():
                    chunk = await body.read(READ_BYTES)
                if not chunk:
                    return
                yield chunk

    def _where(self, upload_id: str) -> Any:
        return {"Bucket": self._bucket.name, "Key": UPLOADS + upload_id}


def _chosen(etags: Mapping[str, datetime], declared: str | None) -> str | None:
    if declared in etags:
        return declared
    latest = max(etags.values())
    last = [etag for etag, at in etags.items() if at == latest]
    return last[0] if len(last) == 1 else None
