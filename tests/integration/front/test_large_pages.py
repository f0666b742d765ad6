"""Pages of jobs that are large: they have fewer of them, each with its first outputs, and lead to the rest."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from pymongo import AsyncMongoClient
from pymongo.monitoring import CommandFailedEvent, CommandListener, CommandStartedEvent, CommandSucceededEvent

from common.contracts.job import MAX_OUTPUTS
from common.ids import new_id
from common.mongo.client import Document
from gristmill.wire.processors import ProcessorOffer
from services.front.adapters.mongodb.listing import MongoListingStore
from services.front.domain.job import Owner
from services.front.domain.listing import LISTED_OUTPUTS, PAGE_BYTES, Filters
from tests.support.platform import Platform, eventually, open_platform
from tests.support.submitting import job_id_of, post_batch, post_raw

LARGE_PARAMS = {"text": "x" * 60_000}
FILE = {"name": "a.txt", "size": 1, "mimetype": "text/plain"}
JOBS = PAGE_BYTES // 60_000 + 20


class Replies(CommandListener):
    """Keeps what a client reads."""

    def __init__(self) -> None:
        self.documents: list[Document] = []

    def started(self, event: CommandStartedEvent) -> None:
        """Only what is read matters."""

    def succeeded(self, event: CommandSucceededEvent) -> None:
        self.documents += event.reply.get("cursor", {}).get("firstBatch", [])

    def failed(self, event: CommandFailedEvent) -> None:
        """Only what is read matters."""


@pytest.fixture(scope="module")
async def platform(mongodb_uri: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Platform]:
    folder = Path(tmp_path_factory.mktemp("pages"))
    async with open_platform(mongodb_uri, f"test-{new_id()}", folder) as platform:
        yield platform


@pytest.fixture
def subject() -> str:
    """An owner whom no other test has."""
    return new_id()


@pytest.fixture
def alice(platform: Platform, subject: str) -> httpx.AsyncClient:
    return platform.client("acme", subject)


async def copies(platform: Platform, job_id: str, count: int, **fields: Any) -> None:
    """Jobs like that one, but with these fields, in its place."""
    jobs = platform.core.jobs.jobs
    job = await jobs.find_one_and_delete({"_id": job_id})
    assert job is not None
    await jobs.insert_many([{**job, **fields, "_id": new_id()} for _ in range(count)])


def outputs(count: int) -> list[Document]:
    return [{"name": f"{n}.txt", "mimetype": "text/plain", "size": 1, "sha256": "ab" * 32} for n in range(count)]


async def all_pages(client: httpx.AsyncClient, path: str) -> list[list[dict[str, Any]]]:
    pages, url = [], path
    while url:
        answer = await client.get(url)
        assert answer.status_code == 200, answer.text
        assert len(answer.content) < 2.5 * PAGE_BYTES
        pages.append(answer.json()["items"])
        url = answer.links.get("next", {}).get("url", "")
    return pages


async def test_a_list_has_the_first_outputs_and_leads_to_all(platform: Platform, alice: httpx.AsyncClient) -> None:
    job_id = job_id_of(await post_raw(alice))
    await platform.final(alice, job_id)
    await copies(platform, job_id, 1, outputs=outputs(MAX_OUTPUTS))
    ((item,),) = await all_pages(alice, "/api/v1/job?limit=200")
    assert (len(item["outputs"]), item["outputCount"]) == (LISTED_OUTPUTS, MAX_OUTPUTS)
    whole = (await alice.get(item["outputsHref"])).json()
    assert len(whole["outputs"]) == MAX_OUTPUTS
    assert whole["outputs"][:LISTED_OUTPUTS] == item["outputs"]
    assert "outputCount" not in whole


async def test_a_list_doesnt_read_the_outputs_that_it_leaves_out(
    platform: Platform, alice: httpx.AsyncClient, subject: str, mongodb_uri: str
) -> None:
    job_id = job_id_of(await post_raw(alice))
    await platform.final(alice, job_id)
    await copies(platform, job_id, 3, outputs=outputs(MAX_OUTPUTS))
    replies = Replies()
    async with AsyncMongoClient[Document](mongodb_uri, event_listeners=[replies], tz_aware=True) as client:
        listing = MongoListingStore(client, platform.settings.database)
        assert len((await listing.owned(Owner("acme", subject), Filters(), None, 200)).jobs) == 3
    assert [len(document["outputs"]) for document in replies.documents] == [LISTED_OUTPUTS] * 3


async def test_a_list_of_large_jobs_has_fewer_on_a_page_and_all_in_all(
    platform: Platform, alice: httpx.AsyncClient
) -> None:
    job_id = job_id_of(await post_raw(alice))
    await platform.final(alice, job_id)
    await copies(platform, job_id, JOBS, params=json.dumps(LARGE_PARAMS))
    first, second = await all_pages(alice, "/api/v1/job?limit=200")
    assert len({item["id"] for item in [*first, *second]}) == JOBS


async def test_a_batch_of_large_jobs_likewise_and_its_stream_has_all(
    platform: Platform, alice: httpx.AsyncClient
) -> None:
    answer = await post_batch(alice)
    batch_id, job_id = answer.json()["id"], job_id_of(answer)
    await alice.post(f"/api/v1/job/{job_id}/cancel")
    await copies(platform, job_id, JOBS, params=json.dumps(LARGE_PARAMS))
    first, second = await all_pages(alice, f"/api/v1/batch/{batch_id}?limit=200")
    assert len({item["id"] for item in [*first, *second]}) == JOBS
    stream = await alice.get(f"/api/v1/batch/{batch_id}/events")
    assert f'"counts":{{"CANCELLED":{JOBS}}}' in stream.text


async def test_the_response_to_a_large_batch_leads_to_its_rest(platform: Platform, alice: httpx.AsyncClient) -> None:
    offer = ProcessorOffer(name="away", version="1.0.0", summary="", media_types=["*/*"], params={"type": "object"})
    await platform.as_processor.offer([offer])
    batch = {"processor": "away", "params": LARGE_PARAMS, "files": [FILE] * JOBS}
    alice.headers["Idempotency-Key"] = "key"

    async def announced() -> httpx.Response | None:
        answer = await alice.post("/api/v1/batch", json=batch)
        return answer if answer.status_code == 201 else None

    await eventually(announced)  # as soon as front knows the processor
    del alice.headers["Idempotency-Key"]
    new = await announced()
    alice.headers["Idempotency-Key"] = "key"
    for answer in (new, await announced()):
        assert answer is not None
        first = answer.json()["items"]
        assert all(item["upload"]["url"] for item in first)
        (rest,) = await all_pages(alice, answer.links["next"]["url"])
        assert len({item["id"] for item in [*first, *rest]}) == JOBS


async def test_a_job_larger_than_a_page_is_on_one_of_its_own(platform: Platform, alice: httpx.AsyncClient) -> None:
    job_id = job_id_of(await post_raw(alice))
    await platform.final(alice, job_id)
    await copies(platform, job_id, 2, params=json.dumps({"text": "x" * PAGE_BYTES}))
    assert [len(page) for page in await all_pages(alice, "/api/v1/job?limit=200")] == [1, 1]
