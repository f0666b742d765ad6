"""Requests are admitted out of each owner's budget, which all processes of front share."""

import asyncio
import time

from common.bounded import BoundedDict
from services.front.domain.job import Owner
from services.front.domain.rate import RatePolicy, Share
from services.front.ports import Budgets, Tokens

MOST_OWNERS = 10_000


class LimitedTokens:
    """`Tokens` that take one request of the owner's budget for each token they verify.

    A process leases shares of the budget, the larger the busier the owner is, so that the limit holds over all of
    them without a write for each request.
    """

    def __init__(self, tokens: Tokens, budgets: Budgets, policy: RatePolicy) -> None:
        self._tokens = tokens
        self._budgets = budgets
        self._policy = policy
        self._shares: BoundedDict[Owner, Share] = BoundedDict(MOST_OWNERS)
        self._leasing: dict[Owner, asyncio.Task[None]] = {}

    async def owner(self, authorization: str | None) -> Owner:
        """Raises `Unauthorized`, and what `admit` does."""
        owner = await self._tokens.owner(authorization)
        await self.admit(owner)
        return owner

    async def admit(self, owner: Owner) -> None:
        """Takes one request of the owner's budget. Raises `RateLimited` when they have used it up."""
        while not self._admits(owner):
            leasing = self._leasing.get(owner)
            if leasing is None:
                leasing = self._leasing[owner] = asyncio.create_task(self._lease(owner))
                leasing.add_done_callback(lambda task: self._leased(owner, task))
            # Shared by all who wait, so the one that began it may go away.
            await asyncio.shield(leasing)

    async def seconds_left(self, authorization: str | None) -> float:
        return await self._tokens.seconds_left(authorization)

    def _admits(self, owner: Owner) -> bool:
        share = self._shares.get(owner)
        return share is not None and share.admits(self._policy, time.monotonic())

    async def _lease(self, owner: Owner) -> None:
        share = self._shares.get(owner)
        wanted = share.next_request(self._policy, time.monotonic()) if share else self._policy.first_share
        leased = await self._budgets.lease(owner, wanted, self._policy)
        self._shares[owner] = Share(leased, time.monotonic())

    def _leased(self, owner: Owner, task: asyncio.Task[None]) -> None:
        del self._leasing[owner]
        if not task.cancelled():
            task.exception()  # has been raised to those who waited, if they still do
