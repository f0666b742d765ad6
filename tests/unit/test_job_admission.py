"""A tenant that has too many runs queued is told to come back later, and nothing of it is kept."""

import asyncio

import pytest

from common.contracts.job import ClaimRequest, Complete, RunState, RunStatus
from common.errors import TooManyRequests
from common.ids import new_id
from services.job.domain.rules import RetryPolicy
from services.job.domain.tenants import Tenant, Tenants
from services.job.use_cases.admission import COUNTED_SECONDS, FRESH_SECONDS, Admission
from services.job.use_cases.queue import Leases, Queue
from tests.fakes.run_store import FakeRunStore
from tests.support.run_bench import a_run

TENANTS = Tenants(Tenant(max_queued=3), {"narrow": Tenant(max_running=1), "endless": Tenant()})


class Counts(FakeRunStore):
    """Says how often it was asked, and may be wrong in what it estimates."""

    def __init__(self, tenants: Tenants | None = None) -> None:
        super().__init__(tenants)
        self.wrong_by = 0
        self.estimates = self.counts = 0

    async def queued_estimate(self, tenant: str) -> int:
        self.estimates += 1
        return await super().queued_estimate(tenant) + self.wrong_by

    async def queued_count(self, tenant: str) -> int:
        self.counts += 1
        return await super().queued_estimate(tenant)


class Doors:
    """Admission over a store, with a clock that tests move."""

    def __init__(self) -> None:
        self.store = Counts()
        self.now = 100.0
        self.admission = Admission(self.store, TENANTS, lambda: self.now)

    async def submit(self, tenant: str = "acme") -> None:
        run = a_run(tenant=tenant)
        await self.admission.admit(run)
        await self.store.submit(run)


@pytest.fixture
def doors() -> Doors:
    return Doors()


async def test_so_many_and_no_more_until_one_is_taken(doors: Doors) -> None:
    for _ in range(3):
        await doors.submit()
    with pytest.raises(TooManyRequests) as refused:
        await doors.submit()
    assert int(refused.value.headers["Retry-After"]) > 0
    assert len(doors.store.runs) == 3
    await doors.submit("another")
    await doors.store.claim(new_id(), ["checksum"], 1, 30)
    doors.now += FRESH_SECONDS
    await doors.submit()


async def test_a_run_that_is_there_is_never_refused(doors: Doors) -> None:
    run = a_run()
    await doors.store.submit(run)
    for _ in range(2):
        await doors.submit()
    await doors.admission.admit(run)


async def test_neither_estimate_nor_count_is_asked_for_with_each_submit(doors: Doors) -> None:
    for _ in range(3):
        await doors.submit()
    for _ in range(50):
        with pytest.raises(TooManyRequests):
            await doors.submit()
    assert (doors.store.estimates, doors.store.counts) == (1, 1)
    doors.now += COUNTED_SECONDS
    with pytest.raises(TooManyRequests):
        await doors.submit()
    assert (doors.store.estimates, doors.store.counts) == (2, 2)


async def test_an_estimate_that_is_wrong_refuses_nobody(doors: Doors) -> None:
    doors.store.wrong_by = 1_000
    await doors.submit()
    assert doors.store.counts == 1


async def test_without_a_limit_nothing_is_asked(doors: Doors) -> None:
    for _ in range(10):
        await doors.submit("endless")
    assert doors.store.estimates == 0


async def test_a_run_of_a_tenant_with_a_limit_is_claimed_and_not_handed_over() -> None:
    """Only a claim counts what runs. It is woken by each run that ends, because the next one may start then."""
    store, ended = Counts(TENANTS), asyncio.Queue[RunStatus]()
    queue = Queue(store, Leases(5, 30), RetryPolicy(3, 2), on_end=ended.put_nowait, tenants=TENANTS, poll_seconds=30)

    def claim() -> ClaimRequest:
        return ClaimRequest(claim_id=new_id(), processors=["checksum"], wait_seconds=30)

    first, second = [asyncio.create_task(queue.claim(claim())) for _ in range(2)]
    await asyncio.sleep(0)
    runs = [a_run(tenant="narrow") for _ in range(2)]
    for run in runs:
        accepted, _ = await queue.submit(run)
        assert accepted.status == RunState.QUEUED
    async with asyncio.timeout(5):
        (one,) = (await asyncio.wait({first, second}, return_when=asyncio.FIRST_COMPLETED))[0]
        (started,) = await one
        await asyncio.sleep(0)
        await queue.complete(started.id, Complete(fence=started.fence, outputs=[]))
        (other,) = await ({first, second} - {one}).pop()
    assert {started.id, other.id} == {run.id for run in runs}
