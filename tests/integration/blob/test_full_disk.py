"""A real disk that is too small for what is sent to it; where this machine lets a test mount one."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from services.blob.domain.uploads import PART_BYTES
from tests.fakes.keys import signer
from tests.support.platform import open_platform
from tests.support.small_disk import small_disk
from tests.support.uploading import LONG, SHORT, facts_of, filesystem_uploads, part_of

TWO_PARTS = LONG[: PART_BYTES + 100]
DISK_BYTES = 20 * 1024 * 1024
PROCESSOR = {"processor": "checksum"}
FILE = {"name": "a.pdf", "size": len(LONG), "mimetype": "application/pdf"}


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    with small_disk(tmp_path, DISK_BYTES) as disk:
        yield disk


async def test_a_full_disk_is_507_with_nothing_partial_and_recovers(disk: Path) -> None:
    async with filesystem_uploads(disk) as uploads:
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
        assert list((disk / "data/staging").iterdir()) == []
        assert await uploads.read(files[0]) == TWO_PARTS

        await uploads.blobs.delete(files[0].id)
        parts = [await uploads.send_part(plans[2], TWO_PARTS, number) for number in (1, 2)]
        assert (await uploads.ended(files[2], parts)).state == "COMPLETE"
        short = facts_of(SHORT)
        assert (await uploads.ended(short, await uploads.send_all(short, SHORT))).state == "COMPLETE"


async def test_a_blob_that_does_not_fit_is_507_with_nothing_partial_and_recovers(disk: Path) -> None:
    async def chunks(size: int) -> AsyncIterator[bytes]:
        for _ in range(0, size, 100_000):
            yield bytes(100_000)

    async with filesystem_uploads(disk) as uploads:
        url = f"{uploads.api_url}/api/v1/blob/b-1"
        headers = {"Authorization": f"Bearer {signer('front').token('blob')}"}
        # Of a length that nobody has declared, so that the disk is full in the middle of it.
        answer = await uploads.http.put(url, content=chunks(2 * DISK_BYTES), headers=headers)
        assert (answer.status_code, answer.json()["type"]) == (507, "/problems/storage-full")
        assert list((disk / "data/staging").iterdir()) == []
        assert (await uploads.http.get(url, headers=headers)).status_code == 404
        assert (await uploads.http.put(url, content=chunks(DISK_BYTES // 2), headers=headers)).status_code == 201


async def test_who_posts_a_file_to_front_hears_507_and_there_is_no_job(
    mongodb_uri: str, database_name: str, disk: Path
) -> None:
    # blob leaves more room free than this disk has at all.
    async with open_platform(mongodb_uri, database_name, disk) as platform:
        alice = platform.client()
        text = {"Content-Type": "text/plain"}
        answers = [
            await alice.post("/api/v1/job?processor=checksum", content=SHORT, headers=text),
            await alice.post(
                "/api/v1/job", data={"processor": "checksum"}, files={"file": ("a.txt", SHORT, "text/plain")}
            ),
            await alice.post("/api/v1/batch", json={**PROCESSOR, "files": [FILE]}),
        ]
        for answer in answers:
            assert (answer.status_code, answer.json()["type"]) == (507, "/problems/storage-full")
        assert (await platform.blob.list()).items == []
        assert [job async for job in platform.core.jobs.jobs.find({"batchId": {"$exists": False}})] == []
