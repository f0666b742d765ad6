"""Whose turn it is among requests with one `Idempotency-Key`: who fails gives it up, and the others may wait for it."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime
from typing import Any

import pytest

from common.errors import Conflict, Unavailable
from common.mongo.client import Client
from common.shares import Shares
from services.front.adapters.mongodb.idempotency import MongoIdempotencyStore
from services.front.domain.job import Owner
from services.front.use_cases.idempotency import Idempotency, IdempotentRequest
from tests.support.platform import Outage, eventually

LEASE = 600.0
"""Longer than any test waits."""
Turn = Callable[..., AbstractAsyncContextManager[IdempotentRequest]]


class LostReply:
    """A store that carries out what it is asked, but nobody hears of the first reservation."""

    def __init__(self, store: Any) -> None:
        self._store = store
        self._is_lost = False

    async def reserve(self, *args: Any) -> Any:
        known = await self._store.reserve(*args)
        if not self._is_lost:
            self._is_lost = True
            raise Unavailable
        return known

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


@pytest.fixture
def keys(mongodb: Client, database_name: str) -> MongoIdempotencyStore:
    return MongoIdempotencyStore(mongodb, database_name)


@pytest.fixture
def store(keys: MongoIdempotencyStore) -> Outage:
    return Outage(keys)


@pytest.fixture
def turn(store: Outage) -> Turn:
    return turns_of(store)


def turns_of(store: Any) -> Turn:
    """Requests with one key."""

    async def admit(_: Owner) -> None:
        """There is no limit here."""

    async def nothing_is_made(_: str) -> bool:
        return False

    idempotency = Idempotency(store, admit, Shares("waits", 100), keep_seconds=LEASE, lease_seconds=LEASE)

    def turn(wait_seconds: float = 0) -> AbstractAsyncContextManager[IdempotentRequest]:
        return idempotency.request(Owner("acme", "alice"), "job", ["key"], nothing_is_made, wait_seconds)

    return turn


async def send_and_seal(request: IdempotentRequest) -> None:
    async def body() -> AsyncIterator[bytes]:
        yield b"the same each time"

    request.describe([])
    async for _ in request.hashed(body()):
        pass
    await request.seal()


async def is_free(turn: Turn) -> bool:
    try:
        async with turn() as request:
            await send_and_seal(request)
    except Conflict:
        return False
    return True


@pytest.mark.parametrize("sealed", [False, True])
async def test_who_fails_because_the_store_is_away_gives_its_turn_up_when_it_is_back(
    store: Outage, turn: Turn, sealed: bool
) -> None:
    async def fail() -> None:
        async with turn() as request:
            if sealed:
                await send_and_seal(request)
            store.on = True
            raise Unavailable

    with pytest.raises(Unavailable):
        await fail()
    store.on = False
    await eventually(lambda: is_free(turn))


async def test_a_turn_that_was_taken_but_not_heard_of_is_given_up(store: Outage) -> None:
    turn = turns_of(LostReply(store))
    with pytest.raises(Unavailable):
        async with turn():
            pytest.fail("it has no turn")
    assert await is_free(turn)


@pytest.mark.parametrize("fails", [False, True])
async def test_a_repeat_may_wait_for_the_request_that_runs(store: Outage, turn: Turn, fails: bool) -> None:
    async def repeat() -> tuple[str, bool]:
        async with turn(wait_seconds=30) as request:
            await send_and_seal(request)
            return request.id, request.repeats

    async def waits() -> bool:
        asked = store.calls.count("reserve")
        return asked > 2 or other.done()  # once by the first, and again and again by the other

    try:
        async with turn() as first:
            await send_and_seal(first)
            other = asyncio.create_task(repeat())
            await eventually(waits)
            if fails:
                raise Unavailable
    except Unavailable:
        pass
    assert await other == (first.id, not fails), "it gets what the first has made, or makes it"


async def test_who_may_not_wait_is_told_when_the_turn_is_over(turn: Turn) -> None:
    async with turn():
        with pytest.raises(Conflict) as refused:
            async with turn():
                pytest.fail("it has no turn")
    assert LEASE / 2 < int(refused.value.headers["Retry-After"]) <= LEASE


async def test_who_was_held_up_while_another_took_its_turn_writes_nothing(
    keys: MongoIdempotencyStore, turn: Turn
) -> None:
    async with turn() as held_up:
        await keys.keys.update_one({}, {"$set": {"leaseUntil": datetime(2000, 1, 1, tzinfo=UTC)}})
        async with turn() as other:
            await send_and_seal(other)
            with pytest.raises(Conflict):
                await send_and_seal(held_up)
    assert other.id == held_up.id
