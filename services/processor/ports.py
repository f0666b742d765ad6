"""What the worker needs of job and blob. `common.clients` has the real ones; errors are those of `common.errors`."""

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from common.contracts.blob import BlobInfo
from common.contracts.job import ClaimedRun, ClaimRequest, Complete, Fail, Heartbeat, Release
from gristmill.wire.processors import ProcessorOffer


class Job(Protocol):
    """Gives out runs. Calls about a run raise `StaleFence` once it isn't this processor's any more."""

    async def offer(self, offers: Sequence[ProcessorOffer]) -> None: ...

    async def claim(self, request: ClaimRequest) -> list[ClaimedRun]:
        """Runs, or none in time; the same `claim_id` again gives the same runs."""

    async def heartbeat(self, run_id: str, beat: Heartbeat) -> None: ...

    async def complete(self, run_id: str, completion: Complete) -> list[ClaimedRun]:
        """Safe to repeat: with the winning fence the answer is the same."""

    async def fail(self, run_id: str, failure: Fail) -> None: ...

    async def release(self, run_id: str, release: Release) -> None: ...


class Body(Protocol):
    """A blob that is being read. `chunks` raises `BadGateway` when it breaks off."""

    @property
    def chunks(self) -> AsyncIterator[bytes]: ...


class Blob(Protocol):
    """Keeps bytes, each blob written once."""

    def open(self, blob_id: str) -> AbstractAsyncContextManager[Body]:
        """Raises `NotFound`, on entering, for a blob that isn't there."""

    async def put(
        self, blob_id: str, body: bytes | AsyncIterator[bytes], *, size: int | None = None, sha256: str | None = None
    ) -> BlobInfo:
        """Safe to repeat with the same bytes."""
