"""What blob does: limits and digests are checked here, in one flow for every store."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from common.contracts.blob import BlobLabels
from common.contracts.upload import (
    MAX_URLS,
    CompletedPart,
    UploadFacts,
    UploadPlan,
    UploadRequest,
    UploadStatus,
)
from common.errors import DigestMismatch, Invalid, Malformed, TooLarge
from services.blob.domain import ids
from services.blob.domain.uploads import part_count
from services.blob.ports import BlobStore, ListedBlob, UploadStore

# How many uploads of one request are asked about at once.
UPLOADS_AT_ONCE = 32

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Written:
    """A blob as it was written; `created` is False when the same bytes were there before."""

    id: str
    size: int
    sha256: str
    created: bool


async def write(
    store: BlobStore,
    blob_id: str,
    body: AsyncIterator[bytes],
    *,
    size: int | None,
    sha256: str | None,
    max_bytes: int,
    labels: BlobLabels | None = None,
) -> Written:
    """Write a blob as its bytes arrive; `size`, `sha256` and `labels` are what the caller declares, if it does.

    Raises `Invalid` for the id, `TooLarge` (before the first byte where the size is declared), `Malformed` when
    the body isn't as long as declared, `DigestMismatch`, `AlreadyExists`, `StorageFull`, and whatever `body`
    raises. Nothing is kept then.
    """
    ids.check_new(blob_id)
    if size is not None and size > max_bytes:
        raise TooLarge
    written = 0
    async with store.stage(blob_id, size, labels) as staged:
        async for chunk in body:
            written += len(chunk)
            if written > max_bytes:
                raise TooLarge
            await staged.write(chunk)
        if size is not None and written != size:
            raise Malformed(f"The body has {written} bytes, and {size} were declared.")
        digest = await staged.digest()
        if sha256 is not None and digest != sha256:
            raise DigestMismatch
        created = await staged.publish()
    return Written(blob_id, written, digest, created)


async def list_page(store: BlobStore, prefix: str, after: str, limit: int) -> tuple[list[ListedBlob], str | None]:
    """A page of blobs, and what goes into `after` for the next one; None when there is none. Raises `Invalid`."""
    ids.check_cursor(prefix, after)
    found = await store.page(prefix, after, limit + 1)
    page = found[:limit]
    return page, page[-1].id if len(found) > limit else None


async def plan_uploads(uploads: UploadStore, requests: Sequence[UploadRequest], *, max_bytes: int) -> list[UploadPlan]:
    """A plan for each. The 1,000 URLs that one response may have are dealt out in order, and what comes after that
    is only described.

    Raises `Invalid` for an id that no blob can have or that is there twice, `TooLarge`, `StorageFull`, `Conflict`.
    """
    _check_facts([request.facts for request in requests])
    dealt, remaining = [], MAX_URLS
    for request in requests:
        if request.facts.size > max_bytes:
            raise TooLarge
        missing = max(0, part_count(request.facts.size) + 1 - request.from_part)
        urls = min(request.max_urls, missing, remaining)
        remaining -= urls
        dealt.append(request.model_copy(update={"max_urls": urls}))
    return await _for_each(dealt, uploads.plan)


async def complete_upload(
    uploads: UploadStore, upload_id: str, facts: UploadFacts, parts: Sequence[CompletedPart]
) -> UploadStatus:
    """Raises `Invalid`, also when more parts are named than there are, and `Conflict`."""
    _check_facts([facts])
    if facts.id != upload_id:
        raise Invalid(errors=[{"pointer": "/facts/id", "detail": "It isn't the id in the address."}])
    if parts and len(parts) != part_count(facts.size):
        raise Invalid(errors=[{"pointer": "/parts", "detail": f"There are {part_count(facts.size)} parts."}])
    return await uploads.complete(facts, parts)


async def upload_statuses(uploads: UploadStore, facts: Sequence[UploadFacts]) -> list[UploadStatus]:
    """Where each is. Raises `Invalid`, `Conflict`."""
    _check_facts(facts)
    return await _for_each(facts, uploads.status)


def _check_facts(facts: Sequence[UploadFacts]) -> None:
    seen = set()
    for position, each in enumerate(facts):
        ids.check_new(each.id)
        if each.id in seen:
            raise Invalid(errors=[{"pointer": f"/uploads/{position}/facts/id", "detail": "It is there twice."}])
        seen.add(each.id)


async def _for_each(items: Sequence[Item], call: Callable[[Item], Awaitable[Result]]) -> list[Result]:
    at_once = asyncio.Semaphore(UPLOADS_AT_ONCE)

    async def one(each: Item) -> Result:
        async with at_once:
            return await call(each)

    return await asyncio.gather(*(one(each) for each in items))
