"""The bodies of job's API. A run is job's side of a job, and has the same id."""

from collections.abc import Iterator, Sequence
from enum import StrEnum
from typing import Annotated, Any

from pydantic import AfterValidator, Field

from gristmill.texts import is_output_name
from gristmill.wire.base import Timestamp, Wire
from gristmill.wire.processors import Encoding, OfferedProcessor, ProcessorOffer, Wanted

MAX_IDS = 1_000
MAX_DEADLINE_SECONDS = 366 * 86_400
MAX_OUTPUTS = 5_000
"""Of one run."""
MESSAGE_OUTPUTS = 2 * MAX_OUTPUTS
"""Of all runs in one message, which is below 10 MB then."""
MAX_MEDIA_TYPE = 255
Name = Annotated[str, Field(min_length=1, max_length=128)]
Detail = Annotated[str, Field(max_length=2_000)]
Traceparent = Annotated[
    str,
    Field(
        max_length=64,
        pattern=r"^[0-9a-f]{2}(-[0-9a-f]+){3}$",
        description="A `traceparent` (W3C Trace Context).",
    ),
]
"""The trace that a run is a part of (W3C Trace Context); see `common.telemetry`."""


class RunState(StrEnum):
    """Where a run is. `SUCCESS`, `FAILED` and `CANCELLED` are final."""

    QUEUED = "QUEUED"
    RUNNING = "RUNNING"
    SUCCESS = "SUCCESS"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"


WAITING_FOR_PROCESSOR = "waiting-for-processor"
"""The phase of a queued run that no live processor can take."""


class InputRef(Wire):
    """An input in blob. The file name is a label; it never reaches a path.

    With an `encoding`, `size` and `sha256` are of the bytes as they came, and `mimetype` is that of the decoded file.
    """

    blob_id: str
    name: str
    mimetype: str
    size: int
    sha256: str
    encoding: Encoding | None = None


class OutputInfo(Wire):
    """An output that a processor wrote to blob; number n is the blob `o-{run}-{fence}-{n}`."""

    name: Name
    mimetype: str
    size: int = Field(ge=0)
    sha256: str = Field(pattern="^[0-9a-f]{64}$", description="64 hexadecimal digits in lower case.")


def _bounded(output: OutputInfo) -> OutputInfo:
    """Each field has a limit, so that `MAX_OUTPUTS` of them are below 5 MB."""
    if not is_output_name(output.name):
        raise ValueError("An output's name is one part of a path, of 1 to 128 characters that can be shown.")
    if len(output.mimetype) > MAX_MEDIA_TYPE:
        raise ValueError(f"A media type has up to {MAX_MEDIA_TYPE} characters.")
    return output


class RunError(Wire):
    """Why a run failed: `type` is a slug of `common.failures`."""

    type: Name
    detail: Detail


class RunSubmit(Wire):
    """`POST /job`: a run to queue. The id is front's, so submitting twice makes one run.

    It ends as `FAILED` with `deadline` unless it has ended otherwise `deadline_seconds` after it was queued.
    """

    id: str
    inputs: list[InputRef] = Field(min_length=1, max_length=1)
    processor: Wanted
    params: dict[str, Any]
    tenant: str
    deadline_seconds: float | None = Field(None, gt=0, le=MAX_DEADLINE_SECONDS)
    traceparent: Traceparent | None = None


class RunStatus(Wire):
    """`GET /job/{id}/status`, and what job reports when a run ends.

    `fence` is that of the last attempt, the winning one of a run that is `SUCCESS`. `phase` is the state of a run that
    has not started, `waiting-for-processor`, or what its processor reported last. `progress` goes from 0 to 1.
    `queue_position` is an estimate: how many runs start before this one does.
    """

    id: str
    status: RunState
    fence: int
    attempt: int
    phase: str | None = None
    progress: float | None = None
    queue_position: int | None = None
    queued_at: Timestamp | None = None
    started_at: Timestamp | None = None
    ended_at: Timestamp | None = None
    outputs: list[OutputInfo] = Field(default_factory=list)
    error: RunError | None = None
    processor: str | None = Field(None, exclude=True)
    """What it wanted, which is for job alone."""


def messages(runs: Sequence[RunStatus]) -> Iterator[list[RunStatus]]:
    """The runs, in order, in lists of up to `MESSAGE_OUTPUTS` outputs: what one run has fits into a message."""
    some: list[RunStatus] = []
    outputs = 0
    for run in runs:
        if some and outputs + len(run.outputs) > MESSAGE_OUTPUTS:
            yield some
            some, outputs = [], 0
        some.append(run)
        outputs += len(run.outputs)
    if some:
        yield some


class RunAccepted(Wire):
    """`POST /job`'s answer."""

    id: str
    status: RunState


class StatusQuery(Wire):
    """`POST /job/status`: ask about many runs at once."""

    ids: list[str] = Field(max_length=MAX_IDS)


class StatusResponse(Wire):
    """The runs that job knows among those asked about, in no order; `left` is to be asked about again, because what
    there is has too many outputs for one message.
    """

    items: list[RunStatus]
    left: list[str] = Field(default_factory=list)

    @classmethod
    def of(cls, runs: Sequence[RunStatus]) -> "StatusResponse":
        items = next(messages(runs), [])
        return cls(items=items, left=[run.id for run in runs[len(items) :]])


class ClaimRequest(Wire):
    """`POST /claim`: what the processor can run, and how many runs it has room for.

    Waits up to `wait_seconds` for a first run. Repeating a `claim_id` returns the same runs while they are
    still this claim's, so that a response lost on the way loses nothing. `first` says that nobody has asked by this id
    before, so that job need not look for what it has.
    """

    claim_id: str = Field(min_length=1, max_length=64)
    processors: list[Wanted] = Field(min_length=1, max_length=1024)
    max: int = Field(1, ge=1, le=256)
    wait_seconds: float = Field(0, ge=0, le=60)
    first: bool = False


class ClaimedRun(Wire):
    """A run under a lease. It goes back unless the processor heartbeats within 5 s, and from then on.

    With a `deadline_seconds` it is ended when so many more have passed, whatever becomes of this attempt. `alone`: the
    processor works on nothing else beside it, because it may be what has ended processors before.
    """

    id: str
    fence: int
    lease_seconds: float
    deadline_seconds: float | None = None
    inputs: list[InputRef]
    processor: str
    params: dict[str, Any]
    alone: bool = False
    traceparent: Traceparent | None = None


class ClaimResponse(Wire):
    """The claimed runs; none when nothing came in time."""

    runs: list[ClaimedRun]


class Heartbeat(Wire):
    """`POST /run/{id}/heartbeat`: the lease is renewed. `started` begins the attempt."""

    fence: int
    started: bool = True
    phase: Name | None = None
    progress: float | None = Field(None, ge=0, le=1)


class Complete(Wire):
    """`POST /run/{id}/complete`: the outputs are in blob. May carry the next claim, answered without waiting."""

    fence: int
    outputs: list[Annotated[OutputInfo, AfterValidator(_bounded)]] = Field(max_length=MAX_OUTPUTS)
    claim: ClaimRequest | None = None


class Fail(Wire):
    """`POST /run/{id}/fail`: job decides by the error's type whether the run is tried again."""

    fence: int
    error: RunError


class Release(Wire):
    """`POST /run/{id}/release`: the processor stops and gives the run back; it costs no attempt."""

    fence: int


class Offers(Wire):
    """`POST /processor`: a processor offers what it runs, at its start and every 30 s."""

    offers: list[ProcessorOffer] = Field(min_length=1, max_length=256)


class OfferList(Wire):
    """`GET /processor`: all that has been offered in the last 30 days."""

    items: list[OfferedProcessor]
