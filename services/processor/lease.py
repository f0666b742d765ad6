"""The lease of one run: kept by heartbeats, lost when job says so or nothing was heard from it for too long."""

import asyncio
import contextlib
from collections.abc import Callable

from common.contracts.job import ClaimedRun, Heartbeat
from common.errors import Problem
from services.processor.ports import Job
from services.processor.retry import until_answered

# News is told no more often than this, so that a short run costs no call.
NEWS_SECONDS = 1.0


class LeaseLost(Exception):  # noqa: N818 - expected whenever a processor was too slow
    """The run isn't ours any more; whatever is still done for it is in vain."""


class Lease:
    """Each heartbeat says what the run is doing, and how far it is; it comes sooner when that is something new."""

    def __init__(self, job: Job, run: ClaimedRun, heartbeat_seconds: float) -> None:
        self._phase = "CLAIMED"
        self._started = False
        self._progress: Callable[[], float | None] = lambda: None
        self._news = asyncio.Event()
        self._job = job
        self._run = run
        self._heartbeat_seconds = heartbeat_seconds
        self._ends_at = asyncio.get_running_loop().time() + run.lease_seconds

    def enter(self, phase: str, progress: Callable[[], float | None] | None = None) -> None:
        """A new phase begins. `progress` is asked, now and then, how far from 0 to 1 the work is."""
        self._phase = phase
        self._progress = progress or self._progress
        self._news.set()

    async def hold(self) -> None:
        """Say that the work will begin later. Raises `LeaseLost`."""
        await self._beat()

    async def begin(self) -> None:
        """Say that the work begins, which starts the attempt. Raises `LeaseLost`."""
        self._started = True
        await self._beat()

    async def keep(self) -> None:
        """Heartbeat until cancelled. Raises `LeaseLost`."""
        pause = min(NEWS_SECONDS, self._heartbeat_seconds)
        while True:
            await asyncio.sleep(pause)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._heartbeat_seconds - pause):
                    await self._news.wait()
            self._news.clear()
            await self._beat()

    async def _beat(self) -> None:
        try:
            async with asyncio.timeout_at(self._ends_at):
                await until_answered(self._send, "heartbeat")
        except TimeoutError:
            raise LeaseLost("No heartbeat was answered for as long as the lease lasts.") from None
        except Problem as problem:
            raise LeaseLost(problem.detail) from problem

    async def _send(self) -> None:
        # Counted from before the call: job's clock for the lease can't have started earlier.
        sent_at = asyncio.get_running_loop().time()
        beat = Heartbeat(fence=self._run.fence, started=self._started, phase=self._phase, progress=self._progress())
        await self._job.heartbeat(self._run.id, beat)
        self._ends_at = sent_at + self._run.lease_seconds
