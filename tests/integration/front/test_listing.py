"""`GET /job`: an owner's jobs, newest first, in pages that nothing moves."""

from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from common.ids import new_id
from tests.support.platform import Platform, open_platform

JOBS = "/api/v1/job"


@pytest.fixture(scope="module")
async def platform(mongodb_uri: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Platform]:
    folder = Path(tmp_path_factory.mktemp("listing"))
    async with open_platform(mongodb_uri, f"test-{new_id()}", folder) as platform:
        yield platform


@pytest.fixture
def alice(platform: Platform) -> httpx.AsyncClient:
    """An owner whom no other test has."""
    return platform.client("acme", new_id())


async def make(client: httpx.AsyncClient, name: str) -> str:
    answer = await client.post(
        JOBS, params={"processor": "checksum", "name": name}, content=b"hi", headers={"Content-Type": "text/plain"}
    )
    assert answer.status_code == 201, answer.text
    job_id: str = answer.json()["id"]
    return job_id


async def batch_of(client: httpx.AsyncClient, count: int) -> tuple[str, list[str]]:
    files = [{"name": f"{n}.txt", "size": 5, "mimetype": "text/plain"} for n in range(count)]
    answer = await client.post("/api/v1/batch", json={"processor": "checksum", "files": files})
    assert answer.status_code == 201, answer.text
    return answer.json()["id"], [item["id"] for item in answer.json()["items"]]


async def page(client: httpx.AsyncClient, **params: Any) -> dict[str, Any]:
    answer = await client.get(JOBS, params=params)
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    return body


async def ids(client: httpx.AsyncClient, **params: Any) -> list[str]:
    return [item["id"] for item in (await page(client, **params))["items"]]


async def test_the_newest_comes_first_as_its_own_address_shows_it(platform: Platform, alice: httpx.AsyncClient) -> None:
    made = [await make(alice, f"{n}.txt") for n in range(3)]
    for job_id in made:
        await platform.final(alice, job_id)
    answer = await page(alice)
    assert [item["id"] for item in answer["items"]] == made[::-1]
    assert answer["next"] is None
    assert answer["items"][0] == (await alice.get(f"{JOBS}/{made[-1]}")).json()


async def test_pages_have_every_job_once_though_jobs_come_meanwhile(alice: httpx.AsyncClient) -> None:
    _, made = await batch_of(alice, 7)  # all created in the same millisecond
    made.append(await make(alice, "last.txt"))
    seen: list[str] = []
    url: Any = f"{JOBS}?limit=3"
    while url:
        answer = await alice.get(url)
        assert answer.status_code == 200, answer.text
        seen += [item["id"] for item in answer.json()["items"]]
        link = answer.links.get("next")
        assert (link is None) == (answer.json()["next"] is None)
        url = link and link["url"]
        await make(alice, "meanwhile.txt")
    assert seen == sorted(made, reverse=True)


async def test_the_link_leads_on_with_the_same_filters(alice: httpx.AsyncClient) -> None:
    made = [await make(alice, "a & ü.txt") for _ in range(2)]
    await make(alice, "other.txt")
    first = await alice.get(JOBS, params={"name": "a & ü.txt", "limit": 1})
    second = await alice.get(first.links["next"]["url"])
    assert [item["id"] for answer in (first, second) for item in answer.json()["items"]] == made[::-1]
    assert second.json()["next"] is None


async def test_filters_leave_out_what_was_not_asked_for(platform: Platform, alice: httpx.AsyncClient) -> None:
    batch, files = await batch_of(alice, 2)
    done = await make(alice, "done.txt")
    created = datetime.fromisoformat((await platform.final(alice, done))["createdAt"])
    files.sort(reverse=True)
    assert await ids(alice, batch=batch) == files
    assert await ids(alice, status="CREATED") == files
    assert await ids(alice, status="EXECUTION_COMPLETED") == [done]
    assert await ids(alice, status=["EXECUTION_COMPLETED", "CREATED"]) == [done, *files]
    assert await ids(alice, name="done.txt", processor="checksum") == [done]
    assert await ids(alice, processor="pdf") == []
    assert await ids(alice, createdAfter=(created - timedelta(milliseconds=1)).isoformat()) == [done]
    assert await ids(alice, createdBefore=created.isoformat()) == files


async def test_nobody_else_has_them_in_a_list(platform: Platform) -> None:
    subject = new_id()
    batch, _ = await batch_of(platform.client("acme", subject), 2)
    for other in (platform.client("acme", new_id()), platform.client("other", subject)):
        assert await page(other) == {"items": [], "next": None}
        assert await ids(other, batch=batch) == []


async def test_a_cursor_is_good_only_for_who_got_it_and_what_he_asked(
    platform: Platform, alice: httpx.AsyncClient
) -> None:
    batch, _ = await batch_of(alice, 3)
    cursor = (await page(alice, limit=1))["next"]
    of_batch = (await alice.get(f"/api/v1/batch/{batch}", params={"limit": 1})).json()["next"]
    assert await ids(alice, cursor=cursor)
    middle = len(cursor) // 2
    altered = [cursor[:n] + ("A" if cursor[n] != "A" else "B") + cursor[n + 1 :] for n in (0, middle, len(cursor) - 1)]
    for wrong in [*altered, cursor[:-4], cursor + "AAAA", cursor + "=", "x", "ü", new_id(), of_batch]:
        answer = await alice.get(JOBS, params={"cursor": wrong})
        assert (answer.status_code, answer.json()["type"]) == (400, "/problems/malformed"), wrong
        answer = await alice.get(f"/api/v1/batch/{batch}", params={"cursor": wrong.replace(of_batch, cursor)})
        assert (answer.status_code, answer.json()["type"]) == (400, "/problems/malformed"), wrong
    assert (await alice.get(JOBS, params={"cursor": cursor, "status": "CREATED"})).status_code == 400
    assert (await platform.client("acme", new_id()).get(JOBS, params={"cursor": cursor})).status_code == 400


@pytest.mark.parametrize(
    "query",
    [
        "limit=0",
        "limit=201",
        "limit=x",
        "status=DONE",
        "createdAfter=yesterday",
        "createdAfter=2026-01-01T00:00:00",
        "createdBefore=0001-01-01T00:00:00%2B05:00",
        f"cursor={'x' * 300}",
        f"name={'x' * 300}",
    ],
)
async def test_what_is_not_valid_is_refused(alice: httpx.AsyncClient, query: str) -> None:
    answer = await alice.get(f"{JOBS}?{query}")
    assert (answer.status_code, answer.json()["type"]) == (422, "/problems/invalid")
