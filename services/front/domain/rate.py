"""How many requests an owner may make: the rule, and the share of it that one process has in hand."""

import math
from dataclasses import dataclass

from common.errors import RateLimited

# Of a share that nobody spends, so much of the budget is lost; of what is too small, there are too many writes.
FIRST_PART, MOST_PART = 1000, 20
SHARE_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class RatePolicy:
    """`requests` in `seconds`, saved up to that many: a token bucket."""

    requests: int
    seconds: float

    @property
    def first_share(self) -> int:
        """Requests a process asks for when it knows nothing of an owner."""
        return max(1, self.requests // FIRST_PART)

    @property
    def most_share(self) -> int:
        return max(1, self.requests // MOST_PART)

    def headers(self, retry_after: float) -> dict[str, str]:
        """Those of draft-ietf-httpapi-ratelimit-headers-10, for a refusal."""
        seconds = max(1, math.ceil(retry_after))
        return {
            "Retry-After": str(seconds),
            "RateLimit-Policy": f'"requests";q={self.requests};w={math.ceil(self.seconds)}',
            "RateLimit": f'"requests";r=0;t={seconds}',
        }


@dataclass(frozen=True, slots=True)
class Leased:
    """What the store gave of an owner's budget; when that is none, `retry_after` seconds pass until there is some."""

    requests: int
    retry_after: float = 0.0


class Share:
    """The requests of one owner that this process may admit without asking, until `until` by its monotonic clock."""

    def __init__(self, leased: Leased, now: float) -> None:
        self.given = leased.requests
        self.remaining = leased.requests
        self.until = now + (SHARE_SECONDS if leased.requests else leased.retry_after)

    def admits(self, policy: RatePolicy, now: float) -> bool:
        """Takes one request of the share. False when there is none to take and the store has to be asked; raises
        `RateLimited` while the store would refuse.
        """
        if now >= self.until:
            return False
        if not self.given:
            raise RateLimited(headers=policy.headers(self.until - now))
        if not self.remaining:
            return False
        self.remaining -= 1
        return True

    def next_request(self, policy: RatePolicy, now: float) -> int:
        """How large the next share should be: twice this one for who has spent it in its time, else as at first."""
        spent = self.given and not self.remaining and now < self.until
        return min(2 * self.given, policy.most_share) if spent else policy.first_share
