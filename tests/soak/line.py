"""A client's line to the API: what goes wrong on it is written down, and what must get through is sent again."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection

import httpx

from tests.soak.seen import Observations, Refusal

AGAIN_SECONDS = 0.1
# Longer than any fault lasts, and what it breaks takes to come back on a slow machine.
PATIENCE_SECONDS = 45

Send = Callable[[], Awaitable[httpx.Response]]


class Line:
    def __init__(self, http: httpx.AsyncClient, seen: Observations) -> None:
        self.http = http
        self._seen = seen

    async def once(self, send: Send, good: Collection[int]) -> httpx.Response | None:
        """A good answer. None when another came, or none, which is written down."""
        try:
            answer = await send()
        except httpx.TransportError as error:
            self._seen.refusals.append(Refusal(time.monotonic(), 0, type(error).__name__))
            return None
        if answer.status_code in good:
            return answer
        where = f"{answer.request.method} {answer.request.url.path.rsplit('/', 1)[-1][:8]}"
        what = f"{answer.status_code} to {where}: {answer.text[:200]}"
        self._seen.refusals.append(
            Refusal(time.monotonic(), answer.status_code, what, answer.headers.get("Retry-After"))
        )
        return None

    async def insist(
        self, send: Send, good: Collection[int], under_way: int | None = None, repeated: int | None = None
    ) -> httpx.Response | None:
        """A good answer, sooner or later; None when patience is over. `under_way` is a status that says to come again,
        and `repeated` one that is good too when the first answer may have been lost.
        """
        over = time.monotonic() + PATIENCE_SECONDS
        allowed = {*good, *filter(None, (under_way,))}
        while time.monotonic() < over:
            answer = await self.once(send, allowed)
            if answer is not None and answer.status_code != under_way:
                return answer
            allowed |= {*filter(None, (repeated,))}
            await asyncio.sleep(AGAIN_SECONDS)
        return None
