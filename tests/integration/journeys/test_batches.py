"""Many files in one request: announced, uploaded straight to the store, found there, and worked on."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from common.ids import input_blob_id, new_id, output_blob_id
from tests.support.marks import long
from tests.support.platform import Platform, eventually, open_platform
from tests.support.s3 import TestBucket

PART = 8 * 1024 * 1024
TEXT = "text/plain"


@pytest.fixture(scope="module", params=["filesystem", *long("s3")])
def each_store(request: pytest.FixtureRequest) -> TestBucket | None:
    """As everywhere. tests/contract/test_uploads.py has every step of an upload on S3."""
    return None if request.param == "filesystem" else request.getfixturevalue("s3_module_bucket")


@pytest.fixture(scope="module")
async def platform(
    mongodb_uri: str, tmp_path_factory: pytest.TempPathFactory, each_store: TestBucket | None
) -> AsyncIterator[Platform]:
    folder = Path(tmp_path_factory.mktemp("batches"))
    name = f"test-{new_id()}"
    async with open_platform(mongodb_uri, name, folder, bucket=each_store, lease_seconds=1) as platform:
        yield platform


@pytest.fixture
async def line() -> AsyncIterator[httpx.AsyncClient]:
    """A client that isn't ours: it knows nothing but what the plan says."""
    async with httpx.AsyncClient(timeout=30) as client:
        yield client


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def file(content: bytes, name: str = "a.txt", **fields: Any) -> dict[str, Any]:
    return {"name": name, "size": len(content), "mimetype": TEXT, **fields}


async def announce(client: httpx.AsyncClient, *files: dict[str, Any], **fields: Any) -> dict[str, Any]:
    answer = await client.post("/api/v1/batch", json={"processor": "checksum", "files": files, **fields})
    assert answer.status_code == 201, answer.text
    batch: dict[str, Any] = answer.json()
    assert answer.headers["location"] == f"/api/v1/batch/{batch['id']}"
    return batch


async def put(line: httpx.AsyncClient, plan: dict[str, Any], content: bytes) -> httpx.Response:
    return await line.request(plan["method"], plan["url"], content=content, headers=plan["headers"])


async def put_part(line: httpx.AsyncClient, plan: dict[str, Any], number: int, content: bytes) -> httpx.Response:
    part = next(part for part in plan["parts"] if part["number"] == number)
    offset = (number - 1) * plan["partSize"]
    chunk = content[offset : offset + part["size"]]
    return await line.request(plan["method"], part["url"], content=chunk, headers=plan["headers"])


async def digest_of(client: httpx.AsyncClient, status: dict[str, Any]) -> str:
    digest: str = (await client.get(status["outputs"][0]["href"])).json()["digest"]
    return digest


async def looked(platform: Platform, client: httpx.AsyncClient, job_id: str) -> dict[str, Any]:
    """The job's status once the tracker has found its upload, and it is final."""

    async def found() -> bool:
        await platform.track_uploads()()
        status = (await client.get(f"/api/v1/job/{job_id}/status")).json()["status"]
        return bool(status != "CREATED")

    await eventually(found)
    await platform.recover()()
    return await platform.final(client, job_id)


async def test_files_of_a_batch_come_to_their_ends_each_on_its_own(platform: Platform, line: httpx.AsyncClient) -> None:
    alice = platform.client()
    contents = [b"first", b"second", b"third"]
    files = [file(content, "same.txt", sha256=sha256(content)) for content in contents]
    batch = await announce(alice, *files, name="three")
    assert batch["counts"] == {"CREATED": 3}
    assert len({item["id"] for item in batch["items"]}) == 3
    for item, content in zip(batch["items"], contents, strict=True):
        assert (item["name"], item["status"], item["batchId"]) == ("same.txt", "CREATED", batch["id"])
        assert item["upload"]["kind"] == "single"
        assert (await put(line, item["upload"], content)).is_success
        completed = await alice.post(f"/api/v1/job/{item['id']}/upload/complete")
        assert completed.status_code == 200, completed.text
    for item, content in zip(batch["items"], contents, strict=True):
        status = await platform.final(alice, item["id"])
        assert status["status"] == "EXECUTION_COMPLETED"
        assert await digest_of(alice, status) == sha256(content)
    seen = (await alice.get(f"/api/v1/batch/{batch['id']}")).json()
    assert seen["name"] == "three"
    assert seen["counts"] == {"EXECUTION_COMPLETED": 3}
    assert [item["outputs"][0]["name"] for item in seen["items"]] == ["checksum.json"] * 3
    assert "next" not in seen


async def test_parts_in_any_order_four_at_once_and_one_again(platform: Platform, line: httpx.AsyncClient) -> None:
    alice = platform.client()
    content = bytes(range(256)) * (4 * PART // 256) + b"tail"
    batch = await announce(alice, file(content, sha256=sha256(content)))
    plan = batch["items"][0]["upload"]
    assert plan["kind"] == "multipart"
    numbers = [part["number"] for part in plan["parts"]]
    assert sum(part["size"] for part in plan["parts"]) == len(content)
    answers = await asyncio.gather(*(put_part(line, plan, number, content) for number in reversed(numbers[1:])))
    assert all(answer.is_success for answer in answers)
    assert (await put_part(line, plan, numbers[-1], content)).is_success

    job_id = batch["items"][0]["id"]
    missing = await alice.post(f"/api/v1/job/{job_id}/upload/complete")
    assert missing.status_code == 409
    rest = (await alice.get(f"/api/v1/job/{job_id}/upload")).json()
    assert [part["number"] for part in rest["parts"] if not part["received"]] == [1]
    assert (await put_part(line, rest, 1, content)).is_success

    status = await looked(platform, alice, job_id)
    assert status["status"] == "EXECUTION_COMPLETED"
    assert await digest_of(alice, status) == sha256(content)


async def test_a_finished_upload_is_found_without_a_complete(platform: Platform, line: httpx.AsyncClient) -> None:
    alice = platform.client()
    item = (await announce(alice, file(b"forgotten")))["items"][0]
    assert (await put(line, item["upload"], b"forgotten")).is_success
    status = await looked(platform, alice, item["id"])
    assert await digest_of(alice, status) == sha256(b"forgotten")


@pytest.mark.parametrize("content", [b"12345", b"1234567"])
async def test_a_byte_more_or_less_is_refused(platform: Platform, line: httpx.AsyncClient, content: bytes) -> None:
    alice = platform.client()
    item = (await announce(alice, file(b"123456")))["items"][0]
    assert (await put(line, item["upload"], content)).status_code in (403, 413)
    assert (await alice.post(f"/api/v1/job/{item['id']}/upload/complete")).status_code == 409
    assert (await put(line, item["upload"], b"123456")).is_success


async def test_another_file_than_announced_ends_the_job(platform: Platform, line: httpx.AsyncClient) -> None:
    alice = platform.client()
    item = (await announce(alice, file(b"right", sha256=sha256(b"right"))))["items"][0]
    await put(line, item["upload"], b"wrong")
    status = await looked(platform, alice, item["id"])
    assert status["status"] == "STORED_ERROR"
    assert (status["error"]["type"], status["error"]["fault"]) == ("/problems/upload-mismatch", "user")
    assert await platform.blob.head(f"i-{item['id']}") is None


async def test_an_upload_that_nobody_finished_in_time_ends(
    line: httpx.AsyncClient, mongodb_uri: str, tmp_path: Path, each_store: TestBucket | None
) -> None:
    async with open_platform(
        mongodb_uri, f"test-{new_id()}", tmp_path, bucket=each_store, upload_most_seconds=1, upload_grace_seconds=0
    ) as hasty:
        alice = hasty.client()
        item = (await announce(alice, file(b"late")))["items"][0]
        status = await looked(hasty, alice, item["id"])
        assert status["status"] == "STORED_ERROR"
        assert status["error"]["type"] == "/problems/upload-expired"
        assert not (await put(line, item["upload"], b"late")).is_success


async def test_a_batch_that_starts_whole_waits_for_its_last_file(platform: Platform, line: httpx.AsyncClient) -> None:
    alice = platform.client()
    batch = await announce(alice, file(b"one"), file(b"two"), start="all")
    first, second = batch["items"]
    await put(line, first["upload"], b"one")
    await alice.post(f"/api/v1/job/{first['id']}/upload/complete")
    await platform.track_uploads()()
    await platform.recover()()
    waiting = (await alice.get(f"/api/v1/job/{first['id']}/status")).json()
    assert waiting["status"] == "STORED"
    assert await platform.to_job.statuses([first["id"]]) == {}, "job hasn't heard of it"

    await put(line, second["upload"], b"two")
    await alice.post(f"/api/v1/job/{second['id']}/upload/complete")

    async def all_done() -> bool:
        await platform.track_uploads()()  # a held batch has its turn every 2 s
        await platform.recover()()
        counts = (await alice.get(f"/api/v1/batch/{batch['id']}")).json()["counts"]
        return bool(counts == {"EXECUTION_COMPLETED": 2})

    await eventually(all_done)


async def test_one_bad_file_ends_a_batch_that_starts_whole(platform: Platform, line: httpx.AsyncClient) -> None:
    alice = platform.client()
    batch = await announce(
        alice, file(b"good"), file(b"right", sha256=sha256(b"right")), file(b"never sent"), start="all"
    )
    good, bad, unsent = batch["items"]
    await put(line, good["upload"], b"good")
    await alice.post(f"/api/v1/job/{good['id']}/upload/complete")
    await put(line, bad["upload"], b"wrong")

    async def all_ended() -> bool:
        await platform.track_uploads()()
        counts = (await alice.get(f"/api/v1/batch/{batch['id']}")).json()["counts"]
        return bool(counts == {"STORED_ERROR": 2, "SUBMITTED_ERROR": 1})

    await eventually(all_ended)
    for item, slug in ((good, "batch-failed"), (bad, "upload-mismatch"), (unsent, "batch-failed")):
        error = (await alice.get(f"/api/v1/job/{item['id']}")).json()["error"]
        assert error["type"] == f"/problems/{slug}"
    assert await platform.to_job.statuses([good["id"]]) == {}, "nothing was queued"


async def test_jobs_whose_batch_was_never_written_are_forgotten(platform: Platform) -> None:
    alice = platform.client()
    await alice.get("/api/v1/processor")
    platform.to_blob.on = True  # what a front leaves that dies between its jobs and their batch
    try:
        refused = await alice.post("/api/v1/batch", json={"processor": "checksum", "files": [file(b"x")]})
    finally:
        platform.to_blob.on = False
    assert refused.status_code == 503
    left = [
        document["_id"] async for document in platform.core.jobs.jobs.find({"upload": {"$exists": True}, "size": 1})
    ]
    assert len(left) == 1
    await platform.core.jobs.jobs.update_one(
        {"_id": left[0]}, [{"$set": {"createdAt": {"$subtract": ["$$NOW", 600_000]}}}]
    )

    async def forgotten() -> bool:
        await platform.track_uploads()()
        return await platform.core.jobs.find(left[0]) is None

    await eventually(forgotten)


async def test_pages_of_a_batch(platform: Platform) -> None:
    alice = platform.client()
    batch = await announce(alice, *(file(b"x" * n, f"{n}.txt") for n in range(1, 6)))
    first = await alice.get(f"/api/v1/batch/{batch['id']}?limit=3")
    assert [item["name"] for item in first.json()["items"]] == ["1.txt", "2.txt", "3.txt"]
    assert first.headers["link"].endswith('; rel="next"')
    second = await alice.get(first.headers["link"].split(">")[0].lstrip("<"))
    assert [item["name"] for item in second.json()["items"]] == ["4.txt", "5.txt"]
    assert "link" not in second.headers
    assert (await alice.get(f"/api/v1/batch/{batch['id']}?cursor=x")).status_code == 400


async def test_a_foreign_batch_and_its_uploads_look_like_none(platform: Platform) -> None:
    item = (batch := await announce(platform.client(), file(b"mine")))["items"][0]
    eve = platform.client("other", "eve")
    unknown = (await eve.get(f"/api/v1/job/{new_id()}")).content
    for method, path in [
        ("GET", f"/batch/{batch['id']}"),
        ("GET", f"/job/{item['id']}/upload"),
        ("POST", f"/job/{item['id']}/upload/complete"),
    ]:
        answer = await eve.request(method, f"/api/v1{path}")
        assert (answer.status_code, answer.content) == (404, unknown)


async def test_a_job_that_waits_for_no_upload_says_so(platform: Platform) -> None:
    alice = platform.client()
    created = await alice.post("/api/v1/job?processor=checksum", content=b"x", headers={"Content-Type": TEXT})
    for method, path in [("GET", "/upload"), ("POST", "/upload/complete")]:
        answer = await alice.request(method, created.headers["location"] + path)
        assert (answer.status_code, answer.json()["type"]) == (409, "/problems/conflict")


@pytest.mark.parametrize(
    ("change", "status", "pointer"),
    [
        ({"files": []}, 422, "/files"),
        ({"files": [{"name": "a", "size": 0, "mimetype": TEXT}]}, 422, "/files/0/size"),
        ({"files": [{"name": "a", "size": 10**15, "mimetype": TEXT}]}, 413, "/files/0/size"),
        ({"files": [{"name": "a", "size": 1, "mimetype": "nonsense"}]}, 415, "/files/0/mimetype"),
        ({"files": [{"name": "a" * 300, "size": 1, "mimetype": TEXT}]}, 422, "/files/0/name"),
        ({"files": [{"name": "a", "size": 1, "mimetype": TEXT, "sha256": "xyz"}]}, 422, "/files/0/sha256"),
        ({"processor": "no-such"}, 422, "/processor"),
        ({"params": {"algorithm": "none"}}, 422, "/params/algorithm"),
        ({"tenant": "other"}, 422, "/tenant"),
        ({"start": {"$gt": ""}}, 422, "/start"),
    ],
)
async def test_a_batch_that_cannot_be_is_refused_with_pointers(
    platform: Platform, change: dict[str, Any], status: int, pointer: str
) -> None:
    body = {"processor": "checksum", "files": [file(b"x")], **change}
    before = await platform.core.jobs.jobs.count_documents({})
    answer = await platform.client().post("/api/v1/batch", json=body)
    assert answer.status_code == status, answer.text
    assert [error["pointer"] for error in answer.json()["errors"]] == [pointer]
    assert await platform.core.jobs.jobs.count_documents({}) == before


async def test_a_thousand_files_in_one_request(platform: Platform) -> None:
    alice = platform.client()
    batch = await announce(alice, *(file(b"x") for _ in range(1000)))
    assert len({item["upload"]["url"] for item in batch["items"]}) == 1000
    too_many = await alice.post("/api/v1/batch", json={"processor": "checksum", "files": [file(b"x")] * 1001})
    assert too_many.status_code == 422


async def test_the_urls_of_a_batch_are_a_thousand_and_the_rest_comes_from_the_jobs(platform: Platform) -> None:
    alice = platform.client()
    batch = await announce(alice, *({**file(b"x"), "size": 128 * PART} for _ in range(9)))
    plans = [item["upload"] for item in batch["items"]]
    assert sum(len(plan["parts"]) for plan in plans) <= 1000
    assert [(len(plan["parts"]), plan["next"]) for plan in plans] == [(111, 112)] * 9
    rest = (await alice.get(f"/api/v1/job/{batch['items'][8]['id']}/upload?from=112")).json()
    assert [part["number"] for part in rest["parts"]] == list(range(112, 129))
    assert all(part["url"] for part in rest["parts"])
    assert "next" not in rest


async def test_an_upload_has_the_time_its_line_needs_for_it_and_for_those_before(platform: Platform) -> None:
    alice = platform.client()
    sizes = [1_000_000, 2_000_000, 3_000_000]
    files = [{**file(b"x"), "size": size} for size in sizes]

    async def seconds(**fields: Any) -> list[float]:
        """How long each file's URL is good for, after the first one's."""
        items = (await announce(alice, *files, **fields))["items"]
        ends = [datetime.fromisoformat(item["upload"]["expiresAt"]).timestamp() for item in items]
        return [end - ends[0] for end in ends]

    assert await seconds(linkBitsPerSecond=80_000) == pytest.approx([0, 200, 500], abs=3)
    assert await seconds() == pytest.approx([0, 2e6 * 8 / 112_000, 5e6 * 8 / 112_000], abs=3)
    capped = await seconds(linkBitsPerSecond=1000)
    assert capped == pytest.approx([0, 16_000, 40_000], abs=3)
    week = (await announce(alice, {**file(b"x"), "size": 100 * PART}, linkBitsPerSecond=1000))["items"][0]
    left = datetime.fromisoformat(week["upload"]["expiresAt"]) - datetime.fromisoformat(week["createdAt"])
    assert timedelta(days=7) - timedelta(minutes=5) < left <= timedelta(days=7, seconds=30)


async def test_a_question_about_an_upload_moves_its_expiry_by_the_speed_of_its_own_line(platform: Platform) -> None:
    alice = platform.client()
    slow = (await announce(alice, {**file(b"x"), "size": 1_000_000}, linkBitsPerSecond=20_000))["items"][0]
    await asyncio.sleep(2)  # nothing but time moves it
    later = (await alice.get(f"/api/v1/job/{slow['id']}/upload")).json()["expiresAt"]
    moved = datetime.fromisoformat(later) - datetime.fromisoformat(slow["upload"]["expiresAt"])
    assert timedelta(seconds=1) <= moved < timedelta(seconds=60)


async def test_bytes_that_nobody_owns_are_swept(platform: Platform, line: httpx.AsyncClient) -> None:
    alice = platform.client()
    item = (await announce(alice, file(b"mine")))["items"][0]
    assert (await put(line, item["upload"], b"mine")).is_success
    await alice.post(f"/api/v1/job/{item['id']}/upload/complete")
    orphans = {input_blob_id(new_id()), output_blob_id(new_id(), 1, 0)}
    for orphan in orphans:
        await platform.blob.put(orphan, b"nobody's")
    sweep = platform.sweep()
    sweep._orphan_seconds = -60  # a store's times may be whole seconds of a clock of its own
    assert await sweep.blobs() >= len(orphans)
    assert not orphans & {blob.id for blob in (await platform.blob.list()).items}
    assert (await platform.final(alice, item["id"]))["status"] == "EXECUTION_COMPLETED"
