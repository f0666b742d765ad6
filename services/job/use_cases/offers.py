"""What processors can run."""

import asyncio
import time
from collections.abc import Collection, Sequence

from gristmill.wire import versions
from gristmill.wire.processors import OfferedProcessor, ProcessorOffer
from services.job.ports import OfferStore

FRESH_SECONDS = 2.0


class Offering:
    """Keeps the offers of processors, and knows which are live."""

    def __init__(self, store: OfferStore, *, live_seconds: float, kept_seconds: float) -> None:
        self._store = store
        self._live_seconds = live_seconds
        self._kept_seconds = kept_seconds
        self._live: Collection[str] = frozenset()
        self._looked_at = float("-inf")
        self._looking = asyncio.Lock()

    async def offer(self, offers: Sequence[ProcessorOffer]) -> None:
        await self._store.offer(offers, self._kept_seconds)
        self._looked_at = float("-inf")

    async def offered(self) -> list[OfferedProcessor]:
        return await self._store.offered(self._live_seconds, self._kept_seconds)

    async def live(self) -> Collection[str]:
        """All that a run may want and be taken now, pinned or not: `gristmill.wire.versions`. Up to two seconds old."""
        async with self._looking:
            if time.monotonic() - self._looked_at > FRESH_SECONDS:
                looked_at = time.monotonic()
                self._live = frozenset(
                    wanted
                    for offered in await self.offered()
                    for version in offered.versions
                    if version.live
                    for wanted in versions.offered_as(offered.name, version.version)
                )
                self._looked_at = looked_at
        return self._live
