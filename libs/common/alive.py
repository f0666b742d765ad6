"""How a process without a port shows that it is well: its loop touches a file, and a probe looks how old that is."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

from common.loops import repeat, stop

BEAT_SECONDS = 5.0


@asynccontextmanager
async def showing_life(file: Path | None) -> AsyncIterator[None]:
    """Touch the file beside the body of the `async with`, unless there is none.

    The touch comes from the loop and is done in a thread of its pool: it stops when either of them hangs.
    """
    if file is None:
        yield
        return
    beats = asyncio.create_task(repeat("alive", partial(asyncio.to_thread, file.touch), BEAT_SECONDS))
    try:
        yield
    finally:
        await stop(beats)
