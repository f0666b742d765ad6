"""A request that repeats one that was answered makes nothing: it is held to no limit, and gets what was made."""

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from common.errors import StorageFull
from common.ids import new_id
from common.web.bodies import JSON
from services.front.api.batches import MAX_JSON_BYTES
from services.front.domain.job import Owner
from tests.support.platform import Platform, eventually, open_platform
from tests.support.submitting import KINDS, Post, job_id_of, post_batch, post_json

DAY = 86_400.0
HELD_BYTES = 1_000


@pytest.fixture(scope="module")
async def platform(mongodb_uri: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Platform]:
    folder = Path(tmp_path_factory.mktemp("repeats"))
    async with open_platform(
        mongodb_uri, f"test-{new_id()}", folder, rate_requests=20, rate_seconds=DAY, max_held_bytes=HELD_BYTES
    ) as platform:
        yield platform


@pytest.fixture
def alice(platform: Platform) -> httpx.AsyncClient:
    """An owner whom no other test has, with a key."""
    client = platform.client("acme", new_id())
    client.headers["Idempotency-Key"] = "key"
    return client


@pytest.mark.parametrize("post", KINDS)
async def test_it_is_answered_to_who_has_used_up_their_requests(alice: httpx.AsyncClient, post: Post) -> None:
    job_id = job_id_of(await post(alice))
    while (await alice.get("/api/v1/processor")).status_code != 429:
        pass
    assert job_id_of(await post(alice)) == job_id
    for headers in ({"Idempotency-Key": "another"}, {}):
        alice.headers.pop("Idempotency-Key", None)
        alice.headers.update(headers)
        assert (await post(alice)).json()["type"] == "/problems/rate-limited", "what makes something is limited"


@pytest.mark.parametrize("post", [post_json, post_batch])
async def test_it_is_answered_while_other_bodies_take_up_the_memory(
    platform: Platform, alice: httpx.AsyncClient, post: Post
) -> None:
    job_id = job_id_of(await post(alice))
    held = platform.front.app.state.dependencies.bodies.held

    async def nothing_is_held() -> bool:
        return not held.used

    await eventually(nothing_is_held)
    with held.take(Owner("other", "bob"), HELD_BYTES):
        assert job_id_of(await post(alice)) == job_id
        alice.headers["Idempotency-Key"] = "another"
        assert (await post(alice)).status_code == 503, "nothing else is held"


@pytest.mark.parametrize("post", KINDS)
async def test_it_is_answered_while_the_store_is_full(platform: Platform, alice: httpx.AsyncClient, post: Post) -> None:
    job_id = job_id_of(await post(alice))
    platform.to_blob.refused.update({"put": StorageFull(), "plan_uploads": StorageFull()})
    try:
        assert job_id_of(await post(alice)) == job_id
    finally:
        platform.to_blob.refused.clear()


@pytest.mark.parametrize(
    ("mimetype", "size", "status"), [("text/plain", 10, 415), (JSON, MAX_JSON_BYTES + 1, 413), (JSON, 10, 422)]
)
async def test_of_a_batch_no_more_is_taken_than_the_first_time(
    alice: httpx.AsyncClient, mimetype: str, size: int, status: int
) -> None:
    await post_batch(alice)
    answer = await alice.post("/api/v1/batch", content=b" " * size, headers={"Content-Type": mimetype})
    assert answer.status_code == status, answer.text
