"""The bodies of front's public API: what it takes, and what it responds with."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema

from gristmill.wire.base import Timestamp, Wire, without_gaps
from gristmill.wire.processors import Encoding, OfferedProcessor

JobStatus = Literal[
    "CREATED",
    "STORED",
    "SUBMITTED",
    "EXECUTION_COMPLETED",
    "STORED_ERROR",
    "SUBMITTED_ERROR",
    "EXECUTION_ERROR",
    "CANCELLED",
]


MAX_BATCH_FILES = 1_000
_PERIOD = "[1-9][0-9]{0,8}[smhd]?"
RETENTION_PATTERN = f"^(until-read|{_PERIOD})$"
DEADLINE_PATTERN = f"^{_PERIOD}$"
# A number is fine in JSON, where elsewhere it is text.
_NUMBER_AS_TEXT = BeforeValidator(lambda value: str(value) if type(value) is int else value)


def _number_or(pattern: str, words: str) -> WithJsonSchema:
    number = {"type": "integer", "minimum": 1, "maximum": 999_999_999}
    return WithJsonSchema({"anyOf": [number, {"type": "string", "pattern": pattern, "description": words}]})


RetentionText = Annotated[
    str,
    _NUMBER_AS_TEXT,
    Field(
        pattern=RETENTION_PATTERN,
        description="How long the outputs are kept after the job is final, at most what the server allows. With "
        "`until-read` all bytes are deleted an hour (a setting of the server) after each output was read whole.",
    ),
    _number_or(RETENTION_PATTERN, "Seconds, or a number with `s`, `m`, `h` or `d` such as `7d`, or `until-read`."),
]
DeadlineText = Annotated[
    str,
    _NUMBER_AS_TEXT,
    Field(
        pattern=DEADLINE_PATTERN,
        description="How long the work may take from when it is queued, waiting included, at most what the server "
        "allows. What hasn't ended then ends in an error.",
    ),
    _number_or(DEADLINE_PATTERN, "Seconds, or a number with `s`, `m`, `h` or `d` such as `15m`."),
]


PROCESSOR = (
    "The processor, which may pin a version: `name`, `name@1`, `name@1.2`, `name@1.2.3`. The server has a default."
)


class JobRequest(Wire):
    """The JSON kind of `POST /job`: a small file in base64, with what is to be done."""

    encoding: Literal["base64"] = "base64"
    md5: str | None = Field(
        None,
        alias="MD5",
        pattern="^[0-9a-fA-F]{32}$",
        description="32 hexadecimal digits: the MD5 of the decoded bytes, which is checked.",
    )
    content: str = Field(description="The file, in base64 (RFC 4648, section 4), at most 8 MiB decoded.")
    mimetype: str = Field(max_length=255, description="The file's media type.")
    name: str | None = Field(None, description="The file's name: a label.")
    processor: str | None = Field(None, max_length=128, description=PROCESSOR)
    params: dict[str, Any] = Field(default_factory=dict, description="The processor's parameters.")
    retention: RetentionText | None = None
    deadline: DeadlineText | None = None


class JobCreated(Wire):
    """The job exists, and comes to its end even if a server dies now."""

    id: str
    status: JobStatus


class OutputView(Wire):
    """An output file; `href` is where its bytes are."""

    name: str
    mimetype: str
    size: int
    sha256: str
    href: str


class ErrorView(Wire):
    """Why a job ended in an error, as a problem (RFC 9457). `fault` is `user` when the file or the request is at fault,
    else `server`.
    """

    type: str
    title: str
    detail: str
    fault: Literal["user", "server"]


class JobStatusView(Wire):
    """A job's state. `stale` is set when this is the last known state, because the queue can't be reached.

    `encoding` is set when the file came compressed; `size` (bytes) is that of the file as it came. Fields that aren't
    known, or mean nothing in this state, are left out.
    """

    id: str
    status: JobStatus
    stale: bool | None = None
    cancel_requested: bool | None = Field(
        None, description="There while the job is being cancelled; a final job shows how it ended."
    )
    name: str
    mimetype: str
    encoding: Encoding | None = None
    size: int
    processor: str
    params: dict[str, Any]
    deadline: int | None = Field(None, description="How many seconds the work may take from when it is queued.")
    batch_id: str | None = None
    phase: str | None = Field(
        None,
        description="What is done now: `VERIFYING` an upload, `QUEUED`, `waiting-for-processor` while nothing that "
        "runs can take it, `CLAIMED`, then what its processor does, such as `DOWNLOADING`, `RUNNING`, `UPLOADING`.",
    )
    progress: float | None = Field(None, description="How much of the work is done, from 0 to 1.")
    attempt: int | None = Field(None, description="Which attempt this is, or was, from 1.")
    queue_position: int | None = Field(
        None, description="An estimate, and no promise: how many jobs start before this one does."
    )
    created_at: Timestamp
    updated_at: Timestamp = Field(description="When `status` last changed.")
    started_at: Timestamp | None = Field(None, description="When work on it began.")
    ended_at: Timestamp | None = Field(None, description="When it became final.")
    outputs: list[OutputView]
    output_count: int | None = Field(
        None,
        description="How many outputs there are, where `outputs` has only the first 100 of them, as in lists and in "
        "events of batches.",
    )
    outputs_href: str | None = Field(None, description="Likewise: the job itself, which has all of its outputs.")
    error: ErrorView | None = None


class StateView(Wire):
    """A state that the job was in, and when it came to it."""

    status: JobStatus
    at: Timestamp


class JobView(JobStatusView):
    """The whole job."""

    history: list[StateView]
    expires_at: Timestamp | None = Field(
        None, description="When its bytes are deleted. Of a job that isn't final: the earliest that this can be."
    )
    bytes_deleted: bool | None = Field(None, description="There when neither input nor outputs are kept any more.")


class JobList(Wire):
    """A page of jobs, newest first. It has fewer than `limit` when they are large together."""

    items: list[JobView]
    next: str | None = Field(None, description="What goes into `cursor` for the next page; null after the last.")

    def to_wire(self) -> bytes:
        """With a `next` on every page: one that isn't there could as well have been forgotten."""
        return super().to_wire() if self.next is not None else super().to_wire().removesuffix(b"}") + b',"next":null}'


class BatchFile(Wire):
    """A file that will be uploaded: exactly `size` bytes, and with this digest if one is given."""

    name: str = Field(max_length=4096, description="A label; several files may have the same.")
    size: int = Field(ge=1, description="The exact size in bytes.")
    mimetype: str = Field(max_length=255)
    sha256: str | None = Field(
        None,
        pattern="^[0-9a-f]{64}$",
        description="64 hexadecimal digits in lower case: the SHA-256 of the file, which is checked.",
    )
    encoding: Encoding | None = Field(
        None,
        description="How the file is compressed, if it is to be worked on decoded: it is uploaded and kept as it is, "
        "`size` and `sha256` are those of the compressed file, and `mimetype` is that of the decoded one.",
    )


class BatchRequest(Wire):
    """Files to be uploaded, and what is to be done with each."""

    processor: str | None = Field(None, max_length=128, description=PROCESSOR)
    params: dict[str, Any] = Field(default_factory=dict, description="The processor's parameters.")
    files: list[BatchFile] = Field(min_length=1, max_length=MAX_BATCH_FILES)
    retention: RetentionText | None = None
    deadline: DeadlineText | None = Field(None, description="As of a job; of each file from when it is queued.")
    link_bits_per_second: float | None = Field(
        None, ge=1_000, le=1e12, description="How fast the client's line is; the URLs' expiry is reckoned by it."
    )
    name: str | None = Field(None, max_length=4096, description="A label.")
    start: Literal["each", "all"] = Field(
        "each", description="`all`: nothing is worked on until every file is there and right, and a bad one ends all."
    )


class PartView(Wire):
    """A part of a file, numbered from 1, and where to PUT it; without a URL when it was received."""

    number: int
    size: int
    received: bool
    url: str | None = None


class UploadView(Wire):
    """How to upload a file. `single`: PUT all of it to `url`; `multipart`: PUT each part to its own URL, in any order.

    `headers` are sent as they are, with each request. `next` is what to ask from for more parts' URLs.
    """

    kind: Literal["single", "multipart"]
    method: Literal["PUT"]
    url: str | None = None
    headers: dict[str, str]
    size: int
    part_size: int | None = None
    parts: list[PartView]
    next: int | None = None
    expires_at: Timestamp


class UploadedPart(Wire):
    """A part that was sent, and the `ETag` that answered it."""

    number: int = Field(ge=1, le=10_000)
    etag: str = Field(min_length=1, max_length=256)


class UploadComplete(Wire):
    """Everything was sent. `parts`, where the store needs them: from 1, sorted, without a gap."""

    parts: Annotated[list[UploadedPart], AfterValidator(without_gaps)] = Field(default_factory=list, max_length=10_000)


class BatchItem(JobView):
    """A job of a batch, and how its file is to be uploaded."""

    upload: UploadView | None = None


class BatchView(Wire):
    """A batch: how many jobs are in each state, and a page of them in the order of the files. It has fewer than `limit`
    when they are large together.
    """

    id: str
    name: str
    counts: dict[str, int]
    items: list[BatchItem]
    next: str | None = Field(None, description="What goes into `cursor` for the next page.")


class BatchEnded(Wire):
    """The last event of a batch: how many of its jobs ended in which state."""

    id: str
    counts: dict[str, int]


class MediaLimitsView(Wire):
    """For files of one media type: how large each may be, and how many of them a batch may have."""

    max_bytes: int
    max_batch_files: int | None = None


class ProcessorView(OfferedProcessor):
    """A processor on offer. `limits` are its own, by its author; the others are this server's."""

    max_batch_files: int = Field(description="How many files a batch for it may have.")
    by_media_type: dict[str, MediaLimitsView] = Field(
        description="By media type, or `image/*`, or `*/*`. For a size the most exact entry counts, for the number of "
        "files every one that fits."
    )


class ServerLimits(Wire):
    """What this server allows: sizes in bytes, times in seconds.

    `deadline_seconds` holds for a job that doesn't set one, `retention_seconds` is also the most, and `record_seconds`
    is how long a job itself is kept after its end. An owner keeps up to `quota_bytes`, and their tenant up to
    `tenant_quota_bytes`, inputs and outputs together; without them there is no such limit.
    """

    max_input_bytes: int
    max_json_bytes: int
    max_batch_files: int
    max_params_bytes: int
    max_wait_seconds: int
    deadline_seconds: int
    max_deadline_seconds: int
    retention_seconds: int
    record_seconds: int
    quota_bytes: int | None = None
    tenant_quota_bytes: int | None = None


class ProcessorList(Wire):
    """The processors on offer, with the JSON Schema of their parameters, and what the server allows. `stored_bytes` is
    what the caller keeps, where there is a quota.
    """

    items: list[ProcessorView]
    limits: ServerLimits
    stored_bytes: int | None = None


class FaultPointer(Wire):
    """Where a request is wrong: a JSON Pointer (RFC 6901), and why."""

    pointer: str
    detail: str


class ProblemView(Wire):
    """A refusal (RFC 9457). `type` is an address that explains it."""

    type: str
    title: str
    status: int
    detail: str
    errors: list[FaultPointer] | None = None
