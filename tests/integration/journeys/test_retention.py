"""Bytes go when their time is over, and not before; the record says so, and goes later."""

import asyncio
import io
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image

from common.errors import Unavailable
from common.ids import input_blob_id, new_id, output_blob_id
from common.loops import stop
from services.front import tracker
from services.front.domain.job import NewJob, Output, Owner, Transition
from services.front.domain.periods import DAY
from services.front.domain.retention import Retention
from services.front.use_cases.advance import INPUT_LOST
from services.front.use_cases.tracking.retire import Retire
from tests.support.platform import Platform, eventually, open_platform, token
from tests.support.serving import serving
from tests.support.submitting import KINDS, Post, job_id_of, post_batch, post_json

TEXT = {"Content-Type": "text/plain"}
RECORD = 90 * DAY
LARGE = 32 * 1024 * 1024


@pytest.fixture(scope="module")
async def platform(mongodb_uri: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Platform]:
    folder = Path(tmp_path_factory.mktemp("retention"))
    async with open_platform(
        mongodb_uri, f"test-{new_id()}", folder, lease_seconds=1, orphan_seconds=0.1, read_grace_seconds=1
    ) as platform:
        yield platform


def retire(platform: Platform, *, keep_inputs: bool = False, record_seconds: float = RECORD) -> Retire:
    return platform.retire(keep_inputs=keep_inputs, record_seconds=record_seconds)


async def done(platform: Platform, query: str = "", *, content: bytes = b"x") -> dict[str, Any]:
    """The status of a job that has come to its end."""
    alice = platform.client()
    created = await alice.post(f"/api/v1/job?processor=checksum{query}", content=content, headers=TEXT)
    assert created.status_code == 201, created.text
    return await platform.final(alice, created.json()["id"])


async def seen(platform: Platform, job_id: str) -> dict[str, Any]:
    answer = await platform.client().get(f"/api/v1/job/{job_id}")
    assert answer.status_code == 200
    job: dict[str, Any] = answer.json()
    return job


async def blobs_of(platform: Platform, job_id: str) -> set[str]:
    job = await platform.core.jobs.find(job_id)
    fence, count = (job.fence or 0, len(job.outputs)) if job else (1, 1)
    ids = [input_blob_id(job_id), *(output_blob_id(job_id, fence, n) for n in range(count))]
    return {blob_id for blob_id in ids if await platform.blob.head(blob_id) is not None}


async def until_bytes_are_gone(platform: Platform, job_id: str, work: Retire | None = None) -> None:
    work = work or retire(platform)

    async def gone() -> bool:
        await work()
        return "bytesDeleted" in await seen(platform, job_id)

    await eventually(gone)


def moment(text: str) -> datetime:
    return datetime.fromisoformat(text)


async def assert_deleted(platform: Platform, status: dict[str, Any]) -> None:
    """The bytes are gone, the record says so, and the job can be read as before."""
    alice = platform.client()
    platform.to_blob.calls.clear()
    for href in (status["outputs"][0]["href"], f"/api/v1/job/{status['id']}/output"):
        answer = await alice.get(href)
        assert (answer.status_code, answer.json()["type"]) == (410, "/problems/result-deleted")
    assert platform.to_blob.calls == []
    assert (await alice.get(f"/api/v1/job/{status['id']}/status")).json() == status
    job = await seen(platform, status["id"])
    assert job["bytesDeleted"] is True
    assert job["outputs"] == status["outputs"]
    assert await blobs_of(platform, status["id"]) == set()


def new_job(retention: Retention | None = None) -> NewJob:
    return NewJob(
        new_id(),
        Owner("acme", "alice"),
        "a.txt",
        "text/plain",
        1,
        "checksum",
        {},
        "ab" * 32,
        retention or Retention(until_read=True),
    )


async def test_the_input_goes_with_the_end_and_the_outputs_a_month_later(platform: Platform) -> None:
    status = await done(platform)
    await retire(platform)()
    assert await blobs_of(platform, status["id"]) == {output_blob_id(status["id"], 1, 0)}
    assert (await platform.client().get(status["outputs"][0]["href"])).status_code == 200
    job = await seen(platform, status["id"])
    assert moment(job["expiresAt"]) - moment(job["history"][-1]["at"]) == timedelta(days=30)
    assert "bytesDeleted" not in job


async def test_a_job_that_ends_in_an_error_keeps_nothing(platform: Platform) -> None:
    alice = platform.client()
    file = io.BytesIO()
    Image.new("RGB", (64, 64)).save(file, "JPEG")
    broken = await alice.post("/api/v1/job", content=file.getvalue()[:300], headers={"Content-Type": "image/jpeg"})
    status = await platform.final(alice, broken.json()["id"])
    assert status["status"] == "EXECUTION_ERROR"
    await retire(platform)()
    assert await blobs_of(platform, status["id"]) == set()
    assert (await seen(platform, status["id"]))["bytesDeleted"] is True
    answer = await alice.get(f"{broken.headers['location']}/output")
    assert (answer.status_code, answer.json()["type"]) == (404, "/problems/result-not-available")


async def test_bytes_that_waited_for_blob_go_as_well(platform: Platform) -> None:
    new = new_job()
    await platform.core.inline.put(new.id, b"waited")
    job = await platform.core.jobs.insert_created(new, 600)
    await retire(platform)()
    assert await platform.core.inline.get(new.id) == b"waited"
    await platform.core.advance.finish(job.id, Transition.not_stored(INPUT_LOST))
    await retire(platform)()
    assert await platform.core.inline.get(new.id) is None


async def test_a_job_that_is_not_final_loses_nothing(platform: Platform) -> None:
    new = new_job(Retention(1))
    await platform.blob.put(input_blob_id(new.id), b"x")
    await platform.core.jobs.insert_stored(new, 600)
    shown = await platform.core.jobs.find(new.id)
    assert shown is not None
    assert shown.expires_at == shown.created_at + timedelta(seconds=1)
    ended = await done(platform, "&retention=1")  # its time counts from later on
    await until_bytes_are_gone(platform, ended["id"])
    assert await blobs_of(platform, new.id) == {input_blob_id(new.id)}


async def test_an_input_that_is_kept_goes_with_the_outputs(platform: Platform) -> None:
    work = retire(platform, keep_inputs=True)
    status = await done(platform, "&retention=2")
    await work()
    assert await blobs_of(platform, status["id"]) == {input_blob_id(status["id"]), output_blob_id(status["id"], 1, 0)}
    await until_bytes_are_gone(platform, status["id"], work)
    await assert_deleted(platform, status)


@pytest.mark.parametrize("post", KINDS)
@pytest.mark.parametrize(("text", "seconds"), [(90, 90), ("90", 90), ("2m", 120), ("12h", 43_200), ("7d", 7 * DAY)])
async def test_a_job_may_ask_for_less(platform: Platform, post: Post, text: Any, seconds: int) -> None:
    alice = platform.client()
    job = await platform.core.jobs.find(job_id_of(await post(alice, retention=text)))
    assert job is not None
    assert job.retention == Retention(seconds)
    assert job.expires_at == (job.ended_at or job.created_at) + timedelta(seconds=seconds)


@pytest.mark.parametrize("post", KINDS)
@pytest.mark.parametrize("text", [0, -1, "-1s", "2592001", "31d", "8w", "until", "7 d", "1" * 20, "٣d", "7D"])
async def test_a_retention_that_cannot_be_is_refused(platform: Platform, post: Post, text: Any) -> None:
    before = await platform.core.jobs.jobs.count_documents({})
    answer = await post(platform.client(), retention=text)
    assert answer.status_code == 422
    assert [error["pointer"] for error in answer.json()["errors"]] == ["/retention"]
    assert await platform.core.jobs.jobs.count_documents({}) == before


@pytest.mark.parametrize("value", [True, 1.5, {"$gt": ""}, ["7d"], ""])
async def test_a_retention_of_another_type_is_refused(platform: Platform, value: Any) -> None:
    for post in (post_json, post_batch):
        answer = await post(platform.client(), retention=value)
        assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, "/retention")


async def test_when_its_time_is_over_a_result_is_deleted(platform: Platform) -> None:
    status = await done(platform, "&retention=1s")
    href = status["outputs"][0]["href"]
    assert (await platform.client().get(href)).status_code == 200
    await until_bytes_are_gone(platform, status["id"])
    await assert_deleted(platform, status)
    eve = await platform.client("other", "eve").get(href)
    assert eve.status_code == 404


async def test_between_the_deletion_and_its_record_the_answer_is_the_same(platform: Platform) -> None:
    status = await done(platform, "&retention=1s")
    job_id, href = status["id"], status["outputs"][0]["href"]
    await platform.blob.delete(output_blob_id(job_id, 1, 0))

    async def gone() -> bool:
        answer = await platform.client().get(href)
        assert answer.status_code in (502, 410), answer.text
        return answer.status_code == 410

    await eventually(gone)


async def test_while_blob_is_away_nothing_is_said_to_be_deleted(platform: Platform) -> None:
    status = await done(platform, "&retention=1s")
    work = retire(platform)

    async def refused() -> bool:
        """Both when its input was due and when its outputs were."""
        over = moment((await seen(platform, status["id"]))["expiresAt"]) <= await platform.core.jobs.now()
        try:
            await work()
        except Unavailable:
            return over
        return False

    platform.to_blob.on = True
    try:
        await eventually(refused)
    finally:
        platform.to_blob.on = False
    job = await platform.core.jobs.find(status["id"])
    assert job is not None
    assert (job.input_deleted, job.bytes_deleted) == (False, False)
    await until_bytes_are_gone(platform, status["id"])
    await assert_deleted(platform, status)


async def test_what_comes_after_the_deletion_is_swept(platform: Platform) -> None:
    status = await done(platform, "&retention=1s")
    await until_bytes_are_gone(platform, status["id"])
    for blob_id in (input_blob_id(status["id"]), output_blob_id(status["id"], 1, 0)):
        await platform.blob.put(blob_id, b"late")

    async def swept() -> bool:
        await platform.sweep().blobs()
        return await blobs_of(platform, status["id"]) == set()

    await eventually(swept)


async def test_an_old_job_is_forgotten_with_its_batch(platform: Platform) -> None:
    alice = platform.client()
    batch = (await post_batch(alice, retention="7d")).json()
    item = batch["items"][0]
    async with httpx.AsyncClient() as line:
        plan = item["upload"]
        assert (await line.put(plan["url"], content=b"x", headers=plan["headers"])).is_success
    await alice.post(f"/api/v1/job/{item['id']}/upload/complete")
    await platform.final(alice, item["id"])
    await retire(platform, record_seconds=0)()
    for path in (f"/job/{item['id']}", f"/job/{item['id']}/output", f"/batch/{batch['id']}"):
        assert (await alice.get(f"/api/v1{path}")).status_code == 404
    assert await blobs_of(platform, item["id"]) == set()
    assert await platform.core.batches.find_batch(batch["id"]) is None


async def test_until_read_takes_a_whole_body_of_each_output(platform: Platform) -> None:
    alice = platform.client()
    file = io.BytesIO()
    Image.new("RGB", (64, 64)).save(file, "JPEG")
    created = await alice.post(
        "/api/v1/job?widths=16,32&retention=until-read",
        content=file.getvalue(),
        headers={"Content-Type": "image/jpeg"},
    )
    status = await platform.final(alice, created.json()["id"])
    first, *rest, last = [output["href"] for output in status["outputs"]]
    for href in (first, *rest):
        assert (await alice.get(href)).status_code == 200
    etag = (await alice.get(first)).headers["etag"]
    size = status["outputs"][-1]["size"]
    assert (await alice.get(last, headers={"Range": f"bytes=0-{size - 1}"})).status_code == 206
    assert (await alice.head(last)).status_code == 405
    tag = f'"{status["outputs"][-1]["sha256"]}"'
    assert tag != etag
    assert (await alice.get(last, headers={"If-None-Match": tag})).status_code == 304
    assert (await platform.client("other", "eve").get(last)).status_code == 404
    await retire(platform)()
    job = await seen(platform, status["id"])
    assert moment(job["expiresAt"]) - moment(job["history"][-1]["at"]) == timedelta(days=30)

    assert (await alice.get(last)).status_code == 200
    job = await seen(platform, status["id"])
    assert moment(job["expiresAt"]) - moment(job["history"][-1]["at"]) < timedelta(days=1)
    await until_bytes_are_gone(platform, status["id"])
    await assert_deleted(platform, status)


async def test_a_client_that_goes_away_in_the_middle_has_not_read(platform: Platform) -> None:
    new = new_job()
    stored = await platform.blob.put(output_blob_id(new.id, 1, 0), bytes(LARGE))
    await platform.core.jobs.insert_stored(new, 600)
    await platform.core.jobs.apply(new.id, Transition.submitted(), 600)
    output = Output("o", "application/octet-stream", stored.size, stored.sha256)
    await platform.core.jobs.apply(new.id, Transition.completed(1, 1, (output,)))
    before = await platform.core.jobs.find(new.id)
    path, bearer = f"/api/v1/job/{new.id}/output", token()
    # The server has ended every request once this is left.
    async with serving(platform.front) as url:
        host, port = url.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(f"GET {path} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {bearer}\r\n\r\n".encode())
        assert (await reader.readuntil(b"\r\n")).startswith(b"HTTP/1.1 200")
        await reader.readexactly(1000)
        writer.transport.abort()
    assert await platform.core.jobs.find(new.id) == before

    async with serving(platform.front) as url, httpx.AsyncClient() as client:
        answer = await client.get(url + path, headers={"Authorization": f"Bearer {bearer}"})
        assert len(answer.content) == LARGE
    after = await platform.core.jobs.find(new.id)
    assert after is not None
    assert before is not None
    assert after.expires_at is not None
    assert before.expires_at is not None
    assert after.expires_at < before.expires_at - timedelta(days=29)


async def test_the_tracker_does_it_by_itself(platform: Platform) -> None:
    status = await done(platform, "&retention=1s")
    working = asyncio.create_task(tracker.retire_for_ever(platform.core, platform.settings))
    try:

        async def gone() -> bool:
            return (await platform.client().get(status["outputs"][0]["href"])).status_code == 410

        await eventually(gone)
    finally:
        await stop(working)  # a cancellation alone may get lost
    assert await blobs_of(platform, status["id"]) == set()
