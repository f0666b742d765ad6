"""What a status tells of the work on a job, from the queue to its end."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from common.contracts.job import Complete, Fail, Heartbeat, RunError
from common.ids import new_id
from tests.support.manual_processor import claim, offer_checksum
from tests.support.platform import Platform, eventually, open_platform
from tests.support.submitting import job_id_of, post_raw


@pytest.fixture
async def platform(mongodb_uri: str, tmp_path: Path) -> AsyncIterator[Platform]:
    async with open_platform(mongodb_uri, f"test-{new_id()}", tmp_path, processor=False) as platform:
        await offer_checksum(platform)
        yield platform


async def status_of(platform: Platform, job_id: str, **expected: Any) -> dict[str, Any]:
    """The status, once it says what is expected."""
    alice, seen = platform.client(), {}

    async def says() -> bool:
        seen.update((await alice.get(f"/api/v1/job/{job_id}/status")).json())
        return expected.items() <= seen.items()

    await eventually(says)
    return (await alice.get(f"/api/v1/job/{job_id}/status")).json()  # type: ignore[no-any-return]  # JSON


async def test_from_the_queue_to_its_end(platform: Platform) -> None:
    job_id = job_id_of(await post_raw(platform.client()))
    queued = await status_of(platform, job_id, status="SUBMITTED", phase="QUEUED")
    assert {"startedAt", "endedAt", "progress", "cancelRequested"}.isdisjoint(queued)
    assert queued["createdAt"] <= queued["updatedAt"]

    run = await claim(platform, job_id)
    beat = Heartbeat(fence=run.fence, phase="RUNNING", progress=0.25)
    await platform.as_processor.heartbeat(run.id, beat)
    running = await status_of(platform, job_id, phase="RUNNING", progress=0.25, attempt=1)
    assert queued["createdAt"] <= running["startedAt"]
    assert "endedAt" not in running

    await platform.as_processor.complete(run.id, Complete(fence=run.fence, outputs=[]))
    ended = await status_of(platform, job_id, status="EXECUTION_COMPLETED")
    assert {"phase", "progress", "queuePosition"}.isdisjoint(ended)
    assert (ended["startedAt"], ended["attempt"]) == (running["startedAt"], 1)
    assert ended["startedAt"] <= ended["endedAt"] == ended["updatedAt"]
    whole = (await platform.client().get(f"/api/v1/job/{job_id}")).json()
    assert ended.items() <= whole.items()


async def test_a_failure_tells_whose_fault_it_is(platform: Platform) -> None:
    job_id = job_id_of(await post_raw(platform.client()))
    await status_of(platform, job_id, status="SUBMITTED")
    run = await claim(platform, job_id)
    error = RunError(type="invalid-input", detail="It is broken.")
    await platform.as_processor.fail(run.id, Fail(fence=run.fence, error=error))
    ended = await status_of(platform, job_id, status="EXECUTION_ERROR")
    assert (ended["error"]["fault"], ended["error"]["detail"]) == ("user", "It is broken.")
    assert ended["startedAt"] <= ended["endedAt"]


async def test_the_place_in_the_queue(platform: Platform) -> None:
    alice = platform.client()
    ids = []
    for _ in range(3):  # one after the other, so that they have an order
        ids.append(job_id_of(await post_raw(alice)))
        await status_of(platform, ids[-1], status="SUBMITTED")
    places = [(await status_of(platform, job_id, phase="QUEUED"))["queuePosition"] for job_id in ids]
    assert places[0] == 0 < places[2] < 3, "an estimate"
    assert places == sorted(places)
