"""A run goes before its job is forgotten, and the job stays until its run has gone."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from common.contracts.job import RunState, RunStatus
from common.errors import Unavailable
from common.ids import new_id
from services.front.ports import Runs
from services.front.use_cases.tracking.retire import Retire
from tests.fakes.front_ports import MemoryRuns
from tests.support.platform import Platform, eventually, open_platform


@pytest.fixture(scope="module")
async def platform(mongodb_uri: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Platform]:
    folder = Path(tmp_path_factory.mktemp("retiring"))
    async with open_platform(mongodb_uri, f"test-{new_id()}", folder, lease_seconds=1) as platform:
        yield platform


async def retire(platform: Platform, runs: Runs | None = None) -> None:
    """Deletes every job that has ended, record and all, now."""
    core = platform.core
    step = Retire(
        core.jobs,
        core.retention,
        core.inline,
        core.blobs,
        runs or core.runs,
        keep_inputs=False,
        record_seconds=0,
        hidden_seconds=0,
        lease_seconds=platform.settings.lease_seconds,
    )
    await step()


async def done(platform: Platform) -> str:
    alice = platform.client()
    created = await alice.post("/api/v1/job?processor=checksum", content=b"x", headers={"Content-Type": "text/plain"})
    await platform.final(alice, created.json()["id"])
    job_id: str = created.json()["id"]
    return job_id


async def is_forgotten(platform: Platform, job_id: str) -> bool:
    return await platform.core.jobs.find(job_id) is None


async def test_a_run_goes_with_its_job(platform: Platform) -> None:
    job_id = await done(platform)
    assert job_id in await platform.to_job.statuses([job_id])
    await retire(platform)
    assert await is_forgotten(platform, job_id)
    assert await platform.to_job.statuses([job_id]) == {}


async def test_a_job_is_not_forgotten_before_its_run(platform: Platform) -> None:
    job_id = await done(platform)
    platform.to_job.on = True
    with pytest.raises(Unavailable):
        await retire(platform)
    platform.to_job.on = False
    assert not await is_forgotten(platform, job_id)

    async def forgotten() -> bool:
        await retire(platform)
        return await is_forgotten(platform, job_id)

    await eventually(forgotten)


async def test_a_run_that_has_outlived_its_job_is_ended_first(platform: Platform) -> None:
    job_id = await done(platform)
    runs = MemoryRuns()
    runs.known[job_id] = RunStatus(id=job_id, status=RunState.QUEUED, fence=0, attempt=0)
    await retire(platform, runs)
    assert runs.known == {}
    assert await is_forgotten(platform, job_id)
