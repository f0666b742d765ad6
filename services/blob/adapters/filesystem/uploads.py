"""Uploads in the folder of a filesystem store, and the other end of their signed URLs.

Design
    `uploads/<id>/` is an upload that is open, being verified, or was a mismatch; a complete one is only its blob.
    `facts.json` says what it is. A multipart also has `data`, into which each part is written at its offset, and
    `00001`, `00002`, …, each of which holds the part's SHA-256 once the part has arrived (`part_file.py`).

    A part: shared lock on `data`, exclusive lock on its record → an old record is emptied, fsync → bytes → fsync of
    `data` → record, fsync → fsync of the folder → answer. When all records are whole: exclusive lock on `data` → one
    read → footer, fsync → hard link to the blob's name → fsync of the shard → the upload's folder goes. So a crash
    leaves an upload that goes on where it was, and neither a half part nor a part that was sent again can count. What
    has its second name already is never written to: the link count says so also after a crash.

    A single upload is staged and published as any blob is, and checked on the way.

    With keys `facts.json` is wrapped, together with the key that the parts are encrypted with. Parts begin where pieces
    do; and a record holds the prefix of its part's nonces, and no digest.

    `~…` is a folder that is just being made or removed, so that both happen in one step.

Trade-offs
    - A verification is one thread's reading and hashing, two at a time; it ends with its process, and starts anew
      with the next one or the next question. A part is hashed too, for its entity tag: twice in all.
    - `data` is sparse, and no room is set aside: a disk that fills up refuses the parts that don't fit (507), and
      the upload goes on when there is room.
    - `facts.json` of a single upload isn't fsynced. After a power failure its URL may lead nowhere, until front asks
      again, which makes it anew.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import Future
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypeVar

from common.contracts.upload import CompletedPart, UploadFacts, UploadPart, UploadPlan, UploadRequest, UploadStatus
from common.errors import AlreadyExists, DigestMismatch, Forbidden, TooLarge
from common.loops import attempt, stop
from services.blob.adapters.filesystem.folder import as_problem
from services.blob.adapters.filesystem.part_file import PartFile
from services.blob.adapters.filesystem.store import Arriving, FilesystemBlobStore
from services.blob.adapters.filesystem.upload_folder import Look, UploadFolder
from services.blob.adapters.footer import FOOTER_BYTES
from services.blob.domain.digests import entity_tag
from services.blob.domain.grants import Grant, GrantSigner
from services.blob.domain.uploads import is_single, part_size, parts_from

VERIFICATIONS = 2
# A completion is answered when it is done, unless that takes longer.
PATIENCE_SECONDS = 1.0

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class DataUrls:
    """Makes the URLs of blob's own data plane, which is reached at `base`."""

    base: str
    signer: GrantSigner

    def url(self, grant: Grant) -> str:
        part = "" if grant.part is None else f"/{grant.part}"
        return f"{self.base.rstrip('/')}/data/{self.signer.token(grant)}{part}"


@asynccontextmanager
async def open_filesystem_uploads(store: FilesystemBlobStore, urls: DataUrls) -> AsyncIterator["FilesystemUploads"]:
    """The uploads beside the blobs of `store`. What was being verified goes on being verified."""
    folder = UploadFolder(store.folder)
    await store.in_thread(folder.prepare)
    uploads = FilesystemUploads(store, folder, urls)
    resuming = asyncio.create_task(uploads.resume())
    try:
        yield uploads
    finally:
        await stop(resuming)
        await uploads.close()


class FilesystemUploads:
    """An `UploadStore` and its `DataPlane`; the module's docstring says how."""

    def __init__(self, store: FilesystemBlobStore, folder: UploadFolder, urls: DataUrls) -> None:
        self._store = store
        self._folder = folder
        self._urls = urls
        self._verifying: dict[str, asyncio.Task[bool]] = {}
        self._at_once = asyncio.Semaphore(VERIFICATIONS)
        self._closing = False

    async def plan(self, request: UploadRequest) -> UploadPlan:
        facts = request.facts

        def open_and_look() -> Look:
            look = self._folder.look(facts)
            if look.status.state == "OPEN" and request.max_urls:
                if not self._folder.is_open(facts.id):
                    self._store.check_room(facts.size + FOOTER_BYTES)
                self._folder.open(facts)
                look = self._folder.look(facts)  # it may have become complete since
            return look

        return self._plan(request, await self._in_thread(open_and_look))

    async def complete(self, facts: UploadFacts, parts: Sequence[CompletedPart]) -> UploadStatus:
        status = await self.status(facts)
        if status.state == "VERIFYING":
            await asyncio.wait([self._verify(facts.id)], timeout=PATIENCE_SECONDS)
            status = await self.status(facts)
        return status

    async def status(self, facts: UploadFacts) -> UploadStatus:
        status = (await self._in_thread(lambda: self._folder.look(facts))).status
        if status.state == "VERIFYING":
            self._verify(facts.id)
        return status

    async def abort(self, upload_id: str) -> None:
        await self._in_thread(lambda: self._folder.remove(upload_id))

    async def sweep_uploads(self, max_age_seconds: float) -> int:
        return await self._in_thread(lambda: self._folder.sweep(time.time() - max_age_seconds))

    async def receive(self, grant: Grant, body: AsyncIterator[bytes], sha256: str | None) -> str:
        if grant.part is None:
            return entity_tag(await self._receive_single(grant, body, sha256))
        return entity_tag(await self._receive_part(grant, grant.part, body, sha256))

    async def resume(self) -> None:
        """Go on with the verifications that died with their process."""
        for upload_id in await self._in_thread(self._folder.unfinished):
            self._verify(upload_id)

    async def close(self) -> None:
        """End the verifications; what isn't verified then will be later."""
        self._closing = True
        if self._verifying:
            await asyncio.wait(self._verifying.values())

    def _plan(self, request: UploadRequest, look: Look) -> UploadPlan:
        facts, state = request.facts, look.status.state
        expires_at = int(time.time()) + request.expires_in
        urls_left = request.max_urls if state == "OPEN" else 0
        tenant, subject = map(self._urls.signer.pseudonym, (facts.tenant, f"{facts.tenant}\n{facts.subject}"))

        def url(part: int | None, size: int) -> str:
            return self._urls.url(Grant(facts.id, part, size, expires_at, tenant=tenant, subject=subject))

        until = datetime.fromtimestamp(expires_at, UTC)
        fields = {"id": facts.id, "state": state, "size": facts.size, "expires_at": until}
        if is_single(facts.size):
            return UploadPlan(kind="single", url=url(None, facts.size) if urls_left else None, **fields)
        parts: list[UploadPart] = []
        following = None
        for part in parts_from(facts.size, request.from_part):
            received = state in ("VERIFYING", "COMPLETE") or part.number in look.received
            missing = state == "OPEN" and not received
            if missing and not urls_left:
                following = part.number
                break
            urls_left -= missing
            part_url = url(part.number, part.size) if missing else None
            parts.append(UploadPart(number=part.number, size=part.size, received=received, url=part_url))
        return UploadPlan(kind="multipart", part_size=part_size(facts.size), parts=parts, next=following, **fields)

    async def _receive_single(self, grant: Grant, body: AsyncIterator[bytes], sha256: str | None) -> str:
        upload_id = grant.upload_id
        facts = (await self._in_thread(lambda: self._folder.taking(upload_id))).facts
        async with self._store.stage(upload_id, grant.size) as staged:
            async for chunk in _exactly(body, grant.size):
                await staged.write(chunk)
            digest = await staged.digest()
            if sha256 not in (None, digest):
                raise DigestMismatch
            if facts.sha256 not in (None, digest):
                await self._in_thread(lambda: self._folder.mismatch(upload_id))
                raise DigestMismatch("The bytes aren't those that were announced. Nothing was kept.")
            await self._in_thread(lambda: self._folder.taking(upload_id))  # unless it was aborted meanwhile
            created = await staged.publish()
        await self._in_thread(lambda: self._folder.remove(upload_id))
        if not created:
            raise AlreadyExists("The upload is complete.")
        return digest

    async def _receive_part(self, grant: Grant, number: int, body: AsyncIterator[bytes], sha256: str | None) -> str:
        self._store.check_room(grant.size)
        part = await self._begin_part(grant, number)
        arriving = Arriving(self._store, part.writer)
        try:
            async for chunk in _exactly(body, grant.size):
                await arriving.write(chunk)
            digest = (await arriving.digest()).hex()
            if sha256 not in (None, digest):
                raise DigestMismatch
        except BaseException:
            await arriving.give_up(part.close)
            raise
        await self._in_thread(lambda: part.finish(digest))
        if await self._in_thread(lambda: self._folder.is_whole(grant.upload_id)):
            self._verify(grant.upload_id)
        return digest

    async def _begin_part(self, grant: Grant, number: int) -> PartFile:
        beginning: Future[PartFile] = self._store.executor.submit(
            lambda: as_problem(lambda: self._folder.begin_part(grant.upload_id, number, grant.size))
        )
        try:
            return await asyncio.wrap_future(beginning)
        except asyncio.CancelledError:
            beginning.add_done_callback(_close_begun)
            raise

    def _verify(self, upload_id: str) -> "asyncio.Task[bool]":
        """The verification that is under way, or a new one."""

        async def verify() -> None:
            async with self._at_once:
                await self._in_thread(lambda: self._folder.verify(upload_id, lambda: self._closing))

        task = self._verifying.get(upload_id)
        if task is None:
            task = asyncio.create_task(attempt("upload.verify", verify))
            self._verifying[upload_id] = task
            task.add_done_callback(lambda _: self._verifying.pop(upload_id))
        return task

    async def _in_thread(self, work: Callable[[], Result]) -> Result:
        return await self._store.in_thread(work)


async def _exactly(body: AsyncIterator[bytes], size: int) -> AsyncIterator[bytes]:
    """The chunks of `body`. Raises `TooLarge` before the one that is too much, and `Forbidden` when it is short."""
    received = 0
    async for chunk in body:
        received += len(chunk)
        if received > size:
            raise TooLarge("The body is longer than the URL allows.")
        yield chunk
    if received != size:
        raise Forbidden("The body is shorter than the URL asks for.")


def _close_begun(beginning: Future[PartFile]) -> None:
    if not beginning.cancelled() and beginning.exception() is None:
        beginning.result().close()
