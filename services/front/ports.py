"""What front's use cases need of the world."""

from collections.abc import AsyncIterator, Awaitable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from typing import Protocol

from common.contracts.blob import BlobInfo, BlobList
from common.contracts.job import OfferedProcessor, RunStatus, RunSubmit
from services.front.domain.job import Job, NewJob, Owner, Status, Transition


class JobStore(Protocol):
    """The jobs. Each change is one conditional write that a majority has on disk when the call returns; all times
    are the store's own clock. Any call may raise the store's own error when it can't be reached (front answers 503).
    """

    async def insert_created(self, job: NewJob, lease_seconds: float) -> Job:
        """Write a job as `CREATED`, under a lease."""

    async def insert_stored(self, job: NewJob, lease_seconds: float) -> Job:
        """Write a job as `STORED`, with `CREATED` in its history, under a lease. `sha256` must be set."""

    async def find(self, job_id: str) -> Job | None:
        """The job as a majority knows it. Says nothing about who may see it."""

    async def find_many(self, job_ids: Collection[str]) -> Mapping[str, Job]:
        """The jobs that exist among these."""

    async def apply(self, job_id: str, transition: Transition, lease_seconds: float = 0) -> bool:
        """Make a transition if the job is in a state that allows it, and say whether this caller made it.

        A state that isn't final gets a lease of `lease_seconds`; a final one has none.
        """

    async def renew(self, job_id: str, status: Status, lease_seconds: float) -> bool:
        """Extend the lease of a job that is still in `status`; False when it has moved on."""

    async def take_lapsed(self, statuses: Collection[Status], lease_seconds: float, limit: int) -> Sequence[Job]:
        """Jobs in these states whose lease has lapsed, each under a new lease that this caller alone was given."""

    async def now(self) -> datetime:
        """The store's clock."""

    async def take_task(self, name: str, every_seconds: float) -> bool:
        """Whether this caller may do a task that is to be done once in `every_seconds`, by whomever."""


class InlineStore(Protocol):
    """The bytes of JSON jobs that blob doesn't have yet, by job id."""

    async def put(self, job_id: str, content: bytes) -> None:
        """Keep the bytes; a majority has them on disk when the call returns."""

    async def get(self, job_id: str) -> bytes | None: ...

    async def delete(self, job_ids: Collection[str]) -> None: ...

    async def waiting_bytes(self) -> int:
        """About how many bytes wait; at most a second old."""

    async def older_than(self, seconds: float, limit: int) -> Sequence[str]:
        """The ids of those that have waited longer."""


class OfferStore(Protocol):
    """What job last said that processors offer, for when job is away."""

    async def save_offers(self, offers: Sequence[OfferedProcessor]) -> None: ...

    async def load_offers(self) -> Sequence[OfferedProcessor] | None:
        """None when nothing was ever saved."""


class BlobBody(Protocol):
    """An open blob: see `common.clients.blob.BlobBody`."""

    @property
    def status(self) -> int: ...
    @property
    def size(self) -> int: ...
    @property
    def content_range(self) -> str | None: ...
    @property
    def chunks(self) -> AsyncIterator[bytes]: ...


class Blobs(Protocol):
    """blob. Calls raise `Unavailable` when it can't be reached, else what blob answered."""

    async def put(
        self, blob_id: str, body: bytes | AsyncIterator[bytes], *, size: int | None = None, sha256: str | None = None
    ) -> BlobInfo: ...

    def open(self, blob_id: str, byte_range: str | None = None) -> AbstractAsyncContextManager[BlobBody]: ...

    async def head(self, blob_id: str) -> BlobInfo | None: ...

    async def delete(self, blob_id: str) -> None: ...

    async def list(self, prefix: str = "", after: str = "") -> BlobList: ...


class Runs(Protocol):
    """job. Calls raise `Unavailable` when it can't be reached, else what job answered."""

    async def submit(self, run: RunSubmit) -> None:
        """Queue a run. Submitting it again changes nothing."""

    async def statuses(self, ids: Sequence[str]) -> Mapping[str, RunStatus]:
        """The runs that job knows among these."""

    async def processors(self) -> Sequence[OfferedProcessor]: ...


class Changes(Protocol):
    """Hints that a job may have ended. One may get lost, so whoever waits also looks for himself now and then."""

    def wait(self, job_id: str, timeout: float) -> Awaitable[None]:
        """Returns when the job may have ended, and after `timeout` seconds at the latest."""


class Tokens(Protocol):
    """Verifies users' tokens."""

    async def owner(self, authorization: str | None) -> Owner:
        """The owner named by an `Authorization` header. Raises `Unauthorized`."""
