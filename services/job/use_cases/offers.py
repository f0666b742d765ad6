"""What processors can run."""

from collections.abc import Sequence

from common.contracts.job import OfferedProcessor, ProcessorOffer
from services.job.ports import OfferStore


class Offering:
    """Keeps offers, and says which are live."""

    def __init__(self, store: OfferStore, *, live_seconds: float, kept_seconds: float) -> None:
        self._store = store
        self._live_seconds = live_seconds
        self._kept_seconds = kept_seconds

    async def offer(self, offers: Sequence[ProcessorOffer]) -> None:
        await self._store.offer(offers, self._live_seconds)

    async def offered(self) -> list[OfferedProcessor]:
        return await self._store.offered(self._live_seconds, self._kept_seconds)
