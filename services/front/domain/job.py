"""A job, its states, and every change that they allow."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from common.errors import NotFound
from gristmill.wire.processors import Encoding
from services.front.domain.retention import DEFAULT, Retention

VERIFYING = "VERIFYING"
"""The phase of a job whose file was uploaded in parts, and is being verified."""


class Status(StrEnum):
    """The states of a job. The docstring of each has who moves it on, and what a crash leaves."""

    CREATED = "CREATED"
    """The job is in MongoDB and its bytes wait in `inline`. Its front stores them; after a crash the tracker does."""
    STORED = "STORED"
    """blob has the whole input. Its front submits the run; after a crash the tracker does, under the same id."""
    SUBMITTED = "SUBMITTED"
    """job has the run. job's report ends it, or a read that asks job, or the tracker, which asks about old ones."""
    EXECUTION_COMPLETED = "EXECUTION_COMPLETED"
    """Final: the outputs are in blob."""
    STORED_ERROR = "STORED_ERROR"
    """Final: the input can't be stored."""
    SUBMITTED_ERROR = "SUBMITTED_ERROR"
    """Final: job refused the run."""
    EXECUTION_ERROR = "EXECUTION_ERROR"
    """Final: the run failed."""
    CANCELLED = "CANCELLED"
    """Final: the owner cancelled it."""

    @property
    def is_final(self) -> bool:
        return not TRANSITIONS[self]


TRANSITIONS: Mapping[Status, frozenset[Status]] = {
    Status.CREATED: frozenset({Status.STORED, Status.STORED_ERROR, Status.CANCELLED}),
    Status.STORED: frozenset({Status.SUBMITTED, Status.SUBMITTED_ERROR, Status.CANCELLED}),
    Status.SUBMITTED: frozenset({Status.EXECUTION_COMPLETED, Status.EXECUTION_ERROR, Status.CANCELLED}),
    Status.EXECUTION_COMPLETED: frozenset(),
    Status.STORED_ERROR: frozenset(),
    Status.SUBMITTED_ERROR: frozenset(),
    Status.EXECUTION_ERROR: frozenset(),
    Status.CANCELLED: frozenset(),
}
"""Which state may follow which. docs/state_machine.md draws it, and a test compares the two."""

UNFINISHED = frozenset(status for status in Status if TRANSITIONS[status])
FINAL = frozenset(Status) - UNFINISHED


def sources(target: Status) -> frozenset[Status]:
    """The states that `target` may follow."""
    return frozenset(status for status, targets in TRANSITIONS.items() if target in targets)


@dataclass(frozen=True, slots=True)
class Owner:
    """Who a job belongs to: a tenant, and a subject within it."""

    tenant: str
    subject: str


@dataclass(frozen=True, slots=True)
class Output:
    """One output file; number n of a job is the blob `o-{job}-{fence}-{n}`."""

    name: str
    mimetype: str
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class JobError:
    """Why a job ended in an error: a slug of `common.failures`, and a sentence."""

    type: str
    detail: str


@dataclass(frozen=True, slots=True)
class Upload:
    """A file that is uploaded straight to the store: the digest it was announced with, when the URLs expire, and how
    fast its owner's line is.
    """

    sha256: str | None
    expires_at: datetime
    bits_per_second: float


@dataclass(frozen=True, slots=True)
class Job:
    """A job as front knows it. `sha256` is None until blob has the input; `fence` names the winning attempt.

    With an `encoding`, `size` and `sha256` are of the bytes as they came, and `mimetype` is that of the decoded file.
    """

    id: str
    owner: Owner
    status: Status
    name: str
    mimetype: str
    size: int
    processor: str
    params: Mapping[str, Any]
    created_at: datetime
    updated_at: datetime
    sha256: str | None = None
    encoding: Encoding | None = None
    phase: str | None = None
    progress: float | None = None
    queue_position: int | None = None
    attempt: int | None = None
    fence: int | None = None
    outputs: tuple[Output, ...] = ()
    output_count: int | None = None
    """How many outputs there are, where `outputs` has only the first of them."""
    error: JobError | None = None
    history: tuple[tuple[Status, datetime], ...] = ()
    started_at: datetime | None = None
    cancel_requested: bool = False
    """Whether its owner wants it cancelled and job hasn't answered yet; a final job has an answer."""
    deadline_seconds: int | None = None
    """How long its run may take from when it is queued; None for jobs from before there were deadlines."""
    traceparent: str | None = None
    batch_id: str | None = None
    upload: Upload | None = None
    held: bool = False
    """Whether its batch starts only when every file of it is there, which isn't yet so."""
    retention: Retention = DEFAULT
    expires_at: datetime | None = None
    """When its bytes are deleted; of a job that isn't final, the earliest that this can be."""
    input_deleted: bool = False
    bytes_deleted: bool = False
    """Whether neither its input nor its outputs are there any more."""
    deleted_at: datetime | None = None
    """When its owner deleted it: from then on nobody sees it. What is left of it goes once it is final."""

    @property
    def is_fronts_alone(self) -> bool:
        """Whether nothing of it can have gone to job, so that front decides alone what becomes of it."""
        return self.status is Status.CREATED or (self.status is Status.STORED and self.held)

    @property
    def ended_at(self) -> datetime | None:
        """When it became final."""
        return self.history[-1][1] if self.status.is_final else None


@dataclass(frozen=True, slots=True)
class NewJob:
    """What is known of a job before it is written; times come from the database's clock."""

    id: str
    owner: Owner
    name: str
    mimetype: str
    size: int
    processor: str
    params: Mapping[str, Any]
    sha256: str | None = None
    retention: Retention = DEFAULT
    encoding: Encoding | None = None
    deadline_seconds: int | None = None
    traceparent: str | None = None
    """The trace that it is a part of, if there is one."""

    def written(self, states: Sequence[Status], at: datetime) -> Job:
        """The job that this is once it is written, at that moment, as one that has been in these states."""
        return Job(
            id=self.id,
            owner=self.owner,
            status=states[-1],
            name=self.name,
            mimetype=self.mimetype,
            size=self.size,
            processor=self.processor,
            params=self.params,
            created_at=at,
            updated_at=at,
            sha256=self.sha256,
            encoding=self.encoding,
            history=tuple((status, at) for status in states),
            deadline_seconds=self.deadline_seconds,
            traceparent=self.traceparent,
            retention=self.retention,
            expires_at=at + timedelta(seconds=self.retention.seconds),
        )


@dataclass(frozen=True, slots=True)
class NewUpload:
    """A job whose file its owner will upload to the store. `sha256` (hex) is the declared digest, if there is one."""

    job: NewJob
    batch_id: str
    sha256: str | None
    expires_seconds: float
    bits_per_second: float
    held: bool


@dataclass(frozen=True, slots=True)
class Transition:
    """One change of state and the fields that come with it. Made by the named constructors alone.

    With `by_front_alone` it is made only while nothing of the job can have gone to job: see `Job.is_fronts_alone`.
    One that `proves_submission` makes two steps of a job that is still `STORED`: it becomes `SUBMITTED` first, as of
    `submitted_at`, by job's clock, or of now.
    """

    target: Status
    fields: Mapping[str, Any] = field(default_factory=dict)
    by_front_alone: bool = False
    proves_submission: bool = False
    submitted_at: datetime | None = None

    @property
    def sources(self) -> frozenset[Status]:
        """The states that a job may be in before."""
        return sources(self.target) | (sources(Status.SUBMITTED) if self.proves_submission else frozenset())

    @classmethod
    def stored(cls, size: int, sha256: str) -> "Transition":
        return cls(Status.STORED, {"size": size, "sha256": sha256})

    @classmethod
    def submitted(cls) -> "Transition":
        return cls(Status.SUBMITTED)

    @classmethod
    def completed(
        cls,
        fence: int,
        attempt: int,
        outputs: tuple[Output, ...],
        started_at: datetime | None = None,
        submitted_at: datetime | None = None,
    ) -> "Transition":
        fields = {"fence": fence, "attempt": attempt, "outputs": outputs, "started_at": started_at}
        return cls(Status.EXECUTION_COMPLETED, fields, proves_submission=True, submitted_at=submitted_at)

    @classmethod
    def not_stored(cls, error: JobError) -> "Transition":
        return cls(Status.STORED_ERROR, {"error": error})

    @classmethod
    def not_submitted(cls, error: JobError) -> "Transition":
        return cls(Status.SUBMITTED_ERROR, {"error": error})

    @classmethod
    def failed(
        cls, attempt: int, error: JobError, started_at: datetime | None = None, submitted_at: datetime | None = None
    ) -> "Transition":
        fields = {"attempt": attempt, "error": error, "started_at": started_at}
        return cls(Status.EXECUTION_ERROR, fields, proves_submission=True, submitted_at=submitted_at)

    @classmethod
    def cancelled(cls, started_at: datetime | None = None, submitted_at: datetime | None = None) -> "Transition":
        """Ended by job: a run that had started has a start as well, and one that never came there no `submitted_at`."""
        fields = {"started_at": started_at}
        proven = submitted_at is not None
        return cls(Status.CANCELLED, fields, proves_submission=proven, submitted_at=submitted_at)

    @classmethod
    def withdrawn(cls) -> "Transition":
        """Cancelled by front, which decides alone as long as nothing has gone to job."""
        return cls(Status.CANCELLED, by_front_alone=True)


def authorise(job: Job | None, owner: Owner) -> Job:
    """The job, if it is this owner's. One that isn't there, one that was deleted and one of somebody else's raise the
    same `NotFound`.
    """
    if job is None or job.owner != owner or job.deleted_at is not None:
        raise NotFound
    return job
