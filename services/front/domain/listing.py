"""Which of an owner's jobs a list has, and where in it a page begins."""

from dataclasses import dataclass
from datetime import datetime

from services.front.domain.job import Job, Status


@dataclass(frozen=True, slots=True)
class Filters:
    """What a job must be to be in the list; what is None or empty asks for nothing. Both times are exclusive."""

    statuses: tuple[Status, ...] = ()
    processor: str | None = None
    batch_id: str | None = None
    name: str | None = None
    created_after: datetime | None = None
    created_before: datetime | None = None


@dataclass(frozen=True, slots=True)
class Position:
    """A place in a list, newest first; the id orders jobs that were created in the same millisecond."""

    created_at: datetime
    job_id: str

    @classmethod
    def of(cls, job: Job) -> "Position":
        return cls(job.created_at, job.id)
