"""What only a folder with keys can be put through: bytes that are looked for, a lost key, a setting that is new."""

import asyncio
import errno
import fcntl
import hashlib
import os
import threading
from collections.abc import AsyncIterator, Awaitable
from pathlib import Path

import pytest

from common.contracts.upload import UploadFacts
from common.errors import AlreadyExists, NotFound, StorageFull, Unavailable
from services.blob import use_cases
from services.blob.adapters.filesystem.folder import Disk, Folder
from services.blob.adapters.filesystem.part_file import RECORD_BYTES
from services.blob.adapters.filesystem.upload_folder import UploadFolder
from tests.contract.test_blob_store import assert_absent, listed, put, read
from tests.fakes.keys import master_keys
from tests.support.uploading import LONG, SHORT, WHOLE, facts_of, grant_of, in_chunks, opened, part_of


def kept(root: Path) -> list[bytes]:
    """What is in all files below a folder."""
    return [Path(folder, name).read_bytes() for folder, _, names in os.walk(root) for name in names]


def traces(facts: UploadFacts, data: bytes) -> list[bytes]:
    """What would tell of a file: some of its bytes from everywhere in it, its digest, and what it is called."""
    samples = [data[start : start + 12] for start in range(0, max(1, len(data) - 12), 500_009)]
    digest = hashlib.sha256(data)
    return [*samples, data[-12:], digest.digest(), digest.hexdigest().encode(), facts.name.encode(), b"alice"]


async def test_no_byte_of_a_file_is_on_the_disk_as_it_is(tmp_path: Path) -> None:
    facts, single = facts_of(LONG), facts_of(SHORT)
    sought = traces(facts, LONG) + traces(single, SHORT)
    sought += [hashlib.sha256(part_of(LONG, number)).hexdigest().encode() for number in WHOLE]

    def assert_hidden() -> None:
        files = kept(tmp_path)
        assert not [trace for trace in sought if any(trace in content for content in files)]

    async with opened(tmp_path, keys=master_keys("2026")) as blob:

        async def body() -> AsyncIterator[bytes]:
            """In the middle of which somebody looks at the disk."""
            yield part_of(LONG, 1)[:5_000_000]
            yield part_of(LONG, 1)[5_000_000:-1]
            assert sum(map(len, kept(tmp_path))) > 4_000_000
            assert_hidden()
            yield part_of(LONG, 1)[-1:]

        await blob.plan(facts)
        await blob.uploads.receive(grant_of(facts, 1), body(), None)
        for number in (2, 2, 3):
            await blob.send(facts, number)
        assert_hidden()
        await blob.send(facts, 4)
        await blob.uploads.complete(facts, [])  # after which nothing is removed any more
        await blob.plan(single)
        assert_hidden()
        await blob.uploads.receive(grant_of(single, None), in_chunks(SHORT), None)
        await use_cases.write(blob.store, "o-1", body(), size=None, sha256=None, max_bytes=2**60)
        assert_hidden()
        assert await blob.read(facts) == LONG
        assert await blob.read(single) == SHORT


async def test_what_was_there_before_the_setting_goes_on(tmp_path: Path) -> None:
    facts = facts_of(LONG)
    async with opened(tmp_path) as blob:
        await put(blob.store, "b-1", LONG)
        await blob.plan(facts)
        await blob.send(facts, 1)
    async with opened(tmp_path, keys=master_keys("2026")) as blob:
        assert await read(await blob.store.open("b-1")) == LONG
        assert not (await put(blob.store, "b-1", LONG)).created
        with pytest.raises(AlreadyExists):
            await put(blob.store, "b-1", SHORT)
        assert await blob.received(facts) == [1]
        for number in WHOLE[1:]:
            await blob.send(facts, number)
        await blob.completed(facts)
        assert await blob.read(facts) == LONG


async def test_who_lacks_a_key_is_told_which_and_gets_no_byte(tmp_path: Path) -> None:
    done, whole, begun = facts_of(SHORT), facts_of(LONG), facts_of(LONG)
    async with opened(tmp_path, keys=master_keys("2025")) as blob:
        await put(blob.store, done.id, SHORT)
        await blob.plan(begun)
        await blob.send(begun, 1)
    async with opened(tmp_path, keys=master_keys("2026")) as blob:
        calls: list[Awaitable[object]] = [
            blob.store.open(done.id),
            blob.store.stat(done.id),
            put(blob.store, done.id, SHORT),
            blob.uploads.status(done),
            blob.uploads.status(begun),
            blob.plan(begun),
            blob.send(begun, 2),
        ]
        for call in calls:
            with pytest.raises(Unavailable, match=r"encrypted under the key 2025, which isn't in BLOB_KEYS"):
                await call
        # And it is nobody else's fault.
        await blob.plan(whole)
        for number in WHOLE:
            await blob.send(whole, number)
        await blob.completed(whole)
    async with opened(tmp_path, keys=master_keys("2025", "2026")) as blob:
        assert await read(await blob.store.open(done.id)) == SHORT
        assert await blob.received(begun) == [1]
    async with opened(tmp_path) as blob:
        with pytest.raises(Unavailable, match="2026"):
            await blob.store.open(whole.id)
        # What can't be read any more can be cleared away.
        assert sorted(await listed(blob.store, "", 10)) == sorted([done.id, whole.id])
        await blob.store.delete(done.id)
        await blob.uploads.abort(begun.id)
        with pytest.raises(NotFound):
            await blob.store.stat(done.id)


async def test_a_piece_that_could_not_be_written_fails_the_write_though_the_next_ones_could(tmp_path: Path) -> None:
    failures = [OSError(errno.ENOSPC, "No space left on device")]
    armed = False

    def write(fd: int, data: memoryview) -> int:
        if armed and failures:
            raise failures.pop()
        return os.write(fd, data)

    async with opened(tmp_path, Disk(write=write), keys=master_keys("2026")) as blob:
        armed = True
        with pytest.raises(StorageFull):
            await put(blob.store, "b-1", LONG)
        await assert_absent(blob.store, "b-1")
        assert list((tmp_path / "staging").iterdir()) == []


async def test_a_file_is_not_closed_while_a_thread_writes_to_it(tmp_path: Path) -> None:
    writing, go_on = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()
    armed, written = False, []

    def write(fd: int, data: memoryview) -> int:
        if armed:
            loop.call_soon_threadsafe(writing.set)
            go_on.wait()
            written.append(Path(f"/proc/self/fd/{fd}").readlink().parent)
        return os.write(fd, data)

    async with opened(tmp_path, Disk(write=write), keys=master_keys("2026")) as blob:
        armed = True
        putting = asyncio.create_task(put(blob.store, "b-1", LONG))
        await writing.wait()
        putting.cancel()
        for _ in range(10):  # turns of the loop, in which it could be closed
            await asyncio.sleep(0)
        go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await putting
    assert set(written) == {tmp_path / "staging"}
    assert list((tmp_path / "staging").iterdir()) == []


async def leave_unverified(root: Path, facts: UploadFacts, name: str) -> None:
    """An upload that is all there, as a process leaves it that dies before it has verified it."""
    async with opened(root, keys=master_keys(name)) as blob:
        await blob.plan(facts)
        # As if another process were still sending.
        sending = os.open(root / "uploads" / facts.id / "data", os.O_RDONLY)
        fcntl.flock(sending, fcntl.LOCK_SH)
        for number in WHOLE:
            await blob.send(facts, number)
    os.close(sending)


def verify(root: Path, facts: UploadFacts) -> None:
    UploadFolder(Folder(root, Disk(), master_keys("2026"))).verify(facts.id, lambda: False)


async def test_a_start_goes_on_with_the_uploads_whose_key_is_there(tmp_path: Path) -> None:
    lost, found = facts_of(LONG), facts_of(LONG)
    await leave_unverified(tmp_path, lost, "2025")
    await leave_unverified(tmp_path, found, "2026")
    async with opened(tmp_path, keys=master_keys("2026")) as blob:
        await blob.completed(found)


async def test_a_part_that_rotted_before_it_was_verified_becomes_no_blob(tmp_path: Path) -> None:
    facts = facts_of(LONG, digest=False)
    await leave_unverified(tmp_path, facts, "2026")
    with (tmp_path / "uploads" / facts.id / "data").open("r+b") as file:
        file.seek(1_000_000)
        file.write(b"rot")
    verify(tmp_path, facts)
    async with opened(tmp_path, keys=master_keys("2026")) as blob:
        assert (await blob.uploads.status(facts)).state == "MISMATCH"
        assert not await blob.is_there(facts)


async def test_a_record_that_power_loss_has_spoilt_is_a_part_to_be_sent_again(tmp_path: Path) -> None:
    facts = facts_of(LONG)
    await leave_unverified(tmp_path, facts, "2026")
    (tmp_path / "uploads" / facts.id / "00002").write_bytes(bytes(RECORD_BYTES))
    verify(tmp_path, facts)
    async with opened(tmp_path, keys=master_keys("2026")) as blob:
        assert await blob.received(facts) == [1, 3, 4]
        await blob.send(facts, 2)
        await blob.completed(facts)
        assert await blob.read(facts) == LONG
