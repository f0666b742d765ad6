"""A real disk that is too small for what is sent to it; where this machine lets a test mount one."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.blob.domain.uploads import PART_BYTES
from tests.contract.uploading import LONG, SHORT, facts_of, filesystem_uploads, part_of

TWO_PARTS = LONG[: PART_BYTES + 100]
DISK_BYTES = 20 * 1024 * 1024


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(tmp_path)],  # noqa: S607 - wherever it is
        capture_output=True,
        check=False,
    )
    if mounted.returncode:
        pytest.skip("This machine lets nobody mount a small disk.")
    yield tmp_path
    subprocess.run(["umount", str(tmp_path)], check=True)  # noqa: S607 - likewise


async def test_a_full_disk_is_507_with_nothing_partial_and_recovers(small_disk: Path) -> None:
    async with filesystem_uploads(small_disk) as uploads:
        files, single = [facts_of(TWO_PARTS) for _ in range(3)], facts_of(part_of(LONG, 1))
        plans = [await uploads.plan(facts) for facts in files]
        single_plan = await uploads.plan(single)
        for facts in files[:2]:
            await uploads.ended(facts, await uploads.send_all(facts, TWO_PARTS))
        answer = await uploads.send(plans[2], plans[2].parts[0].url, part_of(TWO_PARTS, 1))
        assert (answer.status_code, answer.json()["type"]) == (507, "/problems/storage-full")
        assert (await uploads.send(single_plan, single_plan.url, part_of(LONG, 1))).status_code == 507
        assert not [part for part in (await uploads.plan(files[2])).parts if part.received]
        assert await uploads.is_absent(single)
        assert list((small_disk / "data/staging").iterdir()) == []
        assert await uploads.read(files[0]) == TWO_PARTS

        await uploads.blobs.delete(files[0].id)
        parts = [await uploads.send_part(plans[2], TWO_PARTS, number) for number in (1, 2)]
        assert (await uploads.ended(files[2], parts)).state == "COMPLETE"
        short = facts_of(SHORT)
        assert (await uploads.ended(short, await uploads.send_all(short, SHORT))).state == "COMPLETE"
