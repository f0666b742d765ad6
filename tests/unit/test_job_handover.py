"""A new run goes straight to a claim that waits, and to nobody it shouldn't go to."""

import asyncio
from collections.abc import AsyncIterator, Sequence

import pytest

from common.contracts.job import ClaimedRun, ClaimRequest, RunState, RunSubmit
from common.errors import Unavailable
from common.ids import new_id
from services.job.domain.rules import RetryPolicy
from services.job.ports import Claimed, Handover, Submitted
from services.job.use_cases.queue import Leases, Queue
from services.job.use_cases.waiting import Waiter
from tests.fakes.run_store import FakeRunStore
from tests.support.run_bench import a_run

NEVER = 30.0


class Looks(FakeRunStore):
    """Counts the looks that claims take at the queue; a submit takes its time, as a database's does. With `cancels`,
    each run is cancelled before the one who submits it hears anything; with `breaks`, that one never hears.
    """

    def __init__(self) -> None:
        super().__init__()
        self.looks: asyncio.Queue[None] = asyncio.Queue()
        self.cancels = self.breaks = False

    async def submit(self, run: RunSubmit, handover: Handover | None = None) -> Submitted:
        await asyncio.sleep(0)
        submitted = await super().submit(run, handover)
        if self.cancels:
            await self.cancel(run.id)
        if self.breaks:
            raise Unavailable
        return submitted

    async def claim(
        self, claim_id: str, processors: Sequence[str], limit: int, start_seconds: float, *, first: bool = False
    ) -> Sequence[Claimed]:
        found = await super().claim(claim_id, processors, limit, start_seconds, first=first)
        self.looks.put_nowait(None)
        return found


@pytest.fixture
def store() -> Looks:
    return Looks()


@pytest.fixture
def queue(store: Looks) -> Queue:
    return Queue(store, Leases(5, 30), RetryPolicy(3, 2), on_end=lambda _: None, poll_seconds=NEVER)


@pytest.fixture
async def waiting(queue: Queue, store: Looks) -> AsyncIterator["asyncio.Task[list[ClaimedRun]]"]:
    """A claim with room for two that has looked, found nothing, and now waits."""
    request = ClaimRequest(claim_id=new_id(), processors=["checksum"], max=2, wait_seconds=NEVER)
    claiming = asyncio.create_task(queue.claim(request))
    await store.looks.get()
    yield claiming
    claiming.cancel()
    await asyncio.wait([claiming])


async def test_a_waiting_claim_is_handed_what_arrives_without_another_look(
    queue: Queue, store: Looks, waiting: "asyncio.Task[list[ClaimedRun]]"
) -> None:
    runs = [a_run() for _ in range(3)]
    answers = await asyncio.gather(*(queue.submit(run) for run in runs))
    assert [run.id for run in await waiting] == [run.id for run in runs[:2]]
    assert [accepted.status for accepted, _ in answers] == [RunState.RUNNING, RunState.RUNNING, RunState.QUEUED]
    assert store.looks.empty()


async def test_a_duplicate_is_handed_to_nobody(
    queue: Queue, store: Looks, waiting: "asyncio.Task[list[ClaimedRun]]"
) -> None:
    known = a_run("other")
    await store.submit(known)
    _, created = await queue.submit(known.model_copy(update={"processor": "checksum"}))
    assert not created
    fresh = a_run()
    await queue.submit(fresh)
    assert [run.id for run in await waiting] == [fresh.id]


async def test_claims_share_a_look_that_found_nothing_until_a_run_is_queued(queue: Queue, store: Looks) -> None:
    request = ClaimRequest(claim_id=new_id(), processors=["checksum"], first=True)
    for _ in range(3):
        assert await queue.claim(request.model_copy(update={"claim_id": new_id()})) == []
    assert store.looks.qsize() == 1
    run = a_run()
    await queue.submit(run)
    assert [claimed.id for claimed in await queue.claim(request)] == [run.id]


async def test_a_look_is_good_for_those_alone_that_want_the_same_and_have_no_runs(queue: Queue, store: Looks) -> None:
    request = ClaimRequest(claim_id=new_id(), processors=["checksum"], first=True)
    assert await queue.claim(request) == []
    held, other = a_run(), a_run("other")
    await store.submit(held, Handover(request.claim_id, 5))
    await store.submit(other)
    assert [claimed.id for claimed in await queue.claim(request.model_copy(update={"first": False}))] == [held.id]
    wider = ClaimRequest(claim_id=new_id(), processors=["checksum", "other"], first=True)
    assert [claimed.id for claimed in await queue.claim(wider)] == [other.id]


async def test_what_is_queued_while_a_claim_looks_is_looked_for_by_the_next(queue: Queue, store: Looks) -> None:
    waiter = Waiter(new_id(), ["checksum"], 1)

    async def queued_meanwhile() -> list[Claimed]:
        await queue.submit(a_run())
        return []

    assert await queue.waiters.look(waiter, queued_meanwhile, alone=False) == []
    assert len(await queue.claim(ClaimRequest(claim_id=new_id(), processors=["checksum"], first=True))) == 1


async def test_a_claim_finds_what_was_handed_to_it_though_the_store_did_not_say_so(store: Looks) -> None:
    queue = Queue(store, Leases(5, 30), RetryPolicy(3, 2), on_end=lambda _: None, poll_seconds=0.01)
    request = ClaimRequest(claim_id=new_id(), processors=["checksum"], wait_seconds=NEVER, first=True)
    claiming = asyncio.create_task(queue.claim(request))
    await store.looks.get()
    store.breaks = True
    run = a_run()
    with pytest.raises(Unavailable):
        await queue.submit(run)
    async with asyncio.timeout(20):
        assert [claimed.id for claimed in await claiming] == [run.id]


async def test_another_processors_run_is_left_alone(queue: Queue, waiting: "asyncio.Task[list[ClaimedRun]]") -> None:
    accepted, _ = await queue.submit(a_run("other"))
    assert accepted.status == RunState.QUEUED
    assert not waiting.done()


async def test_a_claim_that_has_gone_is_handed_nothing(queue: Queue, waiting: "asyncio.Task[list[ClaimedRun]]") -> None:
    waiting.cancel()
    await asyncio.wait([waiting])
    accepted, _ = await queue.submit(a_run())
    assert accepted.status == RunState.QUEUED


async def test_what_was_written_for_a_claim_that_left_meanwhile_goes_back(
    queue: Queue, store: Looks, waiting: "asyncio.Task[list[ClaimedRun]]"
) -> None:
    run = a_run()
    waiter = queue.waiters.reserve("checksum")
    assert waiter is not None
    waiter.hand(None)
    waiter.leave()
    await queue.submit(run)
    (status,) = await store.statuses([run.id])
    assert (status.status, status.attempt) == (RunState.QUEUED, 0)


async def test_a_run_that_is_cancelled_while_its_claim_leaves_is_accepted_all_the_same(
    queue: Queue, store: Looks, waiting: "asyncio.Task[list[ClaimedRun]]"
) -> None:
    store.cancels = True
    waiter = queue.waiters.reserve("checksum")
    assert waiter is not None
    waiter.hand(None)
    waiter.leave()
    run = a_run()
    _, created = await queue.submit(run)
    assert created
    (status,) = await store.statuses([run.id])
    assert status.status == RunState.CANCELLED


async def test_a_release_wakes_a_waiting_claim(
    queue: Queue, store: Looks, waiting: "asyncio.Task[list[ClaimedRun]]"
) -> None:
    run = a_run()
    await store.submit(run)
    (held,) = await store.claim(new_id(), ["checksum"], 1, 5)
    await queue.release(run.id, held.fence)
    assert [claimed.fence for claimed in await waiting] == [3]
