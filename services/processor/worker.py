"""The worker: offers what it can run, claims runs, sees each to its report, and stops without losing one.

A run that has to be worked on alone waits for those under way. Until it is over nothing is claimed, and what comes all
the same is given back: whichever run is beside another when a processor dies may have ended it.
"""

import asyncio
import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

import structlog

from common import telemetry
from common.contracts.job import ClaimedRun, ClaimRequest, Complete, Fail, Release, RunError
from common.crash import crash_at
from common.errors import Problem, StaleFence
from common.ids import new_id
from common.logging import get_logger
from common.retries import pauses
from gristmill.wire import versions
from services.processor.attempt import Attempts
from services.processor.lease import Lease, LeaseLost
from services.processor.ports import Runs
from services.processor.registry import offers
from services.processor.retry import until_responded
from services.processor.sandbox.process import RunFailed

log = get_logger()

GIVE_BACK_SECONDS = 5


@dataclass(frozen=True, slots=True)
class Pace:
    """How many runs at once, and how often and how long things are done, in seconds."""

    slots: int = 1
    heartbeat_seconds: float = 10
    offer_seconds: float = 30
    claim_wait_seconds: float = 20
    drain_seconds: float = 20


class Worker:
    """Each slot works on one run at a time. Nothing that job or blob does ends the worker; only `stop` does."""

    def __init__(self, runs: Runs, attempts: Attempts, pace: Pace) -> None:
        self._runs = runs
        self._attempts = attempts
        self._pace = pace
        self._stopping = asyncio.Event()
        self._working: set[asyncio.Task[None]] = set()
        self._freed = asyncio.Event()
        self._one_alone = False
        # Each under its name and under every version that a run may ask for.
        self._offered = [
            wanted
            for processor in attempts.processors.values()
            for wanted in versions.offered_as(processor.name, processor.version)
        ]

    def stop(self) -> None:
        """Claim no more; what runs may end within the drain time, and is given back after it."""
        log.info("worker.stopping")
        self._stopping.set()

    async def run(self) -> None:
        """Work until `stop`."""
        async with asyncio.TaskGroup() as group:
            beside = [group.create_task(self._offer()), group.create_task(self._fill(group))]
            await self._stopping.wait()
            for task in beside:
                task.cancel()
            # Together with the claim: a run that came with its cancellation is here.
            await asyncio.wait(beside)
            if self._working:
                _, late = await asyncio.wait(self._working, timeout=self._pace.drain_seconds)
                for task in late:
                    task.cancel()

    async def _offer(self) -> None:
        mine = offers(self._attempts.processors.values())
        pause = pauses()
        while True:
            try:
                await self._runs.offer(mine)
            except Problem as problem:
                log.warning("offer.failed", error=type(problem).__name__, detail=problem.detail)
                await asyncio.sleep(next(pause))
            else:
                pause = pauses()
                await asyncio.sleep(self._pace.offer_seconds)

    async def _fill(self, group: asyncio.TaskGroup) -> None:
        """Claim as many runs as there are free slots, in one call, for as long as there are any."""
        while True:
            self._freed.clear()
            free = self._pace.slots - len(self._working)
            if free == 0 or self._one_alone:
                await self._freed.wait()
                continue
            for run in await self._claim(free):
                slot = group.create_task(self._slot(run))
                self._working.add(slot)
                slot.add_done_callback(self._free)

    def _free(self, slot: asyncio.Task[None]) -> None:
        self._working.remove(slot)
        self._freed.set()

    async def _slot(self, run: ClaimedRun | None) -> None:
        """Work on a run, and on those that come with the responses to its report."""
        while run is not None:
            if self._stopping.is_set() or self._one_alone:
                return await self._give_back(run)
            with (
                self._place_for(run),
                structlog.contextvars.bound_contextvars(run=run.id, fence=run.fence),
                telemetry.span(f"run {run.processor}", kind="CONSUMER", parent=run.traceparent),
            ):
                run = await self._see_through(run)
        return None

    @contextlib.contextmanager
    def _place_for(self, run: ClaimedRun) -> Iterator[None]:
        if not run.alone:
            yield
            return
        self._one_alone = True
        try:
            yield
        finally:
            self._one_alone = False
            self._freed.set()

    async def _others_over(self) -> None:
        if others := self._working - {asyncio.current_task()}:
            await asyncio.wait(others)

    async def _claim(self, most: int) -> list[ClaimedRun]:
        """The next runs, or none in time. A response that was lost is asked for again by the same claim id."""
        request = self._claim_request(most, self._pace.claim_wait_seconds)
        pause = pauses()
        while True:
            try:
                return await self._runs.claim(request)
            except Problem as problem:
                log.warning("claim.failed", error=type(problem).__name__, detail=problem.detail)
                request = request.model_copy(update={"first": False})
                await asyncio.sleep(next(pause))

    def _claim_request(self, most: int, wait_seconds: float) -> ClaimRequest:
        return ClaimRequest(
            claim_id=new_id(), processors=self._offered, max=most, wait_seconds=wait_seconds, first=True
        )

    async def _see_through(self, run: ClaimedRun) -> ClaimedRun | None:
        """Work on a run and report it; returns the next run, when one came with the response."""
        log.info("run.claimed", processor=run.processor)
        try:
            outcome = await self._work(run)
            return None if outcome is None else await self._report(run, outcome)
        except asyncio.CancelledError:  # the drain time is over
            await self._give_back(run)
            raise

    async def _work(self, run: ClaimedRun) -> Complete | Fail | None:
        """The report to make; None when the run isn't ours any more."""
        outcome: Complete | Fail | None = None
        try:
            async with asyncio.TaskGroup() as group:
                lease = Lease(self._runs, run, self._pace.heartbeat_seconds)
                await (lease.reserve() if run.alone else lease.begin())
                keeping = group.create_task(lease.keep())  # when it fails, the group cancels the work
                if run.alone:
                    await self._others_over()
                    await lease.begin()
                outcome = await self._outcome(run, lease)
                keeping.cancel()
        except* LeaseLost as lost:
            log.warning("run.lost", reason=str(lost.exceptions[0]))
        return outcome

    async def _outcome(self, run: ClaimedRun, lease: Lease) -> Complete | Fail:
        try:
            outputs = await self._attempts.make(run, lease)
        except RunFailed as failed:
            return _failure(run, failed)
        except Exception:
            log.exception("run.unforeseen")
            return _failure(run, RunFailed("internal"))
        another_waits = self._one_alone and not run.alone
        claim = None if self._stopping.is_set() or another_waits else self._claim_request(1, 0)
        return Complete(fence=run.fence, outputs=outputs, claim=claim)

    async def _report(self, run: ClaimedRun, outcome: Complete | Fail) -> ClaimedRun | None:
        """Repeated until job answers: the work is done, and must not be done again for want of a reply."""
        try:
            if isinstance(outcome, Fail):
                await until_responded(lambda: self._runs.fail(run.id, outcome), "fail")
                log.info("run.failed", type=outcome.error.type)
                return None
            runs = await until_responded(lambda: self._runs.complete(run.id, outcome), "complete")
        except StaleFence:
            log.warning("run.lost", reason="The report came too late.")
            return None
        except Problem as problem:
            log.error("report.refused", error=type(problem).__name__, detail=problem.detail)
            return None
        crash_at("processor.completed")
        log.info("run.completed", outputs=len(outcome.outputs))
        return runs[0] if runs else None

    async def _give_back(self, run: ClaimedRun) -> None:
        """Best effort: a run that can't be given back lapses."""
        with contextlib.suppress(Problem, TimeoutError):
            async with asyncio.timeout(GIVE_BACK_SECONDS):
                await until_responded(lambda: self._runs.release(run.id, Release(fence=run.fence)), "release")
                log.info("run.given_back", run=run.id)


def _failure(run: ClaimedRun, failed: RunFailed) -> Fail:
    return Fail(fence=run.fence, error=RunError(type=failed.type, detail=failed.detail))
