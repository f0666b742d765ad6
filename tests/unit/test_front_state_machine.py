"""Whatever crashes, is repeated, lapses or comes late: a job follows the table, comes to its end, and leaves no bytes
behind when its time is over.
"""

import asyncio
from collections.abc import Coroutine
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule

from common.contracts.job import RunState
from common.errors import NotFound
from common.ids import input_blob_id, new_id, output_blob_id
from services.front.domain.job import TRANSITIONS, Job, NewJob, Owner, Status
from services.front.domain.retention import Retention
from services.front.use_cases.advance import Advance
from services.front.use_cases.cancel import CancelJob
from services.front.use_cases.delete import DeleteJob
from services.front.use_cases.reports import TakeReports
from services.front.use_cases.tracking.recover import Recover
from services.front.use_cases.tracking.retire import Retire
from tests.fakes.front_ports import Crash, Fuse, Fused, MemoryBlobs, MemoryRuns
from tests.fakes.job_store import Clock, MemoryInlineStore, MemoryJobStore, MemoryRetentionStore

LEASE, ASK = 15.0, 60.0
KEPT, GRACE, RECORD = 1_000, 100.0, 5_000.0
retentions = st.builds(Retention, st.just(KEPT), st.booleans())
# How many calls a process makes before it dies, and whether the last one takes hold; None: it lives.
crashes = st.tuples(st.none() | st.integers(0, 6), st.booleans())


class JobStates(RuleBasedStateMachine):
    """Processes come and go over stores that last; the model is what each job was promised and was last seen as."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.clock, self.fuse = Clock(), Fuse()
        self.jobs, self.inline = MemoryJobStore(self.clock), MemoryInlineStore(self.clock)
        self.blobs, self.runs = MemoryBlobs(), MemoryRuns()
        self.retention = MemoryRetentionStore(self.jobs)
        fused = [Fused(part, self.fuse) for part in (self.jobs, self.inline, self.blobs, self.runs)]
        self.fused_retention = Fused(self.retention, self.fuse)
        self.fused_jobs, self.fused_inline, self.fused_blobs, self.fused_runs = fused
        self.advance = Advance(*fused, lease_seconds=LEASE, ask_seconds=ASK)
        self.acknowledged: set[str] = set()
        self.handed_over: set[str] = set()
        self.asked_to_cancel: set[str] = set()
        self.promised_to_cancel: set[str] = set()
        self.lost_inputs: set[str] = set()
        self.seen: dict[str, Job] = {}
        self.first_seen: dict[str, Job] = {}
        self.read_at: dict[str, datetime] = {}

    created = Bundle("created")

    def teardown(self) -> None:
        try:
            self.everything_comes_to_its_end()
            self.and_leaves_nothing_behind()
        finally:
            self.loop.close()

    def everything_comes_to_its_end(self) -> None:
        for job_id in self.acknowledged:
            job = self.now(job_id)
            if job is not None and job.cancel_requested and not self.has_ended(job_id):
                self.promised_to_cancel.add(job_id)
        for _ in range(4):  # enough rounds for the longest way: CREATED, SUBMITTED, asked, reported
            self.clock.forward(ASK + 1)
            self.process(self.recover()())
            for run_id, run in self.runs.known.items():
                if run.status is RunState.QUEUED:
                    self.end(run_id, success=True)
        for job_id in self.acknowledged:
            job = self.now(job_id)
            if self.is_old(job_id):
                continue
            assert job is not None, "an acknowledged job is never lost"
            assert job.status.is_final, f"an acknowledged job reaches its end, not {job.status}"
            assert not job.cancel_requested
            if job.status is Status.STORED_ERROR:
                assert job_id in self.lost_inputs
            if job.status is Status.CANCELLED:
                assert job_id in self.asked_to_cancel
            if job_id in self.promised_to_cancel:
                assert job.status is Status.CANCELLED, "a run that was still to be done when its owner was promised"

    def and_leaves_nothing_behind(self) -> None:
        for job_id in self.acknowledged:
            self.read(job_id)
        for seconds in (0, KEPT, RECORD):
            self.clock.forward(seconds)
            for calls in (*range(8), None):
                self.fuse.set(calls, after=False)
                self.process(self.retire()())
                self.every_job_follows_the_table()
                self.bytes_are_there_until_they_may_go_and_not_when_they_are_said_to_be_gone()
                self.clock.forward(LEASE)
        assert not any(map(self.now, self.acknowledged))
        assert not self.acknowledged & self.runs.known.keys()
        assert not any(map(self.blobs_of, self.acknowledged))

    def process(self, steps: Coroutine[Any, Any, Any]) -> Any:
        """One process doing one thing; None when it died of it."""
        try:
            return self.loop.run_until_complete(steps)
        except Crash:
            return None
        finally:
            self.fuse.set(None, False)

    def now(self, job_id: str) -> Job | None:
        job: Job | None = self.loop.run_until_complete(self.jobs.find(job_id))
        return job

    def recover(self) -> Recover:
        return Recover(self.fused_jobs, self.fused_runs, self.advance, lease_seconds=LEASE, ask_seconds=ASK)

    def retire(self) -> Retire:
        return Retire(
            self.fused_jobs,
            self.fused_retention,
            self.fused_inline,
            self.fused_blobs,
            self.fused_runs,
            keep_inputs=False,
            record_seconds=RECORD,
            hidden_seconds=RECORD,
            lease_seconds=LEASE,
        )

    def is_old(self, job_id: str) -> bool:
        seen = self.seen.get(job_id)
        ended_at = seen.ended_at if seen else None
        return ended_at is not None and (self.clock.now - ended_at).total_seconds() >= RECORD

    def has_ended(self, run_id: str) -> bool:
        run = self.runs.known.get(run_id)
        return run is not None and run.status is not RunState.QUEUED

    def blobs_of(self, job_id: str) -> set[str]:
        return {blob_id for blob_id in self.blobs.kept if job_id in blob_id}

    def end(self, run_id: str, success: bool) -> None:
        """A processor ends a run, which takes the input."""
        assert input_blob_id(run_id) in self.blobs.kept
        if success:
            self.blobs.kept[output_blob_id(run_id, 1, 0)] = b"o"
        self.runs.end(run_id, success)

    @rule(target=created, crash=crashes, retention=retentions)
    def post_json(self, crash: tuple[int | None, bool], retention: Retention) -> str:
        new = NewJob(new_id(), Owner("t", "s"), "n", "text/plain", 2, "checksum", {}, retention=retention)

        async def post() -> None:
            await self.fused_inline.put(new.id, b"ab")
            job = await self.fused_jobs.insert_created(new, LEASE)
            self.acknowledged.add(new.id)
            if await self.advance.hand_over(job):
                self.handed_over.add(job.id)

        self.fuse.set(*crash)
        self.process(post())
        return new.id

    @rule(target=created, crash=crashes, retention=retentions)
    def post_raw(self, crash: tuple[int | None, bool], retention: Retention) -> str:
        job_id = new_id()

        async def post() -> None:
            blob = await self.fused_blobs.put(input_blob_id(job_id), b"ab")
            new = NewJob(job_id, Owner("t", "s"), "n", "text/plain", 2, "checksum", {}, blob.sha256, retention)
            job = await self.fused_jobs.insert_stored(new, LEASE)
            self.acknowledged.add(job_id)
            if await self.advance.hand_over(job):
                self.handed_over.add(job.id)

        self.fuse.set(*crash)
        self.process(post())
        return job_id

    @rule(job_id=created, crash=crashes)
    def front_writes_late_that_job_has_the_run(self, job_id: str, crash: tuple[int | None, bool]) -> None:
        if job_id in self.handed_over:
            self.fuse.set(*crash)
            self.process(self.advance.submitted(job_id))

    @rule(seconds=st.sampled_from([1.0, LEASE, ASK, GRACE, KEPT, RECORD]))
    def time_passes(self, seconds: float) -> None:
        self.clock.forward(seconds)

    @rule(crash=crashes)
    def tracker_works(self, crash: tuple[int | None, bool]) -> None:
        self.fuse.set(*crash)
        self.process(self.recover()())

    @rule(crash=crashes)
    def tracker_retires(self, crash: tuple[int | None, bool]) -> None:
        self.fuse.set(*crash)
        self.process(self.retire()())

    @rule(job_id=created)
    def owner_reads_the_output(self, job_id: str) -> None:
        self.read(job_id)

    def read(self, job_id: str) -> None:
        job = self.now(job_id)
        if job is not None and job.deleted_at is None and job.outputs and not job.bytes_deleted:
            self.loop.run_until_complete(self.retention.output_read(job_id, 0, GRACE))
            if job.retention.until_read:
                self.read_at.setdefault(job_id, self.clock.now)

    @rule(job_id=created, crash=crashes, at_first=st.booleans())
    def late_writer_carries_on_what_it_saw(self, job_id: str, crash: tuple[int | None, bool], at_first: bool) -> None:
        saw = self.first_seen if at_first else self.seen
        if job_id in saw:
            self.fuse.set(*crash)
            self.process(self.advance.carry_on(saw[job_id]))

    @rule(job_id=created, success=st.booleans())
    def run_ends(self, job_id: str, success: bool) -> None:
        run = self.runs.known.get(job_id)
        if run is not None and run.status is RunState.QUEUED:
            self.end(job_id, success)

    @rule(job_id=created, crash=crashes)
    def job_reports(self, job_id: str, crash: tuple[int | None, bool]) -> None:
        run = self.runs.known.get(job_id)
        if run is None or run.status is RunState.QUEUED:
            return
        self.fuse.set(*crash)
        settled = self.process(TakeReports(self.fused_jobs, self.advance, lambda _: None)([run]))
        if settled:
            job = self.now(job_id)
            assert job is None or job.status.is_final, "front says settled once it is final"

    @rule(job_id=created, crash=crashes)
    def owner_cancels(self, job_id: str, crash: tuple[int | None, bool]) -> None:
        before = self.now(job_id)
        if job_id not in self.acknowledged or before is None or before.deleted_at is not None:
            return
        has_ended = before.status.is_final or self.has_ended(job_id)
        self.asked_to_cancel.add(job_id)
        self.fuse.set(*crash)
        seen = self.process(CancelJob(self.fused_jobs, self.advance, again_seconds=LEASE)(Owner("t", "s"), job_id))
        if seen is None:
            return
        assert seen.job.status.is_final, "job answers at once"
        if not has_ended:
            assert seen.job.status is Status.CANCELLED
            self.promised_to_cancel.add(job_id)

    @rule(job_id=created, crash=crashes)
    def owner_deletes(self, job_id: str, crash: tuple[int | None, bool]) -> None:
        before = self.now(job_id)
        if job_id not in self.acknowledged or before is None:
            return
        self.asked_to_cancel.add(job_id)
        self.fuse.set(*crash)
        steps = DeleteJob(self.fused_jobs, self.advance, again_seconds=LEASE)(Owner("t", "s"), job_id)
        if before.deleted_at is not None:
            with pytest.raises((NotFound, Crash)):
                self.loop.run_until_complete(steps)
            self.fuse.set(None, False)
            return
        self.process(steps)
        if crash[0] is None:
            after = self.now(job_id)
            assert after is not None
            assert after.deleted_at is not None
            assert after.status.is_final, "job answers at once"

    @rule(job_id=created)
    def job_forgets_a_queued_run(self, job_id: str) -> None:
        run = self.runs.known.get(job_id)
        if run is not None and run.status is RunState.QUEUED:
            del self.runs.known[job_id]

    @rule(job_id=created)
    def inline_bytes_are_lost(self, job_id: str) -> None:
        self.loop.run_until_complete(self.inline.delete([job_id]))
        if input_blob_id(job_id) not in self.blobs.kept:
            self.lost_inputs.add(job_id)

    @invariant()
    def every_job_follows_the_table(self) -> None:
        for job_id in self.acknowledged:
            job = self.now(job_id)
            if job is None:
                assert self.is_old(job_id), "a job is forgotten when it is old"
                continue
            states = [status for status, _ in job.history]
            assert states[0] is Status.CREATED
            assert states[-1] is job.status
            assert all(after in TRANSITIONS[before] for before, after in pairwise(states))
            before = self.seen.get(job_id)
            if before is not None and before.status.is_final:
                assert state_of(job) == state_of(before), "a final state never changes"
                assert job.bytes_deleted >= before.bytes_deleted
            if before is not None and before.deleted_at is not None:
                assert job.deleted_at == before.deleted_at, "what is deleted stays deleted"
            self.seen[job_id] = job
            self.first_seen.setdefault(job_id, job)

    @invariant()
    def an_end_is_what_job_said(self) -> None:
        for job_id, job in self.seen.items():
            run = self.runs.known.get(job_id) or self.runs.deleted.get(job_id)
            if job.status is Status.EXECUTION_COMPLETED:
                assert run is not None
                assert (run.status, job.fence, len(job.outputs)) == (RunState.SUCCESS, run.fence, 1)
            if job.status is Status.EXECUTION_ERROR:
                assert run is not None
                assert run.status is RunState.FAILED
            if job.status is Status.CANCELLED and job.sha256 is not None:
                assert run is not None
                assert run.status is RunState.CANCELLED, "what was submitted, or can be, is cancelled in job as well"

    @invariant()
    def what_job_runs_is_in_blob(self) -> None:
        live = [run_id for run_id, run in self.runs.known.items() if run.status is RunState.QUEUED]
        assert {input_blob_id(run_id) for run_id in live} <= set(self.blobs.kept)

    @invariant()
    def bytes_are_there_until_they_may_go_and_not_when_they_are_said_to_be_gone(self) -> None:
        for job_id, job in self.seen.items():
            kept = self.blobs_of(job_id)
            if job.status in (Status.STORED, Status.SUBMITTED):
                assert input_blob_id(job_id) in kept, "a job that isn't final keeps its input"
            if job.input_deleted:
                assert input_blob_id(job_id) not in kept
            if job.bytes_deleted:
                assert not kept
            is_kept = job.status is Status.EXECUTION_COMPLETED and job.deleted_at is None
            if is_kept and self.clock.now < self.may_go_at(job):
                assert output_blob_id(job_id, 1, 0) in kept
                assert not job.bytes_deleted

    def may_go_at(self, job: Job) -> datetime:
        """When outputs may be deleted, reckoned by what the model did, and not by the store."""
        assert job.ended_at is not None
        expiry = job.ended_at + timedelta(seconds=KEPT)
        read_at = self.read_at.get(job.id)
        return expiry if read_at is None else min(expiry, read_at + timedelta(seconds=GRACE))


def state_of(job: Job) -> Job:
    """A job without what becomes of its bytes, and whether it is hidden."""
    return replace(job, expires_at=None, input_deleted=False, bytes_deleted=False, deleted_at=None)


class ManyJobStates(JobStates):
    """The same, with more examples."""


TestJobStates = JobStates.TestCase
TestJobStates.settings = settings(max_examples=80, stateful_step_count=30, deadline=None)
TestManyJobStates = pytest.mark.long(ManyJobStates.TestCase)
TestManyJobStates.settings = settings(max_examples=500, stateful_step_count=40, deadline=None)
