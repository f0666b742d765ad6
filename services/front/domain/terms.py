"""On which terms a job is taken: the defaults, and the most that a request may ask for."""

from dataclasses import dataclass

from services.front.domain import periods, retention
from services.front.domain.limits import Limits
from services.front.domain.retention import Retention


@dataclass(frozen=True, slots=True)
class Terms:
    """What the operator has set."""

    default_processor: str
    limits: Limits
    retention_seconds: int
    deadline_seconds: int
    max_deadline_seconds: int

    def retention(self, text: str | None) -> Retention:
        """Raises `Invalid`."""
        return retention.parse(text, self.retention_seconds)

    def deadline(self, text: str | None) -> int:
        """In seconds from when the run is queued. Raises `Invalid`."""
        return periods.deadline(text, self.deadline_seconds, self.max_deadline_seconds)
