"""The coalescer: few batches, no waiter harmed by another."""

import asyncio
import itertools
from collections.abc import Sequence

import pytest
from pymongo.errors import BulkWriteError, OperationFailure

from common.coalescer import TURNS, Coalescer
from common.errors import Unavailable
from common.mongo.client import is_away


class Recorder:
    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.started = asyncio.Event()
        self.gate = asyncio.Event()

    async def run(self, items: Sequence[int]) -> Sequence[int | Exception]:
        self.batches.append(list(items))
        self.started.set()
        await self.gate.wait()
        return [ValueError(item) if item < 0 else item * 2 for item in items]


async def test_calls_during_a_batch_share_the_next_one() -> None:
    recorder = Recorder()
    double = Coalescer(recorder.run)
    calls = [asyncio.create_task(double(n)) for n in range(3)]
    await asyncio.sleep(0)
    recorder.gate.set()
    assert await asyncio.gather(*calls) == [0, 2, 4]
    assert sorted(itertools.chain(*recorder.batches)) == [0, 1, 2]
    assert len(recorder.batches) <= 2


async def test_one_items_error_reaches_its_waiter_alone() -> None:
    recorder = Recorder()
    recorder.gate.set()
    double = Coalescer(recorder.run)
    results = await asyncio.gather(double(1), double(-1), return_exceptions=True)
    assert results[0] == 2
    assert isinstance(results[1], ValueError)


async def test_a_cancelled_waiter_leaves_the_others_alone() -> None:
    recorder = Recorder()
    double = Coalescer(recorder.run)
    leaves, stays = asyncio.create_task(double(1)), asyncio.create_task(double(2))
    await asyncio.sleep(0)
    leaves.cancel()
    recorder.gate.set()
    assert await stays == 4


async def test_too_many_waiters_are_refused() -> None:
    recorder = Recorder()
    double = Coalescer(recorder.run, max_waiting=1)
    first = asyncio.create_task(double(1))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    second = asyncio.create_task(double(2))
    await asyncio.sleep(0)
    with pytest.raises(Unavailable):
        await double(3)
    recorder.gate.set()
    assert await first == 2
    assert await second == 4


async def test_who_asks_again_within_three_turns_shares_the_batch_of_those_who_waited() -> None:
    recorder = Recorder()
    double = Coalescer(recorder.run)

    async def ask_twice() -> int:
        first = await double(1)
        for _ in range(TURNS - 1):  # one that answers, and one that reads what is asked next
            await asyncio.sleep(0)
        return await double(first)

    twice = asyncio.create_task(ask_twice())
    await recorder.started.wait()
    once = asyncio.create_task(double(3))
    recorder.gate.set()
    assert (await twice, await once) == (4, 6)
    assert recorder.batches == [[1], [3, 2]]


async def test_a_batch_that_is_full_waits_for_nobody() -> None:
    recorder = Recorder()
    double = Coalescer(recorder.run, max_batch=2)

    async def batches_when_answered() -> int:
        await double(1)
        return len(recorder.batches)

    answered = asyncio.create_task(batches_when_answered())
    await recorder.started.wait()
    others = [asyncio.create_task(double(n)) for n in (5, 6)]
    await asyncio.sleep(0)
    recorder.gate.set()
    assert await asyncio.gather(answered, *others) == [2, 10, 12]
    assert recorder.batches == [[1], [5, 6]]


async def test_nobody_fails_for_a_neighbour() -> None:
    runs: list[list[int]] = []

    async def run(items: Sequence[int]) -> Sequence[int]:
        runs.append(list(items))
        if 13 in items:
            raise ValueError("too large a write")
        return [item * 2 for item in items]

    double = Coalescer(run)
    results = await asyncio.gather(*(double(n) for n in (1, 13, 2)), return_exceptions=True)
    assert (results[0], results[2]) == (2, 4)
    assert isinstance(results[1], ValueError)


async def test_the_one_at_fault_is_found_by_halves() -> None:
    runs: list[list[int]] = []

    async def run(items: Sequence[int]) -> Sequence[int]:
        runs.append(list(items))
        if 13 in items:
            raise ValueError("too large a write")
        return list(items)

    double = Coalescer(run)
    results = await asyncio.gather(*(double(n) for n in range(256)), return_exceptions=True)
    assert [n for n, result in enumerate(results) if result != n] == [13]
    assert len(runs) == 1 + 2 * 8


async def test_a_cancellation_during_the_repeat_leaves_no_waiter_hanging() -> None:
    repeats, workers = asyncio.Event(), list[asyncio.Task[object]]()

    async def run(items: Sequence[int]) -> Sequence[int]:
        if len(items) > 1:
            raise ValueError("one of them")
        worker = asyncio.current_task()
        assert worker is not None
        workers.append(worker)
        repeats.set()
        await asyncio.Event().wait()
        return items

    double = Coalescer(run)
    waiting = [asyncio.create_task(double(n)) for n in range(3)]
    await repeats.wait()
    waiting.append(asyncio.create_task(double(4)))  # for the next batch
    await asyncio.sleep(0)
    workers[0].cancel()
    async with asyncio.timeout(5):
        ended = await asyncio.gather(*waiting, return_exceptions=True)
    assert all(isinstance(end, asyncio.CancelledError) for end in ended)


async def test_what_is_away_is_not_asked_again_for_each() -> None:
    runs: list[list[int]] = []

    async def run(items: Sequence[int]) -> Sequence[int]:
        runs.append(list(items))
        raise Unavailable

    double = Coalescer(run)
    results = await asyncio.gather(*(double(n) for n in range(5)), return_exceptions=True)
    assert all(isinstance(result, Unavailable) for result in results)
    assert sum(map(len, runs)) == 5


@pytest.mark.parametrize(
    ("error", "runs"), [(OperationFailure("not authorized", 13), 1), (BulkWriteError({"writeErrors": []}), 7)]
)
async def test_a_refusal_of_the_whole_command_is_not_taken_for_a_writes(error: Exception, runs: int) -> None:
    asked: list[int] = []

    async def run(items: Sequence[int]) -> Sequence[int]:
        asked.append(len(items))
        raise error

    double = Coalescer(run, is_away=is_away)
    results = await asyncio.gather(*(double(n) for n in range(4)), return_exceptions=True)
    assert results == [error] * 4
    assert len(asked) == runs
