"""The queue in memory, with a clock that tests move."""

import random
from collections import Counter, defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from common.contracts.job import OutputInfo, RunError, RunState, RunStatus, RunSubmit
from common.errors import Conflict, StaleFence
from services.job.domain.fairness import Flow, charges, deal, flow_key, starts_before
from services.job.domain.rules import DEADLINE, FINAL, POISON, TRANSITIONS, RetryPolicy, phase_of
from services.job.domain.tenants import Tenants
from services.job.ports import Claimed, Handover, Submitted

REPORT_GRACE_SECONDS = 5
REPORT_AGAIN_SECONDS = 2


@dataclass
class StoredRun:
    """One run; times are seconds of the fake's clock."""

    run: RunSubmit
    available_at: float
    state: RunState = RunState.QUEUED
    fence: int = 0
    attempt: int = 0
    lapses: int = 0
    alone: bool = False
    started: bool = False
    lease_until: float = 0
    claim_id: str | None = None
    phase: str | None = None
    progress: float | None = None
    deadline_at: float | None = None
    queued_at: float = 0
    started_at: float | None = None
    ended_at: float | None = None
    outputs: list[OutputInfo] = field(default_factory=list)
    error: RunError | None = None
    report_due_at: float | None = None

    def become(self, state: RunState) -> None:
        assert state in TRANSITIONS[self.state], (self.state, state)
        self.state = state

    def status(self, live: Collection[str] | None = None) -> RunStatus:
        can_be_taken = live is None or self.run.processor in live
        return RunStatus(
            id=self.run.id,
            status=self.state,
            fence=self.fence,
            attempt=self.attempt,
            phase=phase_of(self.state, self.started, self.phase, can_be_taken),
            progress=self.progress,
            queued_at=moment(self.queued_at),
            started_at=moment(self.started_at),
            ended_at=moment(self.ended_at),
            outputs=self.outputs,
            error=self.error,
        )


def moment(seconds: float | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)


class FakeRunStore:
    """A `RunStore`; `now` is its clock."""

    def __init__(self, tenants: Tenants | None = None) -> None:
        self.now = 0.0
        self.runs: dict[str, StoredRun] = {}
        self.tombstones: dict[str, RunStatus] = {}
        self.deleted: dict[str, RunStatus] = {}
        self._tenants = tenants or Tenants()
        self._flows: dict[str, Flow] = {}
        self._clocks: dict[str, float] = defaultdict(float)

    async def submit(self, run: RunSubmit, handover: Handover | None = None) -> Submitted:
        if over := self.tombstones.get(run.id) or self.deleted.get(run.id):
            return Submitted(over.status, created=False)
        if run.id in self.runs:
            return Submitted(self.runs[run.id].state, created=False)
        stored = self.runs[run.id] = StoredRun(run, self.now, queued_at=self.now)
        if run.deadline_seconds is not None:
            stored.deadline_at = self.now + run.deadline_seconds
        if handover is not None:
            self._take(stored, handover.claim_id, handover.start_seconds)
        return Submitted(stored.state, created=True)

    async def queued_estimate(self, tenant: str) -> int:
        return sum(stored.run.tenant == tenant and stored.state == RunState.QUEUED for stored in self.runs.values())

    async def queued_count(self, tenant: str) -> int:
        return await self.queued_estimate(tenant)

    async def claim(
        self, claim_id: str, processors: Sequence[str], limit: int, start_seconds: float, *, first: bool = False
    ) -> Sequence[Claimed]:
        mine = [stored for stored in self.runs.values() if stored.claim_id == claim_id and not first]
        if not mine:
            mine = self._next_due(processors, limit)
            for stored in mine:
                self._take(stored, claim_id, start_seconds)
        return [
            Claimed(stored.run, stored.fence, stored.deadline_at and stored.deadline_at - self.now, stored.alone)
            for stored in mine[:limit]
        ]

    async def heartbeat(
        self,
        run_id: str,
        fence: int,
        lease_seconds: float,
        *,
        started: bool,
        phase: str | None = None,
        progress: float | None = None,
    ) -> None:
        stored = self._held(run_id, fence)
        if started and not stored.started:
            stored.started_at = self.now
        stored.attempt += started and not stored.started
        stored.started |= started
        stored.phase = phase or stored.phase
        stored.progress = stored.progress if progress is None else progress
        stored.lease_until = self.now + lease_seconds

    async def complete(self, run_id: str, fence: int, outputs: Sequence[OutputInfo]) -> RunStatus | None:
        there = self.runs.get(run_id)
        if there and there.state == RunState.SUCCESS and there.fence == fence:
            return None
        stored = self._held(run_id, fence)
        stored.attempt += not stored.started
        stored.outputs = list(outputs)
        self._leave(stored, RunState.SUCCESS, REPORT_GRACE_SECONDS)
        return stored.status()

    async def fail(self, run_id: str, fence: int, error: RunError, retry: RetryPolicy | None) -> RunStatus:
        stored = self._held(run_id, fence)
        stored.attempt += not stored.started
        if retry and retry.allows_another(stored.attempt):
            stored.available_at = self.now + retry.backoff(stored.attempt, random.random())
        self._retry_or_end(stored, retry, stored.attempt, error, REPORT_GRACE_SECONDS)
        return stored.status()

    async def release(self, run_id: str, fence: int) -> None:
        stored = self._held(run_id, fence)
        stored.attempt -= stored.started
        stored.fence += 1
        self._leave(stored, RunState.QUEUED)

    async def sweep(self, retry: RetryPolicy) -> int:
        late = [stored for stored in self.runs.values() if stored.state not in FINAL and self._late(stored)]
        for stored in late:
            stored.fence += 1
            stored.error = DEADLINE
            self._leave(stored, RunState.FAILED)
        lapsed = [s for s in self.runs.values() if s.state == RunState.RUNNING and s.lease_until <= self.now]
        for stored in lapsed:
            stored.fence += 1
            if stored.started:
                stored.lapses += 1
                stored.alone = not retry.allows_another(stored.lapses + 1)
                self._retry_or_end(stored, retry, stored.lapses, POISON, 0)
            else:
                self._leave(stored, RunState.QUEUED)
        return len(late) + len(lapsed)

    async def cancel(self, run_id: str) -> RunStatus:
        if run_id in self.deleted:
            return self.deleted[run_id]
        if run_id not in self.runs:
            buried = RunStatus(id=run_id, status=RunState.CANCELLED, fence=0, attempt=0, ended_at=moment(self.now))
            return self.tombstones.setdefault(run_id, buried)
        stored = self.runs[run_id]
        if stored.state not in FINAL:
            stored.fence += 1
            self._leave(stored, RunState.CANCELLED)
        return stored.status()

    async def delete(self, run_id: str) -> None:
        for status in await self.statuses([run_id]):
            if status.status not in FINAL:
                raise Conflict
            self.deleted[run_id] = RunStatus(
                id=run_id, status=status.status, fence=status.fence, attempt=status.attempt
            )
            self.runs.pop(run_id, None)
            self.tombstones.pop(run_id, None)

    async def statuses(self, ids: Sequence[str], live: Collection[str] | None = None) -> list[RunStatus]:
        found = [self._status(self.runs[run_id], live) for run_id in set(ids) if run_id in self.runs]
        return found + [self.tombstones[run_id] for run_id in set(ids) if run_id in self.tombstones]

    async def claim_reports(self, limit: int) -> list[RunStatus]:
        due = [s for s in self.runs.values() if s.report_due_at is not None and s.report_due_at <= self.now][:limit]
        for stored in due:
            stored.report_due_at = self.now + REPORT_AGAIN_SECONDS
        return [stored.status() for stored in due]

    async def settle(self, ids: Sequence[str]) -> None:
        for run_id in ids:
            if run_id in self.runs:
                self.runs[run_id].report_due_at = None

    def _late(self, stored: StoredRun) -> bool:
        return stored.deadline_at is not None and stored.deadline_at <= self.now

    def _status(self, stored: StoredRun, live: Collection[str] | None) -> RunStatus:
        if stored.state != RunState.QUEUED:
            return stored.status(live)
        processor, tenant = stored.run.processor, stored.run.tenant
        line = sorted(
            (other.available_at, other.run.id, other.run.tenant)
            for other in self.runs.values()
            if other.state == RunState.QUEUED and other.run.processor == processor
        )
        flows = []
        for name, queued in Counter(of for _, _, of in line).items():
            flows.append(self._flows.setdefault(flow_key(processor, name), Flow(processor, name)))
            flows[-1].queued = queued
        ahead = [run_id for _, run_id, of in line if of == tenant].index(stored.run.id)
        own = self._flows[flow_key(processor, tenant)]
        position = starts_before(own, ahead, flows, self._clocks[processor], self._tenants)
        return stored.status(live).model_copy(update={"queue_position": position})

    def _next_due(self, processors: Sequence[str], limit: int) -> list[StoredRun]:
        due: dict[str, list[StoredRun]] = defaultdict(list)
        for stored in sorted(self.runs.values(), key=lambda stored: (stored.available_at, stored.run.id)):
            wanted = stored.run.processor in processors
            if (
                wanted
                and stored.state == RunState.QUEUED
                and stored.available_at <= self.now
                and not self._late(stored)
            ):
                due[flow_key(stored.run.processor, stored.run.tenant)].append(stored)
        for key, waiting in due.items():
            first = waiting[0].run
            self._flows.setdefault(key, Flow(first.processor, first.tenant)).queued = len(waiting)
        flows, clock = [self._flows[key] for key in due], max(self._clocks[name] for name in processors)
        running = Counter(stored.run.tenant for stored in self.runs.values() if stored.state == RunState.RUNNING)
        room = {flow.tenant: self._tenants.room(flow.tenant, running[flow.tenant]) for flow in flows}
        dealt = [flow.key for flow in deal(flows, clock, limit, self._tenants, room)]
        taken = [due[key].pop(0) for key in dealt if due[key]]
        served = Counter(flow_key(stored.run.processor, stored.run.tenant) for stored in taken)
        owed = charges(flows, clock, served, self._tenants)
        for flow in self._flows.values():
            if flow.tenant in owed and flow.processor in processors:
                flow.tag = max(flow.tag, owed[flow.tenant].start) + owed[flow.tenant].cost
            if flow.key in served:
                flow.last_start = owed[flow.tenant].clock
                self._clocks[flow.processor] = max(self._clocks[flow.processor], flow.last_start)
        return taken

    def _take(self, stored: StoredRun, claim_id: str, start_seconds: float) -> None:
        stored.become(RunState.RUNNING)
        stored.fence += 1
        stored.claim_id = claim_id
        stored.lease_until = self.now + start_seconds

    def _held(self, run_id: str, fence: int) -> StoredRun:
        stored = self.runs.get(run_id)
        if stored is None or stored.fence != fence or stored.state != RunState.RUNNING:
            raise StaleFence
        return stored

    def _retry_or_end(
        self, stored: StoredRun, retry: RetryPolicy | None, times: int, error: RunError, report_seconds: float
    ) -> None:
        if retry and retry.allows_another(times):
            self._leave(stored, RunState.QUEUED)
        else:
            stored.error = error
            self._leave(stored, RunState.FAILED, report_seconds)

    def _leave(self, stored: StoredRun, state: RunState, report_seconds: float = 0) -> None:
        stored.become(state)
        stored.started, stored.claim_id, stored.phase, stored.progress = False, None, None, None
        if state not in FINAL:
            stored.started_at = None
        else:
            stored.ended_at = self.now
            stored.report_due_at = self.now + report_seconds
