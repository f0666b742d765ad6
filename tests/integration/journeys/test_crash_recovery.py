"""What the tracker promises: every job that a crash left behind comes to its end, and what nothing owns is removed."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from common.contracts.job import RunState
from common.ids import input_blob_id, new_id, output_blob_id
from services.front.domain.job import Job, NewJob, Owner, Status, Transition
from tests.support.platform import Platform, eventually, open_platform

LAPSED = -1.0
CONTENT = b"hello"
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture(scope="module")
async def platform(mongodb_uri: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Platform]:
    folder = Path(tmp_path_factory.mktemp("recovery"))
    async with open_platform(
        mongodb_uri, f"test-{new_id()}", folder, lease_seconds=1, ask_seconds=1, orphan_seconds=0.1
    ) as platform:
        yield platform


def new_job(**changes: Any) -> NewJob:
    fields: dict[str, Any] = {
        "id": new_id(),
        "owner": Owner("acme", "alice"),
        "name": "n.txt",
        "mimetype": "text/plain",
        "size": len(CONTENT),
        "processor": "checksum",
        "params": {},
        **changes,
    }
    return NewJob(**fields)


async def left_created(platform: Platform) -> Job:
    """What a front leaves that dies right after it answered a JSON body."""
    new = new_job()
    await platform.core.inline.put(new.id, CONTENT)
    return await platform.core.jobs.insert_created(new, LAPSED)


async def left_stored(platform: Platform, *, blob: bool = True) -> Job:
    """What a front leaves that dies right after it stored a raw body."""
    new = new_job(sha256=SHA256)
    if blob:
        await platform.blob.put(input_blob_id(new.id), CONTENT)
    return await platform.core.jobs.insert_stored(new, LAPSED)


async def assert_completes(platform: Platform, job: Job) -> dict[str, Any]:
    status = await platform.final(platform.client(), job.id)
    assert status["status"] == "EXECUTION_COMPLETED"
    answer = await platform.client().get(status["outputs"][0]["href"])
    assert answer.json()["digest"] == SHA256
    return status


async def test_a_job_left_in_created_is_stored_and_submitted(platform: Platform) -> None:
    job = await left_created(platform)
    assert await platform.recover()() >= 1
    await assert_completes(platform, job)
    assert await platform.core.inline.get(job.id) is None


async def test_a_job_whose_blob_was_written_before_the_crash_goes_on_from_there(platform: Platform) -> None:
    job = await left_created(platform)
    await platform.blob.put(input_blob_id(job.id), CONTENT)
    await platform.recover()()
    await assert_completes(platform, job)


async def test_a_job_whose_input_cannot_come_ends_so(platform: Platform) -> None:
    job = await platform.core.jobs.insert_created(new_job(), LAPSED)
    await platform.recover()()
    status = await platform.final(platform.client(), job.id)
    assert status["status"] == "STORED_ERROR"
    assert status["error"]["type"] == "/problems/input-lost"
    assert status["error"]["fault"] == "server"


async def test_a_job_left_in_stored_is_submitted(platform: Platform) -> None:
    job = await left_stored(platform)
    await platform.recover()()
    await assert_completes(platform, job)


async def test_a_job_that_its_front_works_on_is_left_alone(platform: Platform) -> None:
    new = new_job()
    await platform.core.inline.put(new.id, CONTENT)
    await platform.core.jobs.insert_created(new, 600)
    await platform.recover()()
    left = await platform.core.jobs.find(new.id)
    assert left is not None
    assert left.status is Status.CREATED


async def test_a_run_that_job_does_not_know_is_submitted_again(platform: Platform) -> None:
    job = await left_stored(platform)
    await platform.core.jobs.apply(job.id, Transition.submitted(), LAPSED)
    await platform.recover()()
    await assert_completes(platform, job)


async def test_an_old_submitted_job_is_asked_about_when_no_report_comes(platform: Platform) -> None:
    platform.reports.on = True
    try:
        job = await left_stored(platform)
        await platform.recover()()

        async def run_ended() -> bool:
            return bool((await platform.to_job.statuses([job.id]))[job.id].status is RunState.SUCCESS)

        await eventually(run_ended)

        async def asked() -> bool:
            await platform.recover()()  # the lease of a SUBMITTED job lapses after `ask_seconds`
            found = await platform.core.jobs.find(job.id)
            return found is not None and found.status is Status.EXECUTION_COMPLETED

        await eventually(asked)
    finally:
        platform.reports.on = False


async def test_many_trackers_do_not_collide(platform: Platform) -> None:
    jobs = [await left_created(platform) for _ in range(10)] + [await left_stored(platform) for _ in range(10)]
    platform.to_job.calls.clear()
    await asyncio.gather(*(platform.recover()() for _ in range(5)))
    assert platform.to_job.calls.count("submit") == len(jobs)
    for job in jobs:
        await assert_completes(platform, job)


async def test_while_blob_is_away_nothing_is_given_up(platform: Platform) -> None:
    job = await left_created(platform)
    platform.to_blob.on = True
    try:
        await platform.recover()()
        waiting = await platform.core.jobs.find(job.id)
        assert waiting is not None
        assert waiting.status is Status.CREATED
    finally:
        platform.to_blob.on = False
    await eventually(platform.recover())  # once the lease has lapsed
    await assert_completes(platform, job)


async def test_while_job_is_away_status_is_the_last_known_and_says_so(platform: Platform) -> None:
    alice = platform.client()
    await alice.get("/api/v1/processor")
    platform.to_job.on = True
    try:
        created = await alice.post(
            "/api/v1/job?processor=checksum", content=CONTENT, headers={"Content-Type": "text/plain"}
        )
        assert created.status_code == 201
        status = (await alice.get(created.headers["location"] + "/status")).json()
        assert (status["status"], status["stale"]) == ("STORED", True)
        not_ready = await alice.get(created.headers["location"] + "/output")
        assert (not_ready.status_code, not_ready.json()["type"]) == (404, "/problems/result-not-ready")
        assert not_ready.headers["retry-after"] == "1"
    finally:
        platform.to_job.on = False
    job = await platform.core.jobs.find(created.json()["id"])
    assert job is not None
    await eventually(platform.recover())  # once the lease has lapsed
    status = await assert_completes(platform, job)
    assert "stale" not in status


async def test_blobs_that_nothing_owns_are_swept(platform: Platform) -> None:
    job = await left_stored(platform)
    await platform.recover()()
    await assert_completes(platform, job)
    done = await platform.core.jobs.find(job.id)
    assert done is not None
    assert done.fence is not None
    unfinished = new_job(sha256=SHA256)
    await platform.core.jobs.insert_stored(unfinished, 600)
    stranger = new_id()
    garbage = {
        input_blob_id(stranger),
        output_blob_id(stranger, 1, 0),
        output_blob_id(job.id, done.fence + 1, 0),
    }
    kept = {
        input_blob_id(job.id),
        output_blob_id(job.id, done.fence, 0),
        output_blob_id(unfinished.id, 7, 0),
        "somebody-elses",
    }
    for blob_id in [*garbage, output_blob_id(unfinished.id, 7, 0), "somebody-elses"]:
        await platform.blob.put(blob_id, CONTENT)
    await asyncio.sleep(0.3)  # they have to be older than `orphan_seconds`

    assert await platform.sweep().blobs() >= len(garbage)
    left = {item.id for item in (await platform.blob.list()).items}
    assert kept <= left
    assert not garbage & left


async def test_a_blob_that_was_just_written_is_not_swept(platform: Platform) -> None:
    young = input_blob_id(new_id())
    sweep = platform.sweep()
    sweep._orphan_seconds = 3600
    await platform.blob.put(young, CONTENT)
    await sweep.blobs()
    assert await platform.blob.head(young) is not None


async def test_inline_bytes_that_blob_has_are_swept(platform: Platform) -> None:
    waiting = await left_created(platform)
    stored = await left_stored(platform)
    without_job = new_id()
    for job_id in (stored.id, without_job):
        await platform.core.inline.put(job_id, CONTENT)
    await asyncio.sleep(0.3)  # they have to be older than `orphan_seconds`
    await platform.sweep().inline()
    assert await platform.core.inline.get(waiting.id) == CONTENT
    assert await platform.core.inline.get(stored.id) is None
    assert await platform.core.inline.get(without_job) is None
