"""Runs are submitted, claimed, worked on and ended."""

import asyncio
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

from common.contracts.job import (
    ClaimedRun,
    ClaimRequest,
    Complete,
    Fail,
    Heartbeat,
    RunAccepted,
    RunStatus,
    RunSubmit,
    StatusResponse,
)
from common.crash import crash_at
from common.errors import Invalid, NotFound, StaleFence
from common.ids import is_job_id
from services.job.domain.rules import FINAL, RetryPolicy, retry_after
from services.job.domain.tenants import Tenants
from services.job.ports import Claimed, Handover, RunStore
from services.job.use_cases.admission import Admission
from services.job.use_cases.waiting import Waiter, Waiters

POLL_SECONDS = 2.0
FIRST_FENCE = 1


@dataclass(frozen=True, slots=True)
class Leases:
    """How long a claimed run has to start, and a started one to heartbeat, in seconds."""

    start_seconds: float
    lease_seconds: float


class Queue:
    """`on_end` is called with each run that ended here. While `stopping` is true, no claim waits."""

    def __init__(
        self,
        store: RunStore,
        leases: Leases,
        retry: RetryPolicy,
        *,
        on_end: Callable[[RunStatus], None],
        tenants: Tenants | None = None,
        stopping: Callable[[], bool] = lambda: False,
        poll_seconds: float = POLL_SECONDS,
    ) -> None:
        self._store = store
        self._leases = leases
        self._retry = retry
        self._report_end = on_end
        self._tenants = tenants or Tenants()
        self._admission = Admission(store, self._tenants)
        self._stopping = stopping
        self.waiters = Waiters(poll_seconds)

    async def submit(self, run: RunSubmit) -> tuple[RunAccepted, bool]:
        """Queue a run once, or hand it straight to a claim that waits. Returns whether this call created it.

        Raises `TooManyRequests` when its tenant has too many queued; then nothing is kept.
        """
        if not is_job_id(run.id):
            raise Invalid(errors=[{"pointer": "/id", "detail": "This is no id of a job."}])
        # A claim counts what runs of a tenant with a limit, so its runs go through the queue.
        limited = self._tenants.of(run.tenant).max_running is not None
        waiter = None if limited else self.waiters.reserve(run.processor)
        if waiter is not None:
            return await self._hand_over(run, waiter)
        await self._admission.admit(run)
        submitted = await self._store.submit(run)
        if submitted.created:
            self.waiters.wake_one(run.processor)
        return RunAccepted(id=run.id, status=submitted.state), submitted.created

    async def _hand_over(self, run: RunSubmit, waiter: Waiter) -> tuple[RunAccepted, bool]:
        claimed = None
        try:
            submitted = await self._store.submit(run, Handover(waiter.claim_id, self._leases.start_seconds))
            if submitted.created:
                crash_at("job.claimed")
                claimed = Claimed(run, FIRST_FENCE, run.deadline_seconds)
        finally:
            taken = waiter.hand(claimed)
        if not taken:
            # It may have been cancelled meanwhile, or have lapsed.
            with suppress(StaleFence):
                await self._store.release(run.id, FIRST_FENCE)
            self.waiters.wake_one(run.processor)
        return RunAccepted(id=run.id, status=submitted.state), submitted.created

    async def claim(self, request: ClaimRequest) -> list[ClaimedRun]:
        """The runs of this claim. Waits up to `request.wait_seconds` for a first one."""
        clock = asyncio.get_running_loop()
        deadline = clock.time() + request.wait_seconds
        with self.waiters.entered(Waiter(request.claim_id, request.processors, request.max)) as waiter:
            while True:
                first = request.first and not waiter.unsure
                look = partial(
                    self._store.claim,
                    request.claim_id,
                    request.processors,
                    request.max,
                    self._leases.start_seconds,
                    first=first,
                )
                runs = await self.waiters.look(waiter, look, alone=not first)
                if runs:
                    crash_at("job.claimed")
                remaining = deadline - clock.time()
                if not runs and remaining > 0 and not self._stopping():
                    runs = await waiter.wait(deadline)
                    remaining = deadline - clock.time()
                if runs or remaining <= 0 or self._stopping():
                    return [self._on_wire(claimed) for claimed in runs]

    async def heartbeat(self, run_id: str, beat: Heartbeat) -> None:
        await self._store.heartbeat(
            run_id,
            beat.fence,
            self._leases.lease_seconds,
            started=beat.started,
            phase=beat.phase,
            progress=beat.progress,
        )

    async def complete(self, run_id: str, completion: Complete) -> list[ClaimedRun]:
        """Ends the run; returns the runs of the claim that came along, without waiting for any."""
        ended = await self._store.complete(run_id, completion.fence, completion.outputs)
        if ended is not None:
            self._on_end(ended)
        if completion.claim is None:
            return []
        # Whoever completes again may claim again.
        changes = {"wait_seconds": 0, "first": completion.claim.first and ended is not None}
        return await self.claim(completion.claim.model_copy(update=changes))

    async def fail(self, run_id: str, failure: Fail) -> None:
        """Ends the run, or queues it again if its error is of a kind that may pass."""
        retry = retry_after(failure.error, self._retry)
        failed = await self._store.fail(run_id, failure.fence, failure.error, retry)
        if failed.status in FINAL:
            self._on_end(failed)

    async def release(self, run_id: str, fence: int) -> None:
        await self._store.release(run_id, fence)
        self.waiters.wake_all()

    async def cancel(self, run_id: str) -> RunStatus:
        """Ends the run unless it has ended, also before it was submitted; returns how it has ended."""
        verdict = await self._store.cancel(_checked(run_id))
        if self._tenants.limit_running:
            # Its tenant may have been at its limit, with runs that wait for just this.
            self.waiters.wake_all()
        return verdict

    async def delete(self, run_id: str) -> None:
        """Forgets a run that has ended. Raises `Conflict` while it hasn't."""
        await self._store.delete(_checked(run_id))

    async def status(self, run_id: str, live: Collection[str]) -> RunStatus:
        for status in await self._store.statuses([run_id], live):
            return status
        raise NotFound

    async def statuses(self, ids: Sequence[str], live: Collection[str]) -> StatusResponse:
        """`live` is all that a run may want and be taken now."""
        return StatusResponse.of(await self._store.statuses(ids, live))

    async def sweep(self) -> int:
        """Ends runs that are past their deadline, and takes back those whose lease has lapsed."""
        swept = await self._store.sweep(self._retry)
        if swept:
            self.waiters.wake_all()
        return swept

    def _on_end(self, run: RunStatus) -> None:
        self._report_end(run)
        if self._tenants.limit_running:
            # Its tenant may have been at its limit, with runs that wait for just this.
            self.waiters.wake_all()

    def _on_wire(self, claimed: Claimed) -> ClaimedRun:
        return ClaimedRun(
            id=claimed.run.id,
            fence=claimed.fence,
            lease_seconds=self._leases.lease_seconds,
            deadline_seconds=claimed.deadline_seconds,
            inputs=claimed.run.inputs,
            processor=claimed.run.processor,
            params=claimed.run.params,
            alone=claimed.alone,
            traceparent=claimed.run.traceparent,
        )


def _checked(run_id: str) -> str:
    if not is_job_id(run_id):
        raise NotFound
    return run_id
