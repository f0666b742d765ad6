"""Offers in MongoDB: what lists and front make of processors that come, are replaced, and go."""

import asyncio

import pytest

from common.mongo.client import Client
from gristmill.wire.processors import OfferedProcessor, ProcessorOffer
from services.job.adapters.mongodb.database import JobDatabase
from services.job.adapters.mongodb.offers import MongoOfferStore

KEPT = 3600.0
LIVE = 0.5
DEADLINE_SECONDS = 20


def an_offer(version: str, name: str = "checksum") -> ProcessorOffer:
    return ProcessorOffer(
        name=name, version=version, summary=f"v{version}", media_types=["*/*"], params={"title": version}
    )


@pytest.fixture
async def database(mongodb: Client, database_name: str) -> JobDatabase:
    database = JobDatabase(mongodb, database_name)
    await database.create_indexes()
    return database


@pytest.fixture
def store(database: JobDatabase) -> MongoOfferStore:
    return database.offers


async def become(store: MongoOfferStore, live: list[str], *renewed: str) -> OfferedProcessor:
    """The name, once just these versions of it are live; the `renewed` are offered all the while."""
    async with asyncio.timeout(DEADLINE_SECONDS):
        while True:
            await store.offer([an_offer(version) for version in renewed], KEPT)
            (offered,) = await store.offered(LIVE, KEPT)
            if [version.version for version in offered.versions if version.live] == live:
                return offered
            await asyncio.sleep(0.05)


async def test_a_rolling_update_and_its_roll_back_end_with_what_is_live(store: MongoOfferStore) -> None:
    await store.offer([an_offer("1.0.0")], KEPT)
    both = await become(store, ["2.0.0", "1.0.0"], "1.0.0", "2.0.0")
    assert (both.version, both.summary) == ("2.0.0", "v2.0.0")
    updated = await become(store, ["2.0.0"], "2.0.0")
    assert updated.version == "2.0.0"
    back = await become(store, ["1.0.0"], "1.0.0")
    assert (back.version, back.summary, back.params, back.live) == ("1.0.0", "v1.0.0", {"title": "1.0.0"}, True)
    assert [version.version for version in back.versions] == ["2.0.0", "1.0.0"]
    assert back.last_seen_at == back.versions[1].last_seen_at > back.versions[0].last_seen_at


async def test_a_pool_scaled_to_zero_is_described_by_its_highest_version(store: MongoOfferStore) -> None:
    await store.offer([an_offer("1.10.0"), an_offer("1.9.0")], KEPT)
    gone = await become(store, [])
    assert (gone.version, gone.live) == ("1.10.0", False)


async def test_what_was_not_offered_for_too_long_goes(store: MongoOfferStore, database: JobDatabase) -> None:
    await store.offer([an_offer("1.0.0", "old")], KEPT)
    async with asyncio.timeout(DEADLINE_SECONDS):
        while await store.offered(LIVE, LIVE):  # noqa: ASYNC110 - it shows by asking alone
            await asyncio.sleep(0.05)
    await store.offer([an_offer("1.0.0", "new")], LIVE)
    assert [offered.name for offered in await store.offered(LIVE, KEPT)] == ["new"]


async def test_what_an_older_job_has_kept_is_one_version_more(
    store: MongoOfferStore, mongodb: Client, database_name: str
) -> None:
    await store.offer([an_offer("1.0.0")], KEPT)
    (kept,) = await store.offered(LIVE, KEPT)
    for version, name in (("1.1.0", "checksum"), ("3.0.0", "other")):
        old = {
            "_id": name,
            "descriptor": an_offer(version, name).to_wire().decode(),
            "lastSeenAt": kept.last_seen_at,
            "rank": [1],
        }
        await mongodb[database_name]["offers"].insert_one(old)
    await store.offer([an_offer("1.1.0")], KEPT)
    checksum, other = await store.offered(KEPT, KEPT)
    assert [version.version for version in checksum.versions] == ["1.1.0", "1.0.0"]
    assert (other.name, other.version, other.live) == ("other", "3.0.0", True)
