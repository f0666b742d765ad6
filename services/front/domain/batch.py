"""Many files in one request: what a batch is, and how long its uploads may take."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from services.front.domain.job import JobError, Owner, Status

HEADROOM_SECONDS = 3600.0
BATCH_FAILED = JobError(
    "batch-failed", "Another file of the batch failed or was cancelled, and the batch starts whole or not at all."
)


@dataclass(frozen=True, slots=True)
class Batch:
    """A batch: `held` while it waits for every file before any is worked on."""

    id: str
    owner: Owner
    name: str
    processor: str
    held: bool
    created_at: datetime


@dataclass(frozen=True, slots=True)
class NewBatch:
    """What is known of a batch before it is written."""

    id: str
    owner: Owner
    name: str
    processor: str
    held: bool


def upload_seconds(size: int, before: int, bits_per_second: float, most: float) -> float:
    """How long a file of `size` bytes may take when `before` bytes go first: at the speed of the link, with
    headroom, and at most what the store allows.
    """
    return min(most, (before + size) * 8 / bits_per_second + HEADROOM_SECONDS)


def verdict(counts: Mapping[Status, int]) -> bool | None:
    """Whether a held batch may start: True, False when a file failed or was cancelled, None while one is missing."""
    if any(counts.get(status) for status in (Status.STORED_ERROR, Status.SUBMITTED_ERROR, Status.CANCELLED)):
        return False
    return None if counts.get(Status.CREATED) else True
