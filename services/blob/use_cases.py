"""What blob does: limits and digests are checked here, in one flow for every store."""

from collections.abc import AsyncIterator
from dataclasses import dataclass

from common.errors import DigestMismatch, Malformed, TooLarge
from services.blob.domain import ids
from services.blob.ports import BlobStore, ListedBlob


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
) -> Written:
    """Write a blob as its bytes arrive; `size` and `sha256` are what the caller declares, if it does.

    Raises `Invalid` for the id, `TooLarge` (before the first byte where the size is declared), `Malformed` when
    the body isn't as long as declared, `DigestMismatch`, `AlreadyExists`, `StorageFull`, and whatever `body`
    raises. Nothing is kept then.
    """
    ids.check_new(blob_id)
    if size is not None and size > max_bytes:
        raise TooLarge
    written = 0
    async with store.stage(blob_id, size) as staged:
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
