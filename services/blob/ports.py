"""What blob's core needs of a store, and which error says what. Filesystem and S3 both can keep this contract."""

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from common.contracts.blob import BlobLabels
from common.contracts.upload import CompletedPart, UploadFacts, UploadPlan, UploadRequest, UploadStatus
from services.blob.domain.grants import Grant


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

    def read(self, first: int, last: int) -> AsyncIterator[bytes | memoryview]:
        """The bytes from `first` to `last`, both inclusive, in chunks; at most one `read` for each `open`.

        A read of the whole blob is checked against its digest, and its last chunk is withheld until that fits;
        a part can't be checked. Where the store encrypts, it checks every byte of both before it gives that away.
        Raises `CorruptBlob` in place of the bytes that are wrong or missing.
        """

    def close(self) -> None:
        """Let go of it; also while a `read` is under way, which must not be continued then."""


class BlobStore(Protocol):
    """Keeps blobs, each written once. Ids have been checked already.

    Any method raises `Unavailable` when the store can't be reached or fails.
    """

    def stage(
        self, blob_id: str, size: int | None, labels: BlobLabels | None = None
    ) -> AbstractAsyncContextManager[StagedBlob]:
        """Begin to write; `size` is what the caller declares, if it does. Leaving the context without `publish`,
        by an exception too, discards what was written. `labels` are kept if the store has a place for them.

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


class UploadStore(Protocol):
    """Takes files straight from users, over signed URLs, and makes blobs of them. Ids have been checked already.

    An upload is what its facts say: they come with every call, the same each time. So one that was never asked for
    is `OPEN` too, and one whose blob is there is `COMPLETE`, however it got there. How a file is cut into parts is
    `domain/uploads.py`'s, on every store. Any method may raise `Unavailable`.

    The store takes nothing on trust: a request that differs from what its URL was signed for, by one byte or one
    second, is refused and leaves nothing; the blob appears only when its size and, where the facts have one, its
    digest have been checked, and can't be changed by any URL after that.
    """

    async def plan(self, request: UploadRequest) -> UploadPlan:
        """What has arrived, and URLs for what is missing. Opens the upload in the store, unless `max_urls` is 0.

        Raises `StorageFull` when there is no room for a file of that size, and `Conflict` when the store finds that
        the facts are other ones than before (it need not find out).
        """

    async def complete(self, facts: UploadFacts, parts: Sequence[CompletedPart]) -> UploadStatus:
        """Make the blob, or go on making it. `OPEN` says that parts are missing, and `VERIFYING` that it takes
        longer than a request should; both are no failures. May be called again at any time.

        Raises `Invalid` when the store needs `parts` and they aren't those it has.
        """

    async def status(self, facts: UploadFacts) -> UploadStatus:
        """Where it is. An upload that is found to be all there is completed as if `complete` had been called,
        and so is one whose completion died with its process: a question is all it takes.
        """

    async def abort(self, upload_id: str) -> None:
        """Delete what has arrived, and forget a mismatch; nothing to delete is no fault, and a blob stays.

        A URL given before may still store something where a store can't take it back (S3); that is an orphan.
        """

    async def sweep_uploads(self, max_age_seconds: float) -> int:
        """The safety net for uploads that nobody aborts: remove those nothing was done to for so long. Returns
        how many; 0 also where the store sees to it by itself.
        """


class DataPlane(Protocol):
    """The other end of the signed URLs, for a store that has none of its own. The signature was checked already."""

    async def receive(self, grant: Grant, body: AsyncIterator[bytes], sha256: str | None) -> str:
        """Take a part, or the whole file of a single upload. Returns its entity tag once it is on disk.

        `sha256` (hex) is what the request declares, if it does. Raises `Forbidden` when `body` hasn't exactly the
        signed size (`TooLarge` at the first byte too many), `DigestMismatch`, `NotFound` when there is no such
        upload any more, `Conflict` when it takes nothing now, `AlreadyExists` when its blob is there, `StorageFull`,
        and whatever `body` raises. The part doesn't count then.
        """
