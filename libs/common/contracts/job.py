"""What job says and hears. A run is job's side of a job, and has the same id."""

from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import Field

from common.contracts import Timestamp, Wire

MAX_IDS = 1_000
Name = Annotated[str, Field(min_length=1, max_length=128)]
Detail = Annotated[str, Field(max_length=2_000)]
Encoding = Literal["gzip", "bzip2", "xz", "zstd"]
"""How a file came compressed: an HTTP content coding, or one more of the kind. It is kept so, and decoded when read."""


class RunState(StrEnum):
    """Where a run is. `SUCCESS` and `FAILED` are final."""

    QUEUED = "QUEUED"
    RUNNING = "RUNNING"
    SUCCESS = "SUCCESS"
    FAILED = "FAILED"


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
    sha256: str = Field(pattern="^[0-9a-f]{64}$")


class RunError(Wire):
    """Why a run failed: `type` is a slug of `common.failures`."""

    type: Name
    detail: Detail


class RunSubmit(Wire):
    """`POST /job`: a run to queue. The id is front's, so submitting twice makes one run."""

    id: str
    inputs: list[InputRef] = Field(min_length=1, max_length=1)
    processor: Name
    params: dict[str, Any]
    tenant: str


class RunStatus(Wire):
    """`GET /job/{id}/status`, and what job reports when a run ends.

    `fence` is that of the last attempt, the winning one of a run that is `SUCCESS`.
    """

    id: str
    status: RunState
    fence: int
    attempt: int
    phase: str | None = None
    outputs: list[OutputInfo] = Field(default_factory=list)
    error: RunError | None = None


class RunAccepted(Wire):
    """`POST /job`'s answer."""

    id: str
    status: RunState


class StatusQuery(Wire):
    """`POST /job/status`: ask about many runs at once."""

    ids: list[str] = Field(max_length=MAX_IDS)


class StatusAnswer(Wire):
    """The runs that job knows among those asked about, in no order."""

    items: list[RunStatus]


class ClaimRequest(Wire):
    """`POST /claim`: what the processor can run, and how many runs it has room for.

    Waits up to `wait_seconds` for a first run. Repeating a `claim_id` returns the same runs while they are
    still this claim's, so that an answer lost on the way loses nothing.
    """

    claim_id: str = Field(min_length=1, max_length=64)
    processors: list[Name] = Field(min_length=1, max_length=256)
    max: int = Field(1, ge=1, le=256)
    wait_seconds: float = Field(0, ge=0, le=60)


class ClaimedRun(Wire):
    """A run under a lease. It goes back unless the processor says `started` within 5 s, and then heartbeats."""

    id: str
    fence: int
    lease_seconds: float
    inputs: list[InputRef]
    processor: str
    params: dict[str, Any]


class ClaimAnswer(Wire):
    """The claimed runs; none when nothing came in time."""

    runs: list[ClaimedRun]


class Heartbeat(Wire):
    """`POST /run/{id}/heartbeat`: the work goes on. `started` begins the attempt and its full lease."""

    fence: int
    started: bool = True
    phase: Name | None = None


class Complete(Wire):
    """`POST /run/{id}/complete`: the outputs are in blob. May carry the next claim, answered without waiting."""

    fence: int
    outputs: list[OutputInfo] = Field(max_length=10_000)
    claim: ClaimRequest | None = None


class Fail(Wire):
    """`POST /run/{id}/fail`: job decides by the error's type whether the run is tried again."""

    fence: int
    error: RunError


class Release(Wire):
    """`POST /run/{id}/release`: the processor stops and gives the run back; it costs no attempt."""

    fence: int


class ProcessorOffer(Wire):
    """What a processor can run; `params` is the JSON Schema (2020-12) of its parameters."""

    name: str = Field(pattern="^[a-z][a-z0-9-]{0,63}$")
    version: str = Field(pattern=r"^\d+\.\d+\.\d+$")
    summary: str = Field(max_length=500)
    media_types: list[str] = Field(min_length=1, max_length=100)
    params: dict[str, Any]


class Offers(Wire):
    """`POST /processor`: a processor says what it runs, at its start and every 30 s."""

    offers: list[ProcessorOffer] = Field(min_length=1, max_length=256)


class OfferedProcessor(ProcessorOffer):
    """An offer that job keeps; `live` says whether a processor has renewed it lately."""

    live: bool
    last_seen_at: Timestamp


class OfferList(Wire):
    """`GET /processor`: all that has been offered in the last 30 days."""

    items: list[OfferedProcessor]
