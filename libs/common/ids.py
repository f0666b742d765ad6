"""Ids: UUIDv7 (RFC 9562) for jobs, and the flat blob ids that front and the processors derive from them."""

import hashlib
import re
from uuid import UUID

from uuid_utils import uuid7

JOB_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
BLOB_ID = re.compile(r"[a-z0-9][a-z0-9-]{0,127}")
_OUTPUT = re.compile(rf"o-(?P<job>{JOB_ID.pattern})-(?P<fence>[0-9]{{1,18}})-(?P<n>[0-9]{{1,6}})")
_INPUT = re.compile(rf"i-(?P<job>{JOB_ID.pattern})")


def new_id() -> str:
    """A new id; ids made later sort after it, to the millisecond."""
    return str(uuid7())


def id_within(parent_id: str, position: int) -> str:
    """The id of number `position`, from 0 to 4,095, of what belongs to `parent_id`: the same each time, as old as the
    parent's, and in the order of the positions (UUIDv7, whose `rand_a` is the position).
    """
    milliseconds = UUID(parent_id).int >> 80
    digest = hashlib.sha256(f"{parent_id} {position}".encode()).digest()
    random = int.from_bytes(digest[:8]) & (1 << 62) - 1
    return str(UUID(int=milliseconds << 80 | 7 << 76 | position << 64 | 0b10 << 62 | random))


def is_job_id(text: str) -> bool:
    return JOB_ID.fullmatch(text) is not None


def is_blob_id(text: str) -> bool:
    return BLOB_ID.fullmatch(text) is not None


def input_blob_id(job_id: str) -> str:
    return f"i-{job_id}"


def output_blob_id(job_id: str, fence: int, n: int) -> str:
    """The blob of output number `n` (from 0) that the attempt with this fence wrote."""
    return f"o-{job_id}-{fence}-{n}"


def blob_owner(blob_id: str) -> tuple[str, int | None] | None:
    """The job a blob belongs to, and the fence of the attempt that wrote it (None for an input).

    None for an id that is neither an input's nor an output's.
    """
    if match := _OUTPUT.fullmatch(blob_id):
        return match["job"], int(match["fence"])
    if match := _INPUT.fullmatch(blob_id):
        return match["job"], None
    return None
