"""Whether a tenant may queue one more run."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from common.bounded import BoundedDict
from common.contracts.job import RunSubmit
from common.errors import TooManyRequests
from services.job.domain.tenants import Tenants
from services.job.ports import RunStore

FRESH_SECONDS = 1.0
COUNTED_SECONDS = 5.0
MOST_REMEMBERED = 10_000


@dataclass(slots=True)
class _Known:
    """How many runs a tenant has queued, as of `at`, with those let in here since; and when they were counted."""

    queued: int
    at: float
    counted_at: float = -COUNTED_SECONDS


class Admission:
    """Decides by an estimate that is a second old at most, and refuses only what a count of the last 5 s confirms.

    Several processes may let in a second's worth too many.
    """

    def __init__(self, store: RunStore, tenants: Tenants, now: Callable[[], float] = time.monotonic) -> None:
        self._store = store
        self._tenants = tenants
        self._now = now
        self._known: BoundedDict[str, _Known] = BoundedDict(MOST_REMEMBERED)

    async def admit(self, run: RunSubmit) -> None:
        """Raises `TooManyRequests` when its tenant has as many runs queued as it may; never for one that is there."""
        limit = self._tenants.of(run.tenant).max_queued
        if limit is None:
            return
        known = self._known.get(run.tenant)
        if known is None or known.at + FRESH_SECONDS <= self._now():
            known = await self._estimate(run.tenant, known)
        if known.queued >= limit and known.counted_at + COUNTED_SECONDS <= self._now():
            known.queued, known.counted_at = await self._store.queued_count(run.tenant), self._now()
        if known.queued < limit:
            known.queued += 1
        elif not await self._store.statuses([run.id]):
            raise TooManyRequests(f"{limit} runs of this tenant are queued already, and more aren't taken.")

    async def _estimate(self, tenant: str, before: _Known | None) -> _Known:
        known = _Known(await self._store.queued_estimate(tenant), self._now())
        if before is not None:
            known.counted_at = before.counted_at
        self._known[tenant] = known
        return known
