"""What a process can hold for its clients at once, shared so that nobody takes what the others need."""

from collections import Counter
from types import TracebackType
from typing import Protocol

from common.errors import TooManyRequests, Unavailable


class Holder(Protocol):
    """Who holds something: a subject of a tenant."""

    @property
    def tenant(self) -> str: ...

    @property
    def subject(self) -> str: ...


class Shares:
    """Up to `most` in sum; `what` names it in the plural, as in "You have too many {what} already."

    There is no fixed limit for each: a tenant may hold as much as is free, and each of its subjects half of that. So
    one who is alone gets much, and whoever comes new finds a place: each tenant that takes all it may leaves half of
    what was free, and when all have let go what they held before, N of them leave one part in N + 1. These are the
    dynamic thresholds of Choudhury and Hahne, "Dynamic queue length thresholds for shared-memory packet switches",
    IEEE/ACM Transactions on Networking 6 (2), 1998.
    """

    def __init__(self, what: str, most: int) -> None:
        self._what = what
        self._most = most
        self._used = 0
        self._held: Counter[tuple[str, ...]] = Counter()

    @property
    def used(self) -> int:
        return self._used

    def take(self, holder: Holder, amount: int = 1) -> "Share":
        """Raises `TooManyRequests` over the share of `holder`, and `Unavailable` when there is too little left."""
        share = Share(self, holder)
        share.grow(amount)
        return share

    def _grow(self, tenant: str, subject: str, amount: int) -> None:
        free = self._most - self._used
        if amount > free:
            raise Unavailable(f"This server has too many {self._what} already.")
        if self._held[tenant,] + amount > free or 2 * self._held[tenant, subject] + amount > free:
            raise TooManyRequests(f"You have too many {self._what} already.")
        self._add(tenant, subject, amount)

    def _add(self, tenant: str, subject: str, amount: int) -> None:
        self._used += amount
        for held_by in ((tenant,), (tenant, subject)):
            self._held[held_by] += amount
            if not self._held[held_by]:
                del self._held[held_by]


class Share:
    """What one holder has of it, until it is released or the `with` that it opens ends."""

    def __init__(self, shares: Shares, holder: Holder) -> None:
        self._shares = shares
        self._tenant, self._subject = holder.tenant, holder.subject
        self._amount = 0

    def grow(self, amount: int) -> None:
        """As `Shares.take`; what was held before stays held when it raises."""
        self._shares._grow(self._tenant, self._subject, amount)
        self._amount += amount

    def release(self) -> None:
        """May be called again."""
        self._shares._add(self._tenant, self._subject, -self._amount)
        self._amount = 0

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.release()
