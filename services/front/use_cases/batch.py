"""Many files in one request: jobs that wait for their files, and the plan by which these are uploaded."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from common import telemetry
from common.contracts.upload import MAX_URLS, UploadFacts, UploadPlan, UploadRequest
from common.errors import Invalid, NotFound, StorageFull, TooLarge, TooManyRequests, UnsupportedMediaType
from common.ids import id_within, input_blob_id, is_job_id
from gristmill.wire.public import MAX_BATCH_FILES, BatchFile, BatchRequest
from services.front.domain import media, names
from services.front.domain.batch import Batch, NewBatch, upload_seconds
from services.front.domain.job import Job, NewJob, NewUpload, Owner, Status
from services.front.domain.retention import Retention
from services.front.domain.terms import Terms
from services.front.ports import BatchStore, Blobs
from services.front.use_cases.catalogue import Catalogue, CatalogueEntry
from services.front.use_cases.idempotency import IdempotentRequest
from services.front.use_cases.quota import Quota


@dataclass(frozen=True, slots=True)
class BatchSnapshot:
    """A batch, how many of its jobs are in each state, and a page of them with the plans of their uploads, if asked."""

    batch: Batch
    counts: Mapping[Status, int]
    jobs: Sequence[Job]
    plans: Mapping[str, UploadPlan]
    next: str | None


def facts_of(job: Job) -> UploadFacts:
    """The facts of an upload, the same each time."""
    return _facts(job, job.upload.sha256 if job.upload else None)


def _facts(job: Job | NewJob, sha256: str | None) -> UploadFacts:
    return UploadFacts(
        id=input_blob_id(job.id),
        size=job.size,
        sha256=sha256,
        media_type=job.mimetype,
        name=job.name,
        tenant=job.owner.tenant,
        subject=job.owner.subject,
    )


class Batches:
    """Creates and shows batches."""

    def __init__(
        self,
        store: BatchStore,
        blobs: Blobs,
        catalogue: Catalogue,
        *,
        terms: Terms,
        link_bits_per_second: float,
        most_seconds: float,
        max_announced: int,
        quota: Quota,
        now: Callable[[], Awaitable[datetime]],
    ) -> None:
        self._store = store
        self._blobs = blobs
        self._catalogue = catalogue
        self._terms = terms
        self._link_bits_per_second = link_bits_per_second
        self._most_seconds = most_seconds
        self._max_announced = max_announced
        self._quota = quota
        self._now = now

    async def create(self, owner: Owner, request: BatchRequest, idempotent: IdempotentRequest) -> BatchSnapshot:
        """Write a job for each file, and then the batch: a crash before that leaves jobs that no response has named,
        and the tracker forgets them. The ids follow from the batch's, and nothing that is there is written again: so
        two fronts that both carry out one request, since one was held up, make one batch. Raises `Invalid`,
        `TooLarge`, `UnsupportedMediaType`, with a pointer to each file.
        """
        wanted = request.processor or self._terms.default_processor
        entry = await self._catalogue.find(wanted)
        entry.params.check(request.params)
        retention, deadline = self._terms.retention(request.retention), self._terms.deadline(request.deadline)
        self._check_files(entry, request.files)
        announced = await self._store.announced_files(owner, self._max_announced)
        if announced + len(request.files) > self._max_announced:
            raise TooManyRequests(
                f"{announced} files that you have announced haven't come, and there may be {self._max_announced}; send "
                "them, or cancel their jobs."
            )
        size = sum(file.size for file in request.files)
        await self._quota.check(owner, size)
        held = request.start == "all"
        await idempotent.seal()
        batch = NewBatch(idempotent.id, owner, names.clean(request.name), wanted, held)
        uploads = self._uploads(batch, request, retention, deadline)
        await self._store.insert_uploads(uploads)
        plans = await self._blobs.plan_uploads(
            [
                UploadRequest(
                    facts=_facts(upload.job, upload.sha256),
                    max_urls=max(1, MAX_URLS // len(uploads)),
                    expires_in=int(upload.expires_seconds),
                )
                for upload in uploads
            ]
        )
        await self._store.insert_batch(batch)
        self._quota.added(owner, size)
        snapshot = await self.show(owner, batch.id, "", len(uploads))
        by_job = {upload.job.id: plan for upload, plan in zip(uploads, plans, strict=True)}
        return BatchSnapshot(snapshot.batch, snapshot.counts, snapshot.jobs, by_job, snapshot.next)

    async def again(self, owner: Owner, batch_id: str) -> BatchSnapshot:
        """A batch as its creation returns it, as it is now: with fresh URLs for the files that may still be sent, and
        without those that were deleted, be it all of them. A repeat is held to no limit: while blob takes nothing more,
        there are no URLs. Raises `NotFound`.
        """
        snapshot = await self._snapshot(owner, batch_id, "", MAX_BATCH_FILES)
        waiting = [
            (job, job.upload) for job in snapshot.jobs if job.status is Status.CREATED and job.upload is not None
        ]
        if not waiting:
            return snapshot
        now = await self._now()
        try:
            plans = await self._blobs.plan_uploads(
                [
                    UploadRequest(
                        facts=facts_of(job),
                        max_urls=max(1, MAX_URLS // len(snapshot.jobs)),
                        expires_in=max(1, int((upload.expires_at - now).total_seconds())),
                    )
                    for job, upload in waiting
                ]
            )
        except (StorageFull, TooManyRequests):
            return snapshot
        by_job = {job.id: plan for (job, _), plan in zip(waiting, plans, strict=True)}
        return BatchSnapshot(snapshot.batch, snapshot.counts, snapshot.jobs, by_job, snapshot.next)

    async def exists(self, batch_id: str) -> bool:
        return await self._store.find_batch(batch_id) is not None

    async def show(self, owner: Owner, batch_id: str, after: str, limit: int) -> BatchSnapshot:
        """A page of a batch's jobs. Raises `NotFound` unless there is such a batch and it is this owner's."""
        snapshot = await self._snapshot(owner, batch_id, after, limit)
        if not snapshot.jobs and not after:
            raise NotFound  # all of its jobs were deleted, or forgotten, and a crash left the batch
        return snapshot

    async def all_jobs(self, owner: Owner, batch_id: str) -> list[Job]:
        """Raises `NotFound` as `show` does."""
        snapshot = await self.show(owner, batch_id, "", MAX_BATCH_FILES)
        jobs = [*snapshot.jobs]
        while snapshot.next is not None:
            snapshot = await self.show(owner, batch_id, snapshot.next, MAX_BATCH_FILES)
            jobs += snapshot.jobs
        return jobs

    async def _snapshot(self, owner: Owner, batch_id: str, after: str, limit: int) -> BatchSnapshot:
        batch = await self._store.find_batch(batch_id) if is_job_id(batch_id) else None
        if batch is None or batch.owner != owner:
            raise NotFound
        counts, page = await asyncio.gather(
            self._store.batch_counts(batch_id), self._store.batch_jobs(batch_id, after, limit)
        )
        return BatchSnapshot(batch, counts, page.jobs, {}, page.jobs[-1].id if page.more else None)

    def _check_files(self, entry: CatalogueEntry, files: Sequence[BatchFile]) -> None:
        large, unfit, wrong = [], [], []
        takes = ", ".join(entry.media_types)
        mimetypes = []
        for n, file in enumerate(files):
            try:
                mimetype = media.parse(file.mimetype)
                fits = media.is_accepted(mimetype, entry.media_types)
            except UnsupportedMediaType:
                mimetype, fits = media.OCTET_STREAM, False
            mimetypes.append(mimetype)
            most = self._terms.limits.max_bytes(entry.name, mimetype, entry.max_input_bytes)
            if file.size > most:
                large.append({"pointer": f"/files/{n}/size", "detail": f"The file is larger than {most} bytes."})
            if not fits:
                unfit.append({"pointer": f"/files/{n}/mimetype", "detail": f"{entry.name} takes {takes}."})
            try:
                names.clean(file.name, f"/files/{n}/name")
            except Invalid as invalid:
                wrong.extend(invalid.errors)
        too_many = self._terms.limits.batch_faults(entry.name, mimetypes)
        wrong.extend({"pointer": "/files", "detail": detail} for detail in too_many)
        if large:
            raise TooLarge(errors=large)
        if unfit:
            raise UnsupportedMediaType(errors=unfit)
        if wrong:
            raise Invalid(errors=wrong)

    def _uploads(
        self, batch: NewBatch, request: BatchRequest, retention: Retention, deadline_seconds: int
    ) -> list[NewUpload]:
        speed = request.link_bits_per_second or self._link_bits_per_second
        uploads, before = [], 0
        for position, file in enumerate(request.files):
            job = NewJob(
                id=id_within(batch.id, position),
                owner=batch.owner,
                name=names.clean(file.name),
                mimetype=media.parse(file.mimetype),
                size=file.size,
                processor=batch.processor,
                params=request.params,
                retention=retention,
                encoding=file.encoding,
                deadline_seconds=deadline_seconds,
                traceparent=telemetry.traceparent(),
            )
            seconds = upload_seconds(file.size, before, speed, self._most_seconds)
            uploads.append(NewUpload(job, batch.id, file.sha256, seconds, speed, batch.held))
            before += file.size
        return uploads
