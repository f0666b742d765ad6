"""Making a failed call again: after a pause that grows and is drawn by lot, and within a budget.

Only one layer may do so for any call, or tries multiply: docs/decisions/0023-calls-between-processes.md names it.
"""

import random
from collections.abc import Iterator

FIRST_PAUSE_SECONDS = 0.1
LONGEST_PAUSE_SECONDS = 5.0


def pauses() -> Iterator[float]:
    """Seconds to wait, doubling up to the longest, each drawn from its upper half: many callers that lost the same
    service don't come back at the same moment.
    """
    pause = FIRST_PAUSE_SECONDS
    while True:
        yield random.uniform(pause / 2, pause)  # noqa: S311 - jitter is no secret
        pause = min(pause * 2, LONGEST_PAUSE_SECONDS)


class RetryBudget:
    """What all calls to one service may spend on being made again: each time costs one, and each success earns a tenth.

    So retries add a tenth to a service's load at most, and nothing to that of one which fails every time; as the
    `RetryBudget` of Finagle and the throttling of gRPC's retries (gRFC A6) do.
    """

    MOST = 100.0
    EARNED = 0.1

    def __init__(self) -> None:
        self._left = self.MOST

    def take(self) -> bool:
        """Whether a call may be made again."""
        if self._left < 1:
            return False
        self._left -= 1
        return True

    def earn(self) -> None:
        """A call has succeeded."""
        self._left = min(self._left + self.EARNED, self.MOST)
