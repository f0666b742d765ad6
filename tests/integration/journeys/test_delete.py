"""An owner deletes: from the response on nobody sees the job, on no front; and no byte of it is left, however late."""

import asyncio
from collections.abc import AsyncIterator, Collection
from pathlib import Path
from typing import Any

import httpx
import pytest

from common.contracts.job import Complete, OutputInfo
from common.errors import StaleFence
from common.ids import new_id, output_blob_id
from services.front.use_cases.advance import _run_of
from tests.integration.journeys.test_cancel import announced, put, status_of, until
from tests.integration.journeys.test_events import Front, another_front
from tests.support.manual_processor import claim, offer_checksum
from tests.support.platform import Platform, eventually, open_platform
from tests.support.submitting import job_id_of, post_batch, post_json, post_raw

SHA256_OF_X = "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881"


@pytest.fixture(scope="module")
async def platform(mongodb_uri: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Platform]:
    """Without a processor: a test claims runs by hand, and takes them as far as it wants."""
    folder = Path(tmp_path_factory.mktemp("delete"))
    async with open_platform(
        mongodb_uri,
        f"test-{new_id()}",
        folder,
        processor=False,
        lease_seconds=0.5,
        ask_seconds=0.5,
        orphan_seconds=0.1,
    ) as platform:
        await offer_checksum(platform)
        yield platform


@pytest.fixture(scope="module")
async def other(platform: Platform) -> AsyncIterator[Front]:
    """A second front, which remembers what it has read."""
    async with another_front(platform) as front:
        yield front


async def delete(client: httpx.AsyncClient, job_id: str) -> httpx.Response:
    return await client.delete(f"/api/v1/job/{job_id}")


async def assert_unknown(platform: Platform, other: Front, job_id: str) -> None:
    """For its owner, on both fronts, each response is that of a job that never was."""
    alice, never = platform.client(), new_id()
    for client in (alice, other.http):
        for path in ("", "/status", "/output", "/output/o", "/events", "/upload"):
            answer, unknown = [await client.get(f"/api/v1/job/{one}{path}") for one in (job_id, never)]
            assert (answer.status_code, answer.content) == (404, unknown.content), path
            assert answer.json()["type"] == "/problems/not-found"
        waiting = await client.get(f"/api/v1/job/{job_id}/status", headers={"Prefer": "wait=5"})
        assert waiting.content == unknown.content
        for path in ("/cancel", "/upload/complete"):
            assert (await client.post(f"/api/v1/job/{job_id}{path}")).content == unknown.content
        assert (await client.delete(f"/api/v1/job/{job_id}")).content == unknown.content
        items = (await client.get("/api/v1/job?limit=200")).json()["items"]
        assert job_id not in {item["id"] for item in items}


async def bytes_of(platform: Platform, job_id: str) -> set[str]:
    """All that is left of it anywhere: blobs, inline bytes, and its run."""
    found, after = set(), ""
    while True:
        page = await platform.blob.list(after=after)
        found |= {item.id for item in page.items if job_id in item.id}
        if page.next is None:
            break
        after = page.next
    if await platform.core.inline.get(job_id) is not None:
        found.add("inline")
    return found | {"run" for _ in await platform.to_job.statuses([job_id])}


async def assert_nothing_is_left(platform: Platform, *job_ids: str) -> None:
    """A while later; the record stays hidden until no request with its idempotency key is taken any more."""

    async def nothing() -> bool:
        await platform.recover()()
        await platform.retire()()
        return not any([await bytes_of(platform, job_id) for job_id in job_ids])

    await eventually(nothing)
    for job_id in job_ids:
        hidden = await platform.core.jobs.find(job_id)
        assert hidden is not None
        assert hidden.status.is_final

    async def forgotten() -> bool:
        await platform.retire(hidden_seconds=0)()
        return not await platform.core.jobs.find_many(job_ids)

    for job_id in job_ids:  # due now, and not in a day
        await platform.core.jobs.jobs.update_one({"_id": job_id}, [{"$set": {"retireAt": "$$NOW"}}])
    await eventually(forgotten)


async def finished(platform: Platform, client: httpx.AsyncClient) -> str:
    """A job that has an output."""
    job_id = job_id_of(await post_raw(client))
    await until(platform, client, job_id, "SUBMITTED")
    run = await claim(platform, job_id)
    await platform.blob.put(output_blob_id(job_id, run.fence, 0), b"x")
    output = OutputInfo(name="o", mimetype="text/plain", size=1, sha256=SHA256_OF_X)
    await platform.as_processor.complete(run.id, Complete(fence=run.fence, outputs=[output]))
    await until(platform, client, job_id, "EXECUTION_COMPLETED")
    return job_id


async def test_a_final_job_is_unknown_at_once_on_every_front(platform: Platform, other: Front) -> None:
    alice = platform.client()
    job_id = await finished(platform, alice)
    for client in (alice, other.http, alice, other.http):  # both remember it, and the response
        assert (await client.get(f"/api/v1/job/{job_id}/status")).json()["status"] == "EXECUTION_COMPLETED"
    deleted = await delete(alice, job_id)
    assert (deleted.status_code, deleted.content) == (204, b"")
    assert (await other.http.get(f"/api/v1/job/{job_id}/status")).status_code == 404
    await assert_unknown(platform, other, job_id)
    await assert_nothing_is_left(platform, job_id)
    await assert_unknown(platform, other, job_id)


async def test_only_its_owner_can_and_another_hears_what_he_hears_of_any(platform: Platform) -> None:
    alice = platform.client()
    job_id = job_id_of(await post_raw(alice))
    for stranger in (platform.client(subject="bob"), platform.client(tenant="other")):
        answer, unknown = await delete(stranger, job_id), await delete(stranger, new_id())
        malformed = await delete(stranger, "no-id")
        assert answer.status_code == 404
        assert answer.content == unknown.content == malformed.content
    assert (await status_of(alice, job_id))["status"] != "CANCELLED"
    assert sorted([(await delete(alice, job_id)).status_code for _ in range(2)]) == [204, 404]


async def test_of_many_deletes_at_once_one_is_told_that_it_was_it(platform: Platform, other: Front) -> None:
    alice = platform.client()
    job_id = job_id_of(await post_raw(alice))
    answers = await asyncio.gather(*(delete(client, job_id) for client in (alice, other.http) * 5))
    assert sorted(answer.status_code for answer in answers) == [204] + [404] * 9


async def test_a_queued_job_is_never_worked_on(platform: Platform, other: Front) -> None:
    alice = platform.client()
    job_id = job_id_of(await post_raw(alice))
    view = await until(platform, alice, job_id, "SUBMITTED")
    late = await platform.core.jobs.find(view["id"])
    assert late is not None
    assert (await delete(alice, job_id)).status_code == 204
    await assert_unknown(platform, other, job_id)
    await assert_nothing_is_left(platform, job_id)
    await platform.core.runs.submit(_run_of(late))  # a front that was held up
    assert await bytes_of(platform, job_id) == set()


async def test_a_processor_that_goes_on_after_the_delete_leaves_nothing(platform: Platform, other: Front) -> None:
    alice = platform.client()
    job_id = job_id_of(await post_raw(alice))
    await until(platform, alice, job_id, "SUBMITTED")
    run = await claim(platform, job_id)
    await platform.blob.put(output_blob_id(job_id, run.fence, 0), b"x")
    assert (await delete(alice, job_id)).status_code == 204
    with pytest.raises(StaleFence):
        await platform.as_processor.complete(run.id, Complete(fence=run.fence, outputs=[]))
    await assert_unknown(platform, other, job_id)
    await platform.recover()()
    await platform.retire()()
    await eventually(lambda: swept(platform, job_id))
    await platform.blob.put(output_blob_id(job_id, run.fence, 1), b"later still")
    await assert_gone_by_sweep(platform, job_id)
    await assert_nothing_is_left(platform, job_id)
    await platform.blob.put(output_blob_id(job_id, run.fence, 2), b"when even the record has gone")
    await assert_gone_by_sweep(platform, job_id)


async def swept(platform: Platform, job_id: str) -> bool:
    """Whether tracker and sweeper have left no blob."""
    await platform.retire()()
    await platform.sweep().blobs()
    return not await bytes_of(platform, job_id)


async def assert_gone_by_sweep(platform: Platform, job_id: str) -> None:
    assert await bytes_of(platform, job_id)
    await eventually(lambda: swept(platform, job_id))


async def test_while_job_is_away_it_is_hidden_and_the_cancel_repeated(platform: Platform, other: Front) -> None:
    alice = platform.client()
    job_id = job_id_of(await post_raw(alice))
    await until(platform, alice, job_id, "SUBMITTED")
    platform.to_job.on = True
    try:
        assert (await delete(alice, job_id)).status_code == 204
        await assert_unknown(platform, other, job_id)
    finally:
        platform.to_job.on = False
    await assert_nothing_is_left(platform, job_id)


async def test_one_whose_bytes_are_on_their_way_is_deleted_without_asking_job(platform: Platform, other: Front) -> None:
    alice = platform.client()
    platform.to_blob.on = True
    try:
        job_id = job_id_of(await post_json(alice))
        late = await platform.core.jobs.find(job_id)
        platform.to_job.calls.clear()
        assert (await delete(alice, job_id)).status_code == 204
        assert platform.to_job.calls == []
    finally:
        platform.to_blob.on = False
    assert late is not None
    await platform.core.advance.carry_on(late)  # a front that was just storing it
    await assert_unknown(platform, other, job_id)
    await assert_nothing_is_left(platform, job_id)


async def test_an_open_upload_is_aborted_and_the_batch_lacks_the_file(platform: Platform, other: Front) -> None:
    alice = platform.client()
    batch = await announced(alice)
    first, *rest = batch["items"]
    assert (await delete(alice, first["id"])).status_code == 204
    await assert_unknown(platform, other, first["id"])
    for client in (alice, other.http):
        seen = (await client.get(f"/api/v1/batch/{batch['id']}")).json()
        assert [item["id"] for item in seen["items"]] == [item["id"] for item in rest]
        assert seen["counts"] == {"CREATED": 2}
    await assert_nothing_is_left(platform, first["id"])
    assert (await put(first["upload"])).status_code in (403, 404), "the URL is good for nothing"
    assert (await put(rest[0]["upload"])).is_success
    await alice.post(f"/api/v1/job/{rest[0]['id']}/upload/complete")
    await until(platform, alice, rest[0]["id"], "SUBMITTED")
    for item in rest:
        assert (await delete(alice, item["id"])).status_code == 204
    assert (await alice.get(f"/api/v1/batch/{batch['id']}")).status_code == 404
    await assert_nothing_is_left(platform, *(item["id"] for item in rest))
    assert await platform.core.batches.find_batch(batch["id"]) is None


async def test_a_held_batch_fails_with_a_file_that_is_deleted(platform: Platform) -> None:
    alice = platform.client()
    batch = await announced(alice, start="all")
    first, *rest = batch["items"]
    for item in rest:
        assert (await put(item["upload"])).is_success
        await alice.post(f"/api/v1/job/{item['id']}/upload/complete")
    assert (await delete(alice, first["id"])).status_code == 204

    async def decided() -> bool:
        await platform.track_uploads()()
        counts = (await alice.get(f"/api/v1/batch/{batch['id']}")).json()["counts"]
        return bool(counts == {"SUBMITTED_ERROR": 2})

    await eventually(decided)
    for item in rest:
        assert (await status_of(alice, item["id"]))["error"]["type"] == "/problems/batch-failed"


@pytest.mark.parametrize("post", [post_raw, post_json, post_batch])
async def test_a_request_repeated_by_its_idempotency_key_makes_no_second_one(platform: Platform, post: Any) -> None:
    alice = platform.client()
    alice.headers["Idempotency-Key"] = f'"{new_id()}"'
    first = await post(alice)
    job_id = job_id_of(first)
    assert (await delete(alice, job_id)).status_code == 204
    again = await post(alice)
    assert (again.status_code, again.headers["location"]) == (201, first.headers["location"])
    assert again.json()["id"] == first.json()["id"]
    assert not again.json().get("items"), "of a batch, those files that were not deleted"
    assert (await alice.get(f"/api/v1/job/{job_id}")).status_code == 404
    alice.headers["Prefer"] = "wait=10"
    assert (await post(alice)).json() == again.json(), "there is nothing to wait for"
    assert (await alice.get("/api/v1/job")).status_code == 200
    await assert_ids_are_not(alice, {job_id})


async def assert_ids_are_not(client: httpx.AsyncClient, ids: Collection[str]) -> None:
    items = (await client.get("/api/v1/job?limit=200")).json()["items"]
    assert not {item["id"] for item in items} & set(ids)


async def test_its_streams_end_on_every_front(platform: Platform, other: Front) -> None:
    alice = platform.client()
    job_id = job_id_of(await post_raw(alice))
    await until(platform, alice, job_id, "SUBMITTED")
    async with asyncio.timeout(10), other.http.stream("GET", f"/api/v1/job/{job_id}/events") as stream:
        lines = stream.aiter_lines()
        assert any([line async for line in first_event(lines)])
        assert (await delete(alice, job_id)).status_code == 204
        assert not [line async for line in lines if line.startswith("data:")], "its end is nobody's any more"


async def test_the_stream_of_its_batch_goes_on_without_it(platform: Platform, other: Front) -> None:
    alice = platform.client()
    batch = await announced(alice)
    first, *rest = [f"/api/v1/job/{item['id']}" for item in batch["items"]]
    assert (await alice.post(f"{first}/cancel")).json()["status"] == "CANCELLED"
    async with asyncio.timeout(10), other.http.stream("GET", f"/api/v1/batch/{batch['id']}/events") as stream:
        lines = stream.aiter_lines()
        assert any([line async for line in first_event(lines)])
        assert (await alice.delete(first)).status_code == 204
        for location in rest:
            assert (await alice.post(f"{location}/cancel")).json()["status"] == "CANCELLED"
        assert [line async for line in lines if "counts" in line] == [
            f'data: {{"id":"{batch["id"]}","counts":{{"CANCELLED":2}}}}'
        ]


async def first_event(lines: AsyncIterator[str]) -> AsyncIterator[str]:
    async for line in lines:
        if not line:
            return
        yield line


async def test_who_waits_for_its_end_hears_that_it_is_unknown(platform: Platform, other: Front) -> None:
    alice = platform.client()
    job_id = job_id_of(await post_raw(alice))
    await until(platform, alice, job_id, "SUBMITTED")
    waiting = asyncio.create_task(other.http.get(f"/api/v1/job/{job_id}/status", headers={"Prefer": "wait=20"}))
    await eventually(lambda: asked(platform))
    assert (await delete(alice, job_id)).status_code == 204
    assert (await waiting).status_code == 404


async def asked(platform: Platform) -> bool:
    return "statuses" in platform.to_job.calls
