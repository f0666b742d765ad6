"""An `Idempotency-Key`: the same request makes one thing, however often, at once or after a crash, it is sent."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from common.ids import new_id
from common.mongo.client import Document
from services.front.adapters.mongodb.idempotency import MongoIdempotencyStore
from tests.support.platform import Platform, eventually, open_platform
from tests.support.submitting import KINDS, Post, job_id_of, post_batch, post_json, post_raw

POSTS = 100
LEASE = 0.6
JOBS = KINDS[:3]


@pytest.fixture(scope="module")
async def platform(mongodb_uri: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Platform]:
    folder = Path(tmp_path_factory.mktemp("idempotency"))
    name = f"test-{new_id()}"
    async with open_platform(mongodb_uri, name, folder, idempotency_lease_seconds=LEASE) as platform:
        yield platform


@pytest.fixture
def alice(platform: Platform) -> httpx.AsyncClient:
    return keyed(platform, new_id())


@pytest.fixture(autouse=True)
def blob_works(platform: Platform) -> Iterator[None]:
    yield
    platform.to_blob.on = False


def keyed(platform: Platform, key: str, tenant: str = "acme", subject: str = "alice") -> httpx.AsyncClient:
    client = platform.client(tenant, subject)
    client.headers["Idempotency-Key"] = key
    return client


def keys(platform: Platform) -> MongoIdempotencyStore:
    return MongoIdempotencyStore(platform.core.mongodb, platform.settings.database)


async def key_of(platform: Platform, made: str) -> Document:
    found = await keys(platform).keys.find_one({"madeId": made})
    assert found is not None
    return found


async def died(platform: Platform, made: str, fields: Document) -> None:
    """As if the front that has made this had died before it said so, and its lease had lapsed."""
    key = await key_of(platform, made)
    past = {"leaseUntil": key["expiresAt"].replace(year=2000)}
    await keys(platform).keys.update_one(
        {"_id": key["_id"]}, {"$set": past, "$unset": dict.fromkeys(("done", *fields), "")}
    )


async def jobs_of(platform: Platform, subject: str) -> int:
    return await platform.core.jobs.jobs.count_documents({"subject": subject})


def is_reused(answer: httpx.Response) -> bool:
    return answer.status_code == 422 and answer.json()["type"] == "/problems/idempotency-key-reused"


@pytest.mark.parametrize("post", KINDS)
async def test_a_repeat_gets_the_same_and_makes_nothing(platform: Platform, post: Post) -> None:
    someone = keyed(platform, "k", "acme", subject := new_id())
    first = await post(someone, b"abc")
    again = await post(someone, b"abc")
    assert first.status_code == again.status_code == 201
    assert first.headers["location"] == again.headers["location"]
    assert job_id_of(first) == job_id_of(again)
    assert await jobs_of(platform, subject) == 1


@pytest.mark.parametrize("post", KINDS)
async def test_of_many_at_once_one_makes_it(platform: Platform, post: Post) -> None:
    someone = keyed(platform, "k", "acme", subject := new_id())
    answers = await asyncio.gather(*(post(someone, b"abc") for _ in range(POSTS)))
    made = [answer for answer in answers if answer.status_code == 201]
    others = [answer for answer in answers if answer.status_code != 201]
    assert len({job_id_of(answer) for answer in made}) == 1
    assert all(other.status_code == 409 and other.headers["retry-after"] == "1" for other in others), others
    assert {other.json()["type"] for other in others} <= {"/problems/conflict"}
    assert await jobs_of(platform, subject) == 1
    assert job_id_of(await post(someone, b"abc")) == job_id_of(made[0])


@pytest.mark.parametrize("post", KINDS)
@pytest.mark.parametrize("other", [{"content": b"abcd"}, {"mimetype": "text/csv"}, {"name": "b.txt"}])
async def test_another_request_is_refused(alice: httpx.AsyncClient, post: Post, other: dict[str, Any]) -> None:
    same = {"content": b"abc"}
    first = await post(alice, **same)
    assert is_reused(await post(alice, **{**same, **other}))
    assert job_id_of(await post(alice, **same)) == job_id_of(first), "the refusal leaves the key as it was"


async def test_the_order_of_parameters_does_not_matter(alice: httpx.AsyncClient) -> None:
    headers = {"Content-Type": "text/plain"}
    first = await alice.post("/api/v1/job?processor=checksum&name=a.txt", content=b"x", headers=headers)
    again = await alice.post("/api/v1/job?name=a.txt&processor=checksum", content=b"x", headers=headers)
    assert job_id_of(first) == job_id_of(again)


async def test_a_repeat_stores_no_bytes(platform: Platform, alice: httpx.AsyncClient) -> None:
    await post_raw(alice)
    platform.to_blob.calls.clear()
    assert (await post_raw(alice)).status_code == 201
    assert "put" not in platform.to_blob.calls


async def test_a_repeat_is_answered_as_the_job_is_now(platform: Platform, alice: httpx.AsyncClient) -> None:
    job_id = job_id_of(await post_raw(alice))
    ended = await platform.final(alice, job_id)
    assert (await post_raw(alice)).json() == {"id": job_id, "status": ended["status"]}


async def test_a_repeated_batch_has_urls_that_work(alice: httpx.AsyncClient) -> None:
    batch = {"processor": "checksum", "files": [{"name": "a", "size": 1, "mimetype": "text/plain"}]}
    await alice.post("/api/v1/batch", json=batch)
    (item,) = (await alice.post("/api/v1/batch", json=batch)).json()["items"]
    upload = item["upload"]
    async with httpx.AsyncClient() as line:
        sent = await line.request(upload["method"], upload["url"], content=b"x", headers=upload["headers"])
    assert sent.status_code < 300, sent.text


@pytest.mark.parametrize("post", KINDS)
async def test_keys_are_of_one_owner_and_one_route(platform: Platform, post: Post) -> None:
    key = new_id()
    owners = [("acme", "alice"), ("acme", "bob"), ("other", "alice")]
    answers = [await post(keyed(platform, key, *owner)) for owner in owners]
    assert len({job_id_of(answer) for answer in answers}) == len(owners)
    other_route = post_raw if post not in JOBS else post_batch
    assert (await other_route(keyed(platform, key))).status_code == 201


@pytest.mark.parametrize("post", KINDS)
async def test_a_refused_request_leaves_the_key_free(alice: httpx.AsyncClient, post: Post) -> None:
    refused = await post(alice, processor="nothing-like-it")
    assert 400 <= refused.status_code < 500
    assert (await post(alice)).status_code == 201


@pytest.mark.parametrize("post", KINDS)
async def test_what_was_written_before_a_crash_is_found(
    platform: Platform, alice: httpx.AsyncClient, post: Post
) -> None:
    first = await post(alice)
    before = await platform.core.jobs.find(job_id_of(first))
    await died(platform, first.json()["id"], {})
    again = await post(alice)
    assert job_id_of(again) == job_id_of(first)
    after = await platform.core.jobs.find(job_id_of(first))
    assert before is not None
    assert after is not None
    assert after.created_at == before.created_at
    assert (await key_of(platform, first.json()["id"]))["done"]


@pytest.mark.parametrize("fields", [{}, {"fingerprint": 1}])
@pytest.mark.parametrize("post", JOBS)
async def test_a_lapsed_lease_is_taken_over_with_the_same_id(
    platform: Platform, alice: httpx.AsyncClient, post: Post, fields: Document
) -> None:
    job_id = job_id_of(await post(alice))
    await platform.final(alice, job_id)
    await platform.core.jobs.jobs.delete_one({"_id": job_id})
    await died(platform, job_id, fields)
    assert job_id_of(await post(alice)) == job_id


async def test_a_batch_taken_over_has_each_file_once(platform: Platform, alice: httpx.AsyncClient) -> None:
    first = (await post_batch(alice)).json()
    batch_id = first["id"]
    await platform.core.batches.batches.delete_one({"_id": batch_id})
    await died(platform, batch_id, {})
    again = (await post_batch(alice)).json()
    assert [item["id"] for item in again["items"]] == [item["id"] for item in first["items"]]
    assert (again["id"], len(again["items"])) == (batch_id, 1)
    assert await platform.core.jobs.jobs.count_documents({"batchId": batch_id}) == 1


async def test_a_takeover_with_other_bytes_is_refused(platform: Platform, alice: httpx.AsyncClient) -> None:
    job_id = job_id_of(await post_raw(alice))
    await died(platform, job_id, {})
    assert is_reused(await post_raw(alice, b"y"))


async def test_the_lease_of_a_slow_request_is_renewed(platform: Platform, alice: httpx.AsyncClient) -> None:
    asked, go_on = asyncio.Event(), asyncio.Event()

    async def slow() -> AsyncIterator[bytes]:
        yield b"a"
        asked.set()
        await go_on.wait()
        yield b"b"

    headers = {"Content-Type": "text/plain"}
    first = asyncio.create_task(alice.post("/api/v1/job?processor=checksum", content=slow(), headers=headers))
    await asked.wait()
    await asyncio.sleep(2 * LEASE)  # the server's clock can't be moved
    other = await post_raw(alice, b"ab")
    assert (other.status_code, other.json()["type"]) == (409, "/problems/conflict")
    go_on.set()
    made = await first
    assert job_id_of(await post_raw(alice, b"ab")) == job_id_of(made)


async def test_a_failure_of_the_store_leaves_the_key_free(platform: Platform, alice: httpx.AsyncClient) -> None:
    platform.to_blob.on = True
    assert (await post_raw(alice)).status_code == 503
    platform.to_blob.on = False
    assert (await post_raw(alice)).status_code == 201


async def test_a_key_is_forgotten_in_time(platform: Platform, alice: httpx.AsyncClient) -> None:
    first = job_id_of(await post_json(alice))
    key = await key_of(platform, first)
    past = key["expiresAt"].replace(year=2000)
    await keys(platform).keys.update_one({"_id": key["_id"]}, {"$set": {"expiresAt": past}})
    assert job_id_of(await post_json(alice, b"other")) != first

    async def has_its_index() -> bool:
        return any("expireAfterSeconds" in index for index in (await keys(platform).keys.index_information()).values())

    await eventually(has_its_index)


@pytest.mark.parametrize("post", KINDS)
@pytest.mark.parametrize("key", ["", "k" * 256, "a b", "a\tb", b"\xc3\xa9"])
async def test_a_key_that_is_none_is_refused(platform: Platform, post: Post, key: str | bytes) -> None:
    client = platform.client()
    client.headers.update({b"idempotency-key": key if isinstance(key, bytes) else key.encode()})
    answer = await post(client)
    assert (answer.status_code, answer.json()["type"]) == (400, "/problems/malformed")


async def test_a_key_may_have_any_visible_characters(platform: Platform) -> None:
    every = "".join(map(chr, range(0x21, 0x7F)))
    for key in (every, "k" * 255):
        assert (await post_raw(keyed(platform, key, subject=new_id()))).status_code == 201
