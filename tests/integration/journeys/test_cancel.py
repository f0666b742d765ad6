"""An owner cancels: whatever the job is doing, and whoever is away, it has one end, and nothing more is done for it."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from common.contracts.job import Complete, RunState
from common.errors import StaleFence
from common.ids import input_blob_id, new_id
from services.front.use_cases.advance import _run_of
from tests.support.manual_processor import claim, offer_checksum
from tests.support.platform import Platform, eventually, open_platform
from tests.support.submitting import job_id_of, post_json, post_raw


@pytest.fixture(scope="module")
async def platform(mongodb_uri: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Platform]:
    """Without a processor: a test claims runs by hand, and takes them as far as it wants."""
    folder = Path(tmp_path_factory.mktemp("cancel"))
    async with open_platform(
        mongodb_uri, f"test-{new_id()}", folder, processor=False, lease_seconds=0.5, ask_seconds=0.5
    ) as platform:
        await offer_checksum(platform)
        yield platform


async def cancel(client: httpx.AsyncClient, job_id: str) -> tuple[int, dict[str, Any]]:
    answer = await client.post(f"/api/v1/job/{job_id}/cancel")
    return answer.status_code, answer.json()


async def status_of(client: httpx.AsyncClient, job_id: str) -> dict[str, Any]:
    status: dict[str, Any] = (await client.get(f"/api/v1/job/{job_id}/status")).json()
    return status


async def until(platform: Platform, client: httpx.AsyncClient, job_id: str, state: str) -> dict[str, Any]:
    """The job's status, once a tracker has brought it to that state."""

    async def is_there() -> bool:
        await platform.recover()()
        return bool((await status_of(client, job_id))["status"] == state)

    await eventually(is_there)
    return await status_of(client, job_id)


async def bytes_of(platform: Platform, job_id: str) -> tuple[bytes | None, bool]:
    """What waits in `inline`, and whether blob has the input."""
    inline = await platform.core.inline.get(job_id)
    return inline, await platform.blob.head(input_blob_id(job_id)) is not None


async def test_a_queued_job_is_cancelled_at_once_and_its_bytes_go(platform: Platform) -> None:
    alice = platform.client()
    job_id = job_id_of(await post_raw(alice))
    await until(platform, alice, job_id, "SUBMITTED")
    code, view = await cancel(alice, job_id)
    assert (code, view["status"], "cancelRequested" in view, "error" in view) == (200, "CANCELLED", False, False)
    assert view["endedAt"] == view["updatedAt"]
    assert await cancel(alice, job_id) == (200, view), "again, it is the same"
    output = await alice.get(f"/api/v1/job/{job_id}/output")
    assert (output.status_code, output.json()["type"]) == (404, "/problems/result-not-available")
    await platform.retire()()
    assert await bytes_of(platform, job_id) == (None, False)


async def test_a_running_job_is_cancelled_and_what_its_processor_says_later_is_stale(platform: Platform) -> None:
    alice = platform.client()
    job_id = job_id_of(await post_raw(alice))
    await until(platform, alice, job_id, "SUBMITTED")
    run = await claim(platform, job_id)
    code, view = await cancel(alice, job_id)
    assert (code, view["status"]) == (200, "CANCELLED")
    assert view["createdAt"] <= view["startedAt"] <= view["endedAt"]
    with pytest.raises(StaleFence):
        await platform.as_processor.complete(run.id, Complete(fence=run.fence, outputs=[]))
    assert await status_of(alice, job_id) == view


async def test_a_success_that_job_had_recorded_stands(platform: Platform) -> None:
    alice = platform.client()
    job_id = job_id_of(await post_raw(alice))
    await until(platform, alice, job_id, "SUBMITTED")
    platform.reports.on = True  # front hasn't heard of it
    try:
        run = await claim(platform, job_id)
        await platform.as_processor.complete(run.id, Complete(fence=run.fence, outputs=[]))
        code, view = await cancel(alice, job_id)
    finally:
        platform.reports.on = False
    assert (code, view["status"]) == (200, "EXECUTION_COMPLETED")


async def test_while_job_is_away_the_cancel_is_kept_and_repeated(platform: Platform) -> None:
    alice = platform.client()
    job_id = job_id_of(await post_raw(alice))
    await until(platform, alice, job_id, "SUBMITTED")
    platform.to_job.on = True
    try:
        code, view = await cancel(alice, job_id)
        assert (code, view["status"], view["cancelRequested"], view["stale"]) == (202, "SUBMITTED", True, True)
        assert (await status_of(alice, job_id))["cancelRequested"]
        assert (await cancel(alice, job_id))[0] == 202
    finally:
        platform.to_job.on = False
    view = await until(platform, alice, job_id, "CANCELLED")
    assert "cancelRequested" not in view


async def test_a_submit_that_comes_after_the_cancel_starts_nothing(platform: Platform) -> None:
    alice = platform.client()
    platform.to_job.calls.clear()
    platform.to_job.on = True

    async def submit_was_tried() -> bool:
        return "submit" in platform.to_job.calls

    try:
        job_id = job_id_of(await post_raw(alice))
        await eventually(submit_was_tried)
    finally:
        platform.to_job.on = False
    late = await platform.core.jobs.find(job_id)
    assert late is not None
    code, view = await cancel(alice, job_id)
    assert (code, view["status"]) == (200, "CANCELLED")
    assert [entry["status"] for entry in (await alice.get(f"/api/v1/job/{job_id}")).json()["history"]] == [
        "CREATED",
        "STORED",
        "CANCELLED",
    ]
    await platform.core.advance.carry_on(late)  # a front that was held up
    await platform.core.runs.submit(_run_of(late))
    assert (await platform.core.runs.statuses([job_id]))[job_id].status is RunState.CANCELLED
    assert (await status_of(alice, job_id))["status"] == "CANCELLED"


async def test_a_job_whose_bytes_are_still_to_be_stored_is_cancelled_without_asking_job(platform: Platform) -> None:
    alice = platform.client()
    platform.to_blob.on = True
    try:
        job_id = job_id_of(await post_json(alice))
        late = await platform.core.jobs.find(job_id)
        platform.to_job.calls.clear()
        code, view = await cancel(alice, job_id)
    finally:
        platform.to_blob.on = False
    assert (code, view["status"], platform.to_job.calls) == (200, "CANCELLED", [])
    assert late is not None
    await platform.core.advance.carry_on(late)  # a front that was just storing it
    assert await bytes_of(platform, job_id) == (b"x", False), "what it stored is taken back"
    await platform.retire()()
    assert await bytes_of(platform, job_id) == (None, False)
    assert (await status_of(alice, job_id))["status"] == "CANCELLED"


async def test_cancels_at_once_with_submits_all_have_one_end(platform: Platform) -> None:
    alice = platform.client()

    async def one() -> set[str]:
        job_id = job_id_of(await post_raw(alice))
        ends = await asyncio.gather(*(cancel(alice, job_id) for _ in range(3)))
        assert {code for code, _ in ends} == {200}
        return {view["status"] for _, view in ends} | {(await status_of(alice, job_id))["status"]}

    assert await asyncio.gather(*(one() for _ in range(20))) == [{"CANCELLED"}] * 20


async def announced(alice: httpx.AsyncClient, **fields: Any) -> dict[str, Any]:
    files = [{"name": f"{n}.txt", "size": 4, "mimetype": "text/plain"} for n in range(3)]
    answer = await alice.post("/api/v1/batch", json={"processor": "checksum", "files": files, **fields})
    assert answer.status_code == 201, answer.text
    batch: dict[str, Any] = answer.json()
    return batch


async def put(plan: dict[str, Any]) -> httpx.Response:
    async with httpx.AsyncClient() as line:
        return await line.request(plan["method"], plan["url"], content=b"four", headers=plan["headers"])


async def test_an_upload_is_aborted_and_the_others_of_its_batch_go_on(platform: Platform) -> None:
    alice = platform.client()
    first, second, _ = (await announced(alice))["items"]
    assert (await cancel(alice, first["id"]))[1]["status"] == "CANCELLED"
    await platform.retire()()
    assert (await put(first["upload"])).status_code in (403, 404), "the URL is good for nothing"
    assert (await alice.get(f"/api/v1/job/{first['id']}/upload")).status_code == 409
    assert (await alice.post(f"/api/v1/job/{first['id']}/upload/complete")).json()["status"] == "CANCELLED"
    assert (await put(second["upload"])).is_success
    await alice.post(f"/api/v1/job/{second['id']}/upload/complete")
    await until(platform, alice, second["id"], "SUBMITTED")
    assert await bytes_of(platform, first["id"]) == (None, False)


@pytest.mark.parametrize("is_stored", [False, True])
async def test_a_batch_that_starts_whole_or_not_at_all_fails_with_a_file_that_is_cancelled(
    platform: Platform, is_stored: bool
) -> None:
    alice = platform.client()
    batch = await announced(alice, start="all")
    first, second, third = batch["items"]
    for item in (first, second) if is_stored else (second,):
        assert (await put(item["upload"])).is_success
        await alice.post(f"/api/v1/job/{item['id']}/upload/complete")
    platform.to_job.calls.clear()
    assert (await cancel(alice, first["id"]))[1]["status"] == "CANCELLED"
    assert platform.to_job.calls == [], "nothing of it has gone to job"

    async def decided() -> bool:
        await platform.track_uploads()()
        counts = (await alice.get(f"/api/v1/batch/{batch['id']}")).json()["counts"]
        return bool(counts == {"CANCELLED": 1, "STORED_ERROR": 1, "SUBMITTED_ERROR": 1})

    await eventually(decided)
    for item in (second, third):
        assert (await status_of(alice, item["id"]))["error"]["type"] == "/problems/batch-failed"
    assert await platform.to_job.statuses([first["id"], second["id"]]) == {}
