"""Any order of events, driven by Hypothesis against a plain model of what has to hold for one run."""

from collections.abc import Coroutine
from typing import Any, TypeVar

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from common.contracts.job import RunError, RunState, RunStatus
from common.errors import Conflict, StaleFence
from common.ids import new_id
from services.job.domain.rules import FINAL, TRANSITIONS, RetryPolicy, retry_after
from services.job.ports import Handover
from tests.fakes.run_store import FakeRunStore
from tests.support.run_bench import a_run

START, LEASE = 5.0, 30.0
POLICY = RetryPolicy(max_attempts=3, backoff_seconds=2)
Result = TypeVar("Result")


def at_once(work: Coroutine[Any, Any, Result]) -> Result:
    """The fake awaits nothing, so its coroutines end with their first step."""
    try:
        work.send(None)
    except StopIteration as end:
        result: Result = end.value
        return result
    raise AssertionError("The fake waited for something.")


class RunsLife(RuleBasedStateMachine):
    """One run, its processors (each knows the fence it was given), and the passing of time."""

    @initialize(handed_over=st.booleans(), deadline=st.sampled_from([None, START, 2 * LEASE]))
    def submit(self, handed_over: bool, deadline: float | None) -> None:
        self.store = FakeRunStore()
        self.run = a_run("p", deadline_seconds=deadline)
        handover = Handover(new_id(), START) if handed_over else None
        assert at_once(self.store.submit(self.run, handover)).created
        self.before = self.status()
        self.fences = [0, 1]
        self.holder = 1 if handed_over else None
        self.attempts = 0
        self.begun = False
        self.successes = 0

    def status(self) -> RunStatus:
        (status,) = at_once(self.store.statuses([self.run.id]))
        return status

    @property
    def late(self) -> bool:
        return self.run.deadline_seconds is not None and self.store.now >= self.run.deadline_seconds

    def give_up(self, *, tried: bool) -> None:
        """The holder has lost the run; an attempt that had not begun counts only if it was `tried` all the same."""
        self.attempts += tried and not self.begun
        self.holder, self.begun = None, False

    def heard(self, fence: int, work: Coroutine[Any, Any, object]) -> bool:
        """A processor's call goes through just when its fence is the holder's."""
        try:
            at_once(work)
        except StaleFence:
            assert fence != self.holder
            return False
        assert fence == self.holder
        return True

    @rule()
    def submit_again(self) -> None:
        assert not at_once(self.store.submit(self.run, Handover(new_id(), START))).created

    @rule()
    def claim(self) -> None:
        for claimed in at_once(self.store.claim(new_id(), ["p"], 1, START)):
            assert self.holder is None
            assert not self.late
            assert claimed.fence > self.before.fence
            self.holder = claimed.fence
            self.fences.append(claimed.fence)

    @rule(data=st.data(), started=st.booleans())
    def heartbeat(self, data: st.DataObject, started: bool) -> None:
        fence = data.draw(st.sampled_from(self.fences))
        if self.heard(fence, self.store.heartbeat(self.run.id, fence, LEASE, started=started, phase="p", progress=0.5)):
            self.attempts += started and not self.begun
            self.begun |= started

    @rule(data=st.data())
    def complete(self, data: st.DataObject) -> None:
        fence = data.draw(st.sampled_from(self.fences))
        if self.before.status == RunState.SUCCESS and fence == self.before.fence:
            assert not at_once(self.store.complete(self.run.id, fence, []))
        elif self.heard(fence, self.store.complete(self.run.id, fence, [])):
            self.give_up(tried=True)
            self.successes += 1

    @rule(data=st.data(), kind=st.sampled_from(["invalid-input", "internal", "unheard-of"]))
    def fail(self, data: st.DataObject, kind: str) -> None:
        fence = data.draw(st.sampled_from(self.fences))
        error = RunError(type=kind, detail="x")
        if self.heard(fence, self.store.fail(self.run.id, fence, error, retry_after(error, POLICY))):
            self.give_up(tried=True)
            ends = kind == "invalid-input" or self.attempts == POLICY.max_attempts
            assert self.status().status == (RunState.FAILED if ends else RunState.QUEUED)

    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        fence = data.draw(st.sampled_from(self.fences))
        if self.heard(fence, self.store.release(self.run.id, fence)):
            self.attempts -= self.begun
            self.give_up(tried=False)
            assert self.status().status == RunState.QUEUED

    @rule()
    def cancel(self) -> None:
        verdict = at_once(self.store.cancel(self.run.id))
        assert verdict == self.status()
        if self.before.status in FINAL:
            assert verdict == self.before
        else:
            assert verdict.status == RunState.CANCELLED
            self.give_up(tried=False)

    @rule()
    def delete_too_early(self) -> None:
        if self.before.status not in FINAL:
            try:
                at_once(self.store.delete(self.run.id))
            except Conflict:
                return
            raise AssertionError("It has not ended.")

    @rule(seconds=st.sampled_from([1.0, START, LEASE]))
    def time_passes(self, seconds: float) -> None:
        self.store.now += seconds

    @rule()
    def sweep(self) -> None:
        swept = at_once(self.store.sweep(POLICY))
        if self.late and self.before.status not in FINAL:
            error = self.status().error
            assert error is not None
            assert error.type == "deadline"
        elif swept:
            assert self.holder is not None
        else:
            return
        self.give_up(tried=False)

    @precondition(lambda self: self.holder is not None)
    @rule()
    def processor_dies(self) -> None:
        self.store.now += LEASE
        assert at_once(self.store.sweep(POLICY)) == 1
        self.give_up(tried=False)

    @invariant()
    def what_must_hold(self) -> None:
        if not hasattr(self, "before"):
            return
        before, after = self.before, self.status()
        assert after.fence >= before.fence
        assert after.attempt == self.attempts <= POLICY.max_attempts
        assert self.successes <= 1
        assert (after.status == RunState.RUNNING) == (self.holder is not None)
        if before.status in FINAL:
            assert after == before
        elif after.status != before.status:
            assert after.status in TRANSITIONS[before.status]
        assert after.progress is None or after.status == RunState.RUNNING
        assert (after.phase is None) == (after.status in FINAL)
        assert (after.ended_at is None) == (after.status not in FINAL)
        assert after.queued_at == before.queued_at
        if after.status in FINAL:
            assert self.store.runs[self.run.id].report_due_at is not None
        self.before = after


class RunsAfterlife(RuleBasedStateMachine):
    """A run that was cancelled before it came, or was deleted: whatever is still said of it, it never starts."""

    @initialize(deleted=st.booleans())
    def bury(self, deleted: bool) -> None:
        self.store = FakeRunStore()
        self.run = a_run("p")
        self.state = RunState.CANCELLED
        if deleted:
            at_once(self.store.submit(self.run, Handover(new_id(), START)))
            at_once(self.store.complete(self.run.id, 1, []))
            at_once(self.store.delete(self.run.id))
            self.state = RunState.SUCCESS
        else:
            at_once(self.store.cancel(self.run.id))

    @rule(handed_over=st.booleans())
    def submit(self, handed_over: bool) -> None:
        handover = Handover(new_id(), START) if handed_over else None
        answer = at_once(self.store.submit(self.run, handover))
        assert (answer.state, answer.created) == (self.state, False)

    @rule()
    def cancel(self) -> None:
        assert at_once(self.store.cancel(self.run.id)).status == self.state

    @rule()
    def delete(self) -> None:
        at_once(self.store.delete(self.run.id))

    @rule(seconds=st.sampled_from([START, LEASE]))
    def sweep(self, seconds: float) -> None:
        self.store.now += seconds
        assert at_once(self.store.sweep(POLICY)) == 0

    @invariant()
    def it_rests(self) -> None:
        assert at_once(self.store.claim(new_id(), ["p"], 1, START)) == []
        assert at_once(self.store.claim_reports(10)) == []


RunsAfterlife.TestCase.settings = settings(max_examples=50, stateful_step_count=15, deadline=None)
TestRunsAfterlife = RunsAfterlife.TestCase
RunsLife.TestCase.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
TestRunsLife = RunsLife.TestCase
