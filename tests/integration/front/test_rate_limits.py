"""An owner's requests are limited over all processes of front, and nobody else's by them."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from common.errors import RateLimited
from common.ids import new_id
from common.mongo.client import Client
from services.front.adapters.mongodb.budgets import MongoBudgets
from services.front.domain.job import Owner
from services.front.domain.rate import Leased, RatePolicy
from services.front.use_cases.rate import LimitedTokens
from tests.support.platform import Platform, open_platform

DAY = 86_400.0
ALICE, BOB = Owner("acme", "alice"), Owner("acme", "bob")


class AnyTokens:
    """Says that everybody is who he says he is."""

    async def owner(self, authorization: str | None) -> Owner:
        return Owner("acme", authorization or "nobody")

    async def seconds_left(self, _: str | None) -> float:
        return DAY


class CountingBudgets:
    def __init__(self, budgets: MongoBudgets) -> None:
        self._budgets = budgets
        self.leases = 0

    async def lease(self, owner: Owner, requests: int, policy: RatePolicy) -> Leased:
        self.leases += 1
        return await self._budgets.lease(owner, requests, policy)


@pytest.fixture
async def budgets(mongodb: Client, database_name: str) -> CountingBudgets:
    made = MongoBudgets(mongodb, database_name)
    await made.create_indexes()
    return CountingBudgets(made)


async def admitted(tokens: LimitedTokens, subject: str, requests: int) -> int:
    async def one() -> bool:
        try:
            await tokens.owner(subject)
        except RateLimited:
            return False
        return True

    return sum(await asyncio.gather(*(one() for _ in range(requests))))


async def test_the_budget_is_one_over_all_processes_and_takes_few_writes(budgets: CountingBudgets) -> None:
    policy = RatePolicy(1000, DAY)
    fronts = [LimitedTokens(AnyTokens(), budgets, policy) for _ in range(2)]
    both = await asyncio.gather(*(admitted(front, "alice", 800) for front in fronts))
    assert sum(both) == 1000
    assert budgets.leases < 100


async def test_who_has_used_up_his_budget_is_told_when_to_come_back_and_asks_no_more(budgets: CountingBudgets) -> None:
    tokens = LimitedTokens(AnyTokens(), budgets, RatePolicy(2, DAY))
    assert await admitted(tokens, "alice", 5) == 2
    before = budgets.leases
    with pytest.raises(RateLimited) as refused:
        await tokens.owner("alice")
    assert budgets.leases == before
    assert refused.value.headers["RateLimit-Policy"] == '"requests";q=2;w=86400'
    seconds = refused.value.headers["Retry-After"]
    assert refused.value.headers["RateLimit"] == f'"requests";r=0;t={seconds}'
    assert 0 < int(seconds) <= DAY / 2
    assert await admitted(tokens, "bob", 1) == 1


async def test_a_budget_fills_up_again_and_no_further(budgets: CountingBudgets) -> None:
    slow, fast = RatePolicy(10, DAY), RatePolicy(10, 0.001)
    assert await budgets.lease(ALICE, 10, slow) == Leased(10)
    assert (await budgets.lease(ALICE, 1, slow)).requests == 0
    assert (await budgets.lease(BOB, 1, slow)).requests == 1
    await asyncio.sleep(0.01)  # in which the fast one fills up many times
    assert await budgets.lease(ALICE, 100, fast) == Leased(10)


async def test_a_store_that_fails_admits_nobody_and_is_asked_again() -> None:
    class Failing:
        failing = True

        async def lease(self, owner: Owner, requests: int, policy: RatePolicy) -> Leased:
            if self.failing:
                raise ConnectionError
            return Leased(requests)

    store = Failing()
    tokens = LimitedTokens(AnyTokens(), store, RatePolicy(10, DAY))
    with pytest.raises(ConnectionError):
        await tokens.owner("alice")
    store.failing = False
    assert await tokens.owner("alice") == ALICE


@pytest.fixture
async def platform(mongodb_uri: str, tmp_path: Path) -> AsyncIterator[Platform]:
    async with open_platform(
        mongodb_uri, f"test-{new_id()}", tmp_path, processor=False, rate_requests=3, rate_seconds=DAY
    ) as platform:
        yield platform


@pytest.mark.parametrize("path", ["/api/v1/processor", f"/api/v1/job/{'0' * 26}/status"])
async def test_every_route_is_limited_the_bare_status_too_and_each_owner_by_himself(
    platform: Platform, path: str
) -> None:
    async def answers(client: httpx.AsyncClient) -> list[httpx.Response]:
        return [await client.get(path) for _ in range(4)]

    alice = await answers(platform.client())
    assert [answer.status_code == 429 for answer in alice] == [False, False, False, True]
    assert alice[-1].headers["content-type"] == "application/problem+json"
    assert alice[-1].json()["type"] == "/problems/rate-limited"
    assert {"retry-after", "ratelimit", "ratelimit-policy"} <= set(alice[-1].headers)
    bob = await answers(platform.client("acme", "bob"))
    assert bob[0].status_code != 429
