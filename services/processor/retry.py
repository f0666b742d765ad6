"""Trying again: what may pass is tried again, after pauses; what is definite comes out at once."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from common.errors import Problem
from common.logging import get_logger
from common.retries import pauses

log = get_logger()

Result = TypeVar("Result")


async def until_responded(call: Callable[[], Awaitable[Result]], what: str) -> Result:
    """The call's answer, however long the other side is away: whoever waits sets the deadline.

    Raises what is definite, a 4xx: a stale fence, a refusal. Any 5xx may pass.
    """
    pause = pauses()
    while True:
        try:
            return await call()
        except Problem as error:
            if error.status < 500:
                raise
            log.warning("call.again", call=what, error=type(error).__name__, detail=error.detail)
        await asyncio.sleep(next(pause))
