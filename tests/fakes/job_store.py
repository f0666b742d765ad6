"""Front's stores in memory, with a clock that a test moves; they pass the same suite as the MongoDB ones."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from common.contracts.job import OfferedProcessor
from services.front.domain.job import Job, NewJob, Status, Transition


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


class MemoryJobStore:
    """`services.front.ports.JobStore`."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self._entries: dict[str, _Entry] = {}
        self._tasks: dict[str, datetime] = {}

    def _after(self, seconds: float) -> datetime:
        return self.clock.now + timedelta(seconds=seconds)

    async def insert_created(self, job: NewJob, lease_seconds: float) -> Job:
        return self._insert(job, [Status.CREATED], lease_seconds)

    async def insert_stored(self, job: NewJob, lease_seconds: float) -> Job:
        return self._insert(job, [Status.CREATED, Status.STORED], lease_seconds)

    def _insert(self, new: NewJob, history: list[Status], lease_seconds: float) -> Job:
        now = self.clock.now
        job = Job(
            id=new.id,
            owner=new.owner,
            status=history[-1],
            name=new.name,
            mimetype=new.mimetype,
            size=new.size,
            processor=new.processor,
            params=new.params,
            created_at=now,
            updated_at=now,
            sha256=new.sha256,
            history=tuple((status, now) for status in history),
        )
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
        now, target = self.clock.now, transition.target
        entry.job = replace(
            entry.job,
            **transition.fields,
            status=target,
            updated_at=now,
            history=(*entry.job.history, (target, now)),
        )
        entry.lease_until = None if target.is_final else self._after(lease_seconds)
        return True

    async def renew(self, job_id: str, status: Status, lease_seconds: float) -> bool:
        entry = self._entries.get(job_id)
        if entry is None or entry.job.status is not status:
            return False
        entry.lease_until = self._after(lease_seconds)
        return True

    async def take_lapsed(self, statuses: Collection[Status], lease_seconds: float, limit: int) -> Sequence[Job]:
        lapsed = [
            entry
            for entry in self._entries.values()
            if entry.job.status in statuses and entry.lease_until is not None and entry.lease_until <= self.clock.now
        ][:limit]
        for entry in lapsed:
            entry.lease_until = self._after(lease_seconds)
        return [entry.job for entry in lapsed]

    async def now(self) -> datetime:
        return self.clock.now

    async def take_task(self, name: str, every_seconds: float) -> bool:
        if self._tasks.get(name, self.clock.now) > self.clock.now:
            return False
        self._tasks[name] = self._after(every_seconds)
        return True


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
