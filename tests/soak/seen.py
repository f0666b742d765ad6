"""What the clients of a soak write down, and what the checker goes by."""

from dataclasses import dataclass, field

NAP = "nap"  # a processor that takes a second; its output is its input
CHECKSUM = "checksum"
COMPLETED, CANCELLED = "EXECUTION_COMPLETED", "CANCELLED"
OPEN = frozenset({"CREATED", "STORED", "SUBMITTED"})


@dataclass(slots=True)
class Acknowledged:
    """A job that was answered with 201: its owner, where it is, its name, which no other hand-in has, what was asked of
    which processor, and the input's SHA-256. Then what its owner did to it: `cancelled` when a cancel was sent;
    `deleted` when a DELETE was answered, None when it was sent and never answered; `told`, an end that was told.
    """

    owner: int
    location: str
    name: str
    processor: str
    sha256: str
    cancelled: bool = False
    deleted: bool | None = False
    told: str | None = None


@dataclass(frozen=True, slots=True)
class Refusal:
    """A response other than a good one, or none (`status` 0), and when it came, by the monotonic clock."""

    at: float
    status: int
    what: str
    retry_after: str | None = None

    @property
    def is_decent(self) -> bool:
        """Whether it may come while parts are away: a 503 says when to come again, and nothing hangs."""
        if self.status == 0:
            return not self.what.endswith("Timeout")
        return self.status == 502 or (self.status == 503 and self.retry_after is not None)


@dataclass(slots=True)
class Observations:
    """What all clients saw together. `repeated` requests had a key that had been answered before; `again` are those
    of them that were answered with something new.
    """

    jobs: list[Acknowledged] = field(default_factory=list)
    refusals: list[Refusal] = field(default_factory=list)
    repeated: int = 0
    batches: int = 0
    again: list[str] = field(default_factory=list)
