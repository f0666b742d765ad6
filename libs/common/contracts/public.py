"""What front's public API says and hears."""

from typing import Any, Literal

from pydantic import Field

from common.contracts import Timestamp, Wire
from common.contracts.job import OfferedProcessor

JobStatus = Literal[
    "CREATED",
    "STORED",
    "SUBMITTED",
    "EXECUTION_COMPLETED",
    "STORED_ERROR",
    "SUBMITTED_ERROR",
    "EXECUTION_ERROR",
]


class JobRequest(Wire):
    """The JSON kind of `POST /job`: a small file in base64, with what is to be done."""

    encoding: Literal["base64"] = "base64"
    md5: str | None = Field(
        None, alias="MD5", pattern="^[0-9a-fA-F]{32}$", description="MD5 of the decoded bytes, in hex; checked."
    )
    content: str = Field(description="The file, in base64 (RFC 4648, section 4), at most 8 MiB decoded.")
    mimetype: str = Field(max_length=255, description="The file's media type.")
    name: str | None = Field(None, description="The file's name: a label.")
    processor: str | None = Field(None, max_length=128, description="The processor; the server has a default.")
    params: dict[str, Any] = Field(default_factory=dict, description="The processor's parameters.")


class JobCreated(Wire):
    """The job exists. It is safe: whatever dies now, it comes to its end."""

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
    """Why a job ended in an error, as a problem (RFC 9457). `fault` tells the user's fault from ours."""

    type: str
    title: str
    detail: str
    fault: Literal["user", "server"]


class JobStatusView(Wire):
    """A job's state. `stale` is there when job could not be asked, so that this is the last known state."""

    id: str
    status: JobStatus
    stale: bool | None = None
    name: str
    mimetype: str
    size: int
    processor: str
    params: dict[str, Any]
    phase: str | None = None
    attempt: int | None = None
    outputs: list[OutputView]
    error: ErrorView | None = None


class StateView(Wire):
    """A state that the job was in, and when it came to it."""

    status: JobStatus
    at: Timestamp


class JobView(JobStatusView):
    """The whole job."""

    history: list[StateView]
    created_at: Timestamp
    updated_at: Timestamp


class ProcessorList(Wire):
    """The processors on offer, with the JSON Schema of their parameters."""

    items: list[OfferedProcessor]


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
