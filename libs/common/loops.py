"""The endless loops beside the requests. A step that fails is logged and tried again; nothing ends a loop."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from common.logging import get_logger

AFTER_A_FAILURE_SECONDS = 1.0
CANCEL_AGAIN_SECONDS = 0.5

log = get_logger()


async def repeat(action: str, step: Callable[[], Awaitable[object]], pause_seconds: float) -> None:
    """Takes the step again and again, with a pause after each; a failed one gets a pause in any case."""
    while True:  # noqa: ASYNC110 - it waits for time to pass, not for an event
        await asyncio.sleep(pause_seconds if await attempt(action, step) else AFTER_A_FAILURE_SECONDS)


async def until_done(action: str, step: Callable[[], Awaitable[object]]) -> None:
    """Takes the step until it succeeds once."""
    while not await attempt(action, step):  # noqa: ASYNC110 - likewise
        await asyncio.sleep(AFTER_A_FAILURE_SECONDS)


async def attempt(action: str, step: Callable[[], Awaitable[object]]) -> bool:
    """Takes the step once. Returns whether it succeeded."""
    try:
        await step()
    except Exception as error:  # noqa: BLE001 - whatever it is, the loop has to outlive it
        log.warning(f"{action}.failed", error=type(error).__name__, detail=str(error)[:500])  # noqa: G004 - structlog
        return False
    return True


async def stop(*tasks: asyncio.Task[Any]) -> None:
    """Cancels the tasks and waits for their end. More than once if need be, for a cancellation can get lost:
    `asyncio.wait_for` of Python 3.11, which PyMongo waits with, drops one that comes together with a result.
    """
    ending = set(tasks)
    while ending:
        for task in ending:
            task.cancel()
        _, ending = await asyncio.wait(ending, timeout=CANCEL_AGAIN_SECONDS)
