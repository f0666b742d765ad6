"""The claims that wait in this process, so that a new run can be handed straight to one of them.

A claim is handed a run only while its last look at the queue found nothing: else the run would overtake those
that wait. What other processes queue is found by looking again, at most two seconds later.
"""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from services.job.ports import Claimed, QueueHints


class Waiter:
    """A claim that waits, with room for some runs of certain processors."""

    def __init__(self, claim_id: str, processors: Sequence[str], room: int) -> None:
        self.claim_id = claim_id
        self.idle = False
        self.reserved = 0
        self.unsure = False
        """A run may be this claim's that it hasn't heard of: the store didn't say what became of it."""
        self._processors = frozenset(processors)
        self._room = room
        self._handed: list[Claimed] = []
        self._woken = asyncio.Event()
        self._resolved = asyncio.Event()
        self._gone = False

    def wants(self, processor: str | None) -> bool:
        return processor is None or processor in self._processors

    def takes(self, processor: str) -> bool:
        """Whether a new run may be handed to it. Once it has one it is on its way back with it."""
        return self.idle and not self._handed and self.reserved < self._room and processor in self._processors

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

    async def wait(self, seconds: float) -> list[Claimed]:
        """The runs that were handed to it; none after so many seconds, or when woken to look itself."""
        self.idle = True
        try:
            async with asyncio.timeout(seconds):
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
    """All of them, those that have waited longest first."""

    def __init__(self) -> None:
        self._waiting: dict[Waiter, None] = {}

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

    def wake_one(self, processor: str | None) -> None:
        """A run has been queued, so one claim more should look."""
        for waiter in self._waiting:
            if waiter.wants(processor) and waiter.wake():
                return

    def wake_all(self) -> None:
        for waiter in self._waiting:
            waiter.wake()

    async def heed(self, hints: QueueHints) -> None:
        """Wakes a claim for each run that another process queues, until the hints break off."""
        async for processor in hints.queued():
            self.wake_one(processor)
