"""Which tenants have as much in the queue as they may, as far as job has told this process."""

import math
import time

from common.bounded import BoundedDict
from common.errors import TooManyRequests

DEFAULT_SECONDS = 5.0
LONGEST_SECONDS = 60.0
MAX_TENANTS = 10_000


class QueueBackoff:
    """Remembers job's refusals, each for as long as its `Retry-After` says (RFC 9110, section 10.2.3).

    It is of one process alone: it spares job and the client's line what would be refused, and is no limit by itself.
    """

    def __init__(self) -> None:
        self._until: BoundedDict[str, float] = BoundedDict(MAX_TENANTS)

    def check(self, tenant: str) -> None:
        """Raises `TooManyRequests` while job would refuse a run of this tenant's."""
        seconds = self._until.get(tenant, 0.0) - time.monotonic()
        if seconds > 0:
            raise TooManyRequests(
                "Too many of your jobs are queued already.", headers={"Retry-After": str(math.ceil(seconds))}
            )
        self._until.pop(tenant, None)

    def remember(self, tenant: str, refusal: TooManyRequests) -> None:
        """job has refused a run of this tenant's."""
        value = refusal.headers.get("Retry-After", "")
        seconds = min(float(value), LONGEST_SECONDS) if value.isdecimal() else DEFAULT_SECONDS
        self._until[tenant] = time.monotonic() + seconds
