"""Front's stores in memory, with a clock that a test moves; they pass the same suite as the MongoDB ones."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from gristmill.wire.processors import OfferedProcessor
from services.front.domain.batch import Batch, NewBatch
from services.front.domain.job import VERIFYING, Job, NewJob, NewUpload, Owner, Status, Transition, Upload
from services.front.domain.listing import LISTED_OUTPUTS, JobPage


class Clock:
    """A clock that stands still until it is told to go on."""

    def __init__(self) -> None:
        self.now = datetime(2026, 1, 1, tzinfo=UTC)

    def forward(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


@dataclass
class _Entry:
    job: Job
    lease_until: datetime | None
    upload_due_at: datetime | None = None
    looks: int = 0
    retire_at: datetime | None = None
    cancel_due_at: datetime | None = None
    read_outputs: set[int] = field(default_factory=set)


class MemoryJobStore:
    """`services.front.ports.JobStore`."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self._entries: dict[str, _Entry] = {}
        self._tasks: dict[str, datetime] = {}

    @property
    def entries(self) -> dict[str, _Entry]:
        return self._entries

    def _after(self, seconds: float) -> datetime:
        return self.clock.now + timedelta(seconds=seconds)

    async def insert_created(self, job: NewJob, lease_seconds: float) -> Job:
        return self._insert(job, [Status.CREATED], lease_seconds)

    async def insert_stored(self, job: NewJob, lease_seconds: float) -> Job:
        return self._insert(job, [Status.CREATED, Status.STORED], lease_seconds)

    def _insert(self, new: NewJob, history: list[Status], lease_seconds: float) -> Job:
        if new.id in self._entries:
            return self._entries[new.id].job
        job = new.written(history, self.clock.now)
        self._entries[new.id] = _Entry(job, self._after(lease_seconds))
        return job

    async def find(self, job_id: str) -> Job | None:
        entry = self._entries.get(job_id)
        return entry.job if entry else None

    async def find_many(self, job_ids: Collection[str]) -> Mapping[str, Job]:
        return {job_id: self._entries[job_id].job for job_id in job_ids if job_id in self._entries}

    async def apply(self, job_id: str, transition: Transition, lease_seconds: float = 0) -> bool:
        entry = self._entries.get(job_id)
        if entry is None or entry.job.status not in transition.sources:
            return False
        if transition.by_front_alone and not entry.job.is_fronts_alone:
            return False
        now, target, history = self.clock.now, transition.target, entry.job.history
        if transition.proves_submission and entry.job.status is Status.STORED:
            at = transition.submitted_at or now
            history = (*history, (Status.SUBMITTED, min(now, max(at, history[-1][1]))))
        entry.job = replace(
            entry.job,
            **transition.fields,
            status=target,
            updated_at=now,
            phase=None,
            history=(*history, (target, now)),
        )
        entry.lease_until = None if target.is_final or entry.job.held else self._after(lease_seconds)
        entry.upload_due_at = None
        if target.is_final:
            expires_at = self._after(entry.job.retention.seconds)
            entry.job = replace(entry.job, expires_at=expires_at, cancel_requested=False)
            entry.cancel_due_at = None
            entry.retire_at = now
        return True

    async def renew(self, job_id: str, status: Status, lease_seconds: float) -> bool:
        entry = self._entries.get(job_id)
        if entry is None or entry.job.status is not status:
            return False
        entry.lease_until = self._after(lease_seconds)
        return True

    async def claim_lapsed(self, statuses: Collection[Status], lease_seconds: float, limit: int) -> Sequence[Job]:
        lapsed = [
            entry
            for entry in self._entries.values()
            if entry.job.status in statuses and entry.lease_until is not None and entry.lease_until <= self.clock.now
        ][:limit]
        for entry in lapsed:
            entry.lease_until = self._after(lease_seconds)
        return [entry.job for entry in lapsed]

    async def request_cancel(self, job_id: str, again_seconds: float) -> Job | None:
        entry = self._entries.get(job_id)
        if entry is None or entry.job.status.is_final:
            return None
        entry.job = replace(entry.job, cancel_requested=True)
        entry.cancel_due_at = entry.cancel_due_at or self._after(again_seconds)
        return entry.job

    async def claim_cancels(self, again_seconds: float, limit: int) -> Sequence[Job]:
        now = self.clock.now
        due = [e for e in self._entries.values() if e.cancel_due_at is not None and e.cancel_due_at <= now][:limit]
        for entry in due:
            entry.cancel_due_at = self._after(again_seconds)
        return [entry.job for entry in due]

    async def delete(self, job_id: str, again_seconds: float) -> Job | None:
        entry = self._entries.get(job_id)
        if entry is None or entry.job.deleted_at is not None:
            return None
        entry.job = replace(entry.job, deleted_at=self.clock.now)
        if entry.job.status.is_final:
            entry.retire_at = self.clock.now
        else:
            await self.request_cancel(job_id, again_seconds)
        return entry.job

    async def now(self) -> datetime:
        return self.clock.now

    async def claim_task(self, name: str, every_seconds: float) -> bool:
        if self._tasks.get(name, self.clock.now) > self.clock.now:
            return False
        self._tasks[name] = self._after(every_seconds)
        return True


def _listed(job: Job) -> Job:
    many = len(job.outputs) > LISTED_OUTPUTS
    return replace(job, outputs=job.outputs[:LISTED_OUTPUTS], output_count=len(job.outputs)) if many else job


class MemoryBatchStore:
    """`services.front.ports.BatchStore`, over the jobs of a `MemoryJobStore`."""

    def __init__(self, jobs: MemoryJobStore) -> None:
        self._clock = jobs.clock
        self._entries = jobs.entries
        self._batches: dict[str, Batch] = {}
        self._held_due_at: dict[str, datetime] = {}

    def _after(self, seconds: float) -> datetime:
        return self._clock.now + timedelta(seconds=seconds)

    async def insert_uploads(self, uploads: Sequence[NewUpload]) -> None:
        for new in (new for new in uploads if new.job.id not in self._entries):
            job = replace(
                new.job.written([Status.CREATED], self._clock.now),
                batch_id=new.batch_id,
                upload=Upload(new.sha256, self._after(new.expires_seconds), new.bits_per_second),
                held=new.held,
            )
            self._entries[job.id] = _Entry(job, None, self._after(2))

    async def insert_batch(self, batch: NewBatch) -> None:
        if batch.id in self._batches:
            return
        self._batches[batch.id] = Batch(batch.id, batch.owner, batch.name, batch.processor, batch.held, self._clock.now)
        if batch.held:
            self._held_due_at[batch.id] = self._clock.now

    async def find_batch(self, batch_id: str) -> Batch | None:
        return self._batches.get(batch_id)

    async def find_batches(self, batch_ids: Collection[str]) -> Mapping[str, Batch]:
        return {batch_id: self._batches[batch_id] for batch_id in batch_ids if batch_id in self._batches}

    def _of(self, batch_id: str, *, deleted: bool = True) -> list[Job]:
        jobs = [entry.job for entry in self._entries.values() if entry.job.batch_id == batch_id]
        return sorted((job for job in jobs if deleted or job.deleted_at is None), key=lambda job: job.id)

    async def batch_jobs(self, batch_id: str, after: str, limit: int, *, deleted: bool = False) -> JobPage:
        jobs = [_listed(job) for job in self._of(batch_id, deleted=deleted) if job.id > after]
        return JobPage(jobs[:limit], more=len(jobs) > limit)

    async def batch_counts(self, batch_id: str, *, deleted: bool = False) -> Mapping[Status, int]:
        return Counter(job.status for job in self._of(batch_id, deleted=deleted))

    async def announced_files(self, owner: Owner, most: int) -> int:
        waiting = [e for e in self._entries.values() if e.upload_due_at is not None and e.job.owner == owner]
        return min(len(waiting), most)

    async def extend_upload(self, job_id: str, seconds: float, most: float) -> Job | None:
        entry = self._entries.get(job_id)
        if entry is None or entry.job.status is not Status.CREATED or entry.job.upload is None:
            return None
        latest = min(self._after(seconds), entry.job.created_at + timedelta(seconds=most))
        upload = replace(entry.job.upload, expires_at=max(entry.job.upload.expires_at, latest))
        entry.job = replace(entry.job, upload=upload, phase=None)
        entry.upload_due_at, entry.looks = self._after(2), 0
        return entry.job

    async def claim_uploads(self, limit: int) -> Sequence[Job]:
        now = self._clock.now
        due = [e for e in self._entries.values() if e.upload_due_at is not None and e.upload_due_at <= now][:limit]
        for entry in due:
            entry.looks = min(entry.looks + 1, 8)
            entry.upload_due_at = self._after(min(300, 2 * 2**entry.looks))
        return [entry.job for entry in due]

    async def verifying(self, job_ids: Collection[str]) -> None:
        for job_id in job_ids:
            entry = self._entries.get(job_id)
            if entry is not None and entry.job.status is Status.CREATED:
                entry.job = replace(entry.job, phase=VERIFYING)

    async def claim_held(self, limit: int) -> Sequence[Batch]:
        now = self._clock.now
        due = sorted((at, batch_id) for batch_id, at in self._held_due_at.items() if at <= now)[:limit]
        for _, batch_id in due:
            self._held_due_at[batch_id] = self._after(2)
        return [self._batches[batch_id] for _, batch_id in due]

    async def release_batch(self, batch_id: str) -> None:
        for job in self._of(batch_id):
            if job.held and job.status is Status.STORED:
                self._entries[job.id].job = replace(job, held=False)
                self._entries[job.id].lease_until = self._clock.now
        self._batches[batch_id] = replace(self._batches[batch_id], held=False)
        self._held_due_at.pop(batch_id, None)

    async def forget(self, job_ids: Collection[str]) -> None:
        for job_id in job_ids:
            self._entries.pop(job_id, None)

    async def forget_if_empty(self, batch_id: str) -> None:
        if not self._of(batch_id):
            self._batches.pop(batch_id, None)


class MemoryRetentionStore:
    """`services.front.ports.RetentionStore`, over the jobs of a `MemoryJobStore`."""

    def __init__(self, jobs: MemoryJobStore, batches: MemoryBatchStore | None = None) -> None:
        self._clock = jobs.clock
        self._entries = jobs.entries
        self._batches = batches

    def _of(self, job_ids: Sequence[str], *, deleted: bool = False) -> list[_Entry]:
        entries = [self._entries[job_id] for job_id in job_ids if job_id in self._entries]
        return [entry for entry in entries if (entry.job.deleted_at is not None) == deleted]

    async def claim_retiring(self, lease_seconds: float, limit: int) -> Sequence[Job]:
        now = self._clock.now
        due = [e for e in self._entries.values() if e.retire_at is not None and e.retire_at <= now][:limit]
        for entry in due:
            entry.retire_at = now + timedelta(seconds=lease_seconds)
        return [entry.job for entry in due]

    async def await_expiry(self, job_ids: Sequence[str], *, input_deleted: bool) -> None:
        for entry in self._of(job_ids):
            entry.job = replace(entry.job, input_deleted=entry.job.input_deleted or input_deleted)
            entry.retire_at = entry.job.expires_at

    async def bytes_deleted(self, job_ids: Sequence[str], record_seconds: float, *, deleted: bool = False) -> None:
        for entry in self._of(job_ids, deleted=deleted):
            entry.job = replace(entry.job, input_deleted=True, bytes_deleted=True)
            assert entry.job.ended_at is not None
            entry.retire_at = entry.job.ended_at + timedelta(seconds=record_seconds)

    async def forget(self, jobs: Sequence[Job]) -> None:
        for job in jobs:
            self._entries.pop(job.id, None)
            if job.batch_id is not None and self._batches is not None:
                await self._batches.forget_if_empty(job.batch_id)

    async def output_read(self, job_id: str, n: int, grace_seconds: float) -> None:
        entry = self._entries.get(job_id)
        if entry is None or not entry.job.retention.until_read or entry.job.bytes_deleted or n in entry.read_outputs:
            return
        entry.read_outputs.add(n)
        if len(entry.read_outputs) == len(entry.job.outputs):
            assert entry.job.expires_at is not None
            soon = self._clock.now + timedelta(seconds=grace_seconds)
            entry.job = replace(entry.job, expires_at=min(entry.job.expires_at, soon))
            entry.retire_at = min(entry.retire_at or soon, soon)


class MemoryInlineStore:
    """`services.front.ports.InlineStore`."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self._kept: dict[str, tuple[bytes, datetime]] = {}

    async def put(self, job_id: str, content: bytes) -> None:
        self._kept[job_id] = (content, self.clock.now)

    async def get(self, job_id: str) -> bytes | None:
        return self._kept[job_id][0] if job_id in self._kept else None

    async def delete(self, job_ids: Collection[str]) -> None:
        for job_id in job_ids:
            self._kept.pop(job_id, None)

    async def waiting_bytes(self) -> int:
        return sum(len(content) for content, _ in self._kept.values())

    async def older_than(self, seconds: float, limit: int) -> Sequence[str]:
        before = self.clock.now - timedelta(seconds=seconds)
        return [job_id for job_id, (_, at) in self._kept.items() if at <= before][:limit]


class MemoryOfferStore:
    """`services.front.ports.OfferStore`."""

    def __init__(self) -> None:
        self._offers: Sequence[OfferedProcessor] | None = None

    async def save_offers(self, offers: Sequence[OfferedProcessor]) -> None:
        self._offers = offers

    async def load_offers(self) -> Sequence[OfferedProcessor] | None:
        return self._offers
