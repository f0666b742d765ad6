"""Trying again: what may pass is tried again with growing, jittered pauses; what is definite comes out at once."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterator
from typing import TypeVar

from common.errors import BadGateway, StorageFull, Unavailable
from common.logging import get_logger

log = get_logger()

Answer = TypeVar("Answer")

PASSING = (Unavailable, BadGateway, StorageFull)
FIRST_PAUSE_SECONDS = 0.1
LONGEST_PAUSE_SECONDS = 5.0


def pauses() -> Iterator[float]:
    """Seconds to wait, doubling up to the longest, each drawn from its upper half: many processors that lost the same
    service don't come back at the same moment."""
    pause = FIRST_PAUSE_SECONDS
    while True:
        yield random.uniform(pause / 2, pause)  # noqa: S311 - jitter is no secret
        pause = min(pause * 2, LONGEST_PAUSE_SECONDS)


async def until_answered(call: Callable[[], Awaitable[Answer]], what: str) -> Answer:
    """The call's answer, however long the other side is away: whoever waits sets the deadline.

    Raises what is definite: a stale fence, a refusal.
    """
    pause = pauses()
    while True:
        try:
            return await call()
        except PASSING as error:
            log.warning("call.again", call=what, error=type(error).__name__, detail=error.detail)
        await asyncio.sleep(next(pause))
