"""Which of an owner's jobs a list has, where in it a page begins, and how much a page has."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from services.front.domain.job import Job, Status

LISTED_OUTPUTS = 100
"""How many of its outputs a job has in a list."""
PAGE_BYTES = 4 * 1024 * 1024
"""How large the jobs of a page may be together, as they are stored. As JSON they are up to 2.5 times as large, for an
output has its name once more, in its address.
"""


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


@dataclass(frozen=True, slots=True)
class JobPage:
    """Some jobs of a list, with the first `LISTED_OUTPUTS` of their outputs, and whether there are more behind them."""

    jobs: Sequence[Job]
    more: bool
