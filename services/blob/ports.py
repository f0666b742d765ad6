"""What blob's core needs of a store, and which error says what. Filesystem and S3 both can keep this contract."""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol


class CorruptBlob(Exception):  # noqa: N818 - a state of the blob
    """The bytes at rest are no longer those that were written."""


@dataclass(frozen=True, slots=True)
class StoredBlob:
    """A visible blob: its size in bytes, its SHA-256 in hex, and when it was stored (UTC)."""

    id: str
    size: int
    sha256: str
    stored_at: datetime


@dataclass(frozen=True, slots=True)
class ListedBlob:
    """A blob in a list; its bytes have not been looked at."""

    id: str
    stored_at: datetime


class StagedBlob(Protocol):
    """Bytes on their way in. Nobody sees them until `publish`, and nothing of them stays when that isn't reached."""

    async def write(self, chunk: bytes) -> None:
        """Append. Raises `StorageFull` when there is no room, `Unavailable` when the store fails."""

    async def digest(self) -> str:
        """The SHA-256, in hex, of all that was written. To be called once, after the last `write`."""

    async def publish(self) -> bool:
        """Make the blob visible, whole, durable and for good. To be called once, after `digest`.

        Returns True when this call made it, and False when a blob with this id and these bytes is there already
        (and durable). Of several writers of one id exactly one gets True. Raises `AlreadyExists` when the blob that
        is there has other bytes, `StorageFull`, and `Unavailable` when the store failed. After those two nothing
        is visible that was not so before. A caller that is cancelled here doesn't learn which it was.
        """


class OpenBlob(Protocol):
    """A blob opened for reading, which goes on also while it is deleted. Whoever opened it closes it."""

    @property
    def blob(self) -> StoredBlob: ...

    def read(self, first: int, last: int) -> AsyncIterator[bytes]:
        """The bytes from `first` to `last`, both inclusive, in chunks; at most one `read` for each `open`.

        A read of the whole blob is checked against its digest, and its last chunk is withheld until that fits;
        a part can't be checked. Raises `CorruptBlob` in place of the bytes that are wrong or missing.
        """

    def close(self) -> None:
        """Let go of it; also while a `read` is under way, which must not be continued then."""


class BlobStore(Protocol):
    """Keeps blobs, each written once. Ids have been checked already.

    Any method raises `Unavailable` when the store can't be reached or fails.
    """

    def stage(self, blob_id: str, size: int | None) -> AbstractAsyncContextManager[StagedBlob]:
        """Begin to write; `size` is what the caller declares, if it does. Leaving the context without `publish`,
        by an exception too, discards what was written.

        Raises `StorageFull` when there is no room for `size` bytes. Other calls are answered meanwhile.
        """

    async def open(self, blob_id: str) -> OpenBlob:
        """Open for reading. Raises `NotFound` when no such blob is visible."""

    async def stat(self, blob_id: str) -> StoredBlob:
        """What `open` would open. Raises `NotFound`."""

    async def delete(self, blob_id: str) -> None:
        """Delete for good. Raises `NotFound`."""

    async def page(self, prefix: str, after: str, limit: int) -> list[ListedBlob]:
        """The next `limit` blobs whose ids begin with `prefix`, in the store's own order, which doesn't change.

        `after` is the last id of the page before, whether or not that blob is still there, or empty. A blob that
        is there from the first page to the last is on exactly one of them.
        """

    async def sweep_staging(self, max_age_seconds: float) -> int:
        """Remove what writers that died have left, once nothing was added to it for so long. Returns how much."""

    async def check(self) -> None:
        """Raises when the store can't be used now."""
