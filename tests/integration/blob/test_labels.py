"""Whoever hands a file in, by whichever kind of post: on S3 its object says who, when, and what it was said to be."""

from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import unquote

import httpx
import pytest

from common.ids import input_blob_id, new_id
from tests.support.platform import Platform, open_platform
from tests.support.s3 import TestBucket

NAME = "Größe 写真 😀.txt"
OWNER = ("acmé", "alice@example.org")
Post = Callable[[httpx.AsyncClient], Awaitable[httpx.Response]]


async def raw(client: httpx.AsyncClient) -> httpx.Response:
    query = {"processor": "checksum", "name": NAME}
    return await client.post("/api/v1/job", params=query, content=b"hello", headers={"Content-Type": "text/plain"})


async def form(client: httpx.AsyncClient) -> httpx.Response:
    fields = {"processor": "checksum", "name": NAME}
    return await client.post("/api/v1/job", data=fields, files={"file": ("a.txt", b"hello", "text/plain")})


async def json(client: httpx.AsyncClient) -> httpx.Response:
    body = {"content": "aGVsbG8=", "mimetype": "text/plain", "processor": "checksum", "name": NAME}
    return await client.post("/api/v1/job", json=body)


@pytest.fixture(scope="module")
async def platform(
    mongodb_uri: str, tmp_path_factory: pytest.TempPathFactory, s3_module_bucket: TestBucket
) -> AsyncIterator[Platform]:
    folder = Path(tmp_path_factory.mktemp("labels"))
    async with open_platform(
        mongodb_uri, f"test-{new_id()}", folder, bucket=s3_module_bucket, keep_inputs=True
    ) as platform:
        yield platform


@pytest.mark.parametrize("post", [raw, form, json])
async def test_an_input_says_who_handed_it_in(platform: Platform, s3_module_bucket: TestBucket, post: Post) -> None:
    client = platform.client(*OWNER)
    job_id = (await post(client)).raise_for_status().json()["id"]
    assert (await platform.final(client, job_id))["status"] == "EXECUTION_COMPLETED"
    key = f"blobs/{input_blob_id(job_id)}"
    head = await s3_module_bucket.client.head_object(Bucket=s3_module_bucket.name, Key=key)
    told = {name: unquote(value) for name, value in head["Metadata"].items()}
    assert (told["tenant"], told["subject"], told["name"], told["media-type"]) == (*OWNER, NAME, "text/plain")
    assert abs(datetime.now(UTC) - datetime.fromisoformat(told["uploaded"])) < timedelta(hours=1)
