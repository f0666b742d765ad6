"""What of a job is deleted, and when."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from services.front.domain.job import Job


def is_garbage(job: Job | None, fence: int | None) -> bool:
    """Whether nothing owns a blob of this job: `fence` is that of the attempt that wrote it, None for an input."""
    if job is None or job.bytes_deleted:
        return True
    if fence is None:
        return job.input_deleted
    if not job.status.is_final:
        return False
    return fence != job.fence


class Due(StrEnum):
    """What of a final job is to be deleted next."""

    NOTHING = "nothing"
    INPUT = "input"
    BYTES = "bytes"
    RUN = "run"
    """Its bytes and its run; its owner has deleted it, and its hidden record stays for a while."""
    RECORD = "record"
    LATER = "later"
    """Nothing before the lease of who looks at it is over."""


@dataclass(frozen=True, slots=True)
class Times:
    """When what is left of a final job is deleted, in seconds after its end."""

    record: float
    """How long the record of a job is kept that its owner has not deleted."""
    rest: float
    """How long a deleted job is left alone, so that what was on its way has come."""
    hidden: float
    """How long the record of a deleted job is kept: as long as a request with its idempotency key may be repeated."""


def due(job: Job, now: datetime, times: Times, *, keep_inputs: bool) -> Due:
    """What is due for a job: everything when it is old, its bytes when it has expired, its input once it is final.

    A job without outputs is only an input, which nobody can read. A job that isn't final loses nothing.
    """
    if job.ended_at is None or job.expires_at is None:
        return Due.NOTHING
    if job.deleted_at is not None:
        if job.ended_at + timedelta(seconds=times.rest) > now:
            return Due.LATER
        return Due.RECORD if job.ended_at + timedelta(seconds=times.hidden) <= now else Due.RUN
    if job.ended_at + timedelta(seconds=times.record) <= now:
        return Due.RECORD
    if job.bytes_deleted or job.expires_at <= now or not (job.outputs or keep_inputs):
        return Due.BYTES
    return Due.NOTHING if keep_inputs else Due.INPUT
