"""What a processor needs of job and blob: `common.clients` has the real ones.

Every call may raise `Unavailable` when the other side can't be reached or has too much to do, and then may be repeated.
Other errors are those of `common.errors`. Sizes are in bytes, lengths of time in seconds.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from common.contracts.blob import BlobInfo
from common.contracts.job import ClaimedRun, ClaimRequest, Complete, Fail, Heartbeat, Release
from gristmill.wire.processors import ProcessorOffer


class Runs(Protocol):
    """job's queue. Calls about a run raise `StaleFence` once another attempt has it, or it has ended."""

    async def offer(self, offers: Sequence[ProcessorOffer]) -> None:
        """Say what this processor runs. It counts as live for as long as this is repeated."""

    async def claim(self, request: ClaimRequest) -> list[ClaimedRun]:
        """Up to `request.max` runs, each under a lease; none when none came within `request.wait_seconds`. The same
        `claim_id` again returns the same runs.
        """

    async def heartbeat(self, run_id: str, beat: Heartbeat) -> None:
        """Renew the lease of a run, for `ClaimedRun.lease_seconds` from now."""

    async def complete(self, run_id: str, completion: Complete) -> list[ClaimedRun]:
        """End a run as SUCCESS. Returns the runs for the claim that came along, if any. Safe to repeat: with the
        winning fence the response is the same.
        """

    async def fail(self, run_id: str, failure: Fail) -> None:
        """End an attempt that failed; job decides whether the run is tried again."""

    async def release(self, run_id: str, release: Release) -> None:
        """Give back a run unfinished. The attempt doesn't count."""


class Body(Protocol):
    """A blob that is being read."""

    @property
    def chunks(self) -> AsyncIterator[bytes]:
        """The bytes, in order. Raises `BadGateway` when the response breaks off."""


class Blobs(Protocol):
    """blob. A blob is written once, and visible only whole."""

    def open(self, blob_id: str) -> AbstractAsyncContextManager[Body]:
        """Read a blob. Raises `NotFound`, on entering, for one that isn't there."""

    async def put(
        self, blob_id: str, body: bytes | AsyncIterator[bytes], *, size: int | None = None, sha256: str | None = None
    ) -> BlobInfo:
        """Write a blob. blob checks `size` (bytes) and `sha256` (hex) where they are given. Safe to repeat with the
        same bytes. Raises `AlreadyExists` for other bytes under this id, and `StorageFull`.
        """
