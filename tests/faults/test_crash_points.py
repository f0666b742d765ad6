"""A process dies at a moment that matters: the job comes to its one end all the same."""

import asyncio
from pathlib import Path

import pytest

from tests.support.journey import assert_completes, crashing, hand_in
from tests.support.marks import long


@pytest.mark.parametrize("moment", long("blob.written", "blob.synced", "blob.named"))
async def test_fault_07_blob_killed_between_write_fsync_and_rename(tmp_path: Path, moment: str) -> None:
    # Blobs of posts that were not acknowledged belong to no job; they are swept, so that what is left is visible.
    settings = {"FRONT_SWEEP_SECONDS": "0.3", "FRONT_ORPHAN_SECONDS": "1"}
    async with crashing(moment, tmp_path, **settings) as (local, mark), local.client() as http, local.blob() as blob:
        location = await hand_in(http)
        assert mark.exists()
        # Whatever has a name now is whole: its reader checks the digest.
        for item in (await blob.list()).items:
            async with blob.open(item.id) as body:
                assert b"".join([chunk async for chunk in body.chunks])
        await assert_completes(http, location)


@pytest.mark.parametrize(
    "moment",
    [
        pytest.param("job.claimed", id="08", marks=pytest.mark.long),
        pytest.param("processor.working", id="09", marks=pytest.mark.long),
        pytest.param("processor.completed", id="11", marks=pytest.mark.long),
    ],
)
async def test_fault_08_09_11_a_run_whose_process_dies_is_done_once(tmp_path: Path, moment: str) -> None:
    async with crashing(moment, tmp_path) as (local, mark), local.client() as http:
        location = await hand_in(http)
        await assert_completes(http, location)
        assert mark.exists()


@pytest.mark.long
async def test_fault_10_outputs_of_a_processor_killed_before_complete_are_collected(tmp_path: Path) -> None:
    settings = {"FRONT_SWEEP_SECONDS": "0.3", "FRONT_ORPHAN_SECONDS": "1"}
    async with (
        crashing("processor.uploaded", tmp_path, **settings) as (local, mark),
        local.client() as http,
        local.blob() as blob,
    ):
        location = await hand_in(http)
        await assert_completes(http, location)
        assert mark.exists()
        # The input goes when the job has ended, and of the outputs the first attempt's.
        while len((await blob.list()).items) != 1:  # noqa: ASYNC110 - other processes sweep
            await asyncio.sleep(0.1)
        await assert_completes(http, location)
