"""Uploads straight to S3, over URLs that it checks itself.

Design
    A single upload is a presigned PUT to `uploads/<id>` that signs the exact `Content-Length`, `If-None-Match: *` and
    the labels; a multipart is one of that key, whose parts' URLs sign their exact length. So nothing is trusted that
    S3 doesn't refuse by itself, and nothing under `blobs/` can be reached by any URL.

    When all is there, the parts are joined, the object is read for its digest, and the blob is made of it inside the
    store (on condition of the ETag that was verified) with its footer, create-only like any other. Then the
    object goes; in a single upload's place stays an empty mark, which makes its URL useless until the bucket's
    lifecycle removes it, after 30 days. A mismatch leaves such a mark too, which remembers it until `abort`.

    No step needs to know what the step before did: any of them may be done again, by any process, after any crash.

Trade-offs
    - A large upload is copied once inside the store, for what becomes visible has its footer.
    - URLs last 7 days at most, which is the store's own limit; fresh ones don't end the old ones.
    - A verification reads at the speed of the line between blob and the store, two at a time.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import aioboto3

from common.contracts.upload import (
    CompletedPart,
    UploadFacts,
    UploadPart,
    UploadPlan,
    UploadRequest,
    UploadState,
    UploadStatus,
)
from common.errors import AlreadyExists, Invalid, NotFound, Unavailable
from common.loops import attempt, stop
from services.blob.adapters.s3.bucket import S3Options, open_client
from services.blob.adapters.s3.incoming import UPLOADS, IncomingObjects
from services.blob.adapters.s3.labels import labels
from services.blob.adapters.s3.store import S3BlobStore
from services.blob.domain.uploads import is_single, part_count, part_size, parts_from

if TYPE_CHECKING:
    from types_aiobotocore_s3 import S3Client

MAX_URL_SECONDS = 7 * 86_400
VERIFICATIONS = 2
# A completion is answered when it is done, unless that takes longer.
PATIENCE_SECONDS = 1.0
NONE_DECLARED: Mapping[int, str] = MappingProxyType({})


@asynccontextmanager
async def open_s3_uploads(
    store: S3BlobStore, options: S3Options, session: aioboto3.Session | None = None
) -> AsyncIterator["S3Uploads"]:
    """The uploads beside the blobs of `store`, with URLs at the public endpoint."""
    async with open_client(options, options.public_endpoint or options.endpoint, session) as signer:
        uploads = S3Uploads(store, signer, options)
        try:
            yield uploads
        finally:
            await uploads.close()


class S3Uploads:
    """An `UploadStore`; the module's docstring says how."""

    def __init__(self, store: S3BlobStore, signer: "S3Client", options: S3Options) -> None:
        self._store = store
        self._signer = signer
        self._options = options
        self._incoming = IncomingObjects(store.bucket, store.executor)
        self._verifying: dict[str, asyncio.Task[bool]] = {}
        self._at_once = asyncio.Semaphore(VERIFICATIONS)

    async def plan(self, request: UploadRequest) -> UploadPlan:
        facts = request.facts
        state = (await self._look(facts)).state
        seconds = min(request.expires_in, MAX_URL_SECONDS)
        expires_at = datetime.fromtimestamp(int(time.time()) + seconds, UTC)
        plan = UploadPlan(id=facts.id, state=state, kind="single", size=facts.size, expires_at=expires_at)
        urls_left = request.max_urls if state == "OPEN" else 0
        if is_single(facts.size):
            if not urls_left:
                return plan
            return plan.model_copy(update=await self._single(facts, seconds))
        multipart, received = await self._received(facts, state, opening=urls_left > 0)
        parts: list[UploadPart] = []
        following = None
        for part in parts_from(facts.size, request.from_part):
            url = None
            if state == "OPEN" and part.number not in received:
                if not urls_left:
                    following = part.number
                    break
                urls_left -= 1
                sent: Any = {"UploadId": multipart, "PartNumber": part.number, "ContentLength": part.size}
                url = await self._url("upload_part", facts, sent, seconds)
            has = state in ("VERIFYING", "COMPLETE") or part.number in received
            parts.append(UploadPart(number=part.number, size=part.size, received=has, url=url))
        fields = {"kind": "multipart", "part_size": part_size(facts.size), "parts": parts, "next": following}
        return plan.model_copy(update=fields)

    async def complete(self, facts: UploadFacts, parts: Sequence[CompletedPart]) -> UploadStatus:
        declared = {part.number: part.etag.strip('"') for part in parts}
        status = await self._look(facts, declared)
        if status.state == "VERIFYING":
            await asyncio.wait([self._verify(facts, declared)], timeout=PATIENCE_SECONDS)
            status = await self.status(facts)
        return status

    async def status(self, facts: UploadFacts) -> UploadStatus:
        status = await self._look(facts)
        if status.state == "VERIFYING":
            self._verify(facts)
        return status

    async def abort(self, upload_id: str) -> None:
        if task := self._verifying.get(upload_id):
            await stop(task)
        await self._incoming.remove(upload_id)

    async def sweep_uploads(self, max_age_seconds: float) -> int:
        return 0  # the bucket's lifecycle sees to it

    async def close(self) -> None:
        """Break off the verifications; the next question starts them anew."""
        await stop(*self._verifying.values())

    async def _look(self, facts: UploadFacts, declared: Mapping[int, str] = NONE_DECLARED) -> UploadStatus:
        """Where it is. Raises `Invalid` when all parts are there, and the `declared` ones are others."""
        if complete := await self._complete(facts):
            return complete
        state = await self._state(facts, declared)
        # A verification that ended between both looks made the blob before it removed what had arrived.
        if state == "OPEN" and (complete := await self._complete(facts)):
            return complete
        return UploadStatus(id=facts.id, state=state)

    async def _complete(self, facts: UploadFacts) -> UploadStatus | None:
        try:
            blob = await self._store.stat(facts.id)
        except NotFound:
            return None
        return UploadStatus(id=facts.id, state="COMPLETE", size=blob.size, sha256=blob.sha256)

    async def _state(self, facts: UploadFacts, declared: Mapping[int, str]) -> UploadState:
        try:
            incoming = await self._incoming.look(facts.id)
        except NotFound:
            if is_single(facts.size):
                return "OPEN"
        else:
            return {"": "VERIFYING", "mismatch": "MISMATCH"}.get(incoming.state, "OPEN")  # type: ignore[return-value]
        _, received = await self._received(facts, "OPEN", declared)
        if len(received) < part_count(facts.size):
            return "OPEN"
        if declared and declared != received:
            raise Invalid("These aren't the parts that arrived.")
        return "VERIFYING"

    async def _received(
        self,
        facts: UploadFacts,
        state: UploadState,
        declared: Mapping[int, str] = NONE_DECLARED,
        *,
        opening: bool = False,
    ) -> tuple[str, dict[int, str]]:
        """The multipart upload and its parts that have arrived; both empty when there is none."""
        if state != "OPEN":
            return "", {}
        try:
            if opening:
                multipart = await self._incoming.open_multipart(facts)
            else:
                multipart = await self._incoming.find_multipart(facts.id)
            return multipart, await self._incoming.parts(facts, multipart, declared)
        except NotFound:
            if opening:
                raise Unavailable("The upload is just being aborted or completed.") from None
            return "", {}

    async def _single(self, facts: UploadFacts, seconds: int) -> dict[str, Any]:
        encryption = self._options.encryption()
        signed = {"ContentLength": facts.size, "IfNoneMatch": "*", "Metadata": labels(facts), **encryption}
        headers = {"If-None-Match": "*"}
        headers |= {f"x-amz-meta-{key}": value for key, value in labels(facts).items()}
        if "ServerSideEncryption" in encryption:
            headers["x-amz-server-side-encryption"] = encryption["ServerSideEncryption"]
        if "SSEKMSKeyId" in encryption:
            headers["x-amz-server-side-encryption-aws-kms-key-id"] = encryption["SSEKMSKeyId"]
        return {"url": await self._url("put_object", facts, signed, seconds), "headers": headers}

    async def _url(self, call: str, facts: UploadFacts, signed: dict[str, Any], seconds: int) -> str:
        await asyncio.sleep(0)  # signing is work for the processor alone, and there may be a thousand
        params = {"Bucket": self._options.bucket, "Key": UPLOADS + facts.id, **signed}
        url: str = await self._signer.generate_presigned_url(call, Params=params, ExpiresIn=seconds)
        return url

    def _verify(self, facts: UploadFacts, declared: Mapping[int, str] = NONE_DECLARED) -> "asyncio.Task[bool]":
        task = self._verifying.get(facts.id)
        if task is None:
            task = asyncio.create_task(attempt("blob.verification", lambda: self._finish(facts, declared)))
            self._verifying[facts.id] = task
            task.add_done_callback(lambda _: self._verifying.pop(facts.id, None))
        return task

    async def _finish(self, facts: UploadFacts, declared: Mapping[int, str]) -> None:
        """From all parts to the blob, or to the mark of a mismatch. Where another process has done it, nothing."""
        async with self._at_once:
            try:
                await self._join(facts, declared)
                incoming = await self._incoming.look(facts.id)
                if incoming.state:
                    return
                sha256 = await self._incoming.digest(facts.id, incoming)
                if incoming.size != facts.size or facts.sha256 not in (None, sha256.hex()):
                    await self._incoming.mark(facts.id, "mismatch")
                    return
                await self._incoming.make_blob(facts, incoming, sha256)
            except NotFound:
                return
            except AlreadyExists:  # by another door, and with other bytes: `COMPLETE` tells which
                pass
            if is_single(facts.size):
                await self._incoming.mark(facts.id, "complete")
            else:
                await self._incoming.remove(facts.id)

    async def _join(self, facts: UploadFacts, declared: Mapping[int, str]) -> None:
        if is_single(facts.size):
            return
        multipart, received = await self._received(facts, "OPEN", declared)
        if len(received) == part_count(facts.size):
            await self._incoming.join(facts.id, multipart, received)
