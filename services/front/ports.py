"""What front's use cases need from outside.

Lengths of time are in seconds, sizes in bytes. Stores keep all times by their own clock, so that no process's clock
decides about a lease, and raise their own error when they can't be reached: front then responds with 503.
"""

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
from services.front.domain.listing import Filters, JobPage, Position
from services.front.domain.rate import Leased, RatePolicy


class JobStore(Protocol):
    """The jobs. Each change is one conditional write, which a majority has on disk when the call returns."""

    async def insert_created(self, job: NewJob, lease_seconds: float) -> Job:
        """Write a job as `CREATED`, under a lease of `lease_seconds`. A job with this id that is there already stays
        as it is. Returns the job as it is now; of one that this call has written, `find` alone knows the exact times.
        """

    async def insert_stored(self, job: NewJob, lease_seconds: float) -> Job:
        """As `insert_created`, but as `STORED`, with `CREATED` in its history. `job.sha256` must be set."""

    async def find(self, job_id: str) -> Job | None:
        """The job as a majority knows it, whoever it belongs to; None when there is none."""

    async def find_many(self, job_ids: Collection[str]) -> Mapping[str, Job]:
        """The jobs that exist among these, by id."""

    async def apply(self, job_id: str, transition: Transition, lease_seconds: float = 0) -> bool:
        """Make a transition if the job is in a state that allows it. Returns whether this caller made it.

        A job that isn't final afterwards gets a lease of `lease_seconds`; a final one has none.
        """

    async def renew(self, job_id: str, status: Status, lease_seconds: float) -> bool:
        """Extend the lease of a job to `lease_seconds` from now. Returns False when it isn't in `status` any more."""

    async def claim_lapsed(self, statuses: Collection[Status], lease_seconds: float, limit: int) -> Sequence[Job]:
        """Up to `limit` jobs in these states whose lease has lapsed, those first that lapsed first. Each is under a new
        lease of `lease_seconds`, which this caller alone has.
        """

    async def request_cancel(self, job_id: str, again_seconds: float) -> Job | None:
        """Remember that the owner wants a job cancelled. From `again_seconds` on `claim_cancels` returns it, until it
        is final. Returns the job as it is then, None when it is final or there is none.
        """

    async def claim_cancels(self, again_seconds: float, limit: int) -> Sequence[Job]:
        """Up to `limit` jobs whose cancellation is due to be repeated, those first that wait longest. Each is this
        caller's alone for `again_seconds`, and then due again.
        """

    async def delete(self, job_id: str, again_seconds: float) -> Job | None:
        """Hide a job for ever. `claim_retiring` returns a final one at once; any other is cancelled, as by
        `request_cancel`. Returns the job as it is then, None when it is hidden already or there is none.
        """

    async def now(self) -> datetime:
        """The time by the store's clock, with its zone."""

    async def claim_task(self, name: str, every_seconds: float) -> bool:
        """Whether this caller may do the task of that name, which is due once in `every_seconds` for all processes."""


class ListingStore(Protocol):
    """An owner's jobs, in order."""

    async def owned(self, owner: Owner, filters: Filters, after: Position | None, limit: int) -> JobPage:
        """Up to `limit` of this owner's jobs that pass the filters, newest first; with `after`, those behind it. There
        are fewer when they make up `PAGE_BYTES`, but at least one.
        """


class BatchStore(Protocol):
    """Batches, and the jobs of theirs whose files are being uploaded; kept with the jobs, on the same clock."""

    async def insert_uploads(self, uploads: Sequence[NewUpload]) -> None:
        """Write jobs as `CREATED`, without a lease. `claim_uploads` returns them from 2 s later on. Jobs that are there
        already stay as they are.
        """

    async def insert_batch(self, batch: NewBatch) -> None:
        """Write the batch; its jobs count from then on. One that is there already stays as it is."""

    async def find_batch(self, batch_id: str) -> Batch | None:
        """The batch, whoever it belongs to; None when there is none."""

    async def find_batches(self, batch_ids: Collection[str]) -> Mapping[str, Batch]:
        """The batches that exist among these, by id."""

    async def batch_jobs(self, batch_id: str, after: str, limit: int, *, deleted: bool = False) -> JobPage:
        """Up to `limit` jobs of a batch, in the order of their files; fewer when they make up `PAGE_BYTES`, but at
        least one. `after` is the id of the last job of the page before, or empty. Jobs that their owner deleted are
        left out, unless `deleted`.
        """

    async def batch_counts(self, batch_id: str, *, deleted: bool = False) -> Mapping[Status, int]:
        """How many jobs of a batch are in each state. Deleted ones count only if `deleted`."""

    async def announced_files(self, owner: Owner, most: int) -> int:
        """How many files of this owner are announced and haven't come; counted up to `most`."""

    async def extend_upload(self, job_id: str, seconds: float, most: float) -> Job | None:
        """Move an upload's expiry to `seconds` from now; never back, and never past `most` seconds after the job was
        created. `claim_uploads` returns it again in 2 s. Returns None when the job isn't `CREATED` any more.
        """

    async def claim_uploads(self, limit: int) -> Sequence[Job]:
        """Up to `limit` jobs whose upload it is time to look at. Each is due again after a pause that doubles, from 2 s
        to 5 minutes.
        """

    async def verifying(self, job_ids: Collection[str]) -> None:
        """Set the `phase` of `CREATED` jobs to `VERIFYING`: all of their file has come."""

    async def claim_held(self, limit: int) -> Sequence[Batch]:
        """Up to `limit` held batches, those first that were claimed longest ago. Each is due again in 2 s, so that none
        holds up another.
        """

    async def release_batch(self, batch_id: str) -> None:
        """Start a held batch: it is held no more, and `claim_lapsed` returns its `STORED` jobs at once."""

    async def forget(self, job_ids: Collection[str]) -> None:
        """Remove jobs whose ids no response has named."""


class RetentionStore(Protocol):
    """What follows the end of a job; kept with the jobs, on the same clock. A job that becomes final is due at once."""

    async def claim_retiring(self, lease_seconds: float, limit: int) -> Sequence[Job]:
        """Up to `limit` final jobs for which something is due. Each is this caller's alone for `lease_seconds`, and
        then due again unless a call below has moved it on.
        """

    async def await_expiry(self, job_ids: Sequence[str], *, input_deleted: bool) -> None:
        """Make jobs due again when they expire, by the expiry that they have now. One that its owner has deleted
        meanwhile stays due.
        """

    async def bytes_deleted(self, job_ids: Sequence[str], record_seconds: float, *, deleted: bool = False) -> None:
        """Mark the inputs and outputs of jobs as deleted, and make the jobs due again `record_seconds` after their end.
        Changes only jobs that their owner has deleted, or with `deleted=False` only others: one that was deleted
        meanwhile stays due.
        """

    async def forget(self, jobs: Sequence[Job]) -> None:
        """Remove jobs whose bytes are gone, and the batches that have no other."""

    async def output_read(self, job_id: str, n: int, grace_seconds: float) -> None:
        """Remember that output number `n`, from 0, of an `until-read` job was read. When all are, the job expires in
        `grace_seconds`, unless it does sooner.
        """


class IdempotencyStore(Protocol):
    """What is remembered of idempotency keys, by scope. `token` names one request: its calls have an effect only while
    the key is its own, and not done.
    """

    async def reserve(
        self, scope: str, new_id: str, token: str, lease_seconds: float, keep_seconds: float
    ) -> Reservation:
        """Take the key for `lease_seconds`, unless another request has it under a lease or is done with it. A key that
        is unknown, or older than `keep_seconds`, gets `new_id`. Returns what is known of the key.
        """

    async def is_done(self, scope: str) -> bool:
        """Whether a request with the key is done, and not older than its `keep_seconds`."""

    async def renew(self, scope: str, token: str, lease_seconds: float) -> bool:
        """Extend the lease to `lease_seconds` from now. Returns False when the key is another request's by now."""

    async def seal(self, scope: str, token: str, fingerprint: str, lease_seconds: float) -> bool:
        """As `renew`, and remember the request's fingerprint."""

    async def finish(self, scope: str, token: str, keep_seconds: float) -> None:
        """The request is done: nobody takes the key over any more, and it is kept for `keep_seconds` from now."""

    async def release(self, scope: str, token: str) -> None:
        """Forget the key. A request that was sealed may have made something, so only its lease ends."""


class InlineStore(Protocol):
    """The bytes of JSON jobs that blob doesn't have yet, by job id; up to 8 MiB each."""

    async def put(self, job_id: str, content: bytes) -> None:
        """Keep the bytes; a majority has them on disk when the call returns."""

    async def get(self, job_id: str) -> bytes | None:
        """The bytes, None when there are none."""

    async def delete(self, job_ids: Collection[str]) -> None:
        """Remove the bytes of these jobs; those that aren't there are no fault."""

    async def waiting_bytes(self) -> int:
        """How many bytes wait for blob, of all jobs; up to a second old."""

    async def older_than(self, seconds: float, limit: int) -> Sequence[str]:
        """The ids of up to `limit` jobs whose bytes are older than `seconds`, the oldest first."""


class UsageStore(Protocol):
    """How many bytes owners keep."""

    async def owner_bytes(self, owner: Owner) -> int:
        """The bytes of the inputs and outputs of all jobs of this owner: those that are announced too, and not those
        that are deleted.
        """

    async def tenant_bytes(self, tenant: str) -> int:
        """Likewise of all owners of a tenant."""


class OfferStore(Protocol):
    """The processors on offer as job last listed them, for when job is away."""

    async def save_offers(self, offers: Sequence[OfferedProcessor]) -> None:
        """Replace what was saved."""

    async def load_offers(self) -> Sequence[OfferedProcessor] | None:
        """What was saved last, None when nothing ever was."""


class BlobBody(Protocol):
    """An open blob. See `common.clients.blob.BlobBody`."""

    @property
    def status(self) -> int:
        """200 for the whole blob, 206 for a range."""

    @property
    def size(self) -> int:
        """How many bytes `chunks` yields."""

    @property
    def content_range(self) -> str | None:
        """`Content-Range` (RFC 9110, section 14.4) of a 206."""

    @property
    def chunks(self) -> AsyncIterator[bytes]:
        """The bytes, in order. Raises `BadGateway` when the response breaks off."""


class Blobs(Protocol):
    """blob. Calls raise `Unavailable` when it can't be reached, else the problem that it responded with."""

    async def put(
        self,
        blob_id: str,
        body: bytes | AsyncIterator[bytes],
        *,
        size: int | None = None,
        sha256: str | None = None,
        labels: BlobLabels | None = None,
    ) -> BlobInfo:
        """Write a blob. blob checks `size` (bytes) and `sha256` (hex) where they are given. Safe to repeat with the
        same bytes. Raises `AlreadyExists` for other bytes under this id, `TooLarge`, `DigestMismatch`, `StorageFull`,
        and what `body` raises.
        """

    def open(self, blob_id: str, byte_range: str | None = None) -> AbstractAsyncContextManager[BlobBody]:
        """Read a blob, or the part of it that a `Range` header names (RFC 9110, section 14.2). Raises, on entering,
        `NotFound`, and `RangeNotSatisfiable` for a range outside of it.
        """

    async def head(self, blob_id: str) -> BlobInfo | None:
        """Size (bytes), SHA-256 (hex) and time of a blob; None when there is none."""

    async def delete(self, blob_id: str) -> None:
        """Delete a blob for good; one that isn't there is no fault."""

    async def plan_uploads(self, requests: Sequence[UploadRequest]) -> Sequence[UploadPlan]:
        """How files are to be sent straight to the store: one plan for each request, in their order. Raises
        `StorageFull`, `Conflict`.
        """

    async def complete_upload(self, facts: UploadFacts, parts: Sequence[CompletedPart]) -> UploadStatus:
        """Make a blob of an upload. `OPEN` in the status: parts are missing. `VERIFYING`: it takes longer. Raises
        `Invalid` when the store needs `parts` and they aren't those that it has.
        """

    async def abort_upload(self, blob_id: str) -> None:
        """Delete what has arrived; nothing more is taken."""

    async def upload_statuses(self, facts: Sequence[UploadFacts]) -> Sequence[UploadStatus]:
        """The state of each upload, in the order of `facts`. Completes uploads whose last part has come."""

    async def list(self, prefix: str = "", after: str = "") -> BlobList:
        """A page of the blobs whose ids begin with `prefix`, from behind the id `after`."""


class Runs(Protocol):
    """job. Calls raise `Unavailable` when it can't be reached, else the problem that it responded with."""

    async def submit(self, run: RunSubmit) -> None:
        """Queue a run. Submitting it again changes nothing. Raises `TooManyRequests`, with `Retry-After`, while its
        tenant has too many queued, and `Invalid` for what can't be stored.
        """

    async def statuses(self, ids: Sequence[str]) -> Mapping[str, RunStatus]:
        """The state of the runs that job knows among these, by id."""

    async def cancel(self, run_id: str) -> RunStatus:
        """End a run as `CANCELLED`, unless it has ended. One that job doesn't know is remembered as cancelled, so that
        a submit that comes later starts nothing. Returns the run as it ended.
        """

    async def delete(self, run_id: str) -> None:
        """Forget a run that has ended, or is not known. Raises `Conflict` while it hasn't ended."""

    async def processors(self) -> Sequence[OfferedProcessor]:
        """The processors that were offered lately, live or not, by name."""


class Changes(Protocol):
    """Hints that a job may have ended. One may get lost, so whoever waits also reads the job now and then."""

    def listening(self, job_id: str) -> AbstractContextManager[asyncio.Event]:
        """While the context is open, the event is set as soon as the job may have ended; at once if that was just
        before, as after the caller read the job.
        """


class Tokens(Protocol):
    """Verifies users' tokens."""

    async def owner(self, authorization: str | None) -> Owner:
        """The owner named by an `Authorization` header (RFC 6750). Raises `Unauthorized`, and `Unavailable` when the
        issuer's keys can't be fetched.
        """

    async def seconds_left(self, authorization: str | None) -> float:
        """How long the token of such a header is still good, for one that `owner` has taken. Raises likewise."""


class Budgets(Protocol):
    """How many more requests each owner may make, for all processes of front together."""

    async def lease(self, owner: Owner, requests: int, policy: RatePolicy) -> Leased:
        """Take up to `requests` out of the owner's budget: what there is. None: see `Leased.retry_after`."""
