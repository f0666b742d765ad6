"""A store that answers with errors: it is asked again, more and more slowly, and not for ever."""

import asyncio
import itertools
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from aiohttp import web

from deploy.local.seaweed import REGION, Seaweed
from tests.fakes.faulty_s3 import INTERNAL_ERROR, SLOW_DOWN, FaultyS3, faulty_s3
from tests.support.journey import RAW, assert_completes, hand_in
from tests.support.local import Local, environment, running
from tests.support.marks import long

POST = "/api/v1/job?processor=checksum"
# What botocore is told (services/blob/adapters/s3/bucket.py).
MOST_TRIES = 4


@dataclass(frozen=True)
class OnS3:
    local: Local
    store: FaultyS3


@pytest.fixture(scope="module")
async def on_s3(s3: Seaweed, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[OnS3]:
    folder = Path(tmp_path_factory.mktemp("s3-errors"))
    async with faulty_s3(s3.endpoint) as store:
        told = {
            "BLOB_STORE": "s3",
            "BLOB_S3_ENDPOINT": store.endpoint,
            "BLOB_S3_BUCKET": "test-s3-errors",
            "BLOB_S3_REGION": REGION,
            **s3.credentials(),
        }
        async with running({**environment(folder), **told}) as local:
            yield OnS3(local, store)


@pytest.fixture
async def http(on_s3: OnS3) -> AsyncIterator[httpx.AsyncClient]:
    async with asyncio.timeout(90), on_s3.local.client() as client:
        yield client
    on_s3.store.fail = 0


@pytest.mark.parametrize("error", long(INTERNAL_ERROR, SLOW_DOWN), ids=["500", "503 SlowDown"])
async def test_fault_24_a_store_that_fails_for_a_moment_is_asked_again(
    on_s3: OnS3, http: httpx.AsyncClient, error: tuple[int, str]
) -> None:
    on_s3.store.error = error
    on_s3.store.fail = 1
    answer = await http.post(POST, content=b"again", headers=RAW)
    assert answer.status_code == 201, answer.text
    assert on_s3.store.fail == 0
    on_s3.store.fail = 1
    await assert_completes(http, answer.headers["Location"], b"again")


@pytest.mark.long
async def test_fault_24_a_store_that_goes_on_failing_is_given_up(on_s3: OnS3, http: httpx.AsyncClient) -> None:
    asked: list[tuple[str, float]] = []

    def is_for_an_input(request: web.Request) -> bool:
        if request.path.startswith("/test-s3-errors/blobs/i-"):
            asked.append((f"{request.method} {request.path}", asyncio.get_running_loop().time()))
        return True

    on_s3.store.error, on_s3.store.fail = SLOW_DOWN, 10**6
    on_s3.store.matching = is_for_an_input
    refused = await http.post(POST, content=b"never", headers=RAW)
    assert refused.status_code == 503, refused.text
    assert refused.headers["Retry-After"]
    # The write, and the look whether it was done after all: no more than its tries of each.
    (put,) = {call for call, _ in asked if call.startswith("PUT ")}
    times = [at for call, at in asked if call == put]
    assert len(times) == MOST_TRIES
    assert len([call for call, _ in asked if call.split()[1] == put.split()[1]]) == 2 * MOST_TRIES
    pauses = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert len({round(pause, 3) for pause in pauses}) == len(pauses)  # drawn by lot
    on_s3.store.fail = 0
    on_s3.store.matching = lambda _: True
    await assert_completes(http, await hand_in(http))
