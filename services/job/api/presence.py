"""Work that is given up when the one who asked for it hangs up."""

import asyncio
from collections.abc import Coroutine
from typing import TypeVar

from fastapi import Request

from common.loops import stop

Result = TypeVar("Result")


async def while_present(request: Request, work: Coroutine[None, None, Result]) -> Result | None:
    """The work's result; None, and the work is cancelled, when the client goes away first.

    The request's body has been read, so the only message that can still come is that the client has gone.
    """
    working = asyncio.ensure_future(work)
    going = asyncio.ensure_future(request.receive())
    try:
        await asyncio.wait({working, going}, return_when=asyncio.FIRST_COMPLETED)
        return working.result() if working.done() else None
    finally:
        # Either may still run: the work if the client has gone, or this handler was cancelled.
        await stop(working, going)
