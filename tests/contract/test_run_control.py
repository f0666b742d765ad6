"""What every store of runs promises besides the queue: cancels, deadlines, deletion, and what a status tells."""

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

from common.contracts.job import WAITING_FOR_PROCESSOR, RunState, RunStatus
from common.errors import Conflict, StaleFence
from common.ids import new_id
from services.job.domain.rules import FINAL, RetryPolicy
from services.job.ports import Handover
from tests.support.run_bench import AT_ONCE, LONG, OURS, OUTPUT, SHORT, SOON, Bench, a_run


async def test_a_queued_run_is_cancelled_at_once(bench: Bench) -> None:
    run = await bench.submitted()
    cancelled = await bench.store.cancel(run.id)
    assert cancelled.status == RunState.CANCELLED
    assert await bench.status(run.id) == cancelled
    assert await bench.store.claim(new_id(), [run.processor], 1, LONG) == []
    assert await bench.store.cancel(run.id) == cancelled


async def test_a_running_run_is_cancelled_and_its_processor_is_told_with_its_next_call(bench: Bench) -> None:
    claimed = await bench.started()
    cancelled = await bench.store.cancel(claimed.run.id)
    assert (cancelled.status, cancelled.attempt) == (RunState.CANCELLED, 1)
    assert cancelled.fence > claimed.fence
    await bench.refuses_all(claimed)
    assert await bench.store.sweep(AT_ONCE) == 0


async def test_a_run_that_has_ended_stays_as_it_is(bench: Bench) -> None:
    done, failed = await bench.started(), await bench.started()
    await bench.store.complete(done.run.id, done.fence, [OUTPUT])
    await bench.store.fail(failed.run.id, failed.fence, OURS, None)
    for run_id in (done.run.id, failed.run.id):
        before = await bench.status(run_id)
        assert await bench.store.cancel(run_id) == before
        assert await bench.status(run_id) == before


@pytest.mark.parametrize("handover", [None, Handover("c", LONG)], ids=["queued", "handed-over"])
async def test_a_run_that_is_cancelled_before_it_comes_never_starts(bench: Bench, handover: Handover | None) -> None:
    run = a_run()
    cancelled = await bench.store.cancel(run.id)
    assert (cancelled.status, cancelled.attempt) == (RunState.CANCELLED, 0)
    late = await bench.store.submit(run, handover)
    assert (late.state, late.created) == (RunState.CANCELLED, False)
    assert await bench.store.claim("c", [run.processor], 1, LONG) == []
    assert await bench.status(run.id) == cancelled == await bench.store.cancel(run.id)


async def test_front_is_told_of_a_cancelled_run_but_not_of_one_that_never_came(bench: Bench) -> None:
    run = await bench.submitted()
    await bench.store.cancel(new_id())
    await bench.store.cancel(run.id)
    (report,) = await bench.until(lambda: bench.store.claim_reports(10))
    assert (report.id, report.status) == (run.id, RunState.CANCELLED)


async def test_cancel_and_submit_at_once_leave_a_cancelled_run(bench: Bench) -> None:
    runs = [a_run() for _ in range(30)]
    handover = Handover(new_id(), LONG)
    _, verdicts, _ = await asyncio.gather(
        asyncio.gather(*(bench.store.submit(run, handover if n % 3 == 0 else None) for n, run in enumerate(runs))),
        asyncio.gather(*(bench.store.cancel(run.id) for run in runs)),
        asyncio.gather(*(bench.store.submit(run) for run in runs)),
    )
    assert {verdict.status for verdict in verdicts} == {RunState.CANCELLED}
    assert {status.status for status in await bench.store.statuses([run.id for run in runs])} == {RunState.CANCELLED}
    assert await bench.store.claim(handover.claim_id, ["checksum"], 60, LONG) == []


async def test_whoever_ends_a_run_first_has_ended_it(bench: Bench) -> None:
    """Everything that can happen to a running run happens to it at once, in every order of setting out."""
    for turn in range(12):
        claimed = await bench.started(lease_seconds=SHORT if turn % 3 == 0 else LONG)
        run_id, fence = claimed.run.id, claimed.fence
        calls: dict[str, Coroutine[Any, Any, object]] = {
            "cancel": bench.store.cancel(run_id),
            "complete": bench.store.complete(run_id, fence, [OUTPUT]),
            "fail": bench.store.fail(run_id, fence, OURS, AT_ONCE),
            "release": bench.store.release(run_id, fence),
            "heartbeat": bench.store.heartbeat(run_id, fence, LONG, started=True, phase="late"),
            "sweep": bench.store.sweep(RetryPolicy(1, 0)),
            "claim": bench.store.claim(new_id(), [claimed.run.processor], 1, LONG),
        }
        order = [*calls][turn % len(calls) :] + [*calls][: turn % len(calls)]
        found = await asyncio.gather(*(calls[name] for name in order), return_exceptions=True)
        answers = dict(zip(order, found, strict=True))
        verdict = answers["cancel"]
        assert isinstance(verdict, RunStatus)
        assert verdict.status in FINAL, "a cancel is answered with an end"
        assert await bench.status(run_id) == verdict, "which stays"
        assert isinstance(answers["complete"], RunStatus) == (verdict.status == RunState.SUCCESS)
        heard = [name for name in ("complete", "fail", "release") if not isinstance(answers[name], StaleFence)]
        assert len(heard) <= 1
        assert await bench.store.claim(new_id(), [claimed.run.processor], 1, LONG) == []
        with pytest.raises(StaleFence):
            await bench.store.release(run_id, fence)


async def test_an_ended_run_is_forgotten_and_does_not_start_again(bench: Bench) -> None:
    claimed = await bench.started()
    await bench.store.complete(claimed.run.id, claimed.fence, [OUTPUT])
    await bench.store.delete(claimed.run.id)
    assert await bench.store.statuses([claimed.run.id]) == []
    assert (await bench.store.submit(claimed.run)).created is False
    assert await bench.store.claim(new_id(), [claimed.run.processor], 1, LONG) == []
    assert (await bench.store.cancel(claimed.run.id)).status == RunState.SUCCESS
    await bench.store.delete(claimed.run.id)
    other = await bench.submitted()
    await bench.store.cancel(other.id)
    assert [report.id for report in await bench.until(lambda: bench.store.claim_reports(10))] == [other.id]


async def test_a_run_that_has_not_ended_is_not_forgotten(bench: Bench) -> None:
    queued, running, cancelled = await bench.submitted(), await bench.started(), a_run()
    await bench.store.cancel(cancelled.id)
    answers = await asyncio.gather(
        *(bench.store.delete(run_id) for run_id in (queued.id, running.run.id, cancelled.id, new_id())),
        return_exceptions=True,
    )
    assert [isinstance(answer, Conflict) for answer in answers] == [True, True, False, False]
    assert {status.id for status in await bench.store.statuses([queued.id, running.run.id, cancelled.id])} == {
        queued.id,
        running.run.id,
    }
    await bench.beat(running)


async def test_a_deadline_ends_a_run_that_waits_and_one_that_is_worked_on(bench: Bench) -> None:
    queued = await bench.submitted(processor="idle", deadline_seconds=SHORT)
    claimed = await bench.claimed(processor="busy", deadline_seconds=SOON)
    await bench.beat(claimed)
    spared = await bench.submitted(deadline_seconds=LONG)
    swept = 0
    while swept < 2:
        swept += await bench.until(lambda: bench.store.sweep(AT_ONCE))
    for run_id in (queued.id, claimed.run.id):
        status = await bench.status(run_id)
        assert status.status == RunState.FAILED
        assert status.error is not None
        assert status.error.type == "deadline"
    await bench.refuses_all(claimed)
    assert {report.id for report in await bench.store.claim_reports(10)} == {queued.id, claimed.run.id}
    assert (await bench.status(spared.id)).status == RunState.QUEUED
    assert await bench.store.sweep(AT_ONCE) == 0, "a run that has ended has no deadline any more"


async def test_no_claim_takes_a_run_whose_deadline_has_passed(bench: Bench) -> None:
    late = await bench.submitted(deadline_seconds=SHORT)
    fine = await bench.submitted(deadline_seconds=LONG)
    probe = await bench.submitted(processor="probe", deadline_seconds=SHORT)
    await bench.until(lambda: bench.nothing_to_claim(probe.processor))
    (claimed,) = await bench.store.claim(new_id(), ["checksum"], 5, LONG)
    assert claimed.run.id == fine.id != late.id


async def test_runs_past_their_deadline_keep_nobody_elses_from_being_taken(bench: Bench) -> None:
    for _ in range(4):
        await bench.submitted(deadline_seconds=SHORT, tenant="late")
    probe = await bench.submitted(processor="probe", deadline_seconds=SHORT)
    await bench.until(lambda: bench.nothing_to_claim(probe.processor))
    fine = await bench.submitted(tenant="other")
    (claimed,) = await bench.store.claim(new_id(), ["checksum"], 1, LONG)
    assert claimed.run.id == fine.id


async def test_a_claim_is_told_how_long_its_runs_have_and_no_attempt_moves_the_deadline(bench: Bench) -> None:
    await bench.submitted(deadline_seconds=LONG)
    await bench.submitted()
    left = [claimed.deadline_seconds for claimed in await bench.store.claim(new_id(), ["checksum"], 2, LONG)]
    assert left[0] is not None
    assert 0 < left[0] <= LONG
    assert left[1] is None
    run = await bench.submitted(processor="again", deadline_seconds=SOON)
    for _ in range(2):
        (claimed,) = await bench.store.claim(new_id(), ["again"], 1, LONG)
        await bench.beat(claimed)
        await bench.store.fail(run.id, claimed.fence, OURS, AT_ONCE)
    await bench.until(lambda: bench.store.sweep(AT_ONCE))
    error = (await bench.status(run.id)).error
    assert error is not None
    assert error.type == "deadline"


async def test_a_run_that_ended_in_time_stays_as_it_ended(bench: Bench) -> None:
    ends = [await bench.claimed(processor=f"p{n}", deadline_seconds=SOON) for n in range(3)]
    await bench.store.complete(ends[0].run.id, ends[0].fence, [])
    await bench.store.fail(ends[1].run.id, ends[1].fence, OURS, None)
    await bench.store.cancel(ends[2].run.id)
    before = [await bench.status(end.run.id) for end in ends]
    late = await bench.submitted(deadline_seconds=SOON)
    assert await bench.until(lambda: bench.store.sweep(AT_ONCE)) == 1
    assert [await bench.status(end.run.id) for end in ends] == before
    assert (await bench.status(late.id)).status == RunState.FAILED


async def test_a_status_tells_what_goes_on_and_forgets_it_with_the_attempt(bench: Bench) -> None:
    run = await bench.submitted()
    queued = await bench.status(run.id)
    assert (queued.phase, queued.progress, queued.started_at, queued.ended_at) == ("QUEUED", None, None, None)
    claimed = await bench.claim_one(run)
    assert (await bench.status(run.id)).phase == "CLAIMED"
    await bench.beat(claimed)
    begun = await bench.status(run.id)
    assert (begun.phase, begun.progress) == ("RUNNING", None)
    assert queued.queued_at is not None
    assert begun.queued_at is not None
    assert begun.started_at is not None
    assert queued.queued_at == begun.queued_at <= begun.started_at
    await bench.store.heartbeat(run.id, claimed.fence, LONG, started=True, phase="$tenant", progress=0)
    await bench.store.heartbeat(run.id, claimed.fence, LONG, started=True, progress=0.5)
    await bench.beat(claimed)
    at_work = await bench.status(run.id)
    assert (at_work.phase, at_work.progress, at_work.started_at) == ("$tenant", 0.5, begun.started_at)
    await bench.store.fail(run.id, claimed.fence, OURS, AT_ONCE)
    again = await bench.status(run.id)
    assert (again.phase, again.progress, again.started_at, again.attempt) == ("QUEUED", None, None, 1)
    assert again.queued_at == queued.queued_at


@pytest.mark.parametrize("end", ["complete", "fail", "cancel", "sweep"])
async def test_a_run_that_has_ended_tells_when_it_was_worked_on_and_no_phase(bench: Bench, end: str) -> None:
    claimed = await bench.started()
    run_id, fence = claimed.run.id, claimed.fence
    await bench.store.heartbeat(run_id, fence, SHORT, started=True, phase="encode", progress=0.9)
    started_at = (await bench.status(run_id)).started_at
    match end:
        case "complete":
            await bench.store.complete(run_id, fence, [])
        case "fail":
            await bench.store.fail(run_id, fence, OURS, None)
        case "cancel":
            await bench.store.cancel(run_id)
        case "sweep":
            await bench.until(lambda: bench.store.sweep(RetryPolicy(1, 0)))
    ended = await bench.status(run_id)
    assert (ended.phase, ended.progress, ended.started_at) == (None, None, started_at)
    assert started_at is not None
    assert ended.ended_at is not None
    assert ended.ended_at >= started_at


async def test_a_queued_run_that_nobody_live_can_take_waits_for_a_processor(bench: Bench) -> None:
    pinned, free, running = await bench.submitted(processor="a@2"), await bench.submitted(processor="a"), a_run("a@2")
    await bench.store.submit(running, Handover(new_id(), LONG))
    ids = [pinned.id, free.id, running.id]
    found = {status.id: status.phase for status in await bench.store.statuses(ids, {"a", "a@1"})}
    assert found == {pinned.id: WAITING_FOR_PROCESSOR, free.id: "QUEUED", running.id: "CLAIMED"}
