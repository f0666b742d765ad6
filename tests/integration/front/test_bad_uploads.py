"""Uploads that can't become a file's blob, at front's API and on the signed URLs, on both stores: each has its own
answer, and nothing is half kept.
"""

import hashlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from common.ids import new_id
from tests.integration.front.test_bad_bodies import check
from tests.integration.journeys.test_batches import PART, TEXT, announce, file, put, put_part
from tests.support.platform import Platform, eventually, open_platform
from tests.support.s3 import TestBucket

MAX_BYTES = 3 * PART
LONG = bytes(range(256)) * (PART // 256) + b"tail"


@pytest.fixture(scope="module")
async def platform(
    mongodb_uri: str, tmp_path_factory: pytest.TempPathFactory, each_store: TestBucket | None
) -> AsyncIterator[Platform]:
    folder = Path(tmp_path_factory.mktemp("bad-uploads"))
    name = f"test-{new_id()}"
    async with open_platform(
        mongodb_uri, name, folder, bucket=each_store, max_input_bytes=MAX_BYTES, lease_seconds=1
    ) as platform:
        yield platform


@pytest.fixture
async def line() -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(timeout=30, trust_env=False) as client:
        yield client


async def complete(client: httpx.AsyncClient, job_id: str, *parts: tuple[int, str]) -> httpx.Response:
    body = {"parts": [{"number": number, "etag": etag} for number, etag in parts]}
    return await client.post(f"/api/v1/job/{job_id}/upload/complete", json=body)


async def completed(client: httpx.AsyncClient, job_id: str) -> None:
    """Post until the store has verified it: no tracker does that here."""

    async def stored() -> bool:
        answer = await complete(client, job_id)
        assert answer.status_code in (200, 202), answer.text
        return answer.status_code == 200

    await eventually(stored)


async def missing(client: httpx.AsyncClient, job_id: str) -> list[int]:
    plan = (await client.get(f"/api/v1/job/{job_id}/upload")).json()
    return [part["number"] for part in plan["parts"] if not part["received"]]


@pytest.mark.parametrize(
    ("numbers", "pointers"),
    [
        ([2, 1], ["/parts"]),
        ([1, 3], ["/parts"]),
        ([2], ["/parts"]),
        ([1, 1], ["/parts"]),
        ([1], ["/parts"]),
        ([1, 2, 3], ["/parts"]),
        ([0, 1], ["/parts/0/number"]),
        ([1, 10_001], ["/parts/1/number"]),
        (range(1, 10_002), ["/parts"]),
    ],
    ids=["unsorted", "gap", "not-from-1", "twice", "too-few", "too-many", "from-0", "number-10,001", "10,001-parts"],
)
async def test_parts_that_cannot_be_are_refused(platform: Platform, numbers: list[int], pointers: list[str]) -> None:
    alice = platform.client()
    job_id = (await announce(alice, file(LONG)))["items"][0]["id"]
    answer = await complete(alice, job_id, *((number, '"x"') for number in numbers))
    check(answer, 422, "invalid", *pointers)
    assert await missing(alice, job_id) == [1, 2]


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"parts": [{"number": 1, "etag": {"$gt": ""}}]}, "/parts/0/etag"),
        ({"parts": [{"number": 1, "etag": ""}]}, "/parts/0/etag"),
        ({"parts": [{"number": 1, "etag": "x" * 257}]}, "/parts/0/etag"),
        ({"parts": {"$gt": ""}}, "/parts"),
        ({"parts": [], "state": "STORED"}, "/state"),
    ],
)
async def test_a_completion_that_says_the_wrong_things_is_invalid(
    platform: Platform, body: dict[str, Any], pointer: str
) -> None:
    alice = platform.client()
    job_id = (await announce(alice, file(b"x")))["items"][0]["id"]
    check(await alice.post(f"/api/v1/job/{job_id}/upload/complete", json=body), 422, "invalid", pointer)


async def test_a_completion_that_is_no_json_is_malformed(platform: Platform) -> None:
    alice = platform.client()
    path = f"/api/v1/job/{(await announce(alice, file(b'x')))['items'][0]['id']}/upload/complete"
    headers = {"Content-Type": "application/json"}
    deep = b'{"parts": ' + b"[" * 10_000 + b"]" * 10_000 + b"}"
    for body in (b"{", deep, b'{"parts": [{"number": NaN, "etag": "x"}]}', b"\xff"):
        for address in (path, "/api/v1/batch"):
            check(await alice.post(address, content=body, headers=headers), 400, "malformed")
    check(await alice.post("/api/v1/batch", content=b"", headers=headers), 400, "malformed")
    for address in (path, "/api/v1/batch"):
        check(await alice.post(address, content=b"{}"), 415, "unsupported-media-type")
        check(await alice.post(address, content=b" " * 8_388_609, headers=headers), 413, "too-large")


async def test_other_tags_than_those_that_were_answered_make_no_other_file(
    platform: Platform, line: httpx.AsyncClient, each_store: TestBucket | None
) -> None:
    alice = platform.client()
    item = (await announce(alice, file(LONG, sha256=hashlib.sha256(LONG).hexdigest())))["items"][0]
    for number in (1, 2):
        assert (await put_part(line, item["upload"], number, LONG)).is_success
    answer = await complete(alice, item["id"], (1, '"x"'), (2, '"y"'))
    if each_store:  # this one joins what it is told of
        check(answer, 422, "invalid")
    await completed(alice, item["id"])
    assert (await platform.final(alice, item["id"]))["status"] == "EXECUTION_COMPLETED"


async def test_a_completion_before_its_time_is_a_conflict(platform: Platform, line: httpx.AsyncClient) -> None:
    alice = platform.client()
    item = (await announce(alice, file(LONG)))["items"][0]
    check(await complete(alice, item["id"]), 409, "conflict")
    assert (await put_part(line, item["upload"], 2, LONG)).is_success
    check(await complete(alice, item["id"], (1, '"x"'), (2, '"y"')), 409, "conflict")
    assert await missing(alice, item["id"]) == [1]


@pytest.mark.parametrize("query", ["from=0", "from=10001", "from=x", "from=-1", "from[$gt]=1&from="])
async def test_a_part_to_begin_from_that_cannot_be_is_invalid(platform: Platform, query: str) -> None:
    alice = platform.client()
    job_id = (await announce(alice, file(LONG)))["items"][0]["id"]
    check(await alice.get(f"/api/v1/job/{job_id}/upload?{query}"), 422, "invalid", "/from")


async def test_beyond_the_last_part_is_nothing(platform: Platform) -> None:
    alice = platform.client()
    job_id = (await announce(alice, file(LONG)))["items"][0]["id"]
    plan = (await alice.get(f"/api/v1/job/{job_id}/upload?from=9999")).json()
    assert (plan["parts"], "next" in plan) == ([], False)


@pytest.mark.parametrize("job_id", ["x", "%00", "..%2F..%2Fetc", "x" * 4096, "01a2142e-0000-7000-8000-00000000000g"])
async def test_a_malformed_id_is_the_same_404_as_anothers_job(platform: Platform, job_id: str) -> None:
    theirs = (await announce(platform.client("umbrella", "eve"), file(LONG)))["items"][0]["id"]
    alice = platform.client()
    for method, path in (("GET", "job/{}/upload"), ("POST", "job/{}/upload/complete"), ("GET", "batch/{}")):
        unknown, foreign, malformed = [
            await alice.request(method, f"/api/v1/{path.format(each)}") for each in (new_id(), theirs, job_id)
        ]
        assert unknown.status_code == 404
        assert foreign.content == malformed.content == unknown.content
        assert (foreign.status_code, malformed.status_code) == (404, 404)


async def test_nobody_elses_words_reach_an_upload(platform: Platform, line: httpx.AsyncClient) -> None:
    alice = platform.client()
    item = (await announce(alice, file(LONG)))["items"][0]
    assert (await put_part(line, item["upload"], 1, LONG)).is_success
    for stranger in (platform.client("acme", "eve"), platform.client("umbrella", "alice")):
        check(await complete(stranger, item["id"]), 404, "not-found")
        check(await stranger.get(f"/api/v1/job/{item['id']}/upload"), 404, "not-found")
    without = platform.client(bearer="")
    check(await complete(without, item["id"]), 401, "unauthorized")
    assert await missing(alice, item["id"]) == [2]


NAMES = {
    "../../etc/passwd": "passwd",
    "/etc/passwd": "passwd",
    "C:\\temp\\a.txt": "a.txt",
    "a\r\nX-Injected: 1.txt": "aX-Injected: 1.txt",
    "nul\x00\x1b[31m.txt": "nul[31m.txt",
    "bill\u202egnp.exe": "billgnp.exe",
    "Größe 写真 😀.txt": "Größe 写真 😀.txt",
    "": "file",
    "..": "file",
}


async def test_hostile_names_are_labels(platform: Platform, line: httpx.AsyncClient) -> None:
    alice = platform.client()
    batch = await announce(alice, *(file(b"%d" % number, name) for number, name in enumerate(NAMES)))
    assert [item["name"] for item in batch["items"]] == list(NAMES.values())
    for number, item in enumerate(batch["items"]):
        assert all(str(value).isascii() and str(value).isprintable() for value in item["upload"]["headers"].values())
        assert (await put(line, item["upload"], b"%d" % number)).is_success
        await completed(alice, item["id"])
    for number, item in enumerate(batch["items"]):
        status = await platform.final(alice, item["id"])
        assert status["status"] == "EXECUTION_COMPLETED"
        assert (await alice.get(status["outputs"][0]["href"])).json()["size"] == len(b"%d" % number)


async def refused(platform: Platform, **fields: Any) -> httpx.Response:
    """The response to a batch that is refused before anything was written."""
    before = await platform.core.jobs.jobs.count_documents({})
    answer = await platform.client().post("/api/v1/batch", json={"processor": "checksum", **fields})
    assert await platform.core.jobs.jobs.count_documents({}) == before
    return answer


async def test_a_size_over_the_limit_is_too_large_before_a_byte_is_sent(platform: Platform) -> None:
    files = [file(b"x"), {**file(b"x"), "size": MAX_BYTES + 1}]
    check(await refused(platform, files=files), 413, "too-large", "/files/1/size")
    assert (await announce(platform.client(), {**file(b"x"), "size": MAX_BYTES}))["items"]


@pytest.mark.parametrize("size", [0, -1, 1.5, "many", None, {"$gt": 0}, 2**70])
async def test_a_size_that_is_none_is_invalid(platform: Platform, size: Any) -> None:
    answer = await refused(platform, files=[{**file(b"x"), "size": size}])
    assert answer.status_code in (413, 422)
    assert [fault["pointer"] for fault in answer.json()["errors"]] == ["/files/0/size"]


@pytest.mark.parametrize("mimetype", [TEXT, "image/svg+xml", "image", "*/*", "image/png/x", "", "image/png\r\nX: y"])
async def test_a_media_type_that_is_not_taken_is_unsupported(platform: Platform, mimetype: str) -> None:
    answer = await refused(platform, processor="image-variants", files=[{**file(b"x"), "mimetype": mimetype}])
    check(answer, 415, "unsupported-media-type", "/files/0/mimetype")


async def test_bytes_that_are_not_of_their_media_type_end_the_job(platform: Platform, line: httpx.AsyncClient) -> None:
    alice = platform.client()
    batch = {"processor": "image-variants", "files": [{**file(b"no picture"), "mimetype": "image/png"}]}
    item = (await alice.post("/api/v1/batch", json=batch)).json()["items"][0]
    assert (await put(line, item["upload"], b"no picture")).is_success
    await completed(alice, item["id"])
    status = await platform.final(alice, item["id"])
    assert (status["status"], status["error"]["type"]) == ("EXECUTION_ERROR", "/problems/invalid-input")
    assert (status["attempt"], status["error"]["fault"]) == (1, "user")


async def test_a_file_that_is_not_as_announced_is_deleted(
    platform: Platform, line: httpx.AsyncClient, each_store: TestBucket | None
) -> None:
    alice = platform.client()
    right = hashlib.sha256(LONG).hexdigest()
    item = (await announce(alice, file(LONG, sha256=right)))["items"][0]
    wrong = LONG[:-1] + b"!"
    for number in (1, 2):
        assert (await put_part(line, item["upload"], number, wrong)).is_success
    await complete(alice, item["id"])

    async def ended() -> bool:
        await platform.track_uploads()()
        return bool((await alice.get(f"/api/v1/job/{item['id']}")).json()["status"] == "STORED_ERROR")

    await eventually(ended)
    error = (await alice.get(f"/api/v1/job/{item['id']}")).json()["error"]
    assert error["type"] == "/problems/upload-mismatch"
    await platform.retire()()
    assert await platform.blob.head(f"i-{item['id']}") is None
    for number in (1, 2):  # nor does a URL bring anything back
        assert (await put_part(line, item["upload"], number, LONG)).status_code in (403, 404, 409, 412)
    if each_store:
        assert not [key for key in await each_store.keys() if item["id"] in key]
        assert not [key for key in await each_store.unfinished_uploads() if item["id"] in key]
