"""Nobody keeps more than they may: checked before bytes are taken."""

import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from common.bounded import BoundedDict
from services.front.domain.job import Owner
from services.front.domain.quota import QuotaPolicy
from services.front.ports import UsageStore

FRESH_SECONDS = 5.0
MOST_KNOWN = 10_000

Key = TypeVar("Key", Owner, str)


class Quota:
    """The quotas of all owners and tenants. What other processes have added in the last `FRESH_SECONDS`, and what runs
    under way will put out, isn't counted yet: one may end a little over their quota. Nothing is asked where there is
    no quota.
    """

    def __init__(self, store: UsageStore, policy: QuotaPolicy) -> None:
        self._store = store
        self._policy = policy
        self._known: BoundedDict[Owner | str, tuple[int, float]] = BoundedDict(MOST_KNOWN)

    @property
    def is_set(self) -> bool:
        return self._policy.owner_bytes is not None or self._policy.tenant_bytes is not None

    async def kept(self, owner: Owner) -> int | None:
        """The bytes that this owner keeps; None where they have no quota."""
        if self._policy.owner_bytes is None:
            return None
        return await self._fresh(owner, self._store.owner_bytes)

    async def check(self, owner: Owner, size: int) -> None:
        """Raises `StorageFull` when `owner` may not keep `size` bytes more."""
        if self._policy.owner_bytes is not None:
            self._policy.check_owner(await self._fresh(owner, self._store.owner_bytes), size)
        if self._policy.tenant_bytes is not None:
            self._policy.check_tenant(await self._fresh(owner.tenant, self._store.tenant_bytes), size)

    def added(self, owner: Owner, size: int) -> None:
        """So many bytes are kept now."""
        for key in (owner, owner.tenant):
            if known := self._known.get(key):
                self._known[key] = known[0] + size, known[1]

    async def _fresh(self, key: Key, ask: Callable[[Key], Awaitable[int]]) -> int:
        kept, until = self._known.get(key, (0, 0.0))
        if time.monotonic() >= until:
            kept = await ask(key)
            self._known[key] = kept, time.monotonic() + FRESH_SECONDS
        return kept
