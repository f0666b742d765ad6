"""The lease of one run: kept by heartbeats, lost when job refuses one, or none was confirmed for too long."""

import asyncio
import contextlib
from collections.abc import Callable

from common.contracts.job import ClaimedRun, Heartbeat
from common.errors import Problem
from services.processor.ports import Runs
from services.processor.retry import until_responded

# A change is sent no more often than this, so that a short run costs no call.
CHANGE_SECONDS = 1.0


class LeaseLost(Exception):  # noqa: N818 - expected whenever a processor was too slow
    """The run isn't ours any more; whatever is still done for it is in vain."""


class Lease:
    """Each heartbeat has the phase and progress of the run; it is sent sooner when the phase changes."""

    def __init__(self, runs: Runs, run: ClaimedRun, heartbeat_seconds: float) -> None:
        self._phase = "CLAIMED"
        self._started = False
        self._progress: Callable[[], float | None] = lambda: None
        self._changed = asyncio.Event()
        self._runs = runs
        self._run = run
        self._heartbeat_seconds = heartbeat_seconds
        self._ends_at = asyncio.get_running_loop().time() + run.lease_seconds

    def enter(self, phase: str, progress: Callable[[], float | None] | None = None) -> None:
        """A new phase begins. `progress` is asked, now and then, how far from 0 to 1 the work is."""
        self._phase = phase
        self._progress = progress or self._progress
        self._changed.set()

    async def reserve(self) -> None:
        """Renew the lease of work that will begin later. Raises `LeaseLost`."""
        await self._beat()

    async def begin(self) -> None:
        """Start the attempt. Raises `LeaseLost`."""
        self._started = True
        await self._beat()

    async def keep(self) -> None:
        """Heartbeat until cancelled. Raises `LeaseLost`."""
        pause = min(CHANGE_SECONDS, self._heartbeat_seconds)
        while True:
            await asyncio.sleep(pause)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._heartbeat_seconds - pause):
                    await self._changed.wait()
            self._changed.clear()
            await self._beat()

    async def _beat(self) -> None:
        try:
            async with asyncio.timeout_at(self._ends_at):
                await until_responded(self._send, "heartbeat")
        except TimeoutError:
            raise LeaseLost("No heartbeat was answered for as long as the lease lasts.") from None
        except Problem as problem:
            raise LeaseLost(problem.detail) from problem

    async def _send(self) -> None:
        # Counted from before the call: job's clock for the lease can't have started earlier.
        sent_at = asyncio.get_running_loop().time()
        beat = Heartbeat(fence=self._run.fence, started=self._started, phase=self._phase, progress=self._progress())
        await self._runs.heartbeat(self._run.id, beat)
        self._ends_at = sent_at + self._run.lease_seconds
