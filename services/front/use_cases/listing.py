"""An owner's jobs, newest first, a page at a time."""

from collections.abc import Sequence
from dataclasses import dataclass

from services.front.domain.job import Job, Owner
from services.front.domain.listing import Filters, Position
from services.front.ports import ListingStore


@dataclass(frozen=True, slots=True)
class Page:
    """Some of the jobs, and the last of them if there are more."""

    jobs: Sequence[Job]
    next: Position | None


class ListJobs:
    """Jobs as front knows them: of those that are under way, job isn't asked."""

    def __init__(self, store: ListingStore) -> None:
        self._store = store

    async def __call__(self, owner: Owner, filters: Filters, after: Position | None, limit: int) -> Page:
        """At most `limit` jobs of this owner that follow `after`, or the newest. A job that comes meanwhile is before
        the first page, and so moves nothing.
        """
        found = await self._store.owned(owner, filters, after, limit)
        return Page(found.jobs, Position.of(found.jobs[-1]) if found.more else None)
