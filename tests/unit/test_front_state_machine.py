"""Whatever crashes, is repeated, lapses or comes late: a job follows the table, and comes to its end."""

import asyncio
from collections.abc import Coroutine
from itertools import pairwise
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule

from common.contracts.job import RunState
from common.ids import input_blob_id, new_id
from services.front.domain.job import TRANSITIONS, Job, NewJob, Owner, Status
from services.front.use_cases.advance import Advance
from services.front.use_cases.read import TakeReports
from services.front.use_cases.recover import Recover
from tests.fakes.front_ports import Crash, Fuse, Fused, MemoryBlobs, MemoryRuns
from tests.fakes.job_store import Clock, MemoryInlineStore, MemoryJobStore

LEASE, ASK = 15.0, 60.0
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
        fused = [Fused(part, self.fuse) for part in (self.jobs, self.inline, self.blobs, self.runs)]
        self.fused_jobs, self.fused_inline, self.fused_blobs, self.fused_runs = fused
        self.advance = Advance(*fused, lease_seconds=LEASE, ask_seconds=ASK)
        self.acknowledged: set[str] = set()
        self.lost_inputs: set[str] = set()
        self.seen: dict[str, Job] = {}

    created = Bundle("created")

    def teardown(self) -> None:
        try:
            self.everything_comes_to_its_end()
        finally:
            self.loop.close()

    def everything_comes_to_its_end(self) -> None:
        for _ in range(4):  # enough rounds for the longest way: CREATED, SUBMITTED, asked, reported
            self.clock.forward(ASK + 1)
            self.process(self.recover()())
            for run_id, run in self.runs.known.items():
                if run.status is RunState.QUEUED:
                    self.runs.end(run_id, success=True)
        for job_id in self.acknowledged:
            job = self.now(job_id)
            assert job is not None, "an acknowledged job is never lost"
            assert job.status.is_final, f"an acknowledged job reaches its end, not {job.status}"
            if job.status is Status.STORED_ERROR:
                assert job_id in self.lost_inputs

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

    @rule(target=created, crash=crashes)
    def post_json(self, crash: tuple[int | None, bool]) -> str:
        new = NewJob(new_id(), Owner("t", "s"), "n", "text/plain", 2, "checksum", {})

        async def post() -> None:
            await self.fused_inline.put(new.id, b"ab")
            job = await self.fused_jobs.insert_created(new, LEASE)
            self.acknowledged.add(new.id)
            await self.advance.carry_on(job)

        self.fuse.set(*crash)
        self.process(post())
        return new.id

    @rule(target=created, crash=crashes)
    def post_raw(self, crash: tuple[int | None, bool]) -> str:
        job_id = new_id()

        async def post() -> None:
            blob = await self.fused_blobs.put(input_blob_id(job_id), b"ab")
            new = NewJob(job_id, Owner("t", "s"), "n", "text/plain", 2, "checksum", {}, blob.sha256)
            job = await self.fused_jobs.insert_stored(new, LEASE)
            self.acknowledged.add(job_id)
            await self.advance.carry_on(job)

        self.fuse.set(*crash)
        self.process(post())
        return job_id

    @rule(seconds=st.sampled_from([1.0, LEASE, ASK]))
    def time_passes(self, seconds: float) -> None:
        self.clock.forward(seconds)

    @rule(crash=crashes)
    def tracker_works(self, crash: tuple[int | None, bool]) -> None:
        self.fuse.set(*crash)
        self.process(self.recover()())

    @rule(job_id=created, crash=crashes)
    def late_writer_carries_on_what_it_saw(self, job_id: str, crash: tuple[int | None, bool]) -> None:
        if job_id in self.seen:
            self.fuse.set(*crash)
            self.process(self.advance.carry_on(self.seen[job_id]))

    @rule(job_id=created, success=st.booleans())
    def run_ends(self, job_id: str, success: bool) -> None:
        run = self.runs.known.get(job_id)
        if run is not None and run.status is RunState.QUEUED:
            self.runs.end(job_id, success)

    @rule(job_id=created, crash=crashes)
    def job_reports(self, job_id: str, crash: tuple[int | None, bool]) -> None:
        run = self.runs.known.get(job_id)
        if run is None or run.status is RunState.QUEUED:
            return
        self.fuse.set(*crash)
        settled = self.process(TakeReports(self.fused_jobs, self.advance)([run]))
        if settled:
            job = self.now(job_id)
            assert job is None or job.status.is_final, "front says settled once it is final"

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
            assert job is not None
            states = [status for status, _ in job.history]
            assert states[0] is Status.CREATED
            assert states[-1] is job.status
            assert all(after in TRANSITIONS[before] for before, after in pairwise(states))
            before = self.seen.get(job_id)
            if before is not None and before.status.is_final:
                assert job == before, "a final state never changes"
            self.seen[job_id] = job

    @invariant()
    def an_end_is_what_job_said(self) -> None:
        for job_id, job in self.seen.items():
            run = self.runs.known.get(job_id)
            if job.status is Status.EXECUTION_COMPLETED:
                assert run is not None
                assert (run.status, job.fence, len(job.outputs)) == (RunState.SUCCESS, run.fence, 1)
            if job.status is Status.EXECUTION_ERROR:
                assert run is not None
                assert run.status is RunState.FAILED

    @invariant()
    def what_job_runs_is_in_blob(self) -> None:
        assert {input_blob_id(run_id) for run_id in self.runs.known} <= set(self.blobs.kept)


TestJobStates = JobStates.TestCase
TestJobStates.settings = settings(max_examples=250, stateful_step_count=30, deadline=None)
