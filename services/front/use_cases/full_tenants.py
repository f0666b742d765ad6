"""Which tenants have as much in the queue as they may, as far as this process has heard from job."""

import math
import time
from collections import OrderedDict

from common.errors import TooManyRequests

DEFAULT_SECONDS = 5.0
LONGEST_SECONDS = 60.0
MAX_TENANTS = 10_000


class FullTenants:
    """A memory of job's refusals, each for as long as its `Retry-After` says. It is bounded, and of one process alone:
    it spares job and the client's line what would be refused, and is no limit by itself.
    """

    def __init__(self) -> None:
        self._until: OrderedDict[str, float] = OrderedDict()

    def check(self, tenant: str) -> None:
        """Raises `TooManyRequests` while job would say so."""
        left = self._until.get(tenant, 0.0) - time.monotonic()
        if left > 0:
            raise TooManyRequests(
                "Too many jobs of yours are queued already.", headers={"Retry-After": str(math.ceil(left))}
            )
        self._until.pop(tenant, None)

    def remember(self, tenant: str, refusal: TooManyRequests) -> None:
        """job has refused a run of this tenant's."""
        said = refusal.headers.get("Retry-After", "")
        seconds = min(float(said), LONGEST_SECONDS) if said.isdecimal() else DEFAULT_SECONDS
        self._until[tenant] = time.monotonic() + seconds
        self._until.move_to_end(tenant)
        while len(self._until) > MAX_TENANTS:
            self._until.popitem(last=False)
