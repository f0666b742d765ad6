"""Every run that has ended is reported to front, until front has settled it.

What ends in this process is reported at once. A loop over what is due, in every process, takes care of the
rest: of what a crash, a full queue or an absent front left over.
"""

import asyncio
from collections.abc import Callable

from common.coalescer import let_others_join
from common.contracts.job import RunStatus, messages
from common.errors import Problem
from common.logging import get_logger
from services.job.ports import FrontReports, RunStore

PAGE_SIZE = 500
MOST_WAITING = 20_000
MOST_OUTPUTS_WAITING = 50_000

log = get_logger()


class Reporter:
    """Reports to front. Nothing is lost with it: the store knows what front has not settled. `on_settled` is called
    with each run that front has, once unless a crash comes in between.
    """

    def __init__(self, store: RunStore, front: FrontReports, on_settled: Callable[[RunStatus], None]) -> None:
        self._store = store
        self._front = front
        self._on_settled = on_settled
        self._ended: asyncio.Queue[RunStatus] = asyncio.Queue(MOST_WAITING)
        self._outputs_waiting = 0
        self._settled: list[str] = []

    def ended(self, run: RunStatus) -> None:
        """What there is no room for is reported when it is due."""
        if not self._ended.full() and self._outputs_waiting + len(run.outputs) <= MOST_OUTPUTS_WAITING:
            self._ended.put_nowait(run)
            self._outputs_waiting += len(run.outputs)

    async def report_ended(self) -> None:
        """Waits for runs that end here, and reports those that have gathered."""
        runs = [await self._ended.get()]
        await let_others_join()
        while len(runs) < PAGE_SIZE and not self._ended.empty():
            runs.append(self._ended.get_nowait())
        self._outputs_waiting -= sum(len(run.outputs) for run in runs)
        await self._report(runs)

    async def report_due(self) -> None:
        """Reports what is due, until nothing is or front can't be reached."""
        while runs := await self._store.claim_reports(PAGE_SIZE):
            if not await self._report(runs):
                return

    async def write_settled(self) -> None:
        """Writes down what front has settled since the last time. What gets lost here is reported once more."""
        settled, self._settled = self._settled, []
        if settled:
            await self._store.settle(settled)

    async def _report(self, runs: list[RunStatus]) -> bool:
        """Whether front took them all. What it doesn't take keeps nothing else from it."""
        return all([await self._send(some) for some in messages(runs)])

    async def _send(self, runs: list[RunStatus]) -> bool:
        try:
            settled = await self._front.report(runs)
        except Problem as problem:
            log.warning("report.failed", problem=problem.slug, detail=problem.detail, runs=len(runs))
            return False
        self._settled += settled
        for run in runs:
            if run.id in settled:
                self._on_settled(run)
        return True
