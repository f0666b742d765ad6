"""Which processors there are, as job last said."""

import asyncio
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from common.contracts.job import OfferedProcessor
from common.errors import Invalid, Problem, Unavailable
from common.logging import get_logger
from services.front.domain.params import ParameterSchema
from services.front.ports import OfferStore, Runs

log = get_logger()

FRESH_SECONDS = 5.0
UNKNOWN_FRESH_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class CatalogueEntry:
    """A processor on offer, with its parameters' schema compiled."""

    offer: OfferedProcessor
    params: ParameterSchema


class Catalogue:
    """Offers by name: asked of job every 5 s, and kept in front's own database for the time when job is away."""

    def __init__(self, runs: Runs, store: OfferStore) -> None:
        self._runs = runs
        self._store = store
        self._entries: dict[str, CatalogueEntry] | None = None
        self._asked_at = float("-inf")
        self._asking = asyncio.Lock()

    async def all(self) -> Sequence[OfferedProcessor]:
        return [entry.offer for entry in (await self._current(FRESH_SECONDS)).values()]

    async def find(self, name: str) -> CatalogueEntry:
        """Raises `Invalid` for a name that was never offered, `Unavailable` when nothing is known at all."""
        entries = await self._current(FRESH_SECONDS)
        if name not in entries:
            entries = await self._current(UNKNOWN_FRESH_SECONDS)
        if name not in entries:
            raise Invalid(errors=[{"pointer": "/processor", "detail": "There is no such processor."}])
        return entries[name]

    async def _current(self, fresh_seconds: float) -> dict[str, CatalogueEntry]:
        if self._entries is None or time.monotonic() - self._asked_at > fresh_seconds:
            async with self._asking:
                if self._entries is None or time.monotonic() - self._asked_at > fresh_seconds:
                    await self._refresh()
        if self._entries is None:
            raise Unavailable("No processor is known yet.")
        return self._entries

    async def _refresh(self) -> None:
        offers: Sequence[OfferedProcessor] | None
        try:
            offers = await self._runs.processors()
        except Problem:
            offers = await self._store.load_offers() if self._entries is None else None
        else:
            known = [entry.offer for entry in self._entries.values()] if self._entries else []
            if [_lasting(offer) for offer in offers] != [_lasting(offer) for offer in known]:
                await self._store.save_offers(offers)
        self._asked_at = time.monotonic()
        if offers is not None:
            self._entries = dict(_usable(offers))


def _usable(offers: Sequence[OfferedProcessor]) -> Iterator[tuple[str, CatalogueEntry]]:
    for offer in offers:
        try:
            yield offer.name, CatalogueEntry(offer, ParameterSchema(offer.params))
        except ValueError as error:
            # One processor with a broken schema must not take the others along.
            log.error("catalogue.bad_schema", processor=offer.name, error=str(error)[:500])


def _lasting(offer: OfferedProcessor) -> dict[str, object]:
    return offer.model_dump(exclude={"live", "last_seen_at"})
