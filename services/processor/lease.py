"""The lease of one run: kept by heartbeats, lost when job says so or nothing was heard from it for too long."""

import asyncio

from common.contracts.job import ClaimedRun, Heartbeat
from common.errors import Problem
from services.processor.ports import Job
from services.processor.retry import until_answered


class LeaseLost(Exception):  # noqa: N818 - expected whenever a processor was too slow
    """The run isn't ours any more; whatever is still done for it is in vain."""


class Lease:
    """`phase` is what the next heartbeat says that the run is doing."""

    def __init__(self, job: Job, run: ClaimedRun, heartbeat_seconds: float) -> None:
        self.phase = "CLAIMED"
        self._job = job
        self._run = run
        self._heartbeat_seconds = heartbeat_seconds
        self._ends_at = asyncio.get_running_loop().time() + run.lease_seconds

    async def begin(self) -> None:
        """Say that the work begins, which starts the attempt and the full lease. Raises `LeaseLost`."""
        await self._beat()

    async def keep(self) -> None:
        """Heartbeat until cancelled. Raises `LeaseLost`."""
        while True:
            await asyncio.sleep(self._heartbeat_seconds)
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
        await self._job.heartbeat(self._run.id, Heartbeat(fence=self._run.fence, started=True, phase=self.phase))
        self._ends_at = sent_at + self._run.lease_seconds
