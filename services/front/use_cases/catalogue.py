"""The processors on offer, as job last listed them."""

import asyncio
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from common.errors import Invalid, Problem, Unavailable
from common.logging import get_logger
from gristmill import faults
from gristmill.wire import versions
from gristmill.wire.processors import OfferedProcessor, OfferedVersion
from services.front.domain.params import ParameterSchema
from services.front.ports import OfferStore, Runs

log = get_logger()

FRESH_SECONDS = 5.0
UNKNOWN_FRESH_SECONDS = 1.0
PATIENCE_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class CatalogueEntry:
    """A version of a processor on offer, with its parameters' schema compiled."""

    name: str
    version: str
    media_types: Sequence[str]
    params: ParameterSchema
    max_input_bytes: int | None


class Catalogue:
    """Offers by name: read from job every 5 s, and kept in front's own database for the time when job is away.

    A job that is slow makes nobody wait: its last list has to do until it responds.
    """

    def __init__(self, runs: Runs, store: OfferStore) -> None:
        self._runs = runs
        self._store = store
        self._offers: Sequence[OfferedProcessor] | None = None
        self._entries: dict[str, list[CatalogueEntry]] = {}
        self._asked_at = float("-inf")
        self._refreshing: asyncio.Task[None] | None = None
        self._is_late = False

    async def all(self) -> Sequence[OfferedProcessor]:
        await self._refresh_after(FRESH_SECONDS)
        return [offer for offer in self._offers or () if offer.name in self._entries]

    async def find(self, wanted: str) -> CatalogueEntry:
        """The version that describes what `wanted`, a name that may be pinned, takes: of those that fit the pin the
        highest, live ones first. Raises `Invalid` for a name and for a pin that nothing fits which was offered lately,
        `Unavailable` when nothing is known at all.
        """
        if not versions.is_wanted(wanted):
            raise _unknown("A processor is named as `name`, `name@1`, `name@1.2` or `name@1.2.3`.")
        await self._refresh_after(FRESH_SECONDS)
        if self._fitting(wanted) is None:
            await self._refresh_after(UNKNOWN_FRESH_SECONDS)
        entry, name = self._fitting(wanted), versions.name_of(wanted)
        if entry is not None:
            return entry
        if name not in self._entries:
            raise _unknown(faults.unknown(name, self._entries, "processor"))
        there_is = faults.listed([entry.version for entry in self._entries[name]], "and")
        raise _unknown(f"No version of `{name}` fits `{wanted}`. There is {there_is}.")

    def _fitting(self, wanted: str) -> CatalogueEntry | None:
        name = versions.name_of(wanted)
        entries = self._entries.get(name, ())
        return next((entry for entry in entries if wanted in versions.offered_as(name, entry.version)), None)

    async def _refresh_after(self, fresh_seconds: float) -> None:
        if self._offers is None or time.monotonic() - self._asked_at > fresh_seconds:
            if self._refreshing is None:
                self._refreshing = asyncio.create_task(self._refresh())
                self._refreshing.add_done_callback(self._refreshed)
            if self._offers is None or not self._is_late:
                # Shared by all who wait, so that the one that began it may go away.
                patience = None if self._offers is None else PATIENCE_SECONDS
                done, _ = await asyncio.wait({self._refreshing}, timeout=patience)
                self._is_late = not done
                for refreshing in done:
                    refreshing.result()
        if self._offers is None:
            raise Unavailable("No processor is known yet.")

    def _refreshed(self, task: asyncio.Task[None]) -> None:
        self._refreshing = None
        if not task.cancelled():
            task.exception()  # has been raised to those who waited, if they still do

    async def _refresh(self) -> None:
        offers: Sequence[OfferedProcessor] | None
        try:
            offers = await self._runs.processors()
        except Problem:
            offers = await self._store.load_offers() if self._offers is None else None
        else:
            self._is_late = False
            if [_lasting(offer) for offer in offers] != [_lasting(offer) for offer in self._offers or ()]:
                await self._store.save_offers(offers)
        self._asked_at = time.monotonic()
        if offers is not None:
            self._offers = offers
            self._entries = {offer.name: entries for offer in offers if (entries := list(_usable(offer)))}


def _usable(offer: OfferedProcessor) -> Iterator[CatalogueEntry]:
    described: Sequence[OfferedProcessor | OfferedVersion] = offer.versions or [offer]
    for each in sorted(described, key=lambda version: not version.live):
        try:
            schema = ParameterSchema(each.params)
        except ValueError as error:
            # One processor with a broken schema must not take the others along.
            log.error("catalogue.bad_schema", processor=offer.name, version=each.version, error=str(error)[:500])
        else:
            yield CatalogueEntry(offer.name, each.version, each.media_types, schema, each.limits.max_input_bytes)


def _lasting(offer: OfferedProcessor) -> dict[str, object]:
    seen = {"live", "last_seen_at"}
    return offer.model_dump(exclude={**dict.fromkeys(seen, True), "versions": {"__all__": seen}})


def _unknown(detail: str) -> Invalid:
    return Invalid(errors=[{"pointer": "/processor", "detail": detail}])
