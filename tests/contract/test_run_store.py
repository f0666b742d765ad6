"""What every store of runs promises; the MongoDB adapter and the fake both pass. `test_run_control` has the rest."""

import asyncio

import pytest

from common.contracts.job import RunError, RunState, RunStatus
from common.errors import StaleFence
from common.ids import new_id
from services.job.domain.rules import RetryPolicy
from services.job.ports import Claimed, Handover
from tests.support.run_bench import AT_ONCE, LONG, OURS, OUTPUT, SHORT, Bench, a_run


async def test_typical_journey(bench: Bench) -> None:
    run = await bench.submitted()
    assert (await bench.status(run.id)).status == RunState.QUEUED
    claimed = await bench.claim_one(run)
    assert claimed.fence == 1
    await bench.store.heartbeat(run.id, 1, LONG, started=True, phase="decode")
    running = await bench.status(run.id)
    assert (running.status, running.fence, running.attempt, running.phase) == (RunState.RUNNING, 1, 1, "decode")
    told = await bench.store.complete(run.id, 1, [OUTPUT])
    ended = await bench.status(run.id)
    assert told == ended
    assert (ended.status, ended.attempt, ended.fence, ended.outputs) == (RunState.SUCCESS, 1, 1, [OUTPUT])
    assert await bench.store.claim(new_id(), ["checksum"], 5, LONG) == []


async def test_values_stay_what_they_are_however_much_they_look_like_expressions(bench: Bench) -> None:
    params = {"a": "$tenant", "$gt": "", "b": {"$literal": ["$$NOW", 1.5, 2**70, None]}, "a.b": "x\x00", "\x00": {}}
    claimed = await bench.claimed(params=params, tenant="$processor")
    assert (claimed.run.params, claimed.run.tenant) == (params, "$processor")
    await bench.store.heartbeat(claimed.run.id, 1, LONG, started=True, phase="$tenant")
    assert (await bench.status(claimed.run.id)).phase == "$tenant"
    error = RunError(type="invalid-input", detail="$processor")
    await bench.store.fail(claimed.run.id, 1, error, None)
    assert (await bench.status(claimed.run.id)).error == error


async def test_submitting_twice_makes_one_run(bench: Bench) -> None:
    run = a_run()
    answers = await asyncio.gather(*(bench.store.submit(run) for _ in range(20)))
    assert [answer.created for answer in answers].count(True) == 1
    claimed = await bench.claim_one(run)
    await bench.store.complete(run.id, claimed.fence, [])
    again = await bench.store.submit(run, Handover(new_id(), LONG))
    assert (again.state, again.created) == (RunState.SUCCESS, False)


async def test_a_run_can_be_born_running_and_its_claim_repeated(bench: Bench) -> None:
    run, claim_id = a_run(), new_id()
    answer = await bench.store.submit(run, Handover(claim_id, LONG))
    assert (answer.state, answer.created) == (RunState.RUNNING, True)
    assert await bench.store.claim(claim_id, ["checksum"], 1, LONG) == [Claimed(run, 1)]
    await bench.beat(Claimed(run, 1))
    assert await bench.store.complete(run.id, 1, [])


async def test_first_in_first_out(bench: Bench) -> None:
    runs = [await bench.submitted() for _ in range(6)]
    await bench.submitted(processor="other")
    first = await bench.store.claim(new_id(), ["checksum", "never"], 4, LONG)
    rest = await bench.store.claim(new_id(), ["checksum"], 4, LONG)
    assert [claimed.run.id for claimed in [*first, *rest]] == [run.id for run in runs]


async def test_repeating_a_claim_returns_its_runs_and_takes_no_others(bench: Bench) -> None:
    for _ in range(3):
        await bench.submitted()
    claim_id = new_id()
    first = await bench.store.claim(claim_id, ["checksum"], 2, LONG)
    assert await bench.store.claim(claim_id, ["checksum"], 2, LONG) == first
    await bench.store.complete(first[0].run.id, first[0].fence, [])
    assert await bench.store.claim(claim_id, ["checksum"], 2, LONG) == first[1:]


async def test_what_a_first_claim_took_is_there_when_it_is_repeated(bench: Bench) -> None:
    resting = await bench.claimed()
    await bench.store.release(resting.run.id, resting.fence)
    runs = [resting.run, await bench.submitted(), await bench.submitted()]
    claim_id = new_id()
    first = await bench.store.claim(claim_id, ["checksum"], 2, LONG, first=True)
    assert [(claimed.run, claimed.fence) for claimed in first] == [(runs[0], 3), (runs[1], 1)]
    assert await bench.store.claim(claim_id, ["checksum"], 2, LONG) == first
    for claimed in first:
        await bench.beat(claimed)


async def test_many_claimers_at_once_take_each_run_once(bench: Bench) -> None:
    runs = [await bench.submitted() for _ in range(40)]
    claims = await asyncio.gather(*(bench.store.claim(new_id(), ["checksum"], 4, LONG) for _ in range(20)))
    while more := await bench.store.claim(new_id(), ["checksum"], 4, LONG):
        claims.append(more)
    taken = [claimed.run.id for claim in claims for claimed in claim]
    assert sorted(taken) == sorted(run.id for run in runs)


async def test_claims_of_one_run_each_do_not_get_in_each_others_way(bench: Bench) -> None:
    runs = [await bench.submitted() for _ in range(40)]
    claims = await asyncio.gather(*(bench.store.claim(new_id(), ["checksum"], 1, LONG) for _ in range(16)))
    assert [len(claim) for claim in claims] == [1] * 16, "nobody comes back empty from a full queue"
    assert {claim[0].run.id for claim in claims} == {run.id for run in runs[:16]}, "those that waited longest"


async def test_a_claim_that_is_repeated_while_it_is_under_way_takes_no_more(bench: Bench) -> None:
    for _ in range(10):
        await bench.submitted()
    claim_id = new_id()
    same = await asyncio.gather(*(bench.store.claim(claim_id, ["checksum"], 2, LONG) for _ in range(5)))
    assert {tuple(claimed.run.id for claimed in claim) for claim in same} == {
        tuple(claimed.run.id for claimed in same[0])
    }
    assert len(await bench.store.claim(new_id(), ["checksum"], 20, LONG)) == 8


async def test_a_claimed_run_that_never_starts_goes_back_and_costs_no_attempt(bench: Bench) -> None:
    claimed = await bench.claimed(start_seconds=SHORT)
    assert await bench.until(lambda: bench.store.sweep(AT_ONCE)) == 1
    status = await bench.status(claimed.run.id)
    assert (status.status, status.attempt, status.fence) == (RunState.QUEUED, 0, 2)
    await bench.refuses_all(claimed)
    assert (await bench.claim_one(claimed.run)).fence == 3


async def test_a_run_under_a_live_lease_is_never_swept(bench: Bench) -> None:
    claimed = await bench.claimed(start_seconds=SHORT)
    await bench.beat(claimed)
    lapsing = await bench.started(lease_seconds=SHORT)
    assert await bench.until(lambda: bench.store.sweep(AT_ONCE)) == 1
    assert (await bench.status(claimed.run.id)).status == RunState.RUNNING
    assert (await bench.status(lapsing.run.id)).status == RunState.QUEUED


async def test_a_run_that_is_held_before_it_starts_keeps_its_lease_and_costs_no_attempt(bench: Bench) -> None:
    claimed = await bench.claimed(start_seconds=SHORT)
    await bench.store.heartbeat(claimed.run.id, claimed.fence, LONG, started=False)
    held_briefly = await bench.claimed(start_seconds=LONG, processor="brief")
    await bench.store.heartbeat(held_briefly.run.id, held_briefly.fence, SHORT, started=False)
    assert await bench.until(lambda: bench.store.sweep(AT_ONCE)) == 1
    held, lapsed = await bench.status(claimed.run.id), await bench.status(held_briefly.run.id)
    assert (held.status, held.attempt, held.phase) == (RunState.RUNNING, 0, "CLAIMED")
    assert (lapsed.status, lapsed.attempt) == (RunState.QUEUED, 0)
    assert not (await bench.claim_one(held_briefly.run)).alone


async def test_a_run_that_ends_its_processor_each_time_is_poison(bench: Bench) -> None:
    claimed = await bench.claimed()
    for attempt in (1, 2, 3):
        # Before it can end so, nothing else may be to blame.
        assert claimed.alone == (attempt == 3)
        await bench.beat(claimed, SHORT)
        await bench.beat(claimed, SHORT)
        assert (await bench.status(claimed.run.id)).attempt == attempt
        await bench.until(lambda: bench.store.sweep(AT_ONCE))
        await bench.refuses_all(claimed)
        if attempt < 3:
            claimed = await bench.claim_one(claimed.run)
    status = await bench.status(claimed.run.id)
    assert (status.status, status.attempt) == (RunState.FAILED, 3)
    assert status.error is not None
    assert status.error.type == "poison"


async def test_a_run_that_failed_before_is_no_poison_after_its_first_lapse(bench: Bench) -> None:
    claimed = await bench.claimed()
    for _ in range(2):
        await bench.beat(claimed)
        assert (await bench.store.fail(claimed.run.id, claimed.fence, OURS, AT_ONCE)).status == RunState.QUEUED
        claimed = await bench.claim_one(claimed.run)
    await bench.beat(claimed, SHORT)
    await bench.until(lambda: bench.store.sweep(AT_ONCE))
    again = await bench.claim_one(claimed.run)
    assert not again.alone
    await bench.beat(again)
    assert (await bench.store.fail(again.run.id, again.fence, OURS, AT_ONCE)).status == RunState.FAILED
    assert (await bench.status(again.run.id)).attempt == 4


async def test_a_failure_that_may_pass_is_tried_again_up_to_the_limit(bench: Bench) -> None:
    claimed = await bench.claimed()
    states = []
    for attempt in (1, 2, 3):
        if attempt > 1:
            claimed = await bench.claim_one(claimed.run)
            await bench.beat(claimed)
        states.append((await bench.store.fail(claimed.run.id, claimed.fence, OURS, AT_ONCE)).status)
        assert (await bench.status(claimed.run.id)).attempt == attempt
        await bench.refuses_all(claimed)
    assert states == [RunState.QUEUED, RunState.QUEUED, RunState.FAILED]
    assert (await bench.status(claimed.run.id)).error == OURS


async def test_a_run_rests_before_its_next_attempt(bench: Bench) -> None:
    claimed = await bench.started()
    await bench.store.fail(claimed.run.id, claimed.fence, OURS, RetryPolicy(3, LONG))
    assert await bench.store.claim(new_id(), [claimed.run.processor], 1, LONG) == []


async def test_a_failure_that_stays_ends_the_run_at_once(bench: Bench) -> None:
    claimed = await bench.started()
    ended = await bench.store.fail(claimed.run.id, claimed.fence, OURS, None)
    assert ended.status == RunState.FAILED
    assert ended == await bench.status(claimed.run.id)
    await bench.refuses_all(claimed)


async def test_a_released_run_keeps_its_place_and_its_attempts(bench: Bench) -> None:
    first, second = await bench.submitted(), await bench.submitted()
    claimed = await bench.claim_one(first)
    await bench.beat(claimed)
    await bench.store.release(first.id, claimed.fence)
    await bench.refuses_all(claimed)
    status = await bench.status(first.id)
    assert (status.status, status.attempt, status.phase) == (RunState.QUEUED, 0, "QUEUED")
    again = await bench.store.claim(new_id(), ["checksum"], 2, LONG)
    assert [taken.run.id for taken in again] == [first.id, second.id]


async def test_completing_again_with_the_winning_fence_is_the_same_answer(bench: Bench) -> None:
    claimed = await bench.claimed()
    answers = await asyncio.gather(*(bench.store.complete(claimed.run.id, claimed.fence, [OUTPUT]) for _ in range(5)))
    (ended,) = [answer for answer in answers if answer is not None]
    assert (ended.status, ended.attempt) == (RunState.SUCCESS, 1)
    assert ended == await bench.status(claimed.run.id)
    with pytest.raises(StaleFence):
        await bench.store.complete(claimed.run.id, claimed.fence + 1, [])
    with pytest.raises(StaleFence):
        await bench.store.fail(claimed.run.id, claimed.fence, OURS, AT_ONCE)


async def test_in_one_burst_each_caller_learns_its_own_fate(bench: Bench) -> None:
    runs = [await bench.claimed() for _ in range(6)]
    calls = [bench.store.complete(claimed.run.id, claimed.fence + (n % 2), []) for n, claimed in enumerate(runs)]
    answers = await asyncio.gather(*calls, return_exceptions=True)
    assert [answer.fence for answer in answers[::2] if isinstance(answer, RunStatus)] == [1] * 3
    assert all(isinstance(answer, StaleFence) for answer in answers[1::2])


async def test_of_completion_and_failure_at_once_one_wins(bench: Bench) -> None:
    for _ in range(5):
        claimed = await bench.started()
        run_id, fence = claimed.run.id, claimed.fence
        answers = await asyncio.gather(
            bench.store.complete(run_id, fence, []),
            bench.store.fail(run_id, fence, OURS, None),
            bench.store.release(run_id, fence),
            return_exceptions=True,
        )
        assert sum(isinstance(answer, StaleFence) for answer in answers) == 2


async def test_an_end_is_reported_until_it_is_settled(bench: Bench) -> None:
    claimed = await bench.started(lease_seconds=SHORT)
    await bench.until(lambda: bench.store.sweep(RetryPolicy(1, 0)))
    (report,) = await bench.until(lambda: bench.store.claim_reports(10))
    assert (report.id, report.status) == (claimed.run.id, RunState.FAILED)
    assert await bench.store.claim_reports(10) == []
    assert await bench.until(lambda: bench.store.claim_reports(10)) == [report]
    await bench.store.settle([report.id])
    completed = await bench.claimed(processor="other")
    await bench.store.complete(completed.run.id, completed.fence, [])
    (other,) = await bench.until(lambda: bench.store.claim_reports(10))
    assert other.id == completed.run.id


async def test_many_reporters_take_each_end_once(bench: Bench) -> None:
    lapsing = [await bench.started(lease_seconds=SHORT) for _ in range(5)]
    swept = 0
    while swept < len(lapsing):
        swept += await bench.until(lambda: bench.store.sweep(RetryPolicy(1, 0)))
    taken = await asyncio.gather(*(bench.store.claim_reports(10) for _ in range(4)))
    assert sorted(report.id for reports in taken for report in reports) == sorted(c.run.id for c in lapsing)


async def test_unknown_runs(bench: Bench) -> None:
    assert await bench.store.statuses([new_id()]) == []
    with pytest.raises(StaleFence):
        await bench.store.complete(new_id(), 1, [])
    await bench.store.settle([new_id()])
