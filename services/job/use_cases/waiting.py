"""The claims that wait in this process, so that a new run can be handed straight to one of them.

A claim is handed a run only while the last look at the queue found nothing: else the run would overtake those
that wait. Claims that want the same share that look: while it is good, and nothing has been queued since, there is
nothing to look for. What other processes queue and say nothing of is found by the next one, two seconds later.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager

from common.bounded import BoundedDict
from services.job.ports import Claimed, QueueHints

MOST_REMEMBERED = 64

Look = Callable[[], Awaitable[Sequence[Claimed]]]


class Waiter:
    """A claim that waits, with room for some runs of certain processors."""

    def __init__(self, claim_id: str, processors: Sequence[str], room: int) -> None:
        self.claim_id = claim_id
        self.idle = False
        self.reserved = 0
        self.next_look = 0.0
        """When it has to look again though nobody woke it, by the loop's clock."""
        self.unsure = False
        """A run may be this claim's that it hasn't heard of: the store didn't say what became of it."""
        self.processors = frozenset(processors)
        self._room = room
        self._handed: list[Claimed] = []
        self._woken = asyncio.Event()
        self._resolved = asyncio.Event()
        self._gone = False

    def wants(self, processor: str | None) -> bool:
        return processor is None or processor in self.processors

    def takes(self, processor: str) -> bool:
        """Whether a new run may be handed to it. Once it has one it is on its way back with it."""
        return self.idle and not self._handed and self.reserved < self._room and processor in self.processors

    def hand(self, run: Claimed | None) -> bool:
        """What has become of one reservation: the run, or None. False when the claimer has gone meanwhile."""
        self.reserved -= 1
        self.unsure |= run is None
        if run is not None and not self._gone:
            self._handed.append(run)
            self._woken.set()
        if not self.reserved:
            self._resolved.set()
        return run is None or not self._gone

    def wake(self) -> bool:
        """Let it look at the queue. Returns False when it was awake already."""
        was_awake = self._woken.is_set()
        self._woken.set()
        return not was_awake

    def begins_to_look(self) -> None:
        self._woken.clear()

    async def wait(self, until: float) -> list[Claimed]:
        """The runs that were handed to it; none when it is time to look again, at the latest `until`."""
        self.idle = True
        try:
            async with asyncio.timeout_at(min(until, self.next_look)):
                await self._woken.wait()
        except TimeoutError:
            pass
        self.idle = False
        while self.reserved:
            self._resolved.clear()
            await self._resolved.wait()
        return self._handed

    def leave(self) -> None:
        self._gone = True


class Waiters:
    """All of them, those that have waited longest first. A look that found nothing is good for `poll_seconds`."""

    def __init__(self, poll_seconds: float) -> None:
        self._waiting: dict[Waiter, None] = {}
        self._poll_seconds = poll_seconds
        self._wakes = 0
        self._good_until: BoundedDict[frozenset[str], float] = BoundedDict(MOST_REMEMBERED)

    @contextmanager
    def entered(self, waiter: Waiter) -> Iterator[Waiter]:
        self._waiting[waiter] = None
        try:
            yield waiter
        finally:
            waiter.leave()
            del self._waiting[waiter]

    def reserve(self, processor: str) -> Waiter | None:
        """Room for one new run, with the claim that has least to do; `hand` ends the reservation."""
        able = [waiter for waiter in self._waiting if waiter.takes(processor)]
        if not able:
            return None
        waiter = min(able, key=lambda waiter: waiter.reserved)
        waiter.reserved += 1
        return waiter

    async def look(self, waiter: Waiter, look: Look, *, alone: bool) -> Sequence[Claimed]:
        """What the claim finds in the queue: nothing, unlooked, while the last look for the same is good. Not so for
        one that may have runs: it looks `alone`.
        """
        now = asyncio.get_running_loop().time()
        waiter.begins_to_look()
        if not alone and self._good_until.get(waiter.processors, now) > now:
            waiter.next_look = self._good_until[waiter.processors]
            return []
        waiter.next_look = now + self._poll_seconds
        wakes = self._wakes
        found = await look()
        if not found and wakes == self._wakes:
            self._good_until[waiter.processors] = waiter.next_look
        return found

    def wake_one(self, processor: str | None) -> None:
        """A run has been queued, so one claim more should look."""
        self._queued()
        for waiter in self._waiting:
            if waiter.wants(processor) and waiter.wake():
                return

    def wake_all(self) -> None:
        self._queued()
        for waiter in self._waiting:
            waiter.wake()

    async def heed(self, hints: QueueHints) -> None:
        """Wakes a claim for each run that another process queues, until the hints break off."""
        async for processor in hints.queued():
            self.wake_one(processor)

    def _queued(self) -> None:
        self._wakes += 1
        self._good_until.clear()
