"""What only the filesystem's uploads can be put through: a full disk, a broken one, parts that break off."""

import asyncio
import errno
import hashlib
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path
from stat import S_IMODE

import pytest

from common.errors import Conflict, DigestMismatch, NotFound, Problem, StorageFull, Unavailable
from services.blob.adapters.filesystem.folder import Disk
from services.blob.adapters.filesystem.master_keys import MasterKeys
from tests.support.processes import until
from tests.support.uploading import LONG, SHORT, WHOLE, Opened, facts_of, grant_of, in_chunks, opened, part_of


@pytest.fixture
async def blob(tmp_path: Path, keys: MasterKeys) -> AsyncIterator[Opened]:
    async with opened(tmp_path, keys=keys) as one:
        yield one


async def test_a_part_counts_only_after_its_bytes_are_on_disk(tmp_path: Path, keys: MasterKeys) -> None:
    facts = facts_of(LONG)
    folder = tmp_path / "uploads" / facts.id
    steps: list[str] = []

    def fsync(fd: int) -> None:
        os.fsync(fd)
        name = Path(f"/proc/self/fd/{fd}").readlink().name
        steps.append(f"{name} {(folder / '00002').stat().st_size if (folder / '00002').exists() else None}")

    async with opened(tmp_path, Disk(fsync=fsync), keys=keys) as blob:
        await blob.plan(facts)
        steps.clear()
        await blob.send(facts, 2)
        assert steps == ["data 0", "00002 65", f"{facts.id} 65"]
        steps.clear()
        await blob.send(facts, 2)
        assert steps == ["00002 0", "data 0", "00002 65", f"{facts.id} 65"]


@pytest.mark.parametrize("failing", [0, 1, 2], ids=["data", "record", "folder"])
async def test_a_part_whose_fsync_failed_was_not_received(tmp_path: Path, keys: MasterKeys, failing: int) -> None:
    facts = facts_of(LONG)
    broken, calls = False, 0

    def fsync(fd: int) -> None:
        nonlocal calls
        if broken:
            calls += 1
            if calls == failing + 1:
                raise OSError(errno.EIO, "Input/output error")
        os.fsync(fd)

    async with opened(tmp_path, Disk(fsync=fsync), keys=keys) as blob:
        await blob.plan(facts)
        broken = True
        with pytest.raises(Unavailable):
            await blob.send(facts, 1)
        assert calls == failing + 1  # not tried again
        broken = False
        for number in WHOLE:
            await blob.send(facts, number)
        await blob.completed(facts)
        assert await blob.read(facts) == LONG


async def test_a_disk_that_fills_up_refuses_the_part_and_the_upload_goes_on(tmp_path: Path, keys: MasterKeys) -> None:
    facts, single = facts_of(LONG), facts_of(SHORT)
    room = 3_000_000

    def write(fd: int, data: memoryview) -> int:
        nonlocal room
        if room <= 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        written = os.write(fd, data[:room])  # a disk that fills up takes a part first
        room -= written
        return written

    async with opened(tmp_path, Disk(write=write), keys=keys) as blob:
        await blob.plan(facts)
        await blob.plan(single)
        await blob.send(facts, 4)
        with pytest.raises(StorageFull):
            await blob.send(facts, 1)
        with pytest.raises(StorageFull):
            await blob.uploads.receive(grant_of(single, None), in_chunks(SHORT), None)
        assert await blob.received(facts) == [4]
        assert not await blob.is_there(single)
        assert list((tmp_path / "staging").iterdir()) == []
        room = 2**40
        for number in (1, 2, 3):
            await blob.send(facts, number)
        await blob.completed(facts)
        assert await blob.read(facts) == LONG


async def test_what_has_no_room_is_not_begun(tmp_path: Path, keys: MasterKeys) -> None:
    free = os.statvfs(tmp_path).f_bavail * os.statvfs(tmp_path).f_frsize
    async with opened(tmp_path, min_free_bytes=2 * free, keys=keys) as blob:
        with pytest.raises(StorageFull):
            await blob.plan(facts_of(LONG))
        assert list((tmp_path / "uploads").iterdir()) == []


async def test_a_part_that_breaks_off_does_not_count_not_even_when_it_did_before(blob: Opened) -> None:
    facts = facts_of(LONG)
    await blob.plan(facts)
    for number in (1, 2):
        await blob.send(facts, number)
    for number, others in ((3, [1, 2]), (1, [2])):
        with pytest.raises(ConnectionError):
            await blob.uploads.receive(grant_of(facts, number), in_chunks(bytes(1_000_000), ConnectionError()), None)
        assert await blob.received(facts) == others
    for number in (1, 3, 4):
        await blob.send(facts, number)
    await blob.completed(facts)
    assert await blob.read(facts) == LONG


async def test_a_part_with_another_digest_than_its_request_declares_may_be_sent_again(blob: Opened) -> None:
    facts = facts_of(LONG)
    await blob.plan(facts)
    with pytest.raises(DigestMismatch):
        await blob.send(facts, 1, bytes(len(LONG)), sha256=hashlib.sha256(part_of(LONG, 1)).hexdigest())
    assert await blob.received(facts) == []
    assert await blob.send(facts, 1, sha256=hashlib.sha256(part_of(LONG, 1)).hexdigest())
    assert await blob.received(facts) == [1]


async def test_a_part_is_sent_by_one_at_a_time_and_is_free_again_when_that_one_goes(blob: Opened) -> None:
    facts = facts_of(LONG)
    await blob.plan(facts)
    arrived = asyncio.Event()

    async def body() -> AsyncIterator[bytes]:
        yield LONG[:1_000_000]
        arrived.set()
        await asyncio.Event().wait()

    sending = asyncio.create_task(blob.uploads.receive(grant_of(facts, 1), body(), None))
    await arrived.wait()
    with pytest.raises(Conflict):
        await blob.send(facts, 1)
    await blob.send(facts, 2)
    sending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await sending
    assert await blob.received(facts) == [2]
    await blob.send(facts, 1)
    assert await blob.received(facts) == [1, 2]


async def test_an_upload_that_is_aborted_under_way_takes_nothing(tmp_path: Path, blob: Opened) -> None:
    facts = facts_of(LONG)
    await blob.plan(facts)

    async def body() -> AsyncIterator[bytes]:
        yield part_of(LONG, 1)
        await blob.uploads.abort(facts.id)
        await blob.plan(facts)

    with pytest.raises(NotFound):
        await blob.uploads.receive(grant_of(facts, 1), body(), None)
    assert await blob.received(facts) == []
    single = facts_of(SHORT)
    await blob.plan(single)

    async def short_body() -> AsyncIterator[bytes]:
        yield SHORT
        await blob.uploads.abort(single.id)

    with pytest.raises(NotFound):
        await blob.uploads.receive(grant_of(single, None), short_body(), None)
    assert not await blob.is_there(single)
    assert list((tmp_path / "staging").iterdir()) == []


async def test_a_mismatch_leaves_no_bytes_and_takes_none(tmp_path: Path, blob: Opened) -> None:
    facts, single = facts_of(LONG, announced=b"else"), facts_of(SHORT, announced=b"else")
    await blob.plan(facts)
    await blob.plan(single)
    for number in WHOLE:
        await blob.send(facts, number)
    with pytest.raises(DigestMismatch):
        await blob.uploads.receive(grant_of(single, None), in_chunks(SHORT), None)
    assert (await blob.uploads.complete(facts, [])).state == "MISMATCH"
    assert (await blob.uploads.status(single)).state == "MISMATCH"
    for each, part in ((facts, 1), (single, None)):
        folder = tmp_path / "uploads" / each.id
        async with asyncio.timeout(10):  # the rest is removed after it is known to be a mismatch
            await until(lambda: {path.name for path in folder.iterdir()} == {"facts.json", "mismatch"})  # noqa: B023 - awaited here
        with pytest.raises(Conflict):
            await blob.uploads.receive(grant_of(each, part), in_chunks(SHORT), None)


async def test_other_facts_than_before_are_a_conflict(blob: Opened) -> None:
    facts = facts_of(LONG)
    await blob.plan(facts)
    others: list[dict[str, object]] = [{"size": len(LONG) + 1}, {"sha256": "0" * 64}, {"sha256": None}]
    for other in others:
        changed = facts.model_copy(update=other)
        with pytest.raises(Conflict):
            await blob.plan(changed)
        with pytest.raises(Conflict):
            await blob.uploads.status(changed)


async def test_the_sweeps_leave_uploads_alone_until_nobody_comes_back(tmp_path: Path, blob: Opened) -> None:
    facts = facts_of(LONG)
    await blob.plan(facts)
    await blob.send(facts, 1)
    left = tmp_path / "uploads/~left"
    left.mkdir()
    days_ago = time.time() - 32 * 86_400
    for path in (*(tmp_path / "uploads").rglob("*"),):
        os.utime(path, (days_ago, days_ago))
    assert await blob.store.sweep_staging(3600) == 0
    assert await blob.uploads.sweep_uploads(33 * 86_400) == 0
    assert not left.exists()
    await blob.plan(facts)  # somebody came back
    assert await blob.uploads.sweep_uploads(31 * 86_400) == 0
    assert await blob.received(facts) == [1]
    for path in (*(tmp_path / "uploads").rglob("*"),):
        os.utime(path, (days_ago, days_ago))
    assert await blob.uploads.sweep_uploads(31 * 86_400) == 1
    assert list((tmp_path / "uploads").iterdir()) == []


async def test_racing_singles_make_one_blob(blob: Opened) -> None:
    facts = facts_of(SHORT, digest=False)
    await blob.plan(facts)

    async def send(data: bytes) -> bool:
        try:
            await blob.uploads.receive(grant_of(facts, None), in_chunks(data), None)
        except Problem:
            return False
        return True

    bodies = [SHORT, bytes(len(SHORT))] * 4
    won = [body for body, ok in zip(bodies, await asyncio.gather(*map(send, bodies)), strict=True) if ok]
    assert len(won) == 1
    assert await blob.read(facts) == won[0]


async def test_nobody_else_on_the_machine_can_read_an_upload(tmp_path: Path, blob: Opened) -> None:
    facts = facts_of(LONG)
    await blob.plan(facts)
    await blob.send(facts, 1)
    for path in (tmp_path / "uploads").rglob("*"):
        assert S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path
