"""How a store of runs shares its processors among tenants; the MongoDB adapter and the fake both pass."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

from common.contracts.job import RunSubmit
from common.ids import new_id
from common.mongo.client import Client
from services.job.adapters.mongodb.database import JobDatabase
from services.job.domain.rules import RetryPolicy
from services.job.domain.tenants import Tenant, Tenants
from services.job.ports import Claimed, RunStore
from tests.fakes.run_store import FakeRunStore
from tests.support.run_bench import AT_ONCE, LONG, OURS, SHORT, Bench, a_run

TENANTS = Tenants(named={"heavy": Tenant(weight=2), "light": Tenant(weight=0.5), "narrow": Tenant(max_running=3)})


@pytest.fixture(params=["fake", "mongodb"])
async def bench(request: pytest.FixtureRequest, mongodb: Client, database_name: str) -> AsyncIterator[Bench]:
    if request.param == "fake":
        yield Bench(FakeRunStore(TENANTS))
    else:
        database = JobDatabase(mongodb, database_name, TENANTS)
        await database.create_indexes()
        yield Bench(database.runs)


async def queue(bench: Bench, count: int, **changes: Any) -> list[RunSubmit]:
    runs = [a_run(**changes) for _ in range(count)]
    await asyncio.gather(*(bench.store.submit(run) for run in runs))
    return runs


async def claim(store: RunStore, limit: int = 1, processors: Sequence[str] = ("checksum",)) -> Sequence[Claimed]:
    return await store.claim(new_id(), processors, limit, LONG)


async def served(bench: Bench, claims: int, limit: int = 1, processors: Sequence[str] = ("checksum",)) -> Counter[str]:
    """How many runs of each tenant so many claims, one after another, take."""
    taken = [run for _ in range(claims) for run in await claim(bench.store, limit, processors)]
    return Counter(claimed.run.tenant for claimed in taken)


async def test_a_single_run_does_not_wait_behind_anothers_many(bench: Bench) -> None:
    await queue(bench, 300, tenant="many")
    assert await served(bench, 5, 4) == {"many": 20}
    (single,) = await queue(bench, 1, tenant="single")
    starts = [run.run.id for _ in range(2) for run in await claim(bench.store, 4)]
    assert single.id in starts, "it starts within two runs for each of four slots"


@pytest.mark.parametrize("limit", [1, 7])
async def test_processors_are_shared_by_weight(bench: Bench, limit: int) -> None:
    for tenant in ("light", "plain", "heavy"):
        await queue(bench, 60, tenant=tenant)
    shares = await served(bench, 70 // limit, limit)
    assert [abs(shares[tenant] - wanted) <= 2 for tenant, wanted in (("light", 10), ("plain", 20), ("heavy", 40))] == [
        True
    ] * 3, shares


async def test_a_tenant_that_was_away_gets_no_credit_for_it(bench: Bench) -> None:
    await queue(bench, 1, tenant="back")
    assert await served(bench, 1) == {"back": 1}
    await queue(bench, 80, tenant="busy")
    assert await served(bench, 10, 4) == {"busy": 40}
    await queue(bench, 40, tenant="back")
    shares = await served(bench, 20)
    assert abs(shares["back"] - shares["busy"]) <= 2, shares


async def test_a_tenant_gets_no_more_by_wanting_more_kinds_of_work(bench: Bench) -> None:
    wanted = [f"checksum{pin}" for pin in ("", "@1", "@1.2", "@1.2.3")]
    for processor in wanted:
        await queue(bench, 20, tenant="many-kinds", processor=processor)
    await queue(bench, 40, tenant="one-kind")
    taken = [run.run for _ in range(40) for run in await claim(bench.store, 1, wanted)]
    shares = Counter(run.tenant for run in taken)
    assert abs(shares["many-kinds"] - shares["one-kind"]) <= 2, shares
    kinds = Counter(run.processor for run in taken if run.tenant == "many-kinds")
    assert set(kinds) == set(wanted), "and each kind has its turn"
    assert max(kinds.values()) - min(kinds.values()) <= 1


async def test_nor_where_a_claim_sees_only_some_of_the_many_flows_that_there_are(bench: Bench) -> None:
    wanted = [f"checksum{pin}" for pin in ("", "@1", "@1.2", "@1.2.3")]
    for processor in wanted:
        await queue(bench, 20, tenant="many-kinds", processor=processor)
    await asyncio.gather(*(queue(bench, 3, tenant=f"t{n}") for n in range(100)))
    shares = await served(bench, 20, 10, wanted)
    assert shares["many-kinds"] <= 3, "two rounds of 101 tenants"


async def test_what_another_pool_is_served_holds_nobody_up(bench: Bench) -> None:
    """The clock of a processor that one pool serves fast says little to a pool that takes others as well."""
    await queue(bench, 120, tenant="alone", processor="fast")
    assert await served(bench, 10, 10, ["fast"]) == {"alone": 100}
    await queue(bench, 50, tenant="slow", processor="slow")
    assert await served(bench, 2, 1, ["slow"]) == {"slow": 2}
    await queue(bench, 1, tenant="single", processor="fast")
    assert (await served(bench, 4, 1, ["fast", "slow"]))["single"] == 1


async def test_a_flow_without_runs_does_not_keep_others_from_theirs(bench: Bench) -> None:
    """Each tenant's only run is taken, and put back in some way or other: it is always found again."""
    runs = [(await queue(bench, 1, tenant=f"t{n}"))[0] for n in range(30)]
    first = await claim(bench.store, 30)
    assert {claimed.run.id for claimed in first} == {run.id for run in runs}
    assert await claim(bench.store, 30) == []
    for claimed in first[:10]:
        await bench.store.release(claimed.run.id, claimed.fence)
    for claimed in first[10:20]:
        await bench.store.fail(claimed.run.id, claimed.fence, OURS, AT_ONCE)
    for claimed in first[20:]:
        await bench.beat(claimed, SHORT)
    found: list[str] = []

    async def all_are_back() -> bool:
        await bench.store.sweep(AT_ONCE)
        found.extend(claimed.run.id for claimed in await claim(bench.store, 30))
        return len(found) == 30

    await bench.until(all_are_back)
    assert set(found) == {run.id for run in runs}


async def test_a_run_whose_processor_died_keeps_its_place_in_line(bench: Bench) -> None:
    first, *_ = await queue(bench, 3)
    (held,) = await claim(bench.store)
    await bench.beat(held, SHORT)
    policy = RetryPolicy(max_attempts=3, backoff_seconds=600)
    assert await bench.until(lambda: bench.store.sweep(policy)) == 1
    (again,) = await claim(bench.store)
    assert (held.run.id, again.run.id) == (first.id, first.id)


async def test_a_run_that_rests_is_found_when_it_is_due_and_not_before_others(bench: Bench) -> None:
    resting, other = await queue(bench, 2)
    first = next(iter(await claim(bench.store)))
    await bench.beat(first)
    await bench.store.fail(first.run.id, first.fence, OURS, AT_ONCE.__class__(3, 0.3))
    assert [claimed.run.id for claimed in await claim(bench.store, 2)] == [
        ({resting.id, other.id} - {first.run.id}).pop()
    ]
    (again,) = await bench.until(lambda: claim(bench.store))
    assert again.run.id == first.run.id


async def test_a_tenant_at_its_limit_starts_nothing_until_a_run_of_its_ends(bench: Bench) -> None:
    await queue(bench, 20, tenant="narrow")
    first = await claim(bench.store, 10)
    assert len(first) == 3
    assert await claim(bench.store, 10) == []
    await queue(bench, 20, tenant="wide")
    assert await served(bench, 1, 10) == {"wide": 10}
    await bench.store.complete(first[0].run.id, first[0].fence, [])
    await bench.store.fail(first[1].run.id, first[1].fence, OURS, None)
    assert await served(bench, 5, 4) == {"wide": 10, "narrow": 2}


async def test_claims_at_once_keep_the_limit_together(bench: Bench) -> None:
    await queue(bench, 20, tenant="narrow")
    await queue(bench, 20, tenant="narrow", processor="other")
    wanted = [["checksum"], ["other"], ["checksum", "other"]] * 4
    claims = await asyncio.gather(*(claim(bench.store, 2, processors) for processors in wanted))
    assert sum(map(len, claims)) == 3


async def test_how_many_a_tenant_has_queued_is_known(bench: Bench) -> None:
    await queue(bench, 5, tenant="a")
    await queue(bench, 3, tenant="a", processor="other")
    await queue(bench, 7, tenant="b")
    await claim(bench.store, 4)
    assert (await served(bench, 1, 20)).total() == 8
    for tenant, queued in (("a", 3), ("b", 0), ("c", 0)):
        assert await bench.store.queued_estimate(tenant) == queued
        assert await bench.store.queued_count(tenant) == queued


async def test_a_queued_run_knows_about_how_many_start_before_it(bench: Bench) -> None:
    many = await queue(bench, 30, tenant="many")
    (single,) = await queue(bench, 1, tenant="single")
    heavy = await queue(bench, 40, tenant="heavy")
    many.sort(key=lambda run: run.id)
    heavy.sort(key=lambda run: run.id)
    asked = [single.id, many[0].id, many[10].id, many[-1].id, heavy[10].id]
    positions = {status.id: status.queue_position for status in await bench.store.statuses(asked)}
    # Of three alike that are all due now, any may be first; the heavy one has two turns for each of the others.
    for run, place in ((single, 0), (many[0], 0), (many[10], 31), (many[-1], 70), (heavy[10], 16)):
        position = positions[run.id]
        assert position is not None
        assert abs(position - place) <= 2, (run.tenant, position)
    (claimed,) = await claim(bench.store)
    assert (await bench.status(claimed.run.id)).queue_position is None


async def test_the_position_is_that_in_which_runs_start(bench: Bench) -> None:
    runs = [run for tenant in ("a", "b", "heavy", "light") for run in await queue(bench, 20, tenant=tenant)]
    await served(bench, 3, 3)
    waiting = {status.id: status.queue_position for status in await bench.store.statuses([run.id for run in runs])}
    started = [run.run.id for _ in range(60) for run in await claim(bench.store)]
    for place, run_id in enumerate(started):
        position = waiting[run_id]
        assert position is not None
        assert abs(position - place) <= 4
