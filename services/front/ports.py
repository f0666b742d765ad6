"""What front's use cases need of the world."""

import asyncio
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from datetime import datetime
from typing import Protocol

from common.contracts.blob import BlobInfo, BlobLabels, BlobList
from common.contracts.job import RunStatus, RunSubmit
from common.contracts.upload import CompletedPart, UploadFacts, UploadPlan, UploadRequest, UploadStatus
from gristmill.wire.processors import OfferedProcessor
from services.front.domain.batch import Batch, NewBatch
from services.front.domain.idempotency import Reservation
from services.front.domain.job import Job, NewJob, NewUpload, Owner, Status, Transition
from services.front.domain.listing import Filters, Position
from services.front.domain.rate import Leased, RatePolicy


class JobStore(Protocol):
    """The jobs. Each change is one conditional write that a majority has on disk when the call returns; all times
    are the store's own clock. Any call may raise the store's own error when it can't be reached (front answers 503).
    """

    async def insert_created(self, job: NewJob, lease_seconds: float) -> Job:
        """Write a job as `CREATED`, under a lease. One that is there already stays as it is."""

    async def insert_stored(self, job: NewJob, lease_seconds: float) -> Job:
        """Write a job as `STORED`, with `CREATED` in its history, under a lease. `sha256` must be set. One that is
        there already stays as it is.
        """

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

    async def request_cancel(self, job_id: str, again_seconds: float) -> Job | None:
        """Remember that the owner wants it cancelled: the job as it is then, None when it is final or gone. It is among
        `take_cancels` from `again_seconds` on, until it is final.
        """

    async def take_cancels(self, again_seconds: float, limit: int) -> Sequence[Job]:
        """Jobs whose cancel job has not answered in time, those first that wait longest. Each is this caller's alone
        for `again_seconds`, and then due again.
        """

    async def delete(self, job_id: str, again_seconds: float) -> Job | None:
        """Hide it for ever: the job as it is then, None when it is hidden already or gone. A final one is due at once,
        so that what is left of it goes; of any other a cancel is requested, as `request_cancel` does.
        """

    async def now(self) -> datetime:
        """The store's clock."""

    async def take_task(self, name: str, every_seconds: float) -> bool:
        """Whether this caller may do a task that is to be done once in `every_seconds`, by whomever."""


class ListingStore(Protocol):
    """An owner's jobs, in order."""

    async def owned(self, owner: Owner, filters: Filters, after: Position | None, limit: int) -> Sequence[Job]:
        """At most `limit` of the jobs that are this owner's and pass, newest first, from behind `after`."""


class BatchStore(Protocol):
    """Batches, and the jobs of theirs whose files are being uploaded; kept with the jobs, on the same clock."""

    async def insert_uploads(self, uploads: Sequence[NewUpload]) -> None:
        """Write jobs as `CREATED`, without a lease; they are looked at from a moment later on."""

    async def insert_batch(self, batch: NewBatch) -> None:
        """Write the batch; its jobs count from then on."""

    async def find_batch(self, batch_id: str) -> Batch | None: ...

    async def find_batches(self, batch_ids: Collection[str]) -> Mapping[str, Batch]:
        """The batches that exist among these."""

    async def batch_jobs(self, batch_id: str, after: str, limit: int, *, deleted: bool = False) -> Sequence[Job]:
        """The next jobs of a batch, in the order of their files; `after` is the last id before, or empty. Those that
        were deleted are among them only if `deleted` says so.
        """

    async def batch_counts(self, batch_id: str, *, deleted: bool = False) -> Mapping[Status, int]:
        """How many jobs of a batch are in each state; likewise."""

    async def extend_upload(self, job_id: str, seconds: float, most: float) -> Job | None:
        """Move an upload's expiry to `seconds` from now, never back, and never past `most` from the job's creation.

        None when it is not `CREATED` any more. It is looked at again soon.
        """

    async def take_uploads(self, limit: int) -> Sequence[Job]:
        """Uploads that it is time to look at; each is due again after a pause that doubles, from 2 s to 5 minutes."""

    async def verifying(self, job_ids: Collection[str]) -> None:
        """Say in the `phase` of jobs that all of their file has come, and is being verified, until it is."""

    async def take_held(self, limit: int) -> Sequence[Batch]:
        """Batches that wait for all of their files, those first that were looked at longest ago; each is due again
        after 2 s, so that none keeps another from its turn.
        """

    async def release_batch(self, batch_id: str) -> None:
        """Let a held batch's `STORED` jobs go on; the tracker takes them up at once."""

    async def forget(self, job_ids: Collection[str]) -> None:
        """Remove jobs that nobody was told of."""


class RetentionStore(Protocol):
    """What follows the end of a job; kept with the jobs, on the same clock. A job that becomes final is due at once."""

    async def take_retiring(self, lease_seconds: float, limit: int) -> Sequence[Job]:
        """Final jobs for which something is due, each under a lease that this caller alone was given. One that nobody
        has moved on when the lease is over is due again.
        """

    async def await_expiry(self, job_ids: Sequence[str], *, input_deleted: bool) -> None:
        """Nothing more is to be done until they expire, by the expiry that they have now. One that was deleted
        meanwhile is not changed, and stays due.
        """

    async def bytes_deleted(self, job_ids: Sequence[str], record_seconds: float, *, deleted: bool = False) -> None:
        """Say that neither inputs nor outputs are there any more. They are due again so long after their end. Changes
        either deleted jobs or the others: one that was deleted meanwhile stays due.
        """

    async def forget(self, jobs: Sequence[Job]) -> None:
        """Remove jobs whose bytes are gone, and the batches that have no other."""

    async def output_read(self, job_id: str, n: int, grace_seconds: float) -> None:
        """Remember that output number `n` of an `until-read` job was read. When it was the last, the job expires in
        `grace_seconds`, if it would not sooner.
        """


class IdempotencyStore(Protocol):
    """What is remembered of idempotency keys, by scope; all times are the store's own clock. `token` names one request:
    what it asks for has an effect only while the key is its own, and not done.
    """

    async def reserve(
        self, scope: str, new_id: str, token: str, lease_seconds: float, keep_seconds: float
    ) -> Reservation:
        """Take the key unless another has it under a lease or is done with it, and say what is known of it. `new_id` is
        minted for a key that is unknown, or was for longer than `keep_seconds`.
        """

    async def renew(self, scope: str, token: str, lease_seconds: float) -> bool: ...

    async def seal(self, scope: str, token: str, fingerprint: str, lease_seconds: float) -> bool:
        """Remember the fingerprint, and renew the lease; False when the key is another's by now."""

    async def finish(self, scope: str, token: str, keep_seconds: float) -> None:
        """What the key stands for is made: nobody takes it over any more, and it is kept so long from now on."""

    async def release(self, scope: str, token: str) -> None:
        """Forget the key; one that was sealed may have made something, and only its lease ends."""


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
        self,
        blob_id: str,
        body: bytes | AsyncIterator[bytes],
        *,
        size: int | None = None,
        sha256: str | None = None,
        labels: BlobLabels | None = None,
    ) -> BlobInfo: ...

    def open(self, blob_id: str, byte_range: str | None = None) -> AbstractAsyncContextManager[BlobBody]: ...

    async def head(self, blob_id: str) -> BlobInfo | None: ...

    async def delete(self, blob_id: str) -> None: ...

    async def plan_uploads(self, requests: Sequence[UploadRequest]) -> Sequence[UploadPlan]:
        """How files are to be sent straight to the store; one plan for each, in the order of the requests."""

    async def complete_upload(self, facts: UploadFacts, parts: Sequence[CompletedPart]) -> UploadStatus: ...

    async def abort_upload(self, blob_id: str) -> None:
        """Delete what has arrived; nothing more is taken."""

    async def upload_statuses(self, facts: Sequence[UploadFacts]) -> Sequence[UploadStatus]:
        """Where uploads are, in the order asked. Finishes those whose last part has come."""

    async def list(self, prefix: str = "", after: str = "") -> BlobList: ...


class Runs(Protocol):
    """job. Calls raise `Unavailable` when it can't be reached, else what job answered."""

    async def submit(self, run: RunSubmit) -> None:
        """Queue a run. Submitting it again changes nothing. Raises `TooManyRequests` while its tenant has too many."""

    async def statuses(self, ids: Sequence[str]) -> Mapping[str, RunStatus]:
        """The runs that job knows among these."""

    async def cancel(self, run_id: str) -> RunStatus:
        """End a run as `CANCELLED` unless it has ended, and say how it ended. One that job doesn't know is remembered
        as cancelled, so that a submit that comes later starts nothing.
        """

    async def delete(self, run_id: str) -> None:
        """Forget a run that has ended, or is not known. Raises `Conflict` while it hasn't ended."""

    async def processors(self) -> Sequence[OfferedProcessor]: ...


class Changes(Protocol):
    """Hints that a job may have ended. One may get lost, so whoever waits also looks for himself now and then."""

    def listening(self, job_id: str) -> AbstractContextManager[asyncio.Event]:
        """Within it the event is set as soon as the job may have ended, also before anybody waits for it."""


class Tokens(Protocol):
    """Verifies users' tokens."""

    async def owner(self, authorization: str | None) -> Owner:
        """The owner named by an `Authorization` header. Raises `Unauthorized`."""


class Budgets(Protocol):
    """How many requests each owner has left, for all processes of front together."""

    async def lease(self, owner: Owner, requests: int, policy: RatePolicy) -> Leased:
        """Takes as many requests out of the owner's budget as there are, and `requests` at most."""
