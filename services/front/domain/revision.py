"""Which state of a job, or of several, somebody has seen: the id of an event.

It is made of the state alone, so it is the same on every front, and nobody has to keep it.
"""

from hashlib import blake2b

from services.front.domain.job import Job

Revision = tuple[int, int]
"""How many states a job has been in, and a digest of what an event has of it."""

NOTHING: Revision = (0, 0)


def revision(job: Job) -> Revision:
    """The same for the same state, phase, progress, attempt and wish to cancel. A place in the queue isn't in it."""
    fields = (job.id, job.status.value, job.phase, job.progress, job.attempt, job.cancel_requested)
    return len(job.history), int.from_bytes(blake2b(repr(fields).encode(), digest_size=8).digest())


def together(seen: Revision, before: Revision, after: Revision) -> Revision:
    """The revision of several jobs when one of them has moved from `before` to `after`."""
    return seen[0] - before[0] + after[0], seen[1] ^ before[1] ^ after[1]


def event_id(seen: Revision) -> str:
    """As the id of an event: `3-0f3c55d1a2b4c697`."""
    return f"{seen[0]}-{seen[1]:016x}"
